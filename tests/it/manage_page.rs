//! The page as a client without a browser sees it: headers, who is refused, and what is never in it.

use ::axum::Router;
use ::axum::body::Body;
use ::axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use tower_api_key::axum::protect;
use tower_api_key::manage::Principal;
use tower_api_key::manage::page::{KeysPage, guarded};
use tower_api_key::{ApiKeyLayer, KeyManager, ManualClock, MemoryStore, Transport};

use crate::support::{Log, account, file_expired, named, text, time};

/// Signed in is who says so.
struct Visitor(Principal);

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let user = parts.headers.get("x-user").and_then(|user| user.to_str().ok());
        let principal = Principal::new(account(user.ok_or(StatusCode::UNAUTHORIZED)?));
        let scopes = parts.headers.get("x-scopes").map(|scopes| scopes.to_str().unwrap());
        let scopes = scopes.unwrap_or_default().parse().unwrap();
        Ok(Self(principal.with_grantable_scopes(scopes)))
    }
}

impl From<Visitor> for Principal {
    fn from(visitor: Visitor) -> Self {
        visitor.0
    }
}

fn manager() -> KeyManager {
    KeyManager::new(MemoryStore::new(), "acme".parse().unwrap())
}

fn site(manager: &KeyManager) -> Router {
    Router::new().nest("/keys/", KeysPage::new(manager.clone()).router::<Visitor>())
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

async fn ask(site: &Router, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("host", "keys.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = if method == "POST" { "{}" } else { "" };
    let request = request.body(Body::from(body)).unwrap();
    let response: Response<Body> = site.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    Answer { status, headers, body: String::from_utf8(bytes.to_vec()).unwrap() }
}

const SIGNED_IN: (&str, &str) = ("x-user", "a");
const JSON: (&str, &str) = ("content-type", "application/json");

fn assert_armoured(answer: &Answer, what: &str) {
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    for part in
        ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
    {
        assert!(policy.contains(part), "{what}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{what}: {policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("x-frame-options", "DENY"),
    ] {
        assert_eq!(answer.headers[name], value, "{what}");
    }
    assert!(answer.headers.contains_key("cache-control"), "{what}");
}

#[tokio::test]
async fn every_answer_is_armoured() {
    let site = site(&manager());
    for (method, path, headers, status) in [
        ("GET", "/keys/", &[SIGNED_IN][..], 200),
        ("HEAD", "/keys/", &[SIGNED_IN], 200),
        ("GET", "/keys/", &[], 401),
        ("GET", "/keys/nothing", &[SIGNED_IN], 404),
        ("PUT", "/keys/", &[SIGNED_IN], 405),
        ("GET", "/keys/first-key", &[SIGNED_IN], 405),
        ("POST", "/keys/first-key", &[JSON], 401),
        ("POST", "/keys/first-key", &[SIGNED_IN, ("content-type", "text/plain")], 415),
        ("POST", "/keys/first-key", &[SIGNED_IN, JSON, ("sec-fetch-site", "cross-site")], 403),
        ("POST", "/keys/first-key", &[SIGNED_IN, JSON], 201),
        ("POST", "/keys/first-key", &[SIGNED_IN, JSON], 204),
        ("GET", "/keys/style.css", &[], 200),
        ("GET", "/keys/script.js", &[], 200),
        ("GET", "/keys/icon.svg", &[], 200),
    ] {
        let answer = ask(&site, method, path, headers).await;
        let what = format!("{method} {path} {headers:?}");
        assert_eq!(answer.status, status, "{what}");
        assert_armoured(&answer, &what);
        let loaded = path.contains('.');
        let caching = if loaded { "no-cache" } else { "no-store" };
        assert_eq!(answer.headers["cache-control"], caching, "{what}");
        let kind = match path {
            "/keys/style.css" => "text/css; charset=utf-8",
            "/keys/script.js" => "text/javascript; charset=utf-8",
            "/keys/icon.svg" => "image/svg+xml",
            _ if status == 200 => "text/html; charset=utf-8",
            _ => continue,
        };
        assert_eq!(answer.headers["content-type"], kind, "{what}");
        let signed_in = ask(&site, method, path, &[SIGNED_IN]).await;
        assert!(!loaded || signed_in.body == answer.body, "{path} is the same for everybody");
    }
}

#[tokio::test]
async fn what_a_browser_has_is_not_sent_again() {
    let site = site(&manager());
    for path in ["/keys/style.css", "/keys/script.js", "/keys/icon.svg"] {
        let first = ask(&site, "GET", path, &[]).await;
        let tag = first.headers["etag"].to_str().unwrap();
        let again = ask(&site, "GET", path, &[("if-none-match", tag)]).await;
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{path}");
        let weak = format!("W/{tag}");
        assert_eq!(ask(&site, "GET", path, &[("if-none-match", &weak)]).await.status, 304);
        let other = ask(&site, "GET", path, &[("if-none-match", "\"0123456789abcdef\"")]).await;
        assert_eq!((other.status, other.body), (200, first.body), "{path}");
    }
}

#[tokio::test]
async fn other_sites_and_forms_change_nothing() {
    for (headers, refused) in [
        (&[JSON][..], None),
        (&[JSON, ("sec-fetch-site", "same-origin")], None),
        (&[JSON, ("sec-fetch-site", "none")], None),
        (&[JSON, ("origin", "https://keys.example")], None),
        (&[("content-type", "application/json; charset=utf-8")], None),
        (&[JSON, ("sec-fetch-site", "cross-site")], Some(403)),
        (&[JSON, ("sec-fetch-site", "same-site")], Some(403)),
        (&[JSON, ("sec-fetch-site", "nonsense")], Some(403)),
        (&[JSON, ("origin", "https://evil.example")], Some(403)),
        (&[JSON, ("origin", "https://keys.example.evil.example")], Some(403)),
        (&[JSON, ("origin", "https://keys.example:8443")], Some(403)),
        (&[JSON, ("origin", "null")], Some(403)),
        (&[("content-type", "application/x-www-form-urlencoded")], Some(415)),
        (&[("content-type", "multipart/form-data; boundary=x")], Some(415)),
        (&[("content-type", "text/plain")], Some(415)),
        (&[("content-type", "text/plain; application/json")], Some(415)),
        (&[], Some(415)),
    ] {
        let manager = manager();
        let headers: Vec<_> = headers.iter().copied().chain([SIGNED_IN]).collect();
        let answer = ask(&site(&manager), "POST", "/keys/first-key", &headers).await;
        assert_eq!(answer.status, refused.unwrap_or(201), "{headers:?}");
        let keys = manager.list(&account("a")).await.unwrap().len();
        assert_eq!(keys, usize::from(refused.is_none()), "{headers:?}");
    }
    let plain = guarded(Router::new().route("/out", ::axum::routing::post(async || "out")));
    let foreign = [("origin", "https://evil.example")];
    assert_eq!(ask(&plain, "POST", "/out", &foreign).await.status, 403);
    let answer = ask(&plain, "POST", "/out", &[("sec-fetch-site", "same-origin")]).await;
    assert_eq!(answer.status, 200);
    assert_armoured(&answer, "a page of the service's own");
}

#[tokio::test]
async fn a_get_makes_no_key_and_the_first_is_made_once() {
    let manager = manager();
    let site = site(&manager);
    for _ in 0..3 {
        let page = ask(&site, "GET", "/keys/", &[SIGNED_IN]).await;
        assert!(page.body.contains("You have no API keys."), "{}", page.body);
    }
    let ask_first = || ask(&site, "POST", "/keys/first-key", &[SIGNED_IN, JSON]);
    let answers = futures_util::future::join_all((0..8).map(|_| ask_first())).await;
    let mut made: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
    let made = made.pop().filter(|_| made.is_empty()).expect("one of them makes the key");
    assert!(answers.iter().filter(|answer| answer.status == 204).count() == 7);
    let body: serde_json::Value = serde_json::from_str(&made.body).unwrap();
    assert!(body["api_key"].as_str().unwrap().starts_with("acme_"));
    // In the management API, which is beneath the page.
    let place = format!("api/api-keys/{}", body["id"].as_str().unwrap());
    assert_eq!(made.headers.get("location").unwrap().to_str().unwrap(), place);
    let page = ask(&site, "GET", "/keys/", &[SIGNED_IN]).await;
    assert!(page.body.contains("First key") && page.body.contains("1 of 25 active"));

    // Deleting is not undone by a visit.
    let id = body["id"].as_str().unwrap().parse().unwrap();
    manager.delete(&account("a"), &id).await.unwrap();
    assert_eq!(ask_first().await.status, 204);
}

#[tokio::test]
async fn the_first_key_is_as_the_service_says() {
    let manager = manager();
    let first = named("Yours").with_environment("live".parse().unwrap());
    let page = KeysPage::new(manager.clone()).with_first_key(first).router::<Visitor>();
    let answer = ask(&page, "POST", "/first-key", &[SIGNED_IN, JSON]).await;
    assert!(answer.body.contains("acme_live_") && answer.body.contains("Yours"), "{}", answer.body);
}

/// Whoever is shown a key holds its scopes.
#[tokio::test]
async fn the_first_key_is_not_for_who_may_not_give_its_scopes() {
    let manager = manager();
    let first = named("Yours").with_scopes("read tier:gold".parse().unwrap());
    let page = KeysPage::new(manager.clone()).with_first_key(first).router::<Visitor>();
    for scopes in ["", "read"] {
        let headers = [SIGNED_IN, JSON, ("x-scopes", scopes)];
        let answer = ask(&page, "POST", "/first-key", &headers).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{scopes}");
        let shown = ask(&page, "GET", "/", &headers).await.body;
        assert!(shown.contains("You have no API keys.") && !shown.contains("data-first"));
    }
    assert!(manager.list(&account("a")).await.unwrap().is_empty());
    // It waits for who may.
    let headers = [SIGNED_IN, JSON, ("x-scopes", "read tier:gold webhooks")];
    assert!(ask(&page, "GET", "/", &headers).await.body.contains("data-first"));
    assert_eq!(ask(&page, "POST", "/first-key", &headers).await.status, 201);
}

#[tokio::test]
async fn a_plan_without_keys_is_asked_for_no_first_one() {
    let site = site(&manager().with_limit(0));
    assert!(!ask(&site, "GET", "/keys/", &[SIGNED_IN]).await.body.contains("data-first"));
    assert_eq!(ask(&site, "POST", "/keys/first-key", &[SIGNED_IN, JSON]).await.status, 204);
}

#[tokio::test]
async fn names_are_text_and_secrets_are_nowhere() {
    let manager = manager();
    let name = "</bdi><script>alert(1)</script>\" onmouseover='x' &amp; 🧑🏽‍🚀 مفتاح";
    let mut secrets = Vec::new();
    for _ in 0..3 {
        let issued = manager.create(&account("a"), named(name)).await.unwrap();
        secrets.push((issued.record().clone(), text(issued)));
    }
    let other = manager.create(&account("b"), named("Of another account")).await.unwrap();
    secrets.push((other.record().clone(), text(other)));

    let page = ask(&site(&manager), "GET", "/keys/", &[SIGNED_IN]).await.body;
    assert!(!page.contains("<script>alert") && !page.contains("\" onmouseover"), "{page}");
    assert!(page.contains("&lt;/bdi&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot; onmouseover='x' &amp;amp; 🧑🏽‍🚀 مفتاح"), "{page}");
    assert!(!page.contains("Of another account"));
    for (record, secret) in &secrets {
        assert!(!page.contains(secret.as_str()));
        // Of the random digits the page has the hint's few, and nothing longer.
        let random = &secret[secret.len() - 49..];
        assert!(
            !random
                .as_bytes()
                .windows(8)
                .any(|part| page.contains(std::str::from_utf8(part).unwrap()))
        );
        assert!(!page.contains(&record.fingerprint().to_string()));
    }
    // The policy forbids all of these, so that the page would be broken by them.
    for inline in ["style=", "onclick=", "javascript:", "<style", "http://", "https://"] {
        assert!(!page.replace("</bdi>", "").contains(inline), "{inline}");
    }
    assert_eq!(page.matches("<script").count(), 1);
    assert!(page.contains(r#"<script src="script.js" defer blocking="render"></script>"#));
}

#[tokio::test]
async fn where_a_key_may_be_used_from_is_said() {
    let manager = manager();
    let bound = named("Bound").with_sources("203.0.113.0/24 2001:db8::7".parse().unwrap());
    let _ = manager.create(&account("a"), bound).await.unwrap();
    let _ = manager.create(&account("a"), named("Free")).await.unwrap();
    let page = ask(&site(&manager), "GET", "/keys/", &[SIGNED_IN]).await.body;
    assert!(page.contains("only from 203.0.113.0/24 2001:db8::7"));
    assert_eq!(page.matches("only from").count(), 1);
}

#[tokio::test]
async fn the_environments_are_offered_that_a_key_would_work_in() {
    let shown =
        async |manager: KeyManager| ask(&site(&manager), "GET", "/keys/", &[SIGNED_IN]).await.body;
    let field = r#"name="environment""#;
    assert!(!shown(manager()).await.contains(field), "nobody has said which there are");
    assert!(!shown(manager().with_environments([])).await.contains(field));
    let known = ["live", "test"].map(|name| name.parse().unwrap());
    let page = shown(manager().with_environments(known)).await;
    assert!(page.contains(field));
    for name in ["live", "test"] {
        assert_eq!(page.matches(&format!(r#"<option value="{name}">"#)).count(), 1, "{name}");
    }
    assert!(page.contains("live or test. It becomes part of the key"));
}

#[tokio::test]
async fn who_has_a_thousand_expired_keys_reads_why_no_more_are_made() {
    let store = MemoryStore::new();
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
    let manager = manager.with_clock(ManualClock::at(time(0)));
    let shown = async || ask(&site(&manager), "GET", "/keys/", &[SIGNED_IN]).await.body;
    file_expired(&store, &account("a"), time(0), 999).await;
    assert!(!shown().await.contains("expired keys"));
    file_expired(&store, &account("a"), time(0), 1).await;
    let page = shown().await;
    assert!(page.contains("You have 1000 expired keys, the most that an account can have."));
    assert!(!page.contains("disabled"), "a key that does not expire can be made");
}

#[tokio::test]
async fn an_api_key_never_opens_the_page() {
    let store = MemoryStore::new();
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
    let key = text(manager.create(&account("a"), named("A key")).await.unwrap());
    let layer = ApiKeyLayer::new(store).with_transport(Transport::dangerously_assume_https());
    let behind = Router::new().fallback_service(protect(site(&manager), layer));
    let headers = [SIGNED_IN, ("api-key", key.as_str()), JSON];
    let (log, _guard) = Log::capture();
    for (method, path) in
        [("GET", "/keys/"), ("POST", "/keys/first-key"), ("GET", "/keys/style.css")]
    {
        let answer = ask(&behind, method, path, &headers).await;
        assert_eq!(answer.status, 403, "{method} {path}");
        assert!(answer.body.contains("API keys cannot manage API keys."), "{}", answer.body);
    }
    assert_eq!(log.lines("the page of keys is mounted behind an ApiKeyLayer").len(), 3);
    // Beside the layer, a key in a header is nothing.
    assert_eq!(ask(&site(&manager), "GET", "/keys/", &headers[1..]).await.status, 401);
}

#[tokio::test]
async fn what_another_site_asks_for_is_logged() {
    let (log, _guard) = Log::capture();
    let headers = [SIGNED_IN, JSON, ("sec-fetch-site", "cross-site")];
    let answer = ask(&site(&manager()), "POST", "/keys/first-key?token=hunter2", &headers).await;
    assert_eq!(answer.status, 403);
    let events = log.lines("a request that another site asked for was refused");
    assert_eq!(events.len(), 1, "{}", log.text());
    assert!(events[0].contains("WARN") && events[0].contains("path=\"/"), "{events:?}");
    assert!(!log.text().contains("hunter2"), "{}", log.text());
    assert_eq!(ask(&site(&manager()), "GET", "/keys/", &[SIGNED_IN]).await.status, 200);
    assert_eq!(log.lines("another site").len(), 1);
}

#[tokio::test]
async fn the_page_stays_small() {
    let served = site(&manager());
    for (path, most) in [("/keys/style.css", 13_000), ("/keys/script.js", 13_500)] {
        let size = ask(&served, "GET", path, &[]).await.body.len();
        assert!(size <= most, "{path}: {size}");
    }
}

/// It has no use for any of these, so that what an answer holds can become neither code nor a property
/// of all objects, and nothing stays in the browser.
#[tokio::test]
async fn the_script_keeps_nothing_and_makes_no_code_of_what_it_is_sent() {
    let script = ask(&site(&manager()), "GET", "/keys/script.js", &[]).await.body;
    for merging in
        ["__proto__", "prototype", "Object.", "Reflect", "structuredClone", "for (const key in"]
    {
        assert!(!script.contains(merging), "{merging}");
    }
    for running in
        ["eval(", "Function(", "innerHTML", "outerHTML", "insertAdjacent", "document.write"]
    {
        assert!(!script.contains(running), "{running}");
    }
    for keeping in ["localStorage", "sessionStorage", "indexedDB", "document.cookie", "caches."] {
        assert!(!script.contains(keeping), "{keeping}");
    }
}
