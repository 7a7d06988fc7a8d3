//! The page on which an account's owner sees and manages its keys. Knows no store, and no key: the
//! one answer with a key in it is that of the first visit.
//!
//! Mount it, and the management API beneath it, under the service's own authentication:
//!
//! ```
//! use axum::Router;
//! use axum::extract::FromRequestParts;
//! use http::{StatusCode, request::Parts};
//! use tower_api_key::manage::page::KeysPage;
//! use tower_api_key::manage::{Principal, api};
//! use tower_api_key::{KeyManager, MemoryStore};
//!
//! /// Whoever is signed in: the service's own matter.
//! struct SignedIn(Principal);
//!
//! impl FromRequestParts<()> for SignedIn {
//!     type Rejection = StatusCode;
//!
//!     async fn from_request_parts(parts: &mut Parts, _: &()) -> Result<Self, StatusCode> {
//!         let session = parts.headers.get("cookie").ok_or(StatusCode::UNAUTHORIZED)?;
//!         # let _ = session;
//!         // … look the session up …
//!         # let account = "admin@example.com".parse().map_err(|_| StatusCode::UNAUTHORIZED)?;
//!         Ok(Self(Principal::new(account)))
//!     }
//! }
//!
//! impl From<SignedIn> for Principal {
//!     fn from(SignedIn(principal): SignedIn) -> Self {
//!         principal
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let manager = KeyManager::new(MemoryStore::new(), "acme".parse()?);
//! let page = KeysPage::new(manager.clone()).with_sign_out("/sign-out");
//! let app: Router = Router::new()
//!     .nest("/console/", page.router::<SignedIn>()) // the slash at the end matters
//!     .nest("/console/api", api::router::<SignedIn>(manager));
//! # let _ = app;
//! # Ok(()) }
//! ```
//!
//! # What it holds to
//!
//! * It is rendered here, without a build step; everything that it loads comes from its own routes, and
//!   its `Content-Security-Policy` allows nothing else, nothing inline and no frame around it.
//! * A `GET` changes nothing. On a first visit the page's script asks for the account's first key, and
//!   shows it once.
//! * A key is in the page while its dialog is open, and nowhere afterwards: not in the document, not
//!   in the history, not in what a browser keeps to go back to.
//! * Changes are refused when they come from another site, by `Sec-Fetch-Site` or `Origin`, and when
//!   their body is not JSON. Cookies are the service's own: make them `HttpOnly`, `Secure`,
//!   `SameSite=Strict` and `__Host-`.
//! * A request that was let in by an API key is refused: keys do not manage keys.

mod assets;
mod dates;
mod dialogs;
mod guard;
mod row;
mod usage;
mod view;

use std::error::Error;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use serde_json::json;

pub use self::guard::guarded;
use self::guard::refusal;
use self::usage::DAYS;
use self::view::{Frame, Overview};
use super::api::is_json;
use super::{KeyManager, ManageError, NewKey, Principal};

/// The page of an account's keys, as a router to [mount](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct KeysPage {
    manager: KeyManager,
    service: Option<String>,
    first: Option<NewKey>,
    makes_first: bool,
    heading: String,
    sign_in: String,
    sign_out: Option<String>,
}

impl KeysPage {
    /// A page over the keys that `manager` manages. Give the management API the same one.
    pub fn new(manager: KeyManager) -> Self {
        Self {
            manager,
            service: None,
            first: None,
            makes_first: true,
            heading: "APIs & Webhooks".to_owned(),
            sign_in: ".".to_owned(),
            sign_out: None,
        }
    }

    /// The service's name, for the top of the page and its title.
    pub fn with_service(mut self, name: impl Into<String>) -> Self {
        self.service = Some(name.into());
        self
    }

    /// An account that never had a key gets one when its owner first opens the page. It is like this one;
    /// else it is called "First key".
    ///
    /// Whoever is shown a key can do what it may be used for. So it is made for a [`Principal`] who may
    /// [give](Principal::with_grantable_scopes) all of its scopes, and for others there is none: where it has
    /// any, have your extractor name them. There is none either where the manager's
    /// [limit](KeyManager::with_limit) is 0.
    pub fn with_first_key(mut self, key: NewKey) -> Self {
        self.first = Some(key);
        self
    }

    /// Makes no first key: an account has none until somebody makes one.
    pub fn without_first_key(mut self) -> Self {
        self.makes_first = false;
        self
    }

    /// The heading above the keys; "APIs & Webhooks" unless set.
    pub fn with_heading(mut self, heading: impl Into<String>) -> Self {
        self.heading = heading.into();
        self
    }

