//! The API's description, for a service's own OpenAPI document. Knows no request.
//!
//! ```
//! use tower_api_key::manage::api::openapi::{self, ApiKeyHeader};
//! use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
//! use utoipa::{Modify, OpenApi};
//!
//! #[derive(OpenApi)]
//! #[openapi(info(title = "Acme"), modifiers(&ApiKeyHeader, &Session))]
//! struct Acme; // with the service's own paths, which need `security(("ApiKey" = []))`
//!
//! /// How people sign in: the service's own scheme, by the name that `management` is told.
//! struct Session;
//!
//! impl Modify for Session {
//!     fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
//!         let scheme = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new("__Host-session")));
//!         document.components.get_or_insert_default().add_security_scheme("Session", scheme);
//!     }
//! }
//!
//! let document = Acme::openapi().nest("/console/api", openapi::management("Session"));
//! assert!(document.paths.paths.contains_key("/console/api/api-keys"));
//! ```

// Nothing calls these: each carries the description of the call of its name in `api.rs`, whose own lines
// would drown in it. That the two agree is shown by a fuzzer, which reads the one and calls the other.
#![allow(dead_code, clippy::unused_async, reason = "descriptions, not calls")]
#![allow(clippy::exhaustive_structs, reason = "names, which have nothing")]

use utoipa::openapi::Response;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
};
use utoipa::{Modify, OpenApi, ToSchema};

use super::failure::Told;
use super::view::{IssuedView, KeyView, ListView};
use crate::extract::API_KEY;

/// Adds the security scheme `ApiKey` to a document: a key in the `API-Key` header.
#[derive(Clone, Copy, Debug)]
pub struct ApiKeyHeader;

/// Adds the security scheme `ApiKeyAsBearer` to a document: a key in `Authorization: Bearer`, where a
/// layer [takes it from there](crate::ApiKeyLayer::with_bearer).
#[derive(Clone, Copy, Debug)]
pub struct ApiKeyAsBearer;

impl Modify for ApiKeyHeader {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let described = "A key, as it was shown when it was made. Over HTTPS only.";
        let value = ApiKeyValue::with_description(API_KEY.as_str(), described);
        add_scheme(document, "ApiKey", SecurityScheme::ApiKey(ApiKey::Header(value)));
    }
}

impl Modify for ApiKeyAsBearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        add_scheme(
            document,
            "ApiKeyAsBearer",
            SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)),
        );
    }
}

fn add_scheme(document: &mut utoipa::openapi::OpenApi, name: &str, scheme: SecurityScheme) {
    document.components.get_or_insert_default().add_security_scheme(name, scheme);
}

/// The description of [`router`](super::router), to be nested where that is. `security` is the name of
/// the scheme, in the service's own document, by which principals sign in.
#[must_use]
pub fn management(security: &str) -> utoipa::openapi::OpenApi {
    let mut document = Management::openapi();
    for path in document.paths.paths.values_mut() {
        let operations = [&mut path.get, &mut path.post, &mut path.patch, &mut path.delete];
        for operation in operations.into_iter().flatten() {
            let needed = SecurityRequirement::new(security, [] as [&str; 0]);
            operation.security = Some(vec![needed]);
            let elsewhere =
                Response::new("The call came from another site, or was let in by an API key");
            operation.responses.responses.insert("403".to_owned(), elsewhere.into());
        }
    }
    document
}

#[derive(OpenApi)]
#[openapi(
    paths(list, create, show, rename, delete, regenerate, rotate),
    components(schemas(Told)),
    tags((name = "API keys", description = "The keys of an account. No API key opens this."))
)]
struct Management;

/// What a new key is to be.
#[derive(serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewApiKeyRequest)]
struct NewKeyBody {
    /// What it is for, such as "Production CRM". Something in it must be visible; no control characters.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]*[^\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069 \\u00a0\\u00ad\\u034f\\u115f\\u1160\\u1680\\u17b4\\u17b5\\u180b-\\u180f\\u2000-\\u200d\\u202f\\u205f-\\u2065\\u206a-\\u206f\\u2800\\u3000\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufffb\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}][^\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]*$"
    )]
    name: String,
    /// The environment to bind it to; it becomes part of the key.
    #[schema(min_length = 1, max_length = 16, pattern = "^[a-z0-9]+$")]
    environment: Option<String>,
    /// The first instant at which it no longer works, ahead of now.
    #[schema(format = DateTime, example = json!("2031-01-31T09:30:00Z"))]
    expires_at: Option<String>,
    /// What it may be used for: scopes that the account may give, each of which is else refused.
    #[schema(max_items = 64)]
    scopes: Option<Vec<ScopeText>>,
}

/// A scope.
#[derive(serde::Deserialize, ToSchema)]
#[schema(as = Scope, min_length = 1, max_length = 64, pattern = r"^[!#-\[\]-~]+$")]
struct ScopeText(String);

/// Another name.
#[derive(serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RenameRequest)]
struct RenameBody {
    /// Something in it must be visible; no control characters.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]*[^\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069 \\u00a0\\u00ad\\u034f\\u115f\\u1160\\u1680\\u17b4\\u17b5\\u180b-\\u180f\\u2000-\\u200d\\u202f\\u205f-\\u2065\\u206a-\\u206f\\u2800\\u3000\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufffb\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}][^\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]*$"
    )]
    name: String,
}

/// How long the old key goes on working.
#[derive(serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RotateRequest)]
struct RotateBody {
    /// Seconds, at most a hundred years. 0 ends the old key at once.
    #[schema(minimum = 0, maximum = 3_155_760_000_i64)]
    grace_seconds: u64,
}

