//! Evidence over real sockets: TLS that ends here, a proxy's word, and everything that a client can
//! write without being believed.

use std::convert::Infallible;
use std::net::SocketAddr;

use ::axum::Router;
use ::axum::routing::get as route;
use axum_server::tls_rustls::RustlsConfig;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer as _, service_fn};
use tower_api_key::axum::protect;
use tower_api_key::middleware::AttachConnection;
use tower_api_key::tls::{Acceptor, AxumServerAcceptor};
use tower_api_key::{ApiKeyLayer, Connection, Identity, MemoryStore, Transport, TrustedProxies};

use crate::servers::folder::Folder;
use crate::support::{exchange, get, get_tls, request, server_config, tls_with, with_key};

fn app() -> Router {
    Router::new().route("/", route(async |caller: Identity| caller.account().to_string()))
}

/// A service on a plain port, with the peer's address, and a key header for it.
async fn plain(transport: Transport) -> (SocketAddr, String) {
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    let service = protect(app(), ApiKeyLayer::new(store).with_transport(transport));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = service.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { ::axum::serve(listener, service).await });
    (address, format!("API-Key: {key}\r\n"))
}

async fn axum_server_tls(transport: Transport) -> (SocketAddr, String) {
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    let service = protect(app(), ApiKeyLayer::new(store).with_transport(transport));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let config = RustlsConfig::from_config(server_config());
    let server = axum_server::from_tcp(listener).unwrap().acceptor(AxumServerAcceptor::new(config));
    tokio::spawn(server.serve(service.into_make_service()));
    (address, format!("API-Key: {key}\r\n"))
}

/// A hand-written accept loop; without TLS it says so of each connection.
async fn hyper_loop(transport: Transport, tls: bool) -> (SocketAddr, String) {
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    let service = ApiKeyLayer::new(store).with_transport(transport).layer(service_fn(
        async |request: Request<hyper::body::Incoming>| {
            let account = request.extensions().get::<Identity>().unwrap().account().to_string();
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(account)))
        },
    ));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = Acceptor::new(server_config());
    tokio::spawn(async move {
        loop {
            let (socket, peer) = listener.accept().await.unwrap();
            let (acceptor, service) = (acceptor.clone(), service.clone());
            tokio::spawn(async move {
                let server = Builder::new(TokioExecutor::new());
                if tls {
                    let (stream, service) = acceptor.accept(socket, service).await.unwrap();
                    let service = TowerToHyperService::new(service);
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                } else {
                    let service = AttachConnection::new(service, Connection::plain(peer));
                    let service = TowerToHyperService::new(service);
                    let _ = server.serve_connection(TokioIo::new(socket), service).await;
                }
            });
        }
    });
    (address, format!("API-Key: {key}\r\n"))
}

#[tokio::test]
async fn tls_that_ends_here_is_evidence() {
    for (address, key) in
        [axum_server_tls(Transport::tls()).await, hyper_loop(Transport::tls(), true).await]
    {
        let answer = get_tls(address, "/", &key).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "admin@example.com"));
        let answer = get_tls(address, "/", "").await;
        assert_eq!(answer.status, 401);
        assert!(answer.body.contains("No API key"), "{answer:?}");
        assert_eq!(
            answer.header("www-authenticate"),
            Some(r#"ApiKey realm="api", header="API-Key""#)
        );
        // A forwarding header does not take evidence away either: nobody asked for it.
        let forged = format!("{key}X-Forwarded-Proto: http\r\n");
        assert_eq!(get_tls(address, "/", &forged).await.status, 200);
    }
}

#[tokio::test]
async fn every_request_of_a_kept_connection_has_the_evidence() {
    let (address, key) = axum_server_tls(Transport::tls()).await;
    let first = format!("GET / HTTP/1.1\r\nHost: t\r\n{key}\r\n").into_bytes();
    let twice = [first, request("GET", "/", &key)].concat();
    let answer = exchange(crate::support::tls(address).await, &twice).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("HTTP/1.1 200 OK"), "the second: {answer:?}");
}

