//! Each grammar by example, and none of them panics.

use super::*;
use proptest::prelude::*;

#[test]
fn durations() {
    for (text, seconds) in [
        ("0", 0.0),
        ("0s", 0.0),
        ("500ms", 0.5),
        ("90s", 90.0),
        ("1m 30s", 90.0),
        ("72h", 259_200.0),
        ("7d", 604_800.0),
        ("1w", 604_800.0),
        ("3650d", 315_360_000.0),
    ] {
        assert_eq!(duration(text).unwrap().as_secs_f64(), seconds, "{text}");
    }
    for text in ["", "30", "-1s", "1s ago", "1y", "2mo", "3651d", "soon", "9999999999h", "1e9s", "inf"] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn sizes() {
    for (text, bytes) in
        [("0", 0), ("65536", 65_536), ("64KiB", 65_536), ("8 MiB", 8 << 20), ("1.5kB", 1_500)]
    {
        assert_eq!(size(text), Ok(bytes), "{text}");
    }
    for text in ["", "-1", "many", "8 MiB more", "..", "8Mib/s"] {
        assert!(size(text).is_err(), "{text}");
    }
}

#[test]
fn networks() {
    for (text, net) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("127.0.0.1", "127.0.0.1/32"),
        ("fd00::/8", "fd00::/8"),
        ("::1", "::1/128"),
    ] {
        assert_eq!(network(text).unwrap().to_string(), net, "{text}");
    }
    for text in ["", "10.0.0.0/33", "10.0.0", "example.com", "::ffff:10.0.0.0/104"] {
        assert!(network(text).is_err(), "{text}");
    }
}

#[test]
fn endpoints() {
    for text in ["127.0.0.1:9000", "[::1]:9000", "shop:80", "shop.default.svc.cluster.local:65535", "a_b:1"] {
        assert_eq!(endpoint(text).unwrap().to_string(), text);
    }
    assert_eq!(endpoint("Shop.:80").unwrap().to_string(), "shop:80");
    for text in [
        "",
        "shop",
        "shop:",
        "shop:0",
        "shop:65536",
        "shop:+80",
        ":80",
        "::1:80",
        "[::1]",
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.256:80",
        "http://shop:80",
        "shop:80/x",
        "-a:80",
        "sh op:80",
        "ä:80",
    ] {
        assert!(endpoint(text).is_err(), "{text}");
    }
}

#[test]
fn hosts() {
    for (text, host) in [
        ("Shop.Example.COM.", "shop.example.com"),
        ("*.Example.com", "*.example.com"),
        ("*", "*"),
        ("127.0.0.1", "127.0.0.1"),
        ("[0:0::1]", "[::1]"),
        ("localhost", "localhost"),
    ] {
        assert_eq!(route_host(text).unwrap().to_string(), host, "{text}");
    }
    for text in [
        "",
        "a..b",
        "a:80",
        "http://a",
        "a/b",
        "*a.b",
        "a.*.b",
        "*.",
        "*.*",
        "::1",
        "1.2.3.4.5",
        "münchen.de",
    ] {
        assert!(route_host(text).is_err(), "{text}");
    }
    assert!(dns_name(&"a".repeat(63)).is_ok());
    assert!(dns_name(&"a".repeat(64)).is_err());
    assert!(dns_name(&vec!["a"; 128].join(".")).is_err());
}

#[test]
fn paths() {
    for (text, path) in [("/", "/"), ("/api", "/api"), ("/api/", "/api"), ("/a%20b/c", "/a%20b/c")] {
        assert_eq!(path_prefix(text).unwrap().as_ref(), path);
    }
    for text in [
        "", "api", "//", "/a//b", "/./a", "/a/..", "/a%2Fb", "/%2e", "/a?b", "/a#b", "/a b", "/%", "/%4",
        "/%4g", "/ä",
    ] {
        assert!(path_prefix(text).is_err(), "{text}");
    }
}

#[test]
fn names() {
    assert!(token("x-pr-id").is_ok() && token("X_y!").is_ok());
    assert!(token("").is_err() && token("a b").is_err() && token("a:b").is_err() && token("ä").is_err());
    assert!(query_name("pr-id").is_ok() && query_name("pr&id").is_err() && query_name("p%20").is_err());
    for text in ["pr-id", "a", "1a@bc", "a*b/c_d"] {
        assert!(tracestate_key(text).is_ok(), "{text}");
    }
    for text in ["", "Pr", "1a", "a@", "@a", "a@1", "a@b@c", "a=b", "a@abcdefghijklmno"] {
        assert!(tracestate_key(text).is_err(), "{text}");
    }
    assert!(service_name("shop-1.a_b").is_ok());
    for text in ["", "-a", "a.", "a@b", "a;b", "a b"] {
        assert!(service_name(text).is_err(), "{text}");
    }
}

#[test]
fn certificate_and_server_names() {
    assert_eq!(certificate_name("*.A.b").unwrap().as_ref(), "*.a.b");
    assert_eq!(certificate_name("::1").unwrap().as_ref(), "::1");
    assert!(certificate_name("*").is_err() && certificate_name("a.*").is_err());
    assert!(server_name("10.0.0.1").is_ok() && server_name("*.a").is_err());
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,40}|[0-9.:/\\[\\]*a-z%@-]{0,40}|[0-9]{1,24}[a-zA-Z ]{0,6}") {
        let _ = duration(&text);
        let _ = size(&text);
        let _ = network(&text);
        let _ = address(&text);
        let _ = endpoint(&text);
        let _ = route_host(&text);
        let _ = certificate_name(&text);
        let _ = server_name(&text);
        let _ = path_prefix(&text);
        let _ = token(&text);
        let _ = query_name(&text);
        let _ = tracestate_key(&text);
        let _ = service_name(&text);
    }

    #[test]
    fn what_is_read_reads_again(text in "[a-z0-9.*_-]{1,20}(:[0-9]{1,5})?") {
        if let Ok(endpoint) = endpoint(&text) {
            prop_assert_eq!(super::endpoint(&endpoint.to_string()), Ok(endpoint));
        }
        if let Ok(host) = route_host(&text) {
            prop_assert_eq!(route_host(&host.to_string()), Ok(host));
        }
    }
}