/// Lists the account's keys, oldest first.
#[utoipa::path(get, path = "/api-keys", tag = "API keys", operation_id = "listApiKeys",
    params(
        ("limit" = Option<u8>, Query, minimum = 1, maximum = 100, description = "How many at most"),
        ("after" = Option<String>, Query, description = "What the link to the next page has",
            example = json!("MTgwMDAwMDAwMDAwMC5rZXlfYQ"), max_length = 128),
    ),
    responses(
        (status = 200, description = "A page of them", body = ListView,
            headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, while there is one"))),
        (status = 400, description = "A parameter that cannot be meant", body = Told),
        (status = 401, description = "Nobody is signed in"),
        (status = 503, description = "Try again in a moment", body = Told),
    ))]
async fn list() {}

/// Makes a key, and shows it, once.
#[utoipa::path(post, path = "/api-keys", tag = "API keys", operation_id = "createApiKey",
    params(("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]+$", min_length = 1, max_length = 255,
        description = "Makes a repeat of this call one that does nothing")),
    request_body = NewKeyBody,
    responses(
        (status = 201, description = "The key, with its secret", body = IssuedView,
            headers(("Location" = String, description = "Where the key is, relative to this call"))),
        (status = 200, description = "The key that this call has made before, without its secret", body = KeyView),
        (status = 400, description = "A field that cannot be meant", body = Told),
        (status = 401, description = "Nobody is signed in"),
        (status = 409, description = "The account has as many active keys as it may have, or too many expired ones for one more that expires, or the Idempotency-Key was used for another key", body = Told),
        (status = 413, description = "The body is too long", body = Told),
        (status = 415, description = "The body is not JSON", body = Told),
        (status = 503, description = "Look at the list, and try again in a moment", body = Told),
    ))]
async fn create() {}

/// Shows a key, without its secret.
#[utoipa::path(get, path = "/api-keys/{id}", tag = "API keys", operation_id = "getApiKey",
    params(("id" = String, Path, pattern = "^[A-Za-z0-9_-]{1,64}$", description = "The key's id")),
    responses(
        (status = 200, description = "The key", body = KeyView),
        (status = 401, description = "Nobody is signed in"),
        (status = 404, description = "The account has no such key", body = Told),
        (status = 503, description = "Try again in a moment", body = Told),
    ))]
async fn show() {}

/// Gives a key another name.
#[utoipa::path(patch, path = "/api-keys/{id}", tag = "API keys", operation_id = "renameApiKey",
    params(("id" = String, Path, pattern = "^[A-Za-z0-9_-]{1,64}$", description = "The key's id")),
    request_body = RenameBody,
    responses(
        (status = 200, description = "The key", body = KeyView),
        (status = 400, description = "A field that cannot be meant", body = Told),
        (status = 401, description = "Nobody is signed in"),
        (status = 404, description = "The account has no such key", body = Told),
        (status = 413, description = "The body is too long", body = Told),
        (status = 415, description = "The body is not JSON", body = Told),
        (status = 503, description = "Try again in a moment", body = Told),
    ))]
async fn rename() {}

/// Deletes a key, for good. Any application that uses it loses access immediately.
#[utoipa::path(delete, path = "/api-keys/{id}", tag = "API keys", operation_id = "deleteApiKey",
    params(("id" = String, Path, pattern = "^[A-Za-z0-9_-]{1,64}$", description = "The key's id")),
    responses(
        (status = 204, description = "It is dead"),
        (status = 401, description = "Nobody is signed in"),
        (status = 404, description = "The account has no such key", body = Told),
        (status = 503, description = "Try again in a moment", body = Told),
    ))]
async fn delete() {}

/// Gives a key a new secret, and shows it, once. The old one is dead.
#[utoipa::path(post, path = "/api-keys/{id}/regenerate", tag = "API keys", operation_id = "regenerateApiKey",
    params(("id" = String, Path, pattern = "^[A-Za-z0-9_-]{1,64}$", description = "The key's id")),
    responses(
        (status = 200, description = "The key, with its new secret", body = IssuedView),
        (status = 401, description = "Nobody is signed in"),
        (status = 403, description = "The key has scopes that the caller may not give", body = Told),
        (status = 404, description = "The account has no such key", body = Told),
        (status = 409, description = "The key has expired, or was rotated", body = Told),
        (status = 503, description = "Look at the list, and try again in a moment", body = Told),
    ))]
async fn regenerate() {}

/// Makes a key beside an old one, which works until the grace is over, and shows the new one, once.
#[utoipa::path(post, path = "/api-keys/{id}/rotate", tag = "API keys", operation_id = "rotateApiKey",
    params(("id" = String, Path, pattern = "^[A-Za-z0-9_-]{1,64}$", description = "The key's id")),
    request_body = RotateBody,
    responses(
        (status = 201, description = "The new key, with its secret", body = IssuedView,
            headers(("Location" = String, description = "Where the new key is, relative to this call"))),
        (status = 400, description = "A field that cannot be meant", body = Told),
        (status = 401, description = "Nobody is signed in"),
        (status = 403, description = "The key has scopes that the caller may not give", body = Told),
        (status = 404, description = "The account has no such key", body = Told),
        (status = 409, description = "No room for both, or too many expired keys for one more, or the key has expired, or was rotated", body = Told),
        (status = 413, description = "The body is too long", body = Told),
        (status = 415, description = "The body is not JSON", body = Told),
        (status = 503, description = "Look at the list, and try again in a moment", body = Told),
    ))]
async fn rotate() {}
