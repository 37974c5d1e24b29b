//! Shapes that all versions share: error body, list page, entity errors, names with values.

use serde::Serialize;

use crate::domain::resource::{EntityError, NameValue};
use crate::error::{Error, Violation};

/// The body of every refusal.
///
/// Source: `CloudError`, openapi 2018-05-01.
#[derive(Serialize)]
pub struct ErrorBody<'a> {
    error: ErrorDetail<'a>,
}

#[derive(Serialize)]
struct ErrorDetail<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<ErrorDetail<'a>>,
}

impl<'a> ErrorBody<'a> {
    /// The body that tells a client of `error`.
    pub fn of(error: &'a Error) -> ErrorBody<'a> {
        let detail = |violation: &'a Violation| ErrorDetail {
            code: violation.code.as_str(),
            message: &violation.message,
            target: if violation.target.is_empty() { None } else { Some(&violation.target) },
            details: Vec::new(),
        };
        ErrorBody {
            error: ErrorDetail {
                code: error.code.as_str(),
                message: &error.message,
                target: error.target.as_deref(),
                details: error.details.iter().map(detail).collect(),
            },
        }
    }
}

/// A page of a list. `nextLink` is absent on the last.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListPage<T> {
    /// The items.
    pub value: Vec<T>,
    /// The absolute URL of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_link: Option<String>,
}

/// A name with a value.
#[derive(Serialize)]
pub struct NameValueBody<'a> {
    name: &'a str,
    value: &'a str,
}

impl<'a> NameValueBody<'a> {
    /// As the wire writes a list of them.
    pub fn list(pairs: &'a [NameValue]) -> Vec<NameValueBody<'a>> {
        pairs.iter().map(|pair| NameValueBody { name: &pair.name, value: &pair.value }).collect()
    }
}

/// An error that an entity shows about itself.
///
/// Source: `BatchAIError`, openapi 2018-05-01.
#[derive(Serialize)]
pub struct EntityErrorBody<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<NameValueBody<'a>>,
}

impl<'a> EntityErrorBody<'a> {
    /// As the wire writes one.
    pub fn of(error: &'a EntityError) -> EntityErrorBody<'a> {
        EntityErrorBody { code: &error.code, message: &error.message, details: NameValueBody::list(&error.details) }
    }

    /// As the wire writes a list of them.
    pub fn list(errors: &'a [EntityError]) -> Vec<EntityErrorBody<'a>> {
        errors.iter().map(EntityErrorBody::of).collect()
    }
}

/// The id of another resource.
#[derive(Serialize)]
pub struct ResourceIdBody<'a> {
    /// The id.
    pub id: &'a str,
}
