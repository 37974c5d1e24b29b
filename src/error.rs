//! The one vocabulary of failure.
//!
//! In: what went wrong, from any layer. Out: a code with a stable string, a message for the client and, apart from it, a context
//! for the log that cannot be displayed by accident. Refuses to know HTTP: `http::respond` alone has status codes.

use std::fmt;
use std::time::Duration;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// What went wrong, as clients match on it. The variant's name is the code on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $name),+
        }

        impl ErrorCode {
            /// The stable string that answers carry.
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => stringify!($name)),+ }
            }
        }
    };
}

codes! {
    /// The `Authorization` header is missing or not a bearer token.
    AuthenticationFailed,
    /// The token has expired.
    ExpiredAuthenticationToken,
    /// The token is not valid.
    InvalidAuthenticationToken,
    /// The token is of another tenant than the subscription.
    InvalidAuthenticationTokenTenant,
    /// The caller may not do this here.
    AuthorizationFailed,
    /// No `api-version` was given.
    MissingApiVersionParameter,
    /// The `api-version` is not one that the platform types have.
    InvalidApiVersionParameter,
    /// The type does not exist at this version.
    InvalidResourceType,
    /// The provider namespace does not exist here.
    InvalidResourceNamespace,
    /// Type, location and version do not fit.
    NoRegisteredProviderFound,
    /// The subscription id is not a GUID.
    InvalidSubscriptionId,
    /// No such subscription.
    SubscriptionNotFound,
    /// The subscription has not registered the provider.
    MissingSubscriptionRegistration,
    /// No such resource group.
    ResourceGroupNotFound,
    /// The group is being deleted.
    ResourceGroupBeingDeleted,
    /// The group exists in another location.
    InvalidResourceGroupLocation,
    /// The resource exists in another location.
    InvalidResourceLocation,
    /// The location is not offered.
    LocationNotAvailableForResourceType,
    /// The location is not offered for groups.
    LocationNotAvailableForResourceGroup,
    /// No such workspace.
    WorkspaceNotFound,
    /// No such cluster.
    ClusterNotFound,
    /// No such node of the cluster.
    NodeNotFound,
    /// No such file server.
    FileServerNotFound,
    /// No such experiment.
    ExperimentNotFound,
    /// No such job.
    JobNotFound,
    /// No such operation, file or link target.
    NotFound,
    /// The method does not exist on this address.
    MethodNotAllowed,
    /// The request conflicts with the resource's state.
    Conflict,
    /// A precondition header does not hold.
    PreconditionFailed,
    /// The body is not JSON or not of the expected shape.
    InvalidRequestContent,
    /// The body, URL or head is too large.
    RequestEntityTooLarge,
    /// The content type or encoding is not supported.
    UnsupportedMediaType,
    /// The request is not well-formed HTTP as this server reads it.
    BadRequest,
    /// The host name is not one that this server answers for.
    MisdirectedRequest,
    /// A page of another site made a browser send the request.
    CrossSiteRequest,
    /// A name in the address breaks the rule for names of its kind.
    InvalidResourceName,
    /// A link is expired, altered or of another kind.
    InvalidLink,
    /// The range is beyond the file's end.
    InvalidRange,
    /// A property has a value that is not allowed.
    InvalidPropertyValue,
    /// A required property is absent.
    MissingRequiredProperty,
    /// A query parameter has a value that is not allowed.
    InvalidQueryParameterValue,
    /// Several violations at once; each is in the details.
    MultipleErrorsOccurred,
    /// A property that cannot change was given another value.
    PropertyChangeNotAllowed,
    /// No failure of its own but a detail of one: the VM sizes that may be asked for.
    SupportedVMSizes,
    /// A lock is in the way.
    ScopeLocked,
    /// Tags that are not allowed, or on what has none.
    InvalidTags,
    /// The name of a tag holds characters that it may not.
    InvalidTagNameCharacters,
    /// The filter of a list cannot be read.
    InvalidFilterInQueryString,
    /// The principal holds that role there already.
    RoleAssignmentExists,
    /// No such role assignment at this scope.
    RoleAssignmentNotFound,
    /// An assignment of this id is about something else.
    RoleAssignmentUpdateNotPermitted,
    /// The name of an assignment is no GUID.
    InvalidRoleAssignmentId,
    /// No such principal in the directory.
    PrincipalNotFound,
    /// No such role.
    RoleDefinitionDoesNotExist,
    /// Somebody holds the role.
    RoleDefinitionHasAssignments,
    /// Another role has the name.
    RoleDefinitionWithSameNameExists,
    /// The role may not be assigned at this scope.
    RoleDefinitionNotAssignable,
    /// A built-in role stays as it is.
    BuiltInRoleChangeNotAllowed,
    /// No such deployment.
    DeploymentNotFound,
    /// No such lock.
    LockNotFound,
    /// Too many requests of one caller in a subscription.
    SubscriptionRequestsThrottled,
    /// Too many requests of one caller outside subscriptions.
    TenantRequestsThrottled,
    /// The quota on clusters is reached.
    ClusterQuotaReached,
    /// The quota on file servers is reached.
    FileServerQuotaReached,
    /// Too many requests.
    TooManyRequests,
    /// The store, or something else this server needs, is away for now.
    ServiceUnavailable,
    /// Anything unexpected.
    InternalServerError,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One broken rule of a body or query: where, what and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What kind of rule is broken.
    pub code: ErrorCode,
    /// The wire path of the field, for example `properties.scaleSettings.manual.targetNodeCount`.
    pub target: String,
    /// Names the field, the value's problem and the remedy.
    pub message: String,
}

