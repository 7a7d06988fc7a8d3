//! What the log is told of a refusal: who or what was tried, from where and for what, never with what.

use std::net::IpAddr;

use http::Request;

use crate::logged::{LoggedMethod, LoggedPath};
use crate::record::{AccountId, KeyId, KeyName};
use crate::rejection::{Refusal, Rejection, RejectionKind as Kind};

/// In the place of an id, as in the logs of servers: left out, it would take less time than a key that is or was
/// somebody's, and tell so.
const UNKNOWN: &str = "-";

/// One event for each refusal, or what would be one. `client` is asked only when somebody listens, for the
/// address that the call came from, if that is known for sure.
#[cold]
pub(super) fn log<B>(
    rejection: &Rejection,
    request: &Request<B>,
    client: impl FnOnce() -> Option<IpAddr>,
    what: &str,
) {
    // Names are of any length, and the time to write one would tell more of a key than its sender may know.
    let is_named = rejection.kind().refusal() != Refusal::InvalidKey;
    let key_name = rejection.key_name().map(KeyName::as_str);
    let account = rejection.account().map(AccountId::as_str);
    macro_rules! refused {
        ($level:ident) => {
            tracing::$level!(
                target: "tower_api_key",
                reason = %rejection,
                client = client().map(tracing::field::display),
                method = %LoggedMethod(request.method()),
                path = ?LoggedPath::of(request.uri()),
                fingerprint = rejection.fingerprint().map(tracing::field::display),
                key_id = %rejection.key_id().map_or(UNKNOWN, KeyId::as_str),
                key_name = key_name.filter(|_| is_named),
                account = account.filter(|_| is_named),
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
    if let Some(key_id) = rejection.key_id().filter(|_| !is_named) {
        tracing::debug!(target: "tower_api_key", %key_id, key_name, account, "whose key was refused");
    }
}
