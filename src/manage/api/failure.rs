//! What the API says when it cannot do what was asked: in the shape that the layer's own refusals have.

use std::borrow::Cow;

use axum::Json;
use axum_core::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::noted::Reason;
use crate::manage::{EXPIRED_KEY_LIMIT, ManageError};
use crate::record::Scopes;

/// A status and what the client is told.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    body: Told,
}

/// The body of an error.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = Error))]
pub(super) struct Told {
    /// `invalid_request_error`, `authentication_error` or `api_error`.
    r#type: &'static str,
    /// What is wrong, and what to do.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    message: Cow<'static, str>,
    /// The field, parameter or header that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<String>,
}

impl Failure {
    /// The request cannot be meant.
    pub(super) fn request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::with_status(StatusCode::BAD_REQUEST, message)
    }

    /// One part of the request cannot be meant.
    pub(super) fn param(name: &str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::request(message).about(name)
    }

    pub(super) fn with_status(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        let body = Told { r#type: "invalid_request_error", message: message.into(), param: None };
        Self { status, body }
    }

    /// Scopes that the principal may not give.
    pub(super) fn scopes(grantable: Option<&Scopes>) -> Self {
        let message = match grantable.map(ToString::to_string).unwrap_or_default() {
            none if none.is_empty() => "Your API keys cannot have scopes.".into(),
            these => {
                Cow::from(format!("Your API keys can have these scopes and no others: {these}."))
            }
        };
        Self::param("scopes", message)
    }

    pub(super) fn not_found(what: &'static str) -> Self {
        Self::with_status(StatusCode::NOT_FOUND, what)
    }

    /// A key with scopes that the principal may not give, and so not be shown a secret of.
    pub(super) fn stronger_key() -> Self {
        let message = "This API key has scopes that you may not give. Whoever may can give it a new secret; you can delete it.";
        let mut failure = Self::with_status(StatusCode::FORBIDDEN, message);
        failure.body.r#type = "authentication_error";
        failure
    }

    /// An API key was sent where a person has to sign in.
    pub(super) fn data_key() -> Self {
        let message = "API keys cannot manage API keys.";
        let mut failure = Self::with_status(StatusCode::FORBIDDEN, message);
        failure.body.r#type = "authentication_error";
        failure
    }

    /// Names the part of the request.
    pub(super) fn about(mut self, name: &str) -> Self {
        // A name of any length may have been sent.
        self.body.param = Some(name.chars().take(100).collect());
        self
    }
}

impl From<ManageError> for Failure {
    fn from(error: ManageError) -> Self {
        match error {
            ManageError::NotFound => Self::not_found("The account has no such API key."),
            ManageError::LimitReached { limit } => Self::with_status(
                StatusCode::CONFLICT,
                format!("An account may have at most {limit} active API keys: delete one first."),
            ),
            ManageError::TooManyExpired => Self::with_status(
                StatusCode::CONFLICT,
                format!(
                    "An account may list at most {EXPIRED_KEY_LIMIT} expired API keys: delete some of them first."
                ),
            ),
            ManageError::NoSuchEnvironment { known } => {
                let known = crate::manage::error::environments(&known);
                Self::param("environment", format!("An API key may be bound to {known}."))
            }
            ManageError::InvalidExpiry => Self::param(
                "expires_at",
                "A key must end in the future, and before the year 10000.",
            ),
            ManageError::Expired => {
                Self::with_status(StatusCode::CONFLICT, "The API key has expired: make a new one.")
            }
            ManageError::NotRotated => {
                Self::with_status(StatusCode::CONFLICT, "The API key was not rotated.")
            }
            ManageError::AlreadyRotated => Self::with_status(
                StatusCode::CONFLICT,
                "The API key was rotated already: use its successor, and delete this one when you can.",
            ),
            ManageError::AlreadyMade(_) => {
                Self::with_status(StatusCode::CONFLICT, "The API key was made before.")
            }
            ManageError::Reused => Self::with_status(
                StatusCode::CONFLICT,
                "This Idempotency-Key was sent before, with another request.",
            )
            .about("Idempotency-Key"),
            ManageError::Randomness(_) | ManageError::NoFreeKey | ManageError::Store(_) => {
                Self::broken(&error)
            }
        }
    }
}

impl Failure {
    /// Nothing that the client could do better. The log has the reason.
    fn broken(error: &ManageError) -> Self {
        let source = std::error::Error::source(error);
        tracing::error!(target: "tower_api_key", error = %error, source, "keys cannot be managed");
        let message = "This could not be done, or it is not known whether it was. \
                       Look at the list of API keys, and try again in a moment.";
        let body = Told { r#type: "api_error", message: message.into(), param: None };
        Self { status: StatusCode::SERVICE_UNAVAILABLE, body }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let reason = Reason(self.body.message.clone());
        let mut response = (self.status, Json(self.body)).into_response();
        response.extensions_mut().insert(reason);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
