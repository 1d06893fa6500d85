//! Several replicas: each asks the others.

use super::*;

#[tokio::test]
async fn a_preview_is_ready_once_the_proxies_of_all_replicas_have_it() {
    let files = Arc::new(Files::new());
    let other = Running::with(Arc::clone(&files), None).await;
    let own = Running::with(files, Some(other.address)).await;
    let items = || [service("checkout.shop", 1), preview("42", 1)];
    let version = own.publish(items());
    let mut a = own.client().await;
    let mut lines = a.follow("gw-a", "").await;
    let epoch = lines.until(version).await.unwrap();
    a.report("gw-a", &epoch, version, None).await;
    let said = own.get("/v1/previews/42", "reader").await.json();
    assert_eq!(said["ready"], false, "the other has no table yet: {said}");
    assert!(said["reasons"][0].as_str().unwrap().contains("503"), "{said}");

    let older = other.publish([service("checkout.shop", 1), preview("42", 9)]);
    let mut b = other.client().await;
    let mut lines = b.follow("gw-b", "").await;
    let epoch = lines.until(older).await.unwrap();
    b.report("gw-b", &epoch, older, None).await;
    let said = own.get("/v1/previews/42", "reader").await.json();
    assert_eq!((&said["ready"], &said["proxies"]["waiting"][0]), (&false.into(), &"gw-b".into()));

    let same = other.publish(items());
    lines.until(same).await;
    b.report("gw-b", &epoch, same, None).await;
    let said = own.get("/v1/previews/42", "reader").await.json();
    assert_eq!((&said["ready"], &said["proxies"]["acknowledged"]), (&true.into(), &2.into()), "{said}");
    let all = own.get("/v1/previews", "reader").await.json();
    assert_eq!(all["previews"][0], said);

    other.end.send(()).unwrap();
    other.task.await.unwrap();
    let said = own.get("/v1/previews/42", "reader").await.json();
    assert_eq!(
        (&said["ready"], said["proxies"]["unreachable"].as_array().unwrap().is_empty()),
        (&false.into(), false)
    );
}

#[tokio::test]
async fn ourselves_among_the_replicas_do_no_harm() {
    let files = Arc::new(Files::new());
    let other = Running::with(Arc::clone(&files), None).await;
    other.publish([service("checkout.shop", 1)]);
    let peers = super::super::peers::Peers::new(&PeerSettings {
        host: format!("localhost:{}", other.address.port()).into(),
        ca_file: files.path().join("ca.crt"),
        token_file: files.path().join("token"),
    });
    let previews = Previews::new(Arc::clone(&other.publisher), Some(peers.unwrap()));
    let mut a = other.client().await;
    let version = other.publish([service("checkout.shop", 1), preview("42", 1)]);
    let mut lines = a.follow("gw-a", "").await;
    let epoch = lines.until(version).await.unwrap();
    a.report("gw-a", &epoch, version, None).await;
    let view = previews.one(&Key::bare("42").unwrap()).await.unwrap();
    assert!(view.ready, "{view:?}");
    assert_eq!(view.proxies.connected, 1);
}
