//! One chain of what came with an answer and what hops have reported. Pure.

use std::collections::HashMap;

use super::hop::Hop;
use super::report::Report;

/// One request of a trace, as the gateway knows it.
#[derive(Clone, Debug)]
pub struct Root {
    /// What the gateway itself says.
    pub own: Report,
    /// The chain as the answer brought it, the gateway's own hop first.
    pub answered: Vec<Hop>,
}

struct Node {
    hop: Hop,
    start: Option<u64>,
    under: Vec<usize>,
}

/// The chain of `root`: each hop once, those that it called behind it, in the order in which they began. What says that it
/// stands behind a hop that nobody knows is a call of `root` where `takes_strays` says so, and else none of its.
pub fn tree(root: &Root, others: &[u64], reports: &[Report], takes_strays: bool) -> Vec<Hop> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut by_id: HashMap<u64, usize> = HashMap::new();
    let mut path: Vec<usize> = Vec::new();
    for hop in &root.answered {
        let number = nodes.len();
        path.truncate(usize::from(hop.depth));
        if let Some(above) = path.last().and_then(|above| nodes.get_mut(*above)) {
            above.under.push(number);
        }
        path.push(number);
        if hop.id != 0 {
            by_id.insert(hop.id, number);
        }
        nodes.push(Node { hop: hop.clone(), start: None, under: Vec::new() });
    }
    if let Some(first) = nodes.first_mut() {
        first.start = Some(root.own.start);
    }
    let joined: HashMap<u64, u64> = reports
        .iter()
        .chain([&root.own])
        .filter(|report| report.same != 0 && report.same != report.hop)
        .map(|report| (report.same, report.hop))
        .collect();
    let mut new = Vec::new();
    for report in reports {
        if let Some(node) = by_id.get(&report.hop).and_then(|number| nodes.get_mut(*number)) {
            node.start = Some(report.start);
            node.hop.micros = node.hop.micros.or(Some(report.micros));
        } else if !joined.contains_key(&report.hop) && !others.contains(&report.hop) {
            by_id.insert(report.hop, nodes.len());
            new.push((nodes.len(), report.behind));
            let hop = Hop::new(report.text.clone(), report.hop, Some(report.micros));
            nodes.push(Node { hop, start: Some(report.start), under: Vec::new() });
        }
    }
    for (number, behind) in new {
        let behind = joined.get(&behind).unwrap_or(&behind);
        let above = match by_id.get(behind) {
            Some(above) => *above,
            None if takes_strays && !others.contains(behind) => 0,
            None => continue,
        };
        if let Some(above) = nodes.get_mut(above).filter(|_| above != number) {
            above.under.push(number);
        }
    }
    flat(nodes)
}

/// Each node that is reached from the first one, the ones under it behind it.
fn flat(mut nodes: Vec<Node>) -> Vec<Hop> {
    let mut out = Vec::with_capacity(nodes.len());
    let mut left = vec![(0_usize, 0_u16)];
    let starts: Vec<Option<u64>> = nodes.iter().map(|node| node.start).collect();
    while let Some((number, depth)) = left.pop() {
        let Some(node) = nodes.get_mut(number) else { continue };
        // Taken, so that a circle of hops ends.
        let mut under = std::mem::take(&mut node.under);
        under.sort_by_key(|number| starts.get(*number).copied().flatten());
        left.extend(under.into_iter().rev().map(|number| (number, depth.saturating_add(1))));
        out.push(Hop { depth, ..node.hop.clone() });
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report(hop: u64, behind: u64, start: u64, text: &str) -> Report {
        Report { trace: 1, hop, behind, same: 0, start, micros: 5, endpoint: None, text: text.into() }
    }

    fn root(answered: Vec<Hop>) -> Root {
        Root { own: report(1, 0, 0, "front@base"), answered }
    }

    fn shown(hops: &[Hop]) -> String {
        let one = |hop: &Hop| format!("{}{}", ".".repeat(usize::from(hop.depth)), hop.text);
        hops.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn own() -> Hop {
        Hop::new("front@base", 1, None)
    }

    #[test]
    fn reports_alone_make_the_tree() {
        let reports = [
            report(5, 3, 30, "stock@base"),
            report(4, 2, 20, "pay@base"),
            report(2, 1, 10, "check@42"),
            report(3, 1, 11, "cart@base"),
        ];
        let told = tree(&root(vec![own()]), &[], &reports, true);
        assert_eq!(shown(&told), "front@base .check@42 ..pay@base .cart@base ..stock@base");
    }

    #[test]
    fn what_the_answer_has_told_is_not_told_again() {
        let deep = |text: &str, id, depth| Hop { depth, ..Hop::new(text, id, None) };
        let answered = vec![own(), deep("check@42", 2, 1), deep("pay@base", 4, 2)];
        // 3 is the other end of the call 2, and 6 went on behind it.
        let check = Report { same: 3, ..report(2, 1, 10, "check@42") };
        let reports = [
            check,
            report(3, 2, 11, "check@42"),
            report(4, 3, 12, "pay@base"),
            report(6, 3, 13, "late@base"),
        ];
        let told = tree(&root(answered), &[], &reports, true);
        assert_eq!(shown(&told), "front@base .check@42 ..pay@base ..late@base");
        assert_eq!(told[1].micros, Some(5));
    }

    #[test]
    fn requests_of_one_trace_keep_to_themselves() {
        let reports = [report(2, 1, 10, "a@1"), report(3, 7, 11, "b@1"), report(4, 99, 12, "stray@1")];
        assert_eq!(shown(&tree(&root(vec![own()]), &[7], &reports, true)), "front@base .a@1 .stray@1");
        assert_eq!(shown(&tree(&root(vec![own()]), &[7], &reports, false)), "front@base .a@1");
    }

    #[test]
    fn circles_end() {
        let reports =
            [report(2, 3, 10, "a@1"), report(3, 2, 11, "b@1"), report(4, 4, 1, "c@1"), report(1, 1, 1, "x")];
        assert_eq!(shown(&tree(&root(vec![own()]), &[], &reports, true)), "front@base");
    }

    proptest! {
        #[test]
        fn each_hop_once_whatever_is_reported(
            links in prop::collection::vec((1_u64..12, 0_u64..12, 0_u64..12, 0_u64..50), 0..30),
            depths in prop::collection::vec((0_u16..4, 0_u64..12), 0..8),
        ) {
            let mut reports: Vec<Report> = links
                .iter()
                .map(|(hop, behind, same, start)| Report { same: *same, ..report(*hop, *behind, *start, "x@1") })
                .collect();
            // The store keeps one for each id.
            reports.sort_by_key(|report| report.hop);
            reports.dedup_by_key(|report| report.hop);
            let mut answered = vec![own()];
            answered.extend(depths.iter().map(|(depth, id)| Hop { depth: depth + 1, ..Hop::new("y@1", *id, None) }));
            let ids = |hops: &[Hop]| hops.iter().map(|hop| hop.id).filter(|id| *id != 0).collect::<Vec<_>>();
            let answered_ids = ids(&answered);
            let told = tree(&root(answered.clone()), &[], &reports, true);
            prop_assert_eq!(told[0].depth, 0);
            prop_assert!(told[1..].iter().all(|hop| hop.depth > 0));
            let mut reported: Vec<u64> =
                ids(&told).into_iter().filter(|id| !answered_ids.contains(id)).collect();
            let count = reported.len();
            reported.sort_unstable();
            reported.dedup();
            prop_assert_eq!(reported.len(), count);
            // What came with the answer is all there.
            prop_assert!(told.len() >= answered.len());
        }
    }
}
