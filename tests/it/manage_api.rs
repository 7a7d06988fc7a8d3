//! The management API, asked as a service mounts it: under an authentication of its own.

use std::time::Duration;

use ::axum::Router;
use ::axum::body::Body;
use ::axum::extract::FromRequestParts;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower::ServiceExt as _;
use tower_api_key::axum::protect;
use tower_api_key::manage::{Principal, api};
use tower_api_key::{
    ApiKeyLayer, Entry, KeyManager, KeyStore as _, ManageError, ManualClock, MemoryStore,
    SqliteStore, Transport,
};

use crate::servers::folder::Folder;
use crate::support::{Log, account, digest, exchange, file_expired, named, request, text, time};

/// Signed in is who says so: the authentication is the service's, and not what is tested.
struct Header(Principal);

impl<S: Sync> FromRequestParts<S> for Header {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let user = parts.headers.get("x-user").and_then(|user| user.to_str().ok());
        let user = user.ok_or((StatusCode::UNAUTHORIZED, "sign in"))?;
        let actor = format!("{user}'s person").parse().unwrap();
        let scopes = "a b".parse().unwrap();
        let principal = Principal::new(account(user)).with_actor(actor);
        let principal = principal.with_grantable_scopes(scopes);
        let renews_any = parts.headers.contains_key("x-renews");
        Ok(Self(if renews_any { principal.with_any_key_renewed() } else { principal }))
    }
}

impl From<Header> for Principal {
    fn from(header: Header) -> Self {
        header.0
    }
}

struct Api {
    store: MemoryStore,
    manager: KeyManager,
    clock: ManualClock,
    router: Router,
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Value,
}

impl Api {
    fn new() -> Self {
        let store = MemoryStore::new();
        let clock = ManualClock::at(time(0));
        let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
        let manager = manager.with_clock(clock.clone());
        let router = Router::new().nest("/account", api::router::<Header>(manager.clone()));
        Self { store, manager, clock, router }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response: Response<Body> = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body =
            if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        Answer { status, headers, body }
    }

    /// A call of the account `a`.
    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.call_with(method, path, body, &[]).await
    }

    async fn call_with(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/account{path}"));
        if !headers.iter().any(|(name, _)| *name == "x-user") {
            request = request.header("x-user", "a");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            None => Body::empty(),
            Some(body) => {
                if !headers.iter().any(|(name, _)| *name == "content-type") {
                    request = request.header("content-type", "application/json");
                }
                Body::from(body.to_string())
            }
        };
        self.send(request.body(body).unwrap()).await
    }

    async fn made(&self, name: &str) -> Value {
        let answer = self.call("POST", "/api-keys", Some(json!({ "name": name }))).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body
    }

    fn is_live(&self, key: &Value) -> bool {
        let fingerprint = digest(key["api_key"].as_str().unwrap()).fingerprint();
        let found = futures_util::FutureExt::now_or_never(self.store.find(fingerprint));
        matches!(found, Some(Ok(Some(Entry::Live(_)))))
    }
}

/// Without its secret.
fn record(key: &Value) -> Value {
    let mut record = key.clone();
    record.as_object_mut().unwrap().remove("api_key");
    record
}

fn assert_refused(answer: &Answer, status: u16, param: Option<&str>) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.body["type"], "invalid_request_error");
    assert!(answer.body["message"].as_str().is_some_and(|message| !message.is_empty()));
    assert_eq!(answer.body.get("param").and_then(Value::as_str), param, "{}", answer.body);
    let fields = answer.body.as_object().unwrap().len();
    assert_eq!(fields, 2 + usize::from(param.is_some()));
}

#[tokio::test]
async fn a_key_is_made_shown_once_renamed_and_deleted() {
    let api = Api::new();
    let body = json!({
        "name": "Production CRM", "environment": "live", "scopes": ["b", "a", "b"],
        "expires_at": "2031-01-31T10:30:00.0019+01:00",
    });
    let answer = api.call("POST", "/api-keys", Some(body)).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let made = answer.body;
    let text = made["api_key"].as_str().unwrap();
    assert!(text.starts_with("acme_live_"));
    let hint = format!("acme_live_…{}", &text[text.len() - 4..]);
    let expected = json!({
        "id": made["id"], "name": "Production CRM", "environment": "live", "hint": hint,
        "scopes": ["a", "b"], "sources": [], "created_at": "2027-01-15T08:00:00.000Z",
        "expires_at": "2031-01-31T09:30:00.001Z", "last_used_at": null, "status": "active",
        "api_key": text,
    });
    assert_eq!(made, expected);
    assert!(api.is_live(&made));

    let path = format!("/api-keys/{}", made["id"].as_str().unwrap());
    let shown = api.call("GET", &path, None).await;
    assert_eq!((shown.status, &shown.body), (200, &record(&made)));
    let list = api.call("GET", "/api-keys", None).await;
    assert_eq!(list.body, json!({ "data": [record(&made)], "active": 1, "limit": 25 }));

    let renamed = api.call("PATCH", &path, Some(json!({ "name": "CRM" }))).await;
    assert_eq!((renamed.status, &renamed.body["name"]), (200, &json!("CRM")));
    assert_eq!(renamed.body.get("api_key"), None);

    assert_eq!(api.call("DELETE", &path, None).await.status, 204);
    assert!(!api.is_live(&made));
    for (method, body) in [("DELETE", None), ("GET", None), ("PATCH", Some(json!({"name": "x"})))] {
        assert_refused(&api.call(method, &path, body).await, 404, None);
    }
}

