//! Calls that are refused, for the log: who asked for what, as far as it is known.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use axum::extract::Request;
use axum::middleware::Next;
use axum_core::response::Response;
use http::StatusCode;

use crate::logged::{LoggedMethod, LoggedPath};
use crate::manage::Principal;
use crate::record::{AccountId, Actor};

/// Where it is noted who asks, as soon as that is known.
#[derive(Clone, Default)]
pub(super) struct Asker(Arc<OnceLock<Principal>>);

impl Asker {
    pub(super) fn is(&self, principal: &Principal) {
        // Whoever asks is found out once for each call.
        let _ = self.0.set(principal.clone());
    }
}

/// What a refused client was told. Nothing in it is the client's word.
#[derive(Clone)]
pub(super) struct Reason(pub(super) Cow<'static, str>);

/// One event for each call that is refused. What could not be done is told where it failed.
pub(super) async fn noted(mut request: Request, next: Next) -> Response {
    let asker = Asker::default();
    request.extensions_mut().insert(asker.clone());
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let response = next.run(request).await;
    let status = response.status();
    macro_rules! refused {
        ($level:ident) => {
            tracing::$level!(
                target: "tower_api_key",
                account = asker.0.get().map(Principal::account).map(AccountId::as_str),
                actor = asker.0.get().and_then(Principal::actor).map(Actor::as_str),
                method = %LoggedMethod(&method),
                path = ?LoggedPath::of(&uri),
                status = status.as_u16(),
                reason = response.extensions().get::<Reason>().map(|reason| &*reason.0),
                "a call to manage keys was refused"
            )
        };
    }
    if status == StatusCode::FORBIDDEN {
        refused!(warn);
    } else if status.is_client_error() {
        refused!(info);
    }
    response
}
