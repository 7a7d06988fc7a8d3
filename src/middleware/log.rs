//! What the log is told of a refusal: who or what was tried, from where and for what, never with what.

use std::net::IpAddr;

use http::Request;

use crate::logged::{LoggedMethod, LoggedPath};
use crate::record::{AccountId, KeyName};
use crate::rejection::{Rejection, RejectionKind as Kind};

/// One event for each refusal, or what would be one. `client` is asked only when somebody listens, for the
/// address that the call came from, if that is known for sure.
#[cold]
pub(super) fn log<B>(
    rejection: &Rejection,
    request: &Request<B>,
    client: impl FnOnce() -> Option<IpAddr>,
    what: &str,
) {
    macro_rules! refused {
        ($level:ident) => {
            tracing::$level!(
                target: "tower_api_key",
                reason = %rejection,
                client = client().map(tracing::field::display),
                method = %LoggedMethod(request.method()),
                path = ?LoggedPath::of(request.uri()),
                fingerprint = rejection.fingerprint().map(tracing::field::display),
                key_id = rejection.key_id().map(tracing::field::display),
                key_name = rejection.key_name().map(KeyName::as_str),
                account = rejection.account().map(AccountId::as_str),
                error = std::error::Error::source(rejection),
                "{what}"
            )
        };
    }
    match rejection.kind() {
        Kind::StoreFailed | Kind::StoreTimedOut | Kind::StorePanicked => refused!(error),
        // One level for whatever is said of a key: else the time that a line takes would tell which it was.
        _ => refused!(info),
    }
}
