//! Acknowledgements: when a preview is ready, and what is missing.

use super::*;
use crate::report::Acknowledged;

#[tokio::test]
async fn a_preview_is_ready_once_every_proxy_has_it() {
    let server = Running::start().await;
    let first = server.publish([service("checkout.shop", 1), preview("42", 1)]);
    let said = server.get("/v1/previews/42", "reader").await.json();
    assert_eq!((&said["ready"], &said["proxies"]["connected"]), (&false.into(), &0.into()));
    assert_eq!(said["reasons"][0], "no gateway is connected to the controller");

    let (mut a, mut b) = (server.client().await, server.client().await);
    let (mut from_a, mut from_b) = (a.follow("gw-a", "").await, b.follow("gw-b", "").await);
    let epoch = from_a.until(first).await.unwrap();
    from_b.until(first).await;
    assert_eq!(a.report("gw-a", &epoch, first, None).await.status, 204);
    let said = server.get("/v1/previews/42", "reader").await.json();
    assert_eq!((&said["ready"], &said["proxies"]["waiting"][0]), (&false.into(), &"gw-b".into()));
    assert_eq!(b.report("gw-b", &epoch, first, None).await.status, 204);
    let said = server.get("/v1/previews/42", "reader").await.json();
    assert_eq!((&said["ready"], &said["phase"], &said["key"]), (&true.into(), &"Ready".into(), &"42".into()));
    assert_eq!(said["forks"][0]["service"], "shop/checkout");

    // Another service is nothing to it; its own fork is.
    server.publish([service("checkout.shop", 1), service("other", 1), preview("42", 1)]);
    assert_eq!(server.get("/v1/previews/42", "reader").await.json()["ready"], true);
    let third = server.publish([service("checkout.shop", 1), service("other", 1), preview("42", 2)]);
    assert_eq!(server.get("/v1/previews/42", "reader").await.json()["ready"], false);
    a.report("gw-a", &epoch, third, None).await;
    b.report("gw-b", &epoch, third, Some("no such thing")).await;
    let said = server.get("/v1/previews/42", "reader").await.json();
    assert_eq!(said["proxies"]["rejected"][0]["error"], "no such thing");
    assert_eq!(said["reasons"][0], "gateway gw-b refused it: no such thing");

    // One that left still routes by what it had, for all that is known.
    drop((b, from_b));
    let gone = async {
        while server.publisher.acks().connected() > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    let said = server.get("/v1/previews/42", "reader").await.json();
    assert_eq!((&said["ready"], &said["proxies"]["connected"]), (&false.into(), &1.into()));
}

#[tokio::test]
async fn what_was_refused_is_not_acknowledged_by_coming_again() {
    let server = Running::start().await;
    let first = server.publish([service("checkout.shop", 1)]);
    let mut a = server.client().await;
    let mut lines = a.follow("gw-a", "").await;
    let epoch = lines.until(first).await.unwrap();
    assert_eq!(a.report("gw-a", &epoch, first, None).await.status, 204);
    let second = server.publish([service("checkout.shop", 1), preview("42", 1)]);
    lines.until(second).await;
    a.report("gw-a", &epoch, second, Some("no such thing")).await;
    // Its token was replaced, or its hour is over: it goes on from what it heard.
    drop((a, lines));
    let mut a = server.client().await;
    let _lines = a.follow("gw-a", &format!("&epoch={epoch}&version={second}")).await;
    let said = server.get("/v1/previews/42", "reader").await.json();
    assert_eq!((&said["ready"], &said["proxies"]["acknowledged"]), (&false.into(), &0.into()));
    a.report("gw-a", &epoch, second, Some("no such thing")).await;
    let said = server.get("/v1/previews/42", "reader").await.json();
    assert_eq!(said["reasons"], serde_json::json!(["gateway gw-a refused it: no such thing"]));
}

#[tokio::test]
async fn a_deleted_preview_is_gone_once_every_proxy_says_so() {
    let server = Running::start().await;
    let first = server.publish([service("checkout.shop", 1), preview("42", 1)]);
    let mut a = server.client().await;
    let mut lines = a.follow("gw-a", "").await;
    let epoch = lines.until(first).await.unwrap();
    a.report("gw-a", &epoch, first, None).await;
    let second = server.publish([service("checkout.shop", 1)]);
    let reply = server.get("/v1/previews/42", "reader").await;
    assert_eq!((reply.status.as_u16(), &reply.json()["deleted"]), (404, &false.into()));
    a.report("gw-a", &epoch, second, None).await;
    let reply = server.get("/v1/previews/42", "reader").await;
    assert_eq!((&reply.json()["deleted"], &reply.json()["ready"]), (&true.into(), &false.into()));
}

#[tokio::test]
async fn a_fork_that_is_not_routed_keeps_it_from_being_ready() {
    let server = Running::start().await;
    let items = [service("checkout.shop", 1), preview("42", 1)];
    let items: BTreeMap<_, _> = items.into_iter().map(|item| (item.id().into(), item)).collect();
    let forks = vec![fork("42", ForkState::Routed), fork("42", ForkState::Leaks)];
    let version = server.publisher.update(items, About { forks, ..About::default() }).version;
    let mut a = server.client().await;
    let mut lines = a.follow("gw-a", "").await;
    let epoch = lines.until(version).await.unwrap();
    a.report("gw-a", &epoch, version, None).await;
    let said = server.get("/v1/previews/42", "reader").await.json();
    assert_eq!((&said["ready"], &said["phase"]), (&false.into(), &"Degraded".into()));
    assert_eq!(said["reasons"][0], "fork of shop/checkout: Leaks: said");
}

#[tokio::test]
async fn a_report_for_another_controller_is_misdirected() {
    let server = Running::start().await;
    let version = server.publish([service("a", 1)]);
    let mut a = server.client().await;
    assert_eq!(a.report("gw-a", server.publisher.epoch(), version, None).await.status, 421);
    let _lines = a.follow("gw-a", "").await;
    assert_eq!(a.report("gw-a", "other", version, None).await.status, 421);
    assert_eq!(a.report("gw-a", server.publisher.epoch(), version + 1, None).await.status, 409);
    assert_eq!(a.report("gw-a", server.publisher.epoch(), version, None).await.status, 204);
}

#[tokio::test]
async fn a_status_says_acknowledged_of_what_the_table_holds_now() {
    let server = Running::start().await;
    let previews = Previews::new(Arc::clone(&server.publisher), None);
    let acknowledged = Acknowledged::new(Arc::clone(&server.publisher));
    let key = Key::bare("42").unwrap();
    let first = server.publish([service("checkout.shop", 1), preview("42", 1)]);
    let mut a = server.client().await;
    let mut lines = a.follow("gw-a", "").await;
    let epoch = lines.until(first).await.unwrap();
    assert_eq!(acknowledged.of(&key), None, "nobody has looked");
    acknowledged.look(&previews).await;
    assert_eq!(acknowledged.of(&key), Some(None));
    a.report("gw-a", &epoch, first, None).await;
    assert!(acknowledged.look(&previews).await);
    assert_eq!(acknowledged.of(&key), Some(i64::try_from(first).ok()));
    assert!(!acknowledged.look(&previews).await, "that is no news");
    // The status that is written with the next plan must not say it of that plan.
    let second = server.publish([service("checkout.shop", 1), preview("42", 2)]);
    assert_eq!(acknowledged.of(&key), Some(None));
    acknowledged.look(&previews).await;
    assert_eq!(acknowledged.of(&key), Some(None));
    a.report("gw-a", &epoch, second, None).await;
    assert!(acknowledged.look(&previews).await);
    assert_eq!(acknowledged.of(&key), Some(i64::try_from(second).ok()));
    // Another preview's change is nothing to it.
    server.publish([service("checkout.shop", 1), preview("42", 2), preview("43", 1)]);
    assert_eq!(acknowledged.of(&key), Some(i64::try_from(second).ok()));
}