    /// Where somebody goes whose session has ended; the page itself unless set, which is right where
    /// it answers with the sign-in form then.
    pub fn with_sign_in(mut self, path: impl Into<String>) -> Self {
        self.sign_in = path.into();
        self
    }

    /// Where the button *Sign out* posts to; there is none unless set.
    pub fn with_sign_out(mut self, path: impl Into<String>) -> Self {
        self.sign_out = Some(path.into());
        self
    }

    /// The page's routes. Nest them under a path that ends with a slash: what the page loads is beside
    /// it, and the management API is expected at `api` beneath it.
    ///
    /// `P` is whoever is authenticated, as a service's own extractor finds out; its rejection is what
    /// others get in place of the page. Styles, script and icon are for everybody.
    pub fn router<P>(self) -> Router
    where
        P: FromRequestParts<()> + Send + 'static,
        Principal: From<P>,
    {
        let page = Arc::new(self);
        let first = Arc::clone(&page);
        let routes = Router::new()
            .route(
                "/",
                get(move |visitor: P| {
                    let page = Arc::clone(&page);
                    async move { page.show(&visitor.into()).await }
                }),
            )
            .route(
                "/first-key",
                post(move |visitor: P, headers: HeaderMap| {
                    let page = Arc::clone(&first);
                    async move { page.make_first(&visitor.into(), &headers).await }
                }),
            )
            .fallback(async || refusal(StatusCode::NOT_FOUND, "There is nothing at this path."));
        guarded(assets::routes(routes))
    }

    async fn show(&self, visitor: &Principal) -> Response {
        let frame = Frame {
            service: self.service.as_deref(),
            heading: &self.heading,
            makes_first: self.manager.limit() > 0 && self.first_for(visitor).is_some(),
            account: visitor.account().as_str(),
            sign_in: &self.sign_in,
            sign_out: self.sign_out.as_deref(),
            environments: self.manager.environments().unwrap_or_default(),
        };
        match self.overview(visitor).await {
            Ok(overview) => Html(view::page(&frame, Some(&overview)).into_string()).into_response(),
            Err(error) => {
                tracing::error!(target: "tower_api_key", error = &error as &dyn Error, "the keys cannot be shown");
                let page = Html(view::page(&frame, None).into_string());
                (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], page)
                    .into_response()
            }
        }
    }

    async fn overview(&self, visitor: &Principal) -> Result<Overview, ManageError> {
        let keys = self.manager.list(visitor.account()).await?;
        let mut overview = Overview::new(keys, self.manager.limit(), self.manager.now());
        match self.manager.usage(visitor.account(), DAYS).await {
            Ok(usage) => overview.count(usage),
            // The list is worth showing without the pictures.
            Err(error) => {
                tracing::warn!(target: "tower_api_key", error = &error as &dyn Error, "the use of the keys cannot be shown");
            }
        }
        Ok(overview)
    }

    /// What the first key is to be; nothing where there is to be none, or none for somebody who could not make
    /// it themselves.
    fn first_for(&self, visitor: &Principal) -> Option<NewKey> {
        let first = self.first.clone().or_else(|| "First key".parse().ok().map(NewKey::new));
        let may_have = |new: &NewKey| new.scopes.iter().all(|scope| visitor.may_grant(scope));
        first.filter(may_have).filter(|_| self.makes_first)
    }

    /// The account's first key: 201 with it, or 204 when it ever had one or is to have none.
    async fn make_first(&self, visitor: &Principal, headers: &HeaderMap) -> Response {
        if !is_json(headers) {
            return refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body must be JSON.");
        }
        let Some(new) = self.first_for(visitor) else {
            return StatusCode::NO_CONTENT.into_response();
        };
        match visitor.acting(&self.manager).create_first(visitor.account(), new).await {
            Ok(Some(issued)) => {
                let (record, key) = issued.into_parts();
                let key = key.reveal();
                let body = json!({ "id": record.id.as_str(), "name": record.name.as_str(), "api_key": key.as_str() });
                // In the management API beneath the page.
                let place = format!("api/api-keys/{}", record.id);
                (StatusCode::CREATED, [(header::LOCATION, place)], Json(body)).into_response()
            }
            Ok(None) => StatusCode::NO_CONTENT.into_response(),
            Err(error) => {
                tracing::error!(target: "tower_api_key", error = &error as &dyn Error, "the first key could not be made");
                guard::broken()
            }
        }
    }
}