/// What a client can write to look as if it had come over HTTPS.
fn forgeries(key: &str) -> Vec<Vec<u8>> {
    let with = |more: &str| format!("{key}{more}\r\n");
    let mut forgeries = vec![
        request("GET", "https://test/", key),
        request("GET", "https://test:443/", key),
        format!("GET / HTTP/1.1\r\nHost: https://test\r\nConnection: close\r\n{key}\r\n").into(),
        format!("GET / HTTP/1.0\r\n{key}\r\n").into(),
    ];
    for header in [
        "X-Forwarded-Proto: https",
        "X-Forwarded-Protocol: https",
        "X-Forwarded-Ssl: on",
        "X-Forwarded-Scheme: https",
        "X-Url-Scheme: https",
        "Front-End-Https: on",
        "X-Forwarded-Port: 443",
        "X-Scheme: https",
        "Forwarded: proto=https",
        "Forwarded: for=127.0.0.1;proto=https;by=127.0.0.1",
        "CF-Visitor: {\"scheme\":\"https\"}",
        "X-ARR-SSL: 2048",
        "Upgrade-Insecure-Requests: 1",
        "Origin: https://test",
        "Referer: https://test/",
        "Upgrade: TLS/1.2",
        "Strict-Transport-Security: max-age=1",
        ":scheme: https",
    ] {
        forgeries.push(request("GET", "/", &with(header)));
    }
    for method in ["HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
        forgeries.push(request(method, "/", &with("X-Forwarded-Proto: https")));
    }
    forgeries
}

#[tokio::test]
async fn nothing_that_a_client_writes_on_a_plain_port_is_evidence() {
    for (address, key) in [plain(Transport::tls()).await, hyper_loop(Transport::tls(), false).await]
    {
        for forgery in forgeries(&key) {
            let answer = exchange(TcpStream::connect(address).await.unwrap(), &forgery).await;
            let sent = String::from_utf8_lossy(&forgery);
            let status = answer.status;
            // 400 is hyper's: the line is no HTTP.
            assert!(status == 401 || status == 400, "{status} for {sent}");
            assert!(!answer.body.contains("admin@example.com"), "{sent}");
        }
    }
}

/// One request over HTTP/2, with prior knowledge.
async fn http2<S>(stream: S, uri: &str, key: &str) -> (u16, String)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (status, _, body) = http2_with("GET", stream, uri, key).await;
    (status, body)
}

/// The status, the length that the head says, and the body.
async fn http2_with<S>(
    method: &str,
    stream: S,
    uri: &str,
    key: &str,
) -> (u16, Option<String>, String)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let key = key.trim_start_matches("API-Key: ").trim();
    let request = Request::builder().method(method).uri(uri).header("api-key", key);
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let length = response.headers().get("content-length");
    let length = length.map(|length| length.to_str().unwrap().to_owned());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, length, String::from_utf8(body.to_vec()).unwrap())
}

/// A body in answer to `HEAD` breaks the stream, over HTTP/2 alone: the client sees no answer at all.
#[tokio::test]
async fn a_refused_head_is_answered_without_a_body() {
    for (address, key) in
        [axum_server_tls(Transport::tls()).await, hyper_loop(Transport::tls(), true).await]
    {
        let wrong = format!("{}x", key.trim());
        let get = http2_with("GET", tls_with(address, &[b"h2"]).await, "https://test/", &wrong);
        let get = get.await;
        let head = http2_with("HEAD", tls_with(address, &[b"h2"]).await, "https://test/", &wrong);
        let head = head.await;
        assert_eq!((get.0, head.0, head.2.as_str()), (401, 401, ""));
        assert!(get.2.contains("Invalid API key."), "{get:?}");
        assert_eq!(head.1, Some(get.2.len().to_string()));
    }
}

#[tokio::test]
async fn http2_says_https_over_a_plain_port_and_is_not_believed() {
    for (address, key) in [plain(Transport::tls()).await, hyper_loop(Transport::tls(), false).await]
    {
        let socket = TcpStream::connect(address).await.unwrap();
        let (status, body) = http2(socket, "https://test/", &key).await;
        assert_eq!(status, 401);
        assert!(body.contains("over HTTPS"), "{body}");
    }
}

