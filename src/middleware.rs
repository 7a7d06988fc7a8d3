//! The layer, its service and its answers. Start reading at `service.rs`, which holds the whole
//! decision.
//!
//! ```
//! use tower::{ServiceBuilder, service_fn};
//! use tower_api_key::{ApiKeyLayer, Identity, MemoryStore};
//! # use http::{Request, Response};
//! # use std::convert::Infallible;
//!
//! let service = ServiceBuilder::new()
//!     .layer(ApiKeyLayer::new(MemoryStore::new()))
//!     .service(service_fn(async |request: Request<String>| {
//!         // Only verified callers come here, and each brings its identity.
//!         let identity = request.extensions().get::<Identity>();
//!         let account = identity.map_or_else(String::new, |identity| identity.account().to_string());
//!         Ok::<_, Infallible>(Response::new(account))
//!     }));
//! # let _ = service;
//! ```
//!
//! # Order of layers
//!
//! Put the layer outside of everything that should see verified requests only, and put outside of
//! the layer what must see refused ones too: access logs, CORS (browsers send no key with a
//! preflight), compression. A log outside of the layer sees the request **before** the key is
//! removed: do not log its headers.

mod body;
mod connection;
mod future;
pub mod grpc;
mod layer;
mod log;
mod notice;
pub mod response;
mod scope;
pub(crate) mod service;
mod shadow;
mod watch;

pub use body::ResponseBody;
pub use connection::AttachConnection;
pub use future::ResponseFuture;
pub use grpc::Grpc;
pub use layer::ApiKeyLayer;
pub use response::{Json, ProblemDetails, RenderRefusal};
pub use scope::{RequireScope, ScopeFuture, ScopeService, require_scope};
pub use service::ApiKeyService;
