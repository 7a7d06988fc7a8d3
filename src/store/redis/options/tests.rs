use super::super::server::Server;
use super::RedisOptions;

#[test]
fn a_namespace_is_a_name() {
    let options = || RedisOptions::new("redis://127.0.0.1");
    for name in ["a", "acme.live:v1_2-3", &"x".repeat(64)] {
        assert!(options().with_namespace(name).is_ok(), "{name}");
    }
    for name in ["", "a b", "a}b", "{a", "é", "a\n", "a\0", &"x".repeat(65)] {
        assert!(options().with_namespace(name).is_err(), "{name}");
    }
}

#[tokio::test]
async fn what_is_no_url_is_refused_and_no_password_is_repeated() {
    for url in [
        "",
        "redis",
        "http://:hunter2@localhost",
        "redis://:hunter2@",
        "redis://:hunter2@localhost:x",
        "redis://:hunter2@localhost/x",
        "redis://:hunter2@localhost/?protocol=hunter2",
        "rediss://:hunter2@localhost/#insecure",
        "rediss://:hunter2@a b",
        "redis://:hunter2@0.0.0.0",
        "redis://user:hunter2@127.0.0.1:1",
    ] {
        let options = RedisOptions::new(url);
        assert!(!format!("{options:?}").contains("hunter2"));
        let refused = options.connect().await.unwrap_err();
        let said = format!("{refused} {refused:?}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn certificates_are_for_tls_and_are_certificates() {
    for (url, pem) in [
        ("redis://127.0.0.1:1", "x"),
        ("rediss://127.0.0.1:1", ""),
        ("rediss://127.0.0.1:1", "x"),
        ("rediss://127.0.0.1:1", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ] {
        let refused = RedisOptions::new(url).with_root_certificate(pem).connect().await;
        let said = format!("{:?}", refused.unwrap_err());
        assert!(said.contains("ertificate"), "{said}");
    }
}

#[test]
fn only_tls_closes_the_way_to_another_machine() {
    let is_open = |url: &str| Server::new(url, None).unwrap().way().is_open();
    assert!(is_open("redis://:hunter2@redis.example.com"));
    assert!(is_open("redis://192.0.2.1:6380/1"));
    for closed in [
        "redis://localhost",
        "redis://127.0.0.1",
        "redis://[::1]:6380",
        "redis+unix:///run/redis.sock",
    ] {
        assert!(!is_open(closed), "{closed}");
    }
    let made = rcgen::generate_simple_self_signed(["redis.example.com".to_owned()]).unwrap();
    let pem = made.cert.pem();
    let server = Server::new("rediss://:hunter2@redis.example.com", Some(pem.as_bytes())).unwrap();
    assert!(!server.way().is_open());
}