/// All rules that a request breaks, gathered before anything is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// No violation yet.
    pub fn new() -> Violations {
        Violations::default()
    }

    /// Records a value that is not allowed.
    pub fn invalid(&mut self, target: impl Into<String>, message: impl Into<String>) {
        self.0.push(Violation { code: ErrorCode::InvalidPropertyValue, target: target.into(), message: message.into() });
    }

    /// Records a required property that is absent.
    pub fn missing(&mut self, target: impl Into<String>) {
        let target = target.into();
        let message = format!("The required property '{target}' is missing. Give it a value.");
        self.0.push(Violation { code: ErrorCode::MissingRequiredProperty, target, message });
    }

    /// Records a violation with a code of its own.
    pub fn push(&mut self, violation: Violation) {
        self.0.push(violation);
    }

    /// Takes over what another check found.
    pub fn extend(&mut self, other: Violations) {
        self.0.extend(other.0);
    }

    /// Whether no rule is broken.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The violations in the order they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, Violation> {
        self.0.iter()
    }

    /// `Ok` where no rule is broken.
    ///
    /// # Errors
    /// One violation becomes the error itself; several become `MultipleErrorsOccurred` with details.
    pub fn into_result(mut self) -> Result<(), Error> {
        match self.0.len() {
            0 => Ok(()),
            1 => {
                let only = self.0.remove(0);
                let mut error = Error::new(only.code, only.message);
                error.target = Some(only.target);
                Err(error)
            }
            _ => {
                let mut error = Error::new(
                    ErrorCode::MultipleErrorsOccurred,
                    "Content validation failed on multiple fields. See details for each of them.",
                );
                error.details = self.0;
                Err(error)
            }
        }
    }
}

/// A failure on its way to a client.
#[derive(Debug)]
pub struct Error {
    /// What clients match on.
    pub code: ErrorCode,
    /// One clear sentence for the client; never a cause from inside.
    pub message: String,
    /// The field or resource that the failure is about.
    pub target: Option<String>,
    /// One entry for each violation, where there are several.
    pub details: Vec<Violation>,
    /// When it is worth trying again.
    pub retry_after: Option<Duration>,
    context: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure that the client can read about.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), target: None, details: Vec::new(), retry_after: None, context: None }
    }

    /// A failure inside: the client reads a fixed text, the log the cause.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let mut error = Error::new(ErrorCode::InternalServerError, "Internal server error.");
        error.context = Some(cause.into());
        error
    }

    /// Something that this server needs is away; the client should come back.
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let mut error =
            Error::new(ErrorCode::ServiceUnavailable, "The service cannot reach its store at the moment. Please try again.");
        error.retry_after = Some(Duration::from_secs(1));
        error.context = Some(cause.into());
        error
    }

    /// The same failure, about `target`.
    pub fn with_target(mut self, target: impl Into<String>) -> Error {
        self.target = Some(target.into());
        self
    }

    /// The cause, for the log alone.
    pub fn context(&self) -> Option<&(dyn std::error::Error + Send + Sync)> {
        self.context.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.context.as_deref().map(|c| c as _)
    }
}
