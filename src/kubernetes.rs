//! What all that we write to a cluster has in common: our name, a limit on every call, who may write, and Events.

pub mod lease;
pub mod recorder;
pub mod troubles;

use std::time::Duration;

use crate::source::cluster::cause;

/// The name our writes go by in `managedFields`, and our Events.
pub const MANAGER: &str = "globaldns";
/// Longest wait for one call.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Somebody wrote in between, or creates what we were about to: look again.
    #[error("{0} was changed meanwhile")]
    Stale(String),
    /// The API server's own words.
    #[error("{what}: {}", cause(error))]
    Api {
        /// What was written.
        what: String,
        /// What came back.
        error: Box<kube::Error>,
    },
    /// It may or may not have been done.
    #[error("{0}: no answer within {limit} s", limit = CALL_TIMEOUT.as_secs())]
    Timeout(String),
}

impl CallError {
    /// The API server has answered that, and not something about versions.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            CallError::Api { error, .. } => match &**error {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }
}

/// One call for an object that was there, with a limit.
pub async fn within<T>(
    what: &str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, CallError> {
    creating(what, call).await.map_err(|error| match error {
        // Deleted since it was read.
        CallError::Api { what, error } if is_not_found(&error) => CallError::Stale(what),
        error => error,
    })
}

/// The same for an object that was not there: what is not found then is its namespace.
pub async fn creating<T>(
    what: &str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Err(_) => Err(CallError::Timeout(what.to_owned())),
        Ok(done) => done.map_err(|error| failed(what, error)),
    }
}

fn failed(what: &str, error: kube::Error) -> CallError {
    let what = what.to_owned();
    match error {
        kube::Error::Api(status)
            if (status.is_conflict() && !is_owned(&status)) || status.is_already_exists() =>
        {
            CallError::Stale(what)
        }
        error => CallError::Api { what, error: Box::new(error) },
    }
}

/// Server-side apply says 409 for an owner as well as for a version.
pub fn is_owned(status: &kube::core::Status) -> bool {
    status.is_conflict() && status.message.contains("conflict with")
}

/// Whether there is no such thing.
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}