#[tokio::test]
async fn http2_over_tls_is_evidence_whatever_its_scheme_says() {
    for (address, key) in
        [axum_server_tls(Transport::tls()).await, hyper_loop(Transport::tls(), true).await]
    {
        for uri in ["https://test/", "http://test/"] {
            let stream = tls_with(address, &[b"h2"]).await;
            assert_eq!(http2(stream, uri, &key).await, (200, "admin@example.com".to_owned()));
        }
    }
}

#[tokio::test]
async fn a_trusted_proxy_s_header_is_evidence_from_its_address_only() {
    let https = "X-Forwarded-Proto: https\r\n";
    let trusting =
        |networks: &[&str]| Transport::behind(TrustedProxies::x_forwarded_proto(networks).unwrap());
    for networks in [
        &["127.0.0.1"][..],
        &["127.0.0.0/8"],
        &["10.0.0.0/8", "127.0.0.1/32"],
        &["::ffff:127.0.0.0/104"],
    ] {
        for (address, key) in
            [plain(trusting(networks)).await, hyper_loop(trusting(networks), false).await]
        {
            assert_eq!(get(address, "/", &format!("{key}{https}")).await.status, 200);
            for not_https in [
                "",
                "X-Forwarded-Proto: http\r\n",
                "X-Forwarded-Proto: HTTPS\r\n",
                "X-Forwarded-Proto: https, http\r\n",
                "X-Forwarded-Proto: http, https\r\n",
                "X-Forwarded-Proto: https,https\r\n",
                "X-Forwarded-Proto: \"https\"\r\n",
                "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: https\r\n",
                "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n",
                "X-Forwarded-Proto:\r\n",
                "Forwarded: proto=https\r\n",
            ] {
                let answer = get(address, "/", &format!("{key}{not_https}")).await;
                assert_eq!(answer.status, 401, "{not_https}");
                assert!(answer.body.contains("over HTTPS"));
            }
        }
    }
    for networks in [&[][..], &["10.0.0.0/8"], &["::1"], &["128.0.0.0/1"]] {
        let (address, key) = plain(trusting(networks)).await;
        assert_eq!(get(address, "/", &format!("{key}{https}")).await.status, 401, "{networks:?}");
    }
}

