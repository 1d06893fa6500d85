//! Where a hop reports to: our second member of `tracestate`, `pr-at=ADDRESS;HOP`. It rides with the trace from the
//! gateway that began it, or carries it on, and every hop writes its own id in place of the one before, so that the next
//! one knows behind whom it stands.

use std::fmt;
use std::net::SocketAddr;

use crate::fields::Fields;
use crate::forward::carriers::{TRACESTATE, lead};
use crate::hex;
use crate::identify::members;

/// What the member says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Where reports go.
    pub address: SocketAddr,
    /// The hop that the request came from.
    pub hop: u64,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};{:016x}", self.address, self.hop)
    }
}

impl At {
    /// What a value says; `None`: it is not in our form.
    pub fn read(value: &[u8]) -> Option<Self> {
        let (address, hop) = std::str::from_utf8(value).ok()?.split_once(';')?;
        let hop = hex::number(hop.as_bytes()).filter(|_| hop.len() == 16)?;
        let hop = u64::try_from(hop).ok()?;
        let address: SocketAddr = address.parse().ok()?;
        (address.port() != 0).then_some(Self { address, hop })
    }
}

/// The name of the member beside the one that holds the key: `pr-at` beside `pr-id`, else `NAME-at`.
pub fn name(of_key: &str) -> String {
    format!("{}-at", of_key.strip_suffix("-id").unwrap_or(of_key))
}

/// What the fields say; of several members none counts.
pub fn find(fields: &Fields, name: &str) -> Option<At> {
    let mut ours =
        fields.get_all(TRACESTATE).flat_map(members).filter(|member| member.name == name.as_bytes());
    match (ours.next(), ours.next()) {
        (Some(one), None) => At::read(one.value),
        _ => None,
    }
}

/// Writes `at` in place of what is there; `None`: takes that out.
pub fn write(fields: &mut Fields, name: &str, at: Option<At>) {
    let is_ours = |member: &[u8]| member == name.as_bytes();
    // Nearly always there is one member, and that says the key.
    let may_be_there =
        |line: &&[u8]| line.contains(&b',') || line.trim_ascii_start().starts_with(name.as_bytes());
    let is_there = |line: &[u8]| members(line).any(|member| is_ours(member.name));
    if at.is_none() && !fields.get_all(TRACESTATE).filter(may_be_there).any(is_there) {
        return;
    }
    let ours = at.map(|at| format!("{name}={at}"));
    lead(fields, is_ours, ours.as_deref().map(str::as_bytes));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(lines: &[&str]) -> Fields {
        let mut fields = Fields::default();
        lines.iter().for_each(|line| fields.append(TRACESTATE, line.as_bytes()));
        fields
    }

    #[test]
    fn it_stands_beside_the_key() {
        assert_eq!((name("pr-id"), name("acme")), ("pr-at".to_owned(), "acme-at".to_owned()));
        let at = At { address: "[::1]:9902".parse().unwrap(), hop: 10 };
        let mut full = fields(&["pr-id=42,a=1", "pr-at=1.2.3.4:5;0000000000000001"]);
        assert_eq!(find(&full, "pr-at").map(|at| at.hop), Some(1));
        write(&mut full, "pr-at", Some(at));
        assert_eq!(full.joined(TRACESTATE, b"|"), b"pr-at=[::1]:9902;000000000000000a,pr-id=42,a=1");
        assert_eq!(find(&full, "pr-at"), Some(at));
        write(&mut full, "pr-at", None);
        assert_eq!(full.joined(TRACESTATE, b"|"), b"pr-id=42,a=1");
        let mut alone = fields(&["pr-at=x"]);
        write(&mut alone, "pr-at", None);
        assert!(!alone.contains(TRACESTATE));
    }

    #[test]
    fn what_is_not_in_our_form_counts_for_nothing() {
        for bad in [
            "",
            ";",
            "1.2.3.4:5",
            "1.2.3.4:5;",
            "1.2.3.4;0000000000000001",
            "host:5;0000000000000001",
            "1.2.3.4:5;1",
            "1.2.3.4:0;0000000000000001",
            "1.2.3.4:5;+000000000000001",
            "1.2.3.4:5;000000000000000G",
        ] {
            assert_eq!(At::read(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(
            find(&fields(&["pr-at=1.2.3.4:5;0000000000000001,pr-at=1.2.3.4:6;0000000000000001"]), "pr-at"),
            None
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(ip in any::<std::net::IpAddr>(), port in 1_u16.., hop: u64) {
            let at = At { address: SocketAddr::new(ip, port), hop };
            prop_assert_eq!(At::read(at.to_string().as_bytes()), Some(at));
        }

        #[test]
        fn other_members_stay(value in "[ -+--<>-~]{0,40}") {
            let line = format!("x=1,pr-at={value},y=2");
            let mut fields = fields(&[&line]);
            write(&mut fields, "pr-at", None);
            prop_assert_eq!(fields.joined(TRACESTATE, b"|"), b"x=1,y=2");
        }
    }
}