#[tokio::test]
async fn regenerating_keeps_the_id_and_ends_the_old_secret() {
    let api = Api::new();
    let old = api.made("Production CRM").await;
    let path = format!("/api-keys/{}/regenerate", old["id"].as_str().unwrap());
    let new = api.call("POST", &path, None).await;
    assert_eq!(new.status, 200, "{}", new.body);
    assert_eq!(new.body["id"], old["id"]);
    assert!(api.is_live(&new.body) && !api.is_live(&old));
    assert_eq!(api.call("POST", &path, Some(json!({}))).await.status, 200);
    assert_refused(&api.call("POST", &path, Some(json!({ "name": "x" }))).await, 400, Some("name"));
}

#[tokio::test]
async fn rotating_leaves_the_old_key_until_its_grace_is_over() {
    let api = Api::new();
    let old = api.made("Production CRM").await;
    let id = old["id"].as_str().unwrap();
    let path = format!("/api-keys/{id}/rotate");
    for (body, param) in [
        (json!({}), "grace_seconds"),
        (json!({ "grace_seconds": -1 }), "grace_seconds"),
        (json!({ "grace_seconds": 1.5 }), "grace_seconds"),
        (json!({ "grace_seconds": "60" }), "grace_seconds"),
        (json!({ "grace_seconds": null }), "grace_seconds"),
        (json!({ "grace_seconds": u64::MAX }), "grace_seconds"),
        (json!({ "grace_seconds": 3_155_760_001_u64 }), "grace_seconds"),
        (json!({ "grace_seconds": 1e300 }), "grace_seconds"),
        (json!({ "grace_seconds": 60, "grace": 60 }), "grace"),
    ] {
        assert_refused(&api.call("POST", &path, Some(body)).await, 400, Some(param));
    }
    let new = api.call("POST", &path, Some(json!({ "grace_seconds": 60.0 }))).await;
    assert_eq!(new.status, 201, "{}", new.body);
    assert_ne!(new.body["id"], old["id"]);
    assert!(api.is_live(&new.body));
    let again = api.call("POST", &path, Some(json!({ "grace_seconds": 60 }))).await;
    assert_refused(&again, 409, None);
    let own = format!("/api-keys/{id}");
    assert_eq!(api.call("GET", "/api-keys", None).await.body["active"], 2);
    let shown = api.call("GET", &own, None).await.body;
    let expected = (json!("2027-01-15T08:01:00.000Z"), json!("active"));
    assert_eq!((&shown["expires_at"], &shown["status"]), (&expected.0, &expected.1));
    api.clock.advance(Duration::from_mins(1));
    assert_eq!(api.call("GET", "/api-keys", None).await.body["active"], 1);
    assert_eq!(api.call("GET", &own, None).await.body["status"], "expired");
    assert_refused(&api.call("POST", &path, Some(json!({ "grace_seconds": 0 }))).await, 409, None);
    let path = format!("/api-keys/{}/rotate", new.body["id"].as_str().unwrap());
    assert_eq!(api.call("POST", &path, Some(json!({ "grace_seconds": 0 }))).await.status, 201);
    assert!(!api.is_live(&new.body), "without a grace it is dead at once");
}

/// RFC 9110 § 15.3.2. Relative to the call (RFC 3986 § 5.2), since nobody here knows where it is mounted.
#[tokio::test]
async fn what_was_made_is_where_the_answer_says() {
    let api = Api::new();
    let location = |answer: &Answer| match answer.headers.get("location") {
        Some(location) => location.to_str().unwrap().to_owned(),
        None => panic!("{}: no location", answer.status),
    };
    let body = Some(json!({ "name": "x" }));
    let once = [("idempotency-key", "once")];
    let made = api.call_with("POST", "/api-keys", body.clone(), &once).await;
    let id = made.body["id"].as_str().unwrap();
    assert_eq!(location(&made), format!("api-keys/{id}"));
    let shown = api.call("GET", &format!("/{}", location(&made)), None).await;
    assert_eq!((shown.status, shown.body), (200, record(&made.body)));

    let rotate = format!("/api-keys/{id}/rotate");
    let rotated = api.call("POST", &rotate, Some(json!({ "grace_seconds": 60 }))).await;
    let above = location(&rotated);
    let above = above.strip_prefix("../").unwrap();
    let shown = api.call("GET", &format!("/api-keys/{above}"), None).await;
    assert_eq!((shown.status, shown.body), (200, record(&rotated.body)));

    // Nothing was made.
    let again = api.call_with("POST", "/api-keys", body, &once).await;
    assert_eq!((again.status, again.headers.get("location")), (200, None));
    let new = format!("/api-keys/{above}/regenerate");
    assert_eq!(api.call("POST", &new, None).await.headers.get("location"), None);
}

