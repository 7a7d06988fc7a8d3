use super::PostgresOptions;

fn is_open(url: &str) -> bool {
    PostgresOptions::new(url).unwrap().way().is_open()
}

#[test]
fn only_the_full_verification_closes_the_way_to_another_machine() {
    for mode in ["disable", "allow", "prefer", "require", "verify-ca"] {
        assert!(is_open(&format!("postgres://me@db.example.com/keys?sslmode={mode}")), "{mode}");
    }
    assert!(is_open("postgres://me@db.example.com/keys"), "prefer, unless said");
    assert!(is_open("postgres://me@localhost/keys?host=db.example.com"));
    assert!(is_open("postgres://me@localhost/keys?hostaddr=192.0.2.1"));
    assert!(!is_open("postgres://me@db.example.com/keys?sslmode=verify-full"));
}

#[test]
fn within_this_machine_the_way_is_closed() {
    for host in ["localhost", "127.0.0.1", "[::1]", "%2Fvar%2Frun%2Fpostgresql"] {
        assert!(!is_open(&format!("postgres://me@{host}/keys?sslmode=disable")), "{host}");
    }
    assert!(!is_open("postgres://me@db.example.com/keys?host=/var/run/postgresql"));
}
