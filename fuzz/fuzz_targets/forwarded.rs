//! What a trusted proxy says, in `Forwarded` and in `X-Forwarded-*`, against the grammar of RFC 7239 as
//! regular expressions and a second description of whom the client is.
//!
//! The input's lines are those of the header that is looked at; `X-Forwarded-For` follows a line `-`.

#![no_main]

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use http::{HeaderValue, Request};
use libfuzzer_sys::fuzz_target;
use regex::bytes::Regex;
use tower_api_key::testing::TestKeys;
use tower_api_key::{Connection, NewKey, RejectionKind, Transport, TrustedProxies};
use tower_api_key_fuzz::{Outcome, call, now};

const PROXY: &str = "10.1.2.3:4711";

/// Where keys are bound to, by which it is seen whom the code takes for the client.
const BLOCKS: [(&str, fn(IpAddr) -> bool); 3] = [
    ("192.0.2.0/24 2001:db8::/32", is_office),
    ("10.0.0.0/8", is_proxy),
    // From wherever, if only that is known.
    ("0.0.0.0/1 128.0.0.0/1 ::/1 8000::/1", |_| true),
];

struct Given {
    keys: TestKeys,
    anywhere: String,
    bound: [String; 3],
    pair: Regex,
    element: Regex,
}

static GIVEN: LazyLock<Given> = LazyLock::new(|| {
    let keys = TestKeys::new();
    let bound = BLOCKS.map(|(blocks, _)| {
        let new = NewKey::new("bound".parse().expect("a name"));
        let new = new.with_sources(blocks.parse().expect("sources"));
        now(keys.make("test@example.com", new))
    });
    let anywhere = now(keys.key("anywhere"));
    let token = r"[0-9A-Za-z!#$%&'*+\-.^_`|~]+";
    let quoted = r#""(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*""#;
    let pair = format!(r"(?P<name>{token})=(?P<value>{token}|{quoted})");
    let plain = format!("(?:{token})=(?:{token}|{quoted})");
    let element = format!("(?s-u)^(?:{plain})?(?:;(?:{plain})?)*$");
    Given {
        keys,
        anywhere,
        bound,
        pair: Regex::new(&format!("(?s-u){pair}")).expect("an expression"),
        element: Regex::new(&element).expect("an expression"),
    }
});

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|&byte| byte == b'\n');
    let said =
        lines.by_ref().take_while(|&line| line != b"-").filter_map(value).collect::<Vec<_>>();
    let hops: Vec<_> = lines.filter_map(value).collect();

    let forwarded = TrustedProxies::forwarded(["10.0.0.0/8"]).expect("proxies");
    let expected = only(&said).filter(|line| of(line, b"proto").as_deref() == Some(b"https"));
    // Nobody else's header is looked at, and a proxy is nobody.
    let client = expected.and_then(|line| address(&of(line, b"for")?));
    let client = client.filter(|address| !is_proxy(*address));
    let more = [("x-forwarded-proto", &hops), ("x-forwarded-for", &hops)];
    agrees(forwarded, "forwarded", &said, &more, expected.is_some(), client);

    let x_forwarded = TrustedProxies::x_forwarded_proto(["10.0.0.0/8"]).expect("proxies");
    let is_https = only(&said).is_some_and(|line| line == b"https");
    let client = from_hops(&hops);
    let more = [("x-forwarded-for", &hops), ("forwarded", &hops)];
    // What a client may have written is asked for nothing.
    agrees(x_forwarded.clone(), "x-forwarded-proto", &said, &more, is_https, None);
    let x_forwarded = x_forwarded.with_x_forwarded_for();
    agrees(x_forwarded, "x-forwarded-proto", &said, &more, is_https, client);
});

fn value(line: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_bytes(line).ok()
}

fn only(lines: &[HeaderValue]) -> Option<&[u8]> {
    if let [line] = lines { Some(line.as_bytes()) } else { None }
}

/// The only value of a name in a well-formed element, unquoted.
fn of(line: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    if !GIVEN.element.is_match(line) {
        return None;
    }
    let mut values =
        GIVEN.pair.captures_iter(line).filter(|pair| pair["name"].eq_ignore_ascii_case(name));
    let value = values.next()?["value"].to_vec();
    if values.next().is_some() {
        return None;
    }
    let Some(quoted) = value.strip_prefix(b"\"") else { return Some(value) };
    let mut plain = Vec::new();
    let mut letters = quoted[..quoted.len() - 1].iter();
    while let Some(&letter) = letters.next() {
        plain.push(if letter == b'\\' { *letters.next()? } else { letter });
    }
    Some(plain)
}

fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = if text.starts_with('[') && text.ends_with(']') && text.len() > 1 {
        &text[1..text.len() - 1]
    } else {
        text
    };
    let found = bare.parse::<IpAddr>().ok();
    found.or_else(|| text.parse::<SocketAddr>().ok().map(|it| it.ip())).map(|it| it.to_canonical())
}

/// Each proxy appends whom it saw: from the end, the first that is no proxy of ours.
fn from_hops(lines: &[HeaderValue]) -> Option<IpAddr> {
    let all = lines.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b","[..]);
    let mut hops = all.split(|&byte| byte == b',').map(|hop| address(hop.trim_ascii())).rev();
    hops.find(|hop| !hop.is_some_and(is_proxy)).flatten()
}

fn is_proxy(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.octets()[0] == 10)
}

fn is_office(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..3] == [192, 0, 2],
        IpAddr::V6(address) => address.segments()[..2] == [0x2001, 0xdb8],
    }
}

fn agrees(
    proxies: TrustedProxies,
    header: &'static str,
    said: &[HeaderValue],
    more: &[(&'static str, &Vec<HeaderValue>)],
    is_https: bool,
    client: Option<IpAddr>,
) {
    let layer = GIVEN.keys.layer().with_transport(Transport::behind(proxies));
    let request = |key: &str, peer: &str| {
        let mut request = Request::builder().header("api-key", key).uri("https://example.com/");
        for line in said {
            request = request.header(header, line);
        }
        for (name, lines) in more {
            for line in lines.iter() {
                request = request.header(*name, line);
            }
        }
        let connection = Connection::plain(peer.parse().expect("an address"));
        request.extension(connection).body(()).expect("a request")
    };
    let anywhere = &GIVEN.anywhere;
    match call(&layer, request(anywhere, PROXY)) {
        Outcome::Admitted(..) => assert!(is_https, "let in without the proxy's word"),
        Outcome::Refused(kind) => assert!(kind == RejectionKind::NotHttps && !is_https, "{kind}"),
    }
    for ((blocks, is_in), bound) in BLOCKS.iter().zip(&GIVEN.bound) {
        let is_in = client.is_some_and(is_in);
        match call(&layer, request(bound, PROXY)) {
            Outcome::Admitted(..) => assert!(is_https && is_in, "{client:?} in {blocks}"),
            Outcome::Refused(RejectionKind::WrongSource) => {
                assert!(is_https && !is_in, "{client:?} not in {blocks}");
            }
            Outcome::Refused(kind) => {
                assert!(kind == RejectionKind::NotHttps && !is_https, "{kind}");
            }
        }
    }
    // From anybody else, the same words are worth nothing.
    match call(&layer, request(anywhere, "203.0.113.7:4711")) {
        Outcome::Refused(RejectionKind::NotHttps) => {}
        _ => panic!("a stranger was believed"),
    }
}