#[tokio::test]
async fn what_is_not_as_documented_is_refused_by_name_and_changes_nothing() {
    let api = Api::new();
    let key = api.made("Production CRM").await;
    let path = format!("/api-keys/{}", key["id"].as_str().unwrap());
    let long = "n".repeat(101);
    for (body, param) in [
        (json!({}), "name"),
        (json!({ "name": null }), "name"),
        (json!({ "name": 7 }), "name"),
        (json!({ "name": "" }), "name"),
        (json!({ "name": " " }), "name"),
        (json!({ "name": "a\u{7}" }), "name"),
        (json!({ "name": long }), "name"),
        (json!({ "name": "a", "environment": "" }), "environment"),
        (json!({ "name": "a", "environment": "Live" }), "environment"),
        (json!({ "name": "a", "environment": ["live"] }), "environment"),
        (json!({ "name": "a", "expires_at": 1_900_000_000 }), "expires_at"),
        (json!({ "name": "a", "expires_at": "tomorrow" }), "expires_at"),
        (json!({ "name": "a", "expires_at": "2031-01-31" }), "expires_at"),
        (json!({ "name": "a", "expires_at": "2031-01-31T09:30Z" }), "expires_at"),
        (json!({ "name": "a", "expires_at": "2031-01-31T09:30:00" }), "expires_at"),
        (json!({ "name": "a", "expires_at": "2031-02-30T09:30:00Z" }), "expires_at"),
        (json!({ "name": "a", "expires_at": "2027-01-15T08:00:00Z" }), "expires_at"),
        (json!({ "name": "a", "scopes": "read" }), "scopes"),
        (json!({ "name": "a", "scopes": ["read", 7] }), "scopes"),
        (json!({ "name": "a", "scopes": ["read all"] }), "scopes"),
        (
            json!({ "name": "a", "scopes": (0..65).map(|n| n.to_string()).collect::<Vec<_>>() }),
            "scopes",
        ),
        (json!({ "name": "a", "account": "b" }), "account"),
        (json!({ "name": "a", "id": "key_mine" }), "id"),
        (json!({ "name": "a", "api_key": "acme_mine" }), "api_key"),
    ] {
        let answer = api.call("POST", "/api-keys", Some(body.clone())).await;
        assert_refused(&answer, 400, Some(param));
        if body.get("environment").or(body.get("expires_at")).or(body.get("scopes")).is_none() {
            assert_refused(&api.call("PATCH", &path, Some(body)).await, 400, Some(param));
        }
    }
    let twice = |api: &Api, body: &'static str| {
        let request = Request::post("/account/api-keys").header("x-user", "a");
        let request = request.header("content-type", "application/json");
        let router = api.router.clone();
        async move { router.oneshot(request.body(Body::from(body)).unwrap()).await.unwrap().status() }
    };
    for body in ["", "[]", "null", "7", "{", "{}x", "\u{feff}{}", r#"{"name":"a","name":"a"}"#] {
        assert_eq!(twice(&api, body).await, StatusCode::BAD_REQUEST, "{body}");
    }
    let nested = format!("{{\"name\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
    let nested: &'static str = nested.leak();
    assert_eq!(twice(&api, nested).await, StatusCode::BAD_REQUEST);
    let huge: &'static str = format!("{{\"name\":\"{}\"}}", "n".repeat(17_000)).leak();
    assert_eq!(twice(&api, huge).await, StatusCode::PAYLOAD_TOO_LARGE);

    for query in ["limit=0", "limit=101", "limit=-1", "limit=+1", "limit=", "limit=1&limit=1"] {
        assert_refused(
            &api.call("GET", &format!("/api-keys?{query}"), None).await,
            400,
            Some("limit"),
        );
    }
    for query in ["after=", "after=x", "after=MQ", "after=%00", "after=MS5r&after=MS5r"] {
        assert_refused(
            &api.call("GET", &format!("/api-keys?{query}"), None).await,
            400,
            Some("after"),
        );
    }
    assert_refused(&api.call("GET", "/api-keys?account=b", None).await, 400, Some("account"));
    for (method, path, status) in [
        ("GET", "/nowhere", 404),
        ("GET", "/api-keys/", 404),
        ("GET", "/api-keys/key%20x", 404),
        ("GET", "/api-keys/%ff", 404),
        ("PUT", "/api-keys", 405),
        ("DELETE", "/api-keys", 405),
        ("GET", "/api-keys/x/rotate", 405),
    ] {
        assert_refused(&api.call(method, path, None).await, status, None);
    }
    let list = api.call("GET", "/api-keys", None).await.body;
    assert_eq!(list["data"], json!([record(&key)]), "nothing has changed");
}

