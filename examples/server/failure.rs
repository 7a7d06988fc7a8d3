//! What the API answers when it cannot do what was asked.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

/// An error in the shape that the layer's own refusals have.
pub(crate) struct Failure {
    status: StatusCode,
    kind: &'static str,
    message: String,
    param: Option<String>,
}

/// The body of an error.
#[derive(utoipa::ToSchema)]
#[schema(as = Error)]
#[allow(dead_code, reason = "a description of what is answered below")]
pub(crate) struct Told {
    r#type: String,
    message: String,
    param: Option<String>,
}

impl Failure {
    pub(crate) fn invalid(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::request(StatusCode::BAD_REQUEST, message) }
    }

    pub(crate) fn conflict(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::request(StatusCode::CONFLICT, message) }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::request(StatusCode::NOT_FOUND, message)
    }

    /// What the layer says of a key that does not work.
    pub(crate) fn invalid_key() -> Self {
        let failure = Self::request(StatusCode::UNAUTHORIZED, "Invalid API key.");
        Self { kind: "authentication_error", ..failure }
    }

    /// What the layer says while its store does not answer.
    pub(crate) fn unchecked_key() -> Self {
        let message = "The API key could not be checked. Try again in a moment.";
        let failure = Self::request(StatusCode::SERVICE_UNAVAILABLE, message);
        Self { kind: "api_error", ..failure }
    }

    pub(crate) fn request(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, kind: "invalid_request_error", message: message.into(), param: None }
    }

    pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "a request failed");
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            kind: "api_error",
            message: "This could not be done. Try again in a moment.".into(),
            param: None,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut body = json!({ "type": self.kind, "message": self.message });
        if let Some(param) = &self.param {
            body["param"] = param.as_str().into();
        }
        body
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        let status = match rejection.status() {
            status @ (StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::PAYLOAD_TOO_LARGE) => status,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::request(
            status,
            "The body must be a JSON object, with Content-Type: application/json.",
        )
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.to_json())).into_response()
    }
}
