//! The routes. Nothing here checks a key: no request comes here without one.

use axum::Router;
use axum::routing::get;
use http::StatusCode;
use tower_api_key::axum::test_endpoint;

use crate::failure::Failure;
use crate::webhooks::Webhooks;
use crate::{bookings, openapi, webhooks};

pub(crate) fn router(hooks: Webhooks) -> Router {
    Router::new()
        .route("/openapi.json", get(openapi::document))
        .route("/v2/test", test_endpoint(|caller| caller.account().to_string()))
        .route("/v2/bookings", get(bookings::list))
        .route("/v2/webhooks", get(webhooks::list).post(webhooks::create))
        .route("/v2/webhooks/{id}", get(webhooks::get).delete(webhooks::delete))
        .fallback(async || Failure::not_found("There is nothing at this path."))
        .method_not_allowed_fallback(async || {
            Failure::request(StatusCode::METHOD_NOT_ALLOWED, "This path does not know that method.")
        })
        .with_state(hooks)
}
