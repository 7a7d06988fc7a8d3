//! An endpoint that ends the key it is called with.

use axum::Json;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use http::{HeaderValue, StatusCode, header};

use crate::identity::Identity;
use crate::manage::{KeyManager, ManageError};
use crate::rejection::Refusal;

/// An endpoint that deletes the very key it is called with, for whoever has found one: a customer's
/// colleague, a scanner, a stranger.
///
/// ```
/// use axum::Router;
/// use tower_api_key::axum::{protect, self_revoke};
/// use tower_api_key::{ApiKeyLayer, KeyManager, MemoryStore};
///
/// let store = MemoryStore::new();
/// let manager = KeyManager::new(store.clone(), "acme".parse()?);
/// let api = Router::new().route("/self-revoke", self_revoke(manager.acting_for("self-revoke".parse()?)));
/// // Behind `protect`: the key is the proof. Whatever it is for, it can be ended.
/// let service = protect(api, ApiKeyLayer::new(store).with_any_environment());
/// # let _ = service;
/// # Ok::<_, tower_api_key::InvalidText>(())
/// ```
///
/// `POST` answers 204 when the key is dead, on every replica; the next call with it is a 401. `GET` and all
/// else is 405, so that following a link ends nothing. While the store is down it is a 503: try again.
///
/// Any key that the layer in front lets in can end itself, and no other: mount this behind a layer that asks
/// for as little as can be, no [scope](crate::ApiKeyLayer::with_required_scope), and takes the keys of
/// [any environment](crate::ApiKeyLayer::with_any_environment).
pub fn self_revoke<S>(manager: KeyManager) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    post(async move |caller: Identity| match manager.revoke(caller.record()).await {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => failed(&error),
    })
}

fn failed(error: &ManageError) -> Response {
    tracing::error!(target: "tower_api_key", error = error as &dyn std::error::Error, "a key could not end itself");
    let message = "The API key could not be revoked. Try again in a moment.";
    let body = Json(serde_json::json!({ "type": "api_error", "message": message }));
    let mut response = (Refusal::Unavailable.status(), body).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
