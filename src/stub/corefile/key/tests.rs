use super::*;

fn claim(key: &str) -> Claim {
    Claim::read(key.to_owned(), 1, Some(key), 53)
}

fn name(text: &str) -> Zone {
    Zone::Name(Name::parse(text).expect(text))
}

fn other(text: &str) -> Zone {
    Zone::Other(text.to_owned())
}

#[test]
fn keys_are_normalised_as_coredns_does() {
    let cases = [
        (".", Zone::Root, Some(53), "dns"),
        (".:5353", Zone::Root, Some(5353), "dns"),
        ("dns://.:053", Zone::Root, Some(53), "dns"),
        ("global", name("global"), Some(53), "dns"),
        ("GLOBAL.:53", name("global"), Some(53), "dns"),
        ("dns://global:8053", name("global"), Some(8053), "dns"),
        ("tls://global", name("global"), Some(853), "tls"),
        ("https3://global:1", name("global"), Some(1), "https3"),
        ("grpc://global", name("global"), Some(443), "grpc"),
        ("unix://global", name("global"), None, "unix"),
        ("global:+53", name("global"), Some(53), "dns"),
        // Not a scheme, and not a port: all of it is the name.
        ("DNS://global", other("dns://global."), Some(53), "dns"),
        ("global:dns", other("global:dns."), Some(53), "dns"),
        ("*.corp:53", other("*.corp."), Some(53), "dns"),
        ("10.0.0.0/8:53", other("10.0.0.0/8"), Some(53), "dns"),
        ("2001:db8::/32", other("2001:db8::/32"), Some(53), "dns"),
        ("(snippet)", other("(snippet)."), Some(53), "dns"),
        ("a\\.b", other("a\\.b."), Some(53), "dns"),
    ];
    for (key, zone, port, transport) in cases {
        let claim = claim(key);
        assert_eq!((claim.zone, claim.port, claim.transport), (zone, port, transport), "{key}");
    }
}

#[test]
fn keys_that_coredns_does_not_take_are_invalid() {
    let long = format!("{}:53", "a".repeat(64));
    for key in ["global:", "dns://", ":53", "a..b", ".a", "global:65536", "global:-1", &long] {
        assert!(matches!(claim(key).zone, Zone::Invalid(_)), "{key}: {:?}", claim(key));
    }
}

#[test]
fn a_variable_could_be_a_zone_that_fits() {
    let global = Name::parse("global").expect("a name");
    let cases = [
        ("{$ZONE}", true),
        ("{$ZONE}:53", true),
        ("{%ZONE%}.:53", true),
        ("dns://{$ZONE}:{$PORT}", true),
        ("glo{$REST}", true),
        ("{$A}glo{$B}bal.", true),
        ("{$ZONE}:5353", false),
        ("tls://{$ZONE}", false),
        ("{$ZONE}.corp:53", false),
        ("corp.{$ZONE}", false),
        ("globa{$X}obal", false),
    ];
    for (key, could) in cases {
        let claim = Claim::read(key.to_owned(), 1, None, 53);
        assert_eq!(claim.could_serve(&global, 53), could, "{key}");
        assert!(!claim.serves(&global, 53), "{key}");
    }
    assert!(!claim("global").could_serve(&global, 53));
    assert!(claim("global").serves(&global, 53));
    assert!(!claim("tls://global:53").serves(&global, 53));
}

#[test]
fn variables_are_replaced_as_coredns_does() {
    let env = |name: &str| match name {
        "ZONE" => Some("global".to_owned()),
        "TWICE" => Some("{$ZONE}".to_owned()),
        "SELF" => Some("{$SELF}".to_owned()),
        "UNSET" => Some(String::new()),
        _ => None,
    };
    let process = Process { port: 53, env: &env };
    let cases = [
        ("global", Some("global")),
        ("{$ZONE}:53", Some("global:53")),
        ("{%ZONE%}.{$ZONE}", Some("global.global")),
        ("{$TWICE}", Some("global")),
        ("a{$UNSET}b", Some("ab")),
        ("{$}", Some("{$}")),
        ("{$ZONE", Some("{$ZONE")),
        ("{%ZONE}", Some("{%ZONE}")),
        ("{$OTHER}", None),
        ("{$ZONE}{$OTHER}", None),
        ("{$SELF}", None),
    ];
    for (text, expected) in cases {
        assert_eq!(expand(text, &process).as_deref(), expected, "{text}");
    }
}