#[tokio::test]
async fn who_lists_a_thousand_expired_keys_is_told_to_delete_some() {
    let api = Api::new();
    let key = api.made("Production CRM").await;
    let path = format!("/api-keys/{}/rotate", key["id"].as_str().unwrap());
    file_expired(&api.store, &account("a"), time(0), 1_000).await;
    let ending = json!({ "name": "x", "expires_at": "2031-01-31T09:30:00Z" });
    for (path, body) in [("/api-keys", ending), (path.as_str(), json!({ "grace_seconds": 60 }))] {
        let refused = api.call("POST", path, Some(body)).await;
        assert_refused(&refused, 409, None);
        let message = refused.body["message"].as_str().unwrap();
        assert!(message.contains("1000 expired API keys: delete some"), "{message}");
    }
    let again = api.call("POST", &path, Some(json!({ "grace_seconds": 0 }))).await;
    assert_eq!(again.status, 201, "{}", again.body);
}

/// A bound key that is refused looks like any other, unless its owner sees where it may be used from.
#[tokio::test]
async fn where_a_key_may_be_used_from_is_shown_and_not_for_the_owner_to_set() {
    let api = Api::new();
    let sources = "203.0.113.0/24 2001:db8::7".parse().unwrap();
    let bound = named("Production CRM").with_sources(sources);
    let _ = api.manager.create(&account("a"), bound).await.unwrap();
    let list = api.call("GET", "/api-keys", None).await.body;
    assert_eq!(list["data"][0]["sources"], json!(["203.0.113.0/24", "2001:db8::7"]));

    let path = format!("/api-keys/{}", list["data"][0]["id"].as_str().unwrap());
    let wanted = json!({ "name": "x", "sources": [] });
    for (method, path) in [("POST", "/api-keys"), ("PATCH", path.as_str())] {
        assert_refused(&api.call(method, path, Some(wanted.clone())).await, 400, Some("sources"));
    }
    assert_eq!(api.call("GET", "/api-keys", None).await.body, list);
}

#[tokio::test]
async fn who_wants_an_environment_that_no_layer_takes_is_told_which_there_are() {
    let mut api = Api::new();
    let known = ["live", "test"].map(|name| name.parse().unwrap());
    let manager = api.manager.clone().with_environments(known);
    api.router = Router::new().nest("/account", api::router::<Header>(manager));
    let wanted = |environment| Some(json!({ "name": "x", "environment": environment }));
    let refused = api.call("POST", "/api-keys", wanted("staging")).await;
    assert_refused(&refused, 400, Some("environment"));
    let message = refused.body["message"].as_str().unwrap();
    assert_eq!(message, "An API key may be bound to one of these environments: live, test.");
    assert_eq!(api.call("POST", "/api-keys", wanted("test")).await.status, 201);
}

#[tokio::test]
async fn another_account_s_key_is_like_one_that_is_not_there() {
    let api = Api::new();
    let key = api.made("Production CRM").await;
    let id = key["id"].as_str().unwrap();
    for (method, path, body) in [
        ("GET", format!("/api-keys/{id}"), None),
        ("PATCH", format!("/api-keys/{id}"), Some(json!({ "name": "mine" }))),
        ("POST", format!("/api-keys/{id}/regenerate"), None),
        ("POST", format!("/api-keys/{id}/rotate"), Some(json!({ "grace_seconds": 0 }))),
        ("DELETE", format!("/api-keys/{id}"), None),
    ] {
        let foreign = api.call_with(method, &path, body.clone(), &[("x-user", "b")]).await;
        let no_key = path.replace(id, "key_none");
        let unknown = api.call_with(method, &no_key, body, &[("x-user", "b")]).await;
        assert_refused(&foreign, 404, None);
        assert_eq!((foreign.body, foreign.headers), (unknown.body, unknown.headers));
    }
    let list = api.call_with("GET", "/api-keys", None, &[("x-user", "b")]).await.body;
    assert_eq!(list, json!({ "data": [], "active": 0, "limit": 25 }));
    assert!(api.is_live(&key));
    assert_eq!(api.call("GET", &format!("/api-keys/{id}"), None).await.body, record(&key));
}

#[tokio::test]
async fn a_scope_that_the_service_did_not_allow_is_refused_and_logged() {
    let api = Api::new();
    let (log, _guard) = Log::capture();
    for scopes in [json!(["tier:gold"]), json!(["a", "tier:gold", "b"]), json!(["A"])] {
        let body = json!({ "name": "x", "scopes": scopes });
        let answer = api.call("POST", "/api-keys", Some(body)).await;
        assert_refused(&answer, 400, Some("scopes"));
    }
    assert!(api.manager.list(&account("a")).await.unwrap().is_empty());
    let events = log.lines("refused");
    assert_eq!(events.len(), 3, "{}", log.text());
    assert!(events[0].contains("scopes") && events[0].contains("a's person"), "{events:?}");
    assert!(!events.join("").contains("tier:gold"), "what they sent is not in the log");
}

