//! `--query`: JMESPath over the document as the wire has it, with columns in the order in which they were asked for.

use jmespath::ast::Ast;
use serde_json::Value;

use crate::client::{Failure, Result};

/// A query.
pub(super) struct Query {
    expression: jmespath::Expression<'static>,
    /// Keys of the hash that makes its result, in the order in which they were written.
    pub keys: Vec<String>,
}

impl Query {
    /// Reads it.
    ///
    /// # Errors
    /// `Usage` where it is none.
    pub(super) fn parse(text: &str) -> Result<Query> {
        let expression = jmespath::compile(text).map_err(|error| {
            let told: Vec<String> = error.to_string().lines().map(str::to_owned).collect();
            Failure::usage(format!("--query is no JMESPath: {}", told.join(" ")))
        })?;
        let keys = keys(expression.as_ast());
        Ok(Query { expression, keys })
    }

    /// What it picks.
    ///
    /// # Errors
    /// `Usage` where it cannot be applied.
    pub(super) fn pick(&self, document: Value) -> Result<Value> {
        let found = self.expression.search(document).map_err(|error| {
            let line = error.to_string().lines().next().unwrap_or_default().to_owned();
            Failure::usage(format!("--query cannot be applied here: {line}"))
        })?;
        serde_json::to_value(&*found).map_err(|error| Failure::local("what --query picked cannot be written", error))
    }
}

/// The keys of the hash that an expression ends with; the library itself sorts them.
fn keys(ast: &Ast) -> Vec<String> {
    match ast {
        Ast::MultiHash { elements, .. } => elements.iter().map(|pair| pair.key.clone()).collect(),
        Ast::Projection { rhs, .. } | Ast::Subexpr { rhs, .. } | Ast::And { rhs, .. } | Ast::Or { rhs, .. } => keys(rhs),
        Ast::Condition { then, .. } => keys(then),
        Ast::Function { args, .. } => args.first().map(keys).unwrap_or_default(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_stay_in_their_order() {
        let of = |text: &str| Query::parse(text).expect("reads").keys;
        assert_eq!(of("[?a=='b'].{Name:name,Exit:x.y}"), ["Name", "Exit"]);
        assert_eq!(of("{state:a,nodes:b}"), ["state", "nodes"]);
        assert_eq!(of("sort_by([].{Z:z,A:a}, &Z)"), ["Z", "A"]);
        assert_eq!(of("[].name | [0]"), Vec::<String>::new());
        assert!(Query::parse("[?").is_err());
    }

    #[test]
    fn it_picks_from_the_wire() {
        let query = Query::parse("[?properties.executionState=='failed'].name").expect("reads");
        let jobs = json!([{"name": "a", "properties": {"executionState": "failed"}}, {"name": "b", "properties": {}}]);
        assert_eq!(query.pick(jobs).expect("picks"), json!(["a"]));
    }
}
