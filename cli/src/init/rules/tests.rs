use std::path::Path;

use super::*;

fn plain() -> Redirect {
    Redirect {
        inbound_port: 15006,
        outbound_port: 15001,
        uid: 65532,
        gid: 65532,
        exclude_inbound: BTreeSet::new(),
        include_inbound: BTreeSet::new(),
        only_listened: true,
        exclude_outbound: BTreeSet::new(),
        exclude_networks: BTreeSet::new(),
    }
}

fn full() -> Redirect {
    Redirect {
        inbound_port: 16006,
        outbound_port: 16001,
        uid: 1001,
        gid: 1002,
        exclude_inbound: [9090, 8081].into(),
        include_inbound: [8443, 8080].into(),
        only_listened: false,
        exclude_outbound: [5432].into(),
        exclude_networks: ["10.0.0.0/8", "10.1.0.0/16", "fd00::/8"].map(|text| text.parse().unwrap()).into(),
    }
}

/// Compares with `golden/NAME`; `UPDATE_GOLDEN=1` writes it anew.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/init/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, written, "{}: UPDATE_GOLDEN=1 writes it anew", path.display());
}

#[test]
fn the_rules_are_those_that_were_read_by_a_person() {
    golden("plain.nft", &nft(&plain()));
    golden("full.nft", &nft(&full()));
    golden("plain.iptables", &iptables_of_both(&plain()));
    golden("full.iptables", &iptables_of_both(&full()));
}

#[test]
fn a_second_run_of_iptables_replaces_its_calls_and_no_others() {
    let saved = "*nat\n:PREROUTING ACCEPT [0:0]\n:SIDETRACK_INBOUND - [0:0]\n\
                 -A PREROUTING -p tcp -j SIDETRACK_INBOUND\n-A PREROUTING -p tcp -j OTHER\n\
                 -A OUTPUT -p tcp -j SIDETRACK_OUTBOUND\n-A OUTPUT -p tcp -j SIDETRACK_OUTBOUND\nCOMMIT\n";
    let text = iptables(&plain(), Family::V4, saved);
    let deleted: Vec<&str> = text.lines().filter(|line| line.starts_with("-D")).collect();
    let of_outbound = "-D OUTPUT -p tcp -j SIDETRACK_OUTBOUND";
    assert_eq!(deleted, ["-D PREROUTING -p tcp -j SIDETRACK_INBOUND", of_outbound, of_outbound]);
    assert!(!text.contains("OTHER"));
}

#[test]
fn only_what_is_there_is_removed() {
    assert_eq!(iptables_remove("*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n"), None);
    let saved = "*nat\n:SIDETRACK_OUTBOUND - [0:0]\n-A OUTPUT -p tcp -j SIDETRACK_OUTBOUND\nCOMMIT\n";
    let text = "*nat\n-D OUTPUT -p tcp -j SIDETRACK_OUTBOUND\n-F SIDETRACK_OUTBOUND\n-X SIDETRACK_OUTBOUND\nCOMMIT\n";
    assert_eq!(iptables_remove(saved).as_deref(), Some(text));
}