/// Who is shown a new secret of a key holds its scopes.
#[tokio::test]
async fn a_key_with_scopes_that_one_may_not_give_is_not_renewed_for_them() {
    let api = Api::new();
    let gold = named("Gold").with_scopes("a tier:gold".parse().unwrap());
    let gold = api.manager.create(&account("a"), gold).await.unwrap();
    let path = format!("/api-keys/{}", gold.record().id);
    let calls = [
        (format!("{path}/regenerate"), None),
        (format!("{path}/rotate"), Some(json!({ "grace_seconds": 60 }))),
    ];
    for (path, body) in calls.clone() {
        let answer = api.call("POST", &path, body).await;
        let refused = (answer.status, &answer.body["type"]);
        assert_eq!(refused, (403, &json!("authentication_error")), "{}", answer.body);
    }
    assert_eq!(api.manager.list(&account("a")).await.unwrap().len(), 1);
    assert!(api.is_live(&json!({ "api_key": text(gold) })), "the secret still works");

    // Unless the service says so.
    for (path, body) in calls {
        let renewed = api.call_with("POST", &path, body, &[("x-renews", "any")]).await;
        assert_eq!(renewed.body["scopes"], json!(["a", "tier:gold"]), "{}", renewed.body);
    }
    assert_eq!(api.call("DELETE", &path, None).await.status, 204);
}

/// What a time's writer cannot write is no time that a key ends at.
#[tokio::test]
async fn a_key_that_ends_at_the_end_of_time_is_shown_and_not_rotated_past_it() {
    let api = Api::new();
    let end = "9999-12-30T21:59:59.999Z";
    let body = json!({ "name": "x", "expires_at": end });
    let made = api.call("POST", "/api-keys", Some(body)).await;
    assert_eq!((made.status, &made.body["expires_at"]), (201, &json!(end)), "{}", made.body);
    api.clock.advance(Duration::from_secs(2));
    let path = format!("/api-keys/{}/rotate", made.body["id"].as_str().unwrap());
    let rotated = api.call("POST", &path, Some(json!({ "grace_seconds": 60 }))).await;
    assert_eq!(
        (rotated.status, &rotated.body["expires_at"]),
        (201, &json!(end)),
        "{}",
        rotated.body
    );

    // What another program has filed is shown as well as it can be.
    let mut filed = crate::support::record(&account("a"), time(3));
    filed.expires_at = Some(std::time::UNIX_EPOCH + Duration::from_secs(253_402_300_799));
    let filed = tower_api_key::KeyRegistry::insert(&api.store, std::sync::Arc::new(filed), 25)
        .await
        .unwrap();
    assert!(matches!(filed, tower_api_key::store::Written::Done(())));
    let list = api.call("GET", "/api-keys", None).await;
    assert_eq!((list.status, &list.body["active"]), (200, &json!(3)), "{}", list.body);
}

#[tokio::test]
async fn a_grace_that_ends_past_the_end_of_time_is_refused_by_its_own_name() {
    let api = Api::new();
    let key = api.made("Production CRM").await;
    let path = format!("/api-keys/{}/rotate", key["id"].as_str().unwrap());
    // An hour before it.
    api.clock.set(std::time::UNIX_EPOCH + Duration::from_hours(70_389_501));
    let refused = api.call("POST", &path, Some(json!({ "grace_seconds": 3_600 }))).await;
    assert_refused(&refused, 400, Some("grace_seconds"));
    let rotated = api.call("POST", &path, Some(json!({ "grace_seconds": 3_599 }))).await;
    assert_eq!(rotated.status, 201, "{}", rotated.body);
}

