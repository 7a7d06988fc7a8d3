//! What the page loads: three small files, compiled in. A browser asks each time whether they are
//! still the same, so that nobody keeps an old script with a new page.

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};

const STYLE: Asset = Asset::new("text/css; charset=utf-8", include_str!("style.css"));
const SCRIPT: Asset = Asset::new("text/javascript; charset=utf-8", include_str!("script.js"));
const ICON: Asset = Asset::new("image/svg+xml", include_str!("icon.svg"));

pub(super) fn routes(router: Router) -> Router {
    router
        .route("/style.css", get(async |headers: HeaderMap| STYLE.answer(&headers)))
        .route("/script.js", get(async |headers: HeaderMap| SCRIPT.answer(&headers)))
        .route("/icon.svg", get(async |headers: HeaderMap| ICON.answer(&headers)))
}

struct Asset {
    kind: &'static str,
    text: &'static str,
    version: u64,
}

impl Asset {
    const fn new(kind: &'static str, text: &'static str) -> Self {
        Self { kind, text, version: fnv(text.as_bytes()) }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let version = format!("\"{:016x}\"", self.version);
        let common =
            [(header::ETAG, version.clone()), (header::CACHE_CONTROL, "no-cache".to_owned())];
        let known = headers.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok());
        // A proxy that compresses the answer marks the tag as weak.
        if known.is_some_and(|known| known.contains(&version)) {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        (common, [(header::CONTENT_TYPE, self.kind)], self.text).into_response()
    }
}

/// FNV-1a: tells versions of a file apart, and protects nothing.
const fn fnv(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}
