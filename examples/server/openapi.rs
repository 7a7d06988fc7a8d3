//! The document that describes the server, for those who have a key.

use axum::Json;
use tower_api_key::manage::api::openapi::{ApiKeyHeader, management};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::{bookings, webhooks};

/// The calls with an API key. Those of the console come from the crate.
#[derive(OpenApi)]
#[openapi(
    info(title = "Example server", description = "A service behind API keys."),
    paths(test, bookings::list, webhooks::list, webhooks::get, webhooks::create, webhooks::delete),
    modifiers(&ApiKeyHeader, &Session)
)]
struct Server;

/// Who manages keys has signed in at the console.
struct Session;

impl Modify for Session {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let cookie =
            ApiKeyValue::with_description("__Host-session", "Set by signing in at /console/.");
        let scheme = SecurityScheme::ApiKey(ApiKey::Cookie(cookie));
        document.components.get_or_insert_default().add_security_scheme("Session", scheme);
    }
}

/// Says whether a key works.
#[utoipa::path(get, path = "/v2/test", security(("ApiKey" = [])), tag = "Keys",
    responses((status = 200, description = "It does", body = Works)))]
#[allow(dead_code, reason = "a description of the crate's `test_endpoint`")]
fn test() {}

/// Whose key it is.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "a description")]
struct Works {
    message: String,
}

pub(crate) async fn document() -> Json<utoipa::openapi::OpenApi> {
    let mut document = Server::openapi().nest("/console/api", management("Session"));
    for path in document.paths.paths.values_mut() {
        let operations = [&mut path.get, &mut path.post, &mut path.patch, &mut path.delete];
        for operation in operations.into_iter().flatten() {
            let refused = "No valid API key came, or nobody is signed in";
            let refused = utoipa::openapi::Response::new(refused);
            operation.responses.responses.entry("401".into()).or_insert(refused.into());
        }
    }
    Json(document)
}