/// Somebody of whom the service has not said what they may give.
#[tokio::test]
async fn without_a_word_of_the_service_no_scope_is_given() {
    struct Plain(Principal);
    impl FromRequestParts<()> for Plain {
        type Rejection = StatusCode;
        async fn from_request_parts(_: &mut Parts, (): &()) -> Result<Self, StatusCode> {
            Ok(Self(Principal::new(account("a"))))
        }
    }
    impl From<Plain> for Principal {
        fn from(plain: Plain) -> Self {
            plain.0
        }
    }
    let api = Api::new();
    let router = Router::new().nest("/account", api::router::<Plain>(api.manager.clone()));
    let plain = Api { router, ..api };
    for (scopes, status) in [(json!(["a"]), 400), (json!([]), 201), (json!(null), 201)] {
        let body = json!({ "name": "x", "scopes": scopes });
        let answer = plain.call("POST", "/api-keys", Some(body)).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
}

#[tokio::test]
async fn nothing_answers_who_is_not_signed_in() {
    let api = Api::new();
    for (method, path) in [
        ("GET", "/account/api-keys"),
        ("POST", "/account/api-keys"),
        ("DELETE", "/account/api-keys/x"),
        ("PUT", "/account/api-keys"),
        ("GET", "/account/nowhere"),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = api.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(
            (status, &body[..]),
            (StatusCode::UNAUTHORIZED, &b"sign in"[..]),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn an_api_key_never_opens_it() {
    let api = Api::new();
    let issued = api.manager.create(&account("a"), named("Production CRM")).await.unwrap();
    let key = text(issued);
    let layer = ApiKeyLayer::new(api.store.clone())
        .with_transport(Transport::dangerously_assume_https())
        .with_clock(api.clock.clone());
    // Mounted in the wrong place, and with a principal that somebody takes from a header.
    let wrong = protect(api.router.clone(), layer);
    let (log, _guard) = Log::capture();
    for (method, path) in
        [("GET", "/account/api-keys"), ("POST", "/account/api-keys"), ("GET", "/account/x")]
    {
        let request = Request::builder().method(method).uri(path).header("x-user", "a");
        let request = request.header("api-key", &key).body(Body::empty()).unwrap();
        let response = wrong.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["type"], "authentication_error");
    }
    assert_eq!(log.lines("mount it beside the layer").len(), 3);
    // Without the layer, a key is a header like any other.
    let request = Request::get("/account/api-keys").header("api-key", &key);
    let response = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn other_sites_cannot_use_a_signed_in_browser() {
    let api = Api::new();
    let body = || Some(json!({ "name": "x" }));
    let host = ("host", "acme.example");
    for (headers, status) in [
        (vec![host, ("sec-fetch-site", "cross-site")], 403),
        (vec![host, ("sec-fetch-site", "same-site")], 403),
        (vec![host, ("sec-fetch-site", "nonsense")], 403),
        (vec![host, ("origin", "https://evil.example")], 403),
        (vec![host, ("origin", "null")], 403),
        (vec![host, ("origin", "https://acme.example.evil.example")], 403),
        (vec![host, ("origin", "https://acme.example"), ("sec-fetch-site", "cross-site")], 403),
        (vec![host, ("content-type", "text/plain")], 415),
        (vec![host, ("content-type", "application/x-www-form-urlencoded")], 415),
        (vec![host, ("content-type", "multipart/form-data")], 415),
        (vec![host, ("content-type", "application/jsonx")], 415),
        (vec![host, ("content-type", "application/json"), ("content-type", "text/plain")], 415),
        (vec![host, ("origin", "https://acme.example")], 201),
        (vec![host, ("origin", "https://acme.example"), ("sec-fetch-site", "same-origin")], 201),
        (vec![host, ("sec-fetch-site", "none")], 201),
        (vec![host, ("content-type", "Application/JSON; charset=utf-8")], 201),
        (vec![host], 201),
    ] {
        let before = api.manager.list(&account("a")).await.unwrap().len();
        let answer = api.call_with("POST", "/api-keys", body(), &headers).await;
        assert_eq!(answer.status, status, "{headers:?} {}", answer.body);
        let after = api.manager.list(&account("a")).await.unwrap().len();
        assert_eq!(after - before, usize::from(status == 201));
    }
    // A form without fields has no body and no type: who sent it tells.
    let key = api.made("Production CRM").await;
    let path = format!("/api-keys/{}", key["id"].as_str().unwrap());
    for (method, path) in [("DELETE", path.clone()), ("POST", format!("{path}/regenerate"))] {
        let headers = [host, ("origin", "https://evil.example")];
        assert_refused(&api.call_with(method, &path, None, &headers).await, 403, None);
    }
    assert!(api.is_live(&key));
}

#[tokio::test]
async fn a_creation_can_be_repeated_and_shows_its_secret_once() {
    let api = Api::new();
    let repeat = [("idempotency-key", "5d7c-1")];
    let body = || json!({ "name": "Production CRM", "environment": "live" });
    let made = api.call_with("POST", "/api-keys", Some(body()), &repeat).await;
    assert_eq!(made.status, 201);
    for _ in 0..2 {
        let again = api.call_with("POST", "/api-keys", Some(body()), &repeat).await;
        assert_eq!((again.status, &again.body), (200, &record(&made.body)));
    }
    // Another wish under the same name is a mistake, and changes nothing.
    for other in [
        json!({ "name": "Production CRM" }),
        json!({ "name": "Production CRM", "environment": "live", "expires_at": "2031-01-31T09:30:00Z" }),
        json!({ "name": "Production CRM", "environment": "live", "scopes": ["a"] }),
    ] {
        let answer = api.call_with("POST", "/api-keys", Some(other), &repeat).await;
        assert_refused(&answer, 409, Some("Idempotency-Key"));
    }
    // Of another account it is another.
    let theirs = [("idempotency-key", "5d7c-1"), ("x-user", "b")];
    let other = api.call_with("POST", "/api-keys", Some(body()), &theirs).await;
    assert_eq!(other.status, 201);
    assert_ne!(other.body["id"], made.body["id"]);
    for wrong in
        [vec![("idempotency-key", "")], vec![("idempotency-key", "a b")], [repeat[0]; 2].to_vec()]
    {
        let answer = api.call_with("POST", "/api-keys", Some(body()), &wrong).await;
        assert_refused(&answer, 400, Some("Idempotency-Key"));
    }
    assert_eq!(api.manager.list(&account("a")).await.unwrap().len(), 1);

    // Also after the key was given another name, was rotated, and expired.
    let path = format!("/api-keys/{}", made.body["id"].as_str().unwrap());
    assert_eq!(api.call("PATCH", &path, Some(json!({ "name": "CRM" }))).await.status, 200);
    let short = [("idempotency-key", "short")];
    let brief = || json!({ "name": "Trial", "expires_at": "2027-01-15T08:00:02Z" });
    let trial = api.call_with("POST", "/api-keys", Some(brief()), &short).await;
    assert_eq!(trial.status, 201, "{}", trial.body);
    let rotate = format!("{path}/rotate");
    let successor = api.call("POST", &rotate, Some(json!({ "grace_seconds": 60 }))).await.body;
    api.clock.advance(Duration::from_secs(2));
    for (body, repeat, id) in [(body(), repeat, &made.body), (brief(), short, &trial.body)] {
        let again = api.call_with("POST", "/api-keys", Some(body), &repeat).await;
        assert_eq!((again.status, &again.body["id"]), (200, &id["id"]), "{}", again.body);
        assert_eq!(again.body.get("api_key"), None);
    }
    for key in [&trial.body, &successor] {
        let path = format!("/api-keys/{}", key["id"].as_str().unwrap());
        assert_eq!(api.call("DELETE", &path, None).await.status, 204);
    }

    // Also the creation that made the last key that fits.
    for number in 1..24 {
        api.made(&format!("Key {number}")).await;
    }
    let last = [("idempotency-key", "last")];
    let made = api.call_with("POST", "/api-keys", Some(body()), &last).await;
    assert_eq!(made.status, 201);
    let again = api.call_with("POST", "/api-keys", Some(body()), &last).await;
    assert_eq!((again.status, &again.body), (200, &record(&made.body)));
    let full = api.call("POST", "/api-keys", Some(json!({ "name": "26th" }))).await;
    assert_refused(&full, 409, None);
    assert!(full.body["message"].as_str().unwrap().contains("25"));
}

#[tokio::test]
async fn of_repeats_at_once_one_makes_the_key() {
    let api = Api::new();
    let repeat = [("idempotency-key", "at-once")];
    let calls =
        (0..32).map(|_| api.call_with("POST", "/api-keys", Some(json!({ "name": "x" })), &repeat));
    let answers = futures_util::future::join_all(calls).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    let again = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((made, again), (1, 31));
    assert_eq!(api.manager.list(&account("a")).await.unwrap().len(), 1);
}

/// Over a store that has to be waited for, so that all of them look before the first has made its key.
#[tokio::test(flavor = "multi_thread")]
async fn of_repeats_that_all_looked_first_one_makes_the_key() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.path().join("keys.db")).await.unwrap();
    let manager = KeyManager::new(store, "acme".parse().unwrap());
    let owner = account("a");
    for round in 0..10 {
        let new = named("x").with_idempotency_key(format!("round-{round}").parse().unwrap());
        let calls = (0..16).map(|_| manager.create(&owner, new.clone()));
        let answers = futures_util::future::join_all(calls).await;
        let made = answers.iter().filter(|answer| answer.is_ok()).count();
        let told = |answer: &&Result<_, _>| matches!(answer, Err(ManageError::AlreadyMade(_)));
        assert_eq!((made, answers.iter().filter(told).count()), (1, 15), "{answers:?}");
    }
}

#[tokio::test]
async fn the_list_is_had_page_by_page_while_it_changes() {
    let api = Api::new();
    for number in 0..10 {
        api.made(&format!("Key {number}")).await;
        api.clock.advance(Duration::from_millis(u64::from(number % 3 != 0)));
    }
    let whole = api.call("GET", "/api-keys", None).await;
    assert!(whole.headers.get("link").is_none());
    let whole = whole.body["data"].as_array().unwrap().clone();
    let (mut seen, mut path) = (Vec::new(), "/api-keys?limit=3".to_owned());
    loop {
        let page = api.call("GET", &path, None).await;
        assert_eq!(page.status, 200, "{path} {}", page.body);
        assert_eq!(page.body["limit"], 25);
        let data = page.body["data"].as_array().unwrap();
        assert!((1..=3).contains(&data.len()));
        seen.extend(data.iter().cloned());
        if seen.len() == 3 {
            // The key at which the next page begins is deleted meanwhile.
            let last = seen[2]["id"].as_str().unwrap();
            assert_eq!(api.call("DELETE", &format!("/api-keys/{last}"), None).await.status, 204);
        }
        let Some(link) = page.headers.get("link") else { break };
        let link = link.to_str().unwrap().strip_prefix('<').unwrap();
        let link = link.strip_suffix(r#">; rel="next""#).unwrap();
        assert!(link.starts_with("api-keys?"), "relative to the call: {link}");
        path = format!("/{link}");
    }
    assert_eq!(seen, whole, "each once, in order");
}

#[tokio::test]
async fn the_actor_is_in_the_log_and_in_the_events() {
    let api = Api::new();
    let (log, _guard) = Log::capture();
    let key = api.made("Production CRM").await;
    let path = format!("/api-keys/{}", key["id"].as_str().unwrap());
    assert_eq!(api.call("DELETE", &path, None).await.status, 204);
    for what in ["key created", "key deleted"] {
        assert!(log.lines(what)[0].contains("a's person"), "{}", log.text());
    }
    assert!(!log.text().contains(key["api_key"].as_str().unwrap()));
}

/// Whoever tries doors is in the log, with what is known of them; what they sent is not.
#[tokio::test]
async fn every_refusal_is_logged_with_who_asked_for_what() {
    let api = Api::new();
    let key = api.made("Production CRM").await;
    let foreign = format!("/api-keys/{}", key["id"].as_str().unwrap());
    let secret = format!("/api-keys/{}", key["api_key"].as_str().unwrap());
    let twice = |name: &'static str| Some(json!({ "name": name, "hunter2": 1 }));
    let them = ("x-user", "b");
    let theirs: &[&str] = &["account=\"b\"", "actor=\"b's person\""];
    for (method, path, body, headers, status, level, said) in [
        ("GET", foreign.as_str(), None, vec![them], 404, "INFO", theirs),
        ("DELETE", &foreign, None, vec![them], 404, "INFO", theirs),
        ("DELETE", &secret, None, vec![them], 404, "INFO", theirs),
        ("GET", "/nowhere?token=hunter2", None, vec![them], 404, "INFO", theirs),
        ("PUT", "/api-keys", None, vec![them], 405, "INFO", theirs),
        ("POST", "/api-keys", twice("x"), vec![them], 400, "INFO", theirs),
        ("POST", "/api-keys", twice("x"), vec![them, ("content-type", "a/b")], 415, "INFO", theirs),
        (
            "DELETE",
            &foreign,
            None,
            vec![them, ("origin", "https://evil.example")],
            403,
            "WARN",
            &["another site"],
        ),
    ] {
        let (log, _guard) = Log::capture();
        let answer = api.call_with(method, path, body, &headers).await;
        assert_eq!(answer.status, status, "{method} {path}");
        let events = log.lines("a call to manage keys was refused");
        assert_eq!(events.len(), 1, "{method} {path} {}", log.text());
        let parts = [level, &format!("method={method}"), "path=\"/", &format!("status={status}")];
        for part in parts.iter().chain(said) {
            assert!(events[0].contains(*part), "{part} in {events:?}");
        }
        assert!(!log.text().contains(key["api_key"].as_str().unwrap()), "{events:?}");
        assert!(!log.text().contains("token="), "{events:?}");
    }
    let (log, _guard) = Log::capture();
    let nobody = Request::get("/account/api-keys").body(Body::empty()).unwrap();
    assert_eq!(api.router.clone().oneshot(nobody).await.unwrap().status(), 401);
    assert_eq!(log.lines("a call to manage keys was refused").len(), 1, "{}", log.text());
    assert_eq!(api.call("GET", "/api-keys", None).await.status, 200);
    assert_eq!(log.lines("refused").len(), 1, "what is answered is no event");
}

/// A client goes away at any moment of a creation, and comes back with the same `Idempotency-Key`:
/// whatever had happened, there is then one key of it, and it is listed.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_no_key_or_one_that_is_listed() {
    const CALLS: usize = 120;
    let folder = Folder::new();
    let store = SqliteStore::open(folder.path().join("keys.db")).await.unwrap();
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap()).with_limit(CALLS);
    let service = Router::new().nest("/account", api::router::<Header>(manager.clone()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { ::axum::serve(listener, service).await.unwrap() });

    let call = |number: usize| {
        let body = format!(r#"{{"name":"Key {number}"}}"#);
        let length = body.len();
        let headers = format!(
            "X-User: a\r\nIdempotency-Key: {number}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
        );
        let mut call = request("POST", "/account/api-keys", &headers);
        call.extend(body.bytes());
        call
    };
    let mut listed_after_leaving = 0;
    for number in 0..CALLS {
        let whole = call(number);
        let mut socket = TcpStream::connect(address).await.unwrap();
        // Some leave in the middle of the request, most while it is being done.
        let sent = if number % 8 == 0 { whole.len() - number / 8 - 1 } else { whole.len() };
        socket.write_all(&whole[..sent]).await.unwrap();
        let wait = Duration::from_micros(40 * (number as u64 * 37 % CALLS as u64));
        // On a machine with much else to do they stay longer, until some calls are done in the meantime.
        let wait =
            wait * (1 + (number / 2).saturating_sub(listed_after_leaving)).try_into().unwrap();
        let mut first = [0; 1];
        let _ = tokio::time::timeout(wait, socket.read(&mut first)).await;
        // With a reset, as from a program that was killed.
        socket.set_zero_linger().unwrap();
        drop(socket);
        listed_after_leaving = manager.list(&account("a")).await.unwrap().len();
    }
    assert!(listed_after_leaving > CALLS / 4, "some were made: {listed_after_leaving}");
    let (mut made, mut again) = (0, 0);
    for number in 0..CALLS {
        let socket = TcpStream::connect(address).await.unwrap();
        let answer = exchange(socket, &call(number)).await;
        match answer.status {
            200 => again += 1,
            201 => made += 1,
            _ => panic!("{answer:?}"),
        }
    }
    assert!(made >= CALLS / 8, "those whose request was cut: {made} made, {again} there already");
    let listed = manager.list(&account("a")).await.unwrap();
    let mut names: Vec<_> = listed.iter().map(|key| key.name.to_string()).collect();
    names.sort_by_key(|name| name[4..].parse::<usize>().unwrap());
    let expected: Vec<_> = (0..CALLS).map(|number| format!("Key {number}")).collect();
    assert_eq!(names, expected, "each once");
    for key in &listed {
        let found = store.find(key.fingerprint()).await.unwrap();
        assert!(matches!(found, Some(Entry::Live(_))));
    }
}
