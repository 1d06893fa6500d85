//! Links that a reviewer can open: of hosts that some route serves, since another one would show a 404.

use std::collections::BTreeSet;

use sidetrack_config::Key;

use super::Settings;

/// The most links of one preview.
const MAX: usize = 8;

/// The longest label of a host (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// What all links are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    scheme: Box<str>,
    port: Box<str>,
    prefix: Box<str>,
    places: Vec<Place>,
}

/// A host that takes a key: a domain, or one below it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// What stands before the domain; empty: the domain itself.
    rest: Box<str>,
    domain: Box<str>,
}

impl Links {
    /// The links that these hosts of routes give: those of the domains first.
    pub(super) fn new(settings: &Settings, hosts: &BTreeSet<Box<str>>) -> Self {
        let served = settings.domains.iter().filter(|domain| is_served(domain, hosts));
        let domains = served.map(|domain| Place { rest: "".into(), domain: domain.clone() });
        let below = hosts.iter().filter_map(|host| below(host, settings));
        Self {
            scheme: settings.url_scheme.clone(),
            port: settings.url_port.map(|port| format!(":{port}")).unwrap_or_default().into(),
            prefix: settings.host_prefix.clone(),
            places: domains.chain(below).take(MAX).collect(),
        }
    }

    /// The links of a key, the best first; `own` are the hosts of its preview.
    pub fn of(&self, key: &Key, own: &[Box<str>]) -> Vec<String> {
        let Self { scheme, port, prefix, places } = self;
        let url = |host: &str| format!("{scheme}://{host}{port}");
        let mut keyed = places.iter().map(|place| url(&place.host(&format!("{prefix}{key}"))));
        let first = keyed.next().into_iter();
        first.chain(own.iter().map(|host| url(host))).chain(keyed).take(MAX).collect()
    }
}

impl Place {
    /// Its host with the label of a key: in one label with what stands there already where that can be, since the one
    /// wildcard certificate of the domain covers it then.
    fn host(&self, label: &str) -> String {
        let Self { rest, domain } = self;
        if rest.is_empty() {
            return format!("{label}.{domain}");
        }
        let joins = !rest.contains('.') && !rest.contains("--") && label.len() + 2 + rest.len() <= MAX_LABEL;
        format!("{label}{}{rest}.{domain}", if joins { "--" } else { "." })
    }
}

fn below(host: &str, settings: &Settings) -> Option<Place> {
    let rest = |domain: &str| host.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.'));
    let found = settings.domains.iter().filter_map(|domain| Some((rest(domain)?, domain)));
    let (rest, domain) = found.min_by_key(|(rest, _)| rest.len())?;
    (!rest.contains('*')).then(|| Place { rest: rest.into(), domain: domain.clone() })
}

fn is_served(domain: &str, hosts: &BTreeSet<Box<str>>) -> bool {
    let below = |pattern: &str| pattern.strip_prefix('*').is_some_and(|parent| domain.ends_with(parent));
    hosts.iter().any(|host| **host == *domain || below(host))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings() -> Settings {
        Settings {
            domains: vec!["preview.example.com".into()],
            url_scheme: "https".into(),
            url_port: None,
            host_prefix: "pr-".into(),
            http_ports: vec![80],
            https_ports: vec![443],
            addresses: Vec::new(),
            warn_before: Duration::ZERO,
            waypoints: None,
            sidecars: false,
        }
    }

    fn links(hosts: &[&str], key: &str, own: &[&str]) -> Vec<String> {
        let hosts = hosts.iter().map(|host| Box::from(*host)).collect();
        let own: Vec<Box<str>> = own.iter().map(|host| Box::from(*host)).collect();
        Links::new(&settings(), &hosts).of(&Key::bare(key).unwrap(), &own)
    }

    #[test]
    fn only_hosts_that_are_served() {
        assert_eq!(links(&["shop.test"], "42", &[]), [""; 0]);
        for host in ["preview.example.com", "*.example.com", "*"] {
            assert_eq!(links(&[host], "42", &[]), ["https://pr-42.preview.example.com"], "{host}");
        }
        assert_eq!(links(&["*.preview.example.com"], "42", &[]), [""; 0], "the domain is not below itself");
    }

    #[test]
    fn one_wildcard_certificate_is_enough_where_it_can_be() {
        let of = |host: &str, key: &str| links(&[host], key, &[]).remove(0);
        assert_eq!(of("shop.preview.example.com", "42"), "https://pr-42--shop.preview.example.com");
        assert_eq!(of("a.b.preview.example.com", "42"), "https://pr-42.a.b.preview.example.com");
        assert_eq!(of("a--b.preview.example.com", "42"), "https://pr-42.a--b.preview.example.com");
        let long = "k".repeat(40);
        let host = format!("{}.preview.example.com", "s".repeat(30));
        assert_eq!(
            of(&host, &long),
            format!("https://pr-{long}.{host}"),
            "a label has 63 characters at most"
        );
    }

    #[test]
    fn the_domain_then_its_own_hosts_then_the_others() {
        let hosts = ["preview.example.com", "shop.preview.example.com"];
        assert_eq!(
            links(&hosts, "42", &["uat.example.com"]),
            [
                "https://pr-42.preview.example.com",
                "https://uat.example.com",
                "https://pr-42--shop.preview.example.com"
            ]
        );
    }
}