#[tokio::test]
async fn forwarded_is_read_where_the_service_chose_it() {
    let proxies = TrustedProxies::forwarded(["127.0.0.1"]).unwrap();
    let (address, key) = plain(Transport::behind(proxies)).await;
    for (header, status) in [
        ("Forwarded: proto=https\r\n", 200),
        ("Forwarded: for=\"[2001:db8::1]:4711\";Proto=\"https\";by=_x\r\n", 200),
        ("Forwarded: for=192.0.2.1, for=192.0.2.2;proto=https\r\n", 401),
        ("Forwarded: host=\"a;proto=https\"\r\n", 401),
        ("Forwarded: proto=http;proto=https\r\n", 401),
        ("Forwarded: proto=https\r\nForwarded: proto=https\r\n", 401),
        ("X-Forwarded-Proto: https\r\n", 401),
    ] {
        assert_eq!(get(address, "/", &format!("{key}{header}")).await.status, status, "{header}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_that_speaks_tls_is_taken_at_its_word() {
    let proxies = TrustedProxies::x_forwarded_proto(["127.0.0.1"]).unwrap();
    let (address, key) = axum_server_tls(Transport::behind(proxies)).await;
    for (header, status) in
        [("X-Forwarded-Proto: https\r\n", 200), ("X-Forwarded-Proto: http\r\n", 401), ("", 401)]
    {
        assert_eq!(get_tls(address, "/", &format!("{key}{header}")).await.status, status);
    }
    // From elsewhere, TLS that ends here is evidence.
    let proxies = TrustedProxies::x_forwarded_proto(["10.0.0.0/8"]).unwrap();
    let (address, key) = axum_server_tls(Transport::behind(proxies)).await;
    assert_eq!(get_tls(address, "/", &key).await.status, 200);
}

#[tokio::test]
async fn loopback_is_for_this_machine_without_anything_in_between() {
    let (address, key) = plain(Transport::insecure_on_loopback()).await;
    assert_eq!(get(address, "/", &key).await.status, 200);
    for header in [
        "X-Forwarded-For: 203.0.113.7",
        "Forwarded: for=203.0.113.7",
        "Via: 1.1 tunnel",
        "X-Forwarded-Proto: https",
    ] {
        let answer = get(address, "/", &format!("{key}{header}\r\n")).await;
        assert_eq!(answer.status, 401, "{header}");
    }
}

#[tokio::test]
async fn a_unix_socket_is_what_its_operator_vouches_for() {
    let folder = Folder::new();
    for (name, transport, status) in [
        ("vouched", Transport::dangerously_assume_https(), 200),
        ("loopback", Transport::insecure_on_loopback(), 401),
        ("tls", Transport::tls(), 401),
    ] {
        let path = folder.path().join(name);
        let store = MemoryStore::new();
        let (_, key) = with_key(store.clone()).await;
        let service = protect(app(), ApiKeyLayer::new(store).with_transport(transport));
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(async move { ::axum::serve(listener, service.into_make_service()).await });
        let socket = tokio::net::UnixStream::connect(&path).await.unwrap();
        let answer = exchange(socket, &request("GET", "/", &format!("API-Key: {key}\r\n"))).await;
        assert_eq!(answer.status, status);
    }
}

#[tokio::test]
async fn odd_requests_over_tls_are_refused_and_never_a_500() {
    let (address, key) = axum_server_tls(Transport::tls()).await;
    let value = key.trim_start_matches("API-Key: ").trim_end();
    let bytes = |text: String| text.into_bytes();
    let mut requests: Vec<Vec<u8>> = vec![
        bytes(format!("GET /?api-key={value} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")),
        request("GET", "/", &format!("X-API-Key: {value}\r\n")),
        request("GET", "/", &format!("API_Key: {value}\r\n")),
        request("GET", "/", &format!("Authorization: Bearer {value}\r\n")),
        request("GET", "/", &format!("Cookie: API-Key={value}\r\n")),
        request("GET", "/", &format!("{key}{key}")),
        request("GET", "/", &format!("API-Key: \"{value}\"\r\n")),
        request("GET", "/", &format!("API-Key: {value},{value}\r\n")),
        request("GET", "/", &format!("API-Key: {value}\0\r\n")),
        request("GET", "/", &format!("API-Key: {}\r\n", "a".repeat(300 * 1024))),
        request("GET", "/", "API-Key:\r\n"),
        request("GET", "/", "API-Key:   \t  \r\n"),
        request("POST", "/", &format!("Content-Length: {}\r\n\r\n{value}", value.len())),
        request(
            "POST",
            "/",
            &format!(
                "Trailer: API-Key\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nAPI-Key: {value}\r\n"
            ),
        ),
        request("GET", "/", "API-Key: caf\u{e9}\r\n"),
        request("GET", "/", "Upgrade: websocket\r\nConnection: upgrade\r\n"),
        request("CONNECT", "test:443", ""),
        request("OPTIONS", "*", ""),
    ];
    requests.push(
        b"GET / HTTP/1.1\r\nHost: t\r\nAPI-Key: \xff\xfe\x80\r\nConnection: close\r\n\r\n".to_vec(),
    );
    for sent in requests {
        let answer = exchange(crate::support::tls(address).await, &sent).await;
        let shown = String::from_utf8_lossy(&sent[..sent.len().min(120)]).into_owned();
        assert!(matches!(answer.status, 400 | 401 | 431), "{} for {shown}", answer.status);
        assert!(!answer.body.contains(value) && !answer.head.contains(value), "{shown}");
    }
    // Surrounding white space belongs to the header line, not to the key.
    assert_eq!(get_tls(address, "/", &format!("API-Key: \t {value}  \r\n")).await.status, 200);
}
