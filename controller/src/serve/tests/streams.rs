//! Streams: what comes, who shares it, and who is cut.

use sidetrack_config::stream::Message;

use super::*;

#[tokio::test]
async fn a_proxy_follows_over_http2_and_over_http1() {
    let server = Running::start().await;
    assert_eq!(server.get("/v1/stream?node=a", "proxy").await.status, 503, "there is no table yet");
    assert_eq!(server.get("/readyz", "").await.status, 503);
    let first = server.publish([service("a", 1)]);
    assert_eq!(server.get("/readyz", "").await.status, 200);
    let mut two = server.client().await;
    let mut one = Client::connect(server.address, server.files.path(), false).await;
    let (mut a, mut b) = (two.follow("a", "").await, one.follow("b", "").await);
    for lines in [&mut a, &mut b] {
        let Some(Message::Hello(hello)) = lines.next().await else { panic!("no hello") };
        assert_eq!(&*hello.epoch, server.publisher.epoch());
        let Some(Message::Snapshot(part)) = lines.next().await else { panic!("no snapshot") };
        assert_eq!((part.version, part.items.len()), (first, 1));
    }
    let second = server.publish([service("a", 2), service("b", 1)]);
    for lines in [&mut a, &mut b] {
        let Some(Message::Delta(delta)) = lines.next().await else { panic!("no delta") };
        assert_eq!((delta.from, delta.to, delta.upsert.len()), (first, second, 2));
        assert_eq!(delta.hash, server.publisher.table().unwrap().hash());
    }
    let more = format!("&epoch={}&version={first}", server.publisher.epoch());
    let mut again = server.client().await.follow("c", &more).await;
    assert!(matches!(again.next().await, Some(Message::Hello(_))));
    assert!(matches!(again.next().await, Some(Message::Delta(delta)) if delta.to == second));
    let mut strange = server.client().await.follow("d", "&epoch=other&version=7").await;
    assert!(matches!(strange.next().await, Some(Message::Hello(_))));
    assert!(matches!(strange.next().await, Some(Message::Snapshot(_))));
}

#[tokio::test]
async fn a_silent_stream_says_that_it_lives() {
    let server = Running::start().await;
    let version = server.publish([service("a", 1)]);
    let mut lines = server.client().await.follow("a", "").await;
    lines.until(version).await;
    assert!(matches!(lines.next().await, Some(Message::Ping(ping)) if ping.version == version));
}

#[tokio::test]
async fn two_hundred_proxies_get_one_change() {
    let server = Running::start().await;
    let first = server.publish((0..500).map(|n| service(&format!("s{n}"), 1)));
    let mut proxies = Vec::new();
    for n in 0..200 {
        let mut client = server.client().await;
        let mut lines = client.follow(&format!("gw-{n}"), "").await;
        lines.until(first).await;
        lines.bytes = 0;
        proxies.push((client, lines));
    }
    assert!((server.count("sidetrack_controller_proxies") - 200.0).abs() < 0.5);
    let second = server.publish((0..500).map(|n| service(&format!("s{n}"), if n == 7 { 2 } else { 1 })));
    for (client, lines) in &mut proxies {
        let mut message = lines.next().await;
        // Where it took long to connect them all, the first ones have heard meanwhile that the stream lives.
        while matches!(message, Some(Message::Ping(_))) {
            lines.bytes = 0;
            message = lines.next().await;
        }
        assert!(matches!(message, Some(Message::Delta(delta)) if delta.to == second));
        assert!(lines.bytes < 300, "one item of 500 travels, in {} bytes", lines.bytes);
        assert_eq!(client.get("/livez", None).await.status, 200);
    }
}

#[tokio::test]
async fn the_end_of_the_server_ends_streams_cleanly() {
    let server = Running::start().await;
    let version = server.publish([service("a", 1)]);
    let mut lines = server.client().await.follow("a", "").await;
    lines.until(version).await;
    let began = std::time::Instant::now();
    server.end.send(()).unwrap();
    assert!(lines.next().await.is_none());
    tokio::time::timeout(Duration::from_secs(5), server.task).await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_cut_and_others_notice_nothing() {
    use sidetrack_config::stream::Certificate;
    let server = Running::start().await;
    let large = |n: u8| {
        let chain = format!("{n}").repeat(1_000_000).into();
        Item::Certificate(Certificate {
            name: format!("c{n}").into(),
            chain,
            key: "".into(),
            hosts: Vec::new(),
        })
    };
    let first = server.publish((0..10).map(large));
    let mut quick = server.client().await.follow("quick", "").await;
    let mut slow_client = server.client().await;
    let mut slow = slow_client.follow("slow", "").await;
    quick.until(first).await;
    // Ten megabytes don't fit into what lies between: the slow one holds its stream, and reads nothing of it.
    let second = server.publish((0..9).map(large));
    quick.until(second).await;
    let cut = async {
        while server.count("sidetrack_controller_slow_streams_total") < 1.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), cut).await.expect("it is cut");
    assert_eq!(server.publisher.acks().connected(), 1);
    let mut read = 0;
    while slow.next().await.is_some() {
        read += 1;
        assert!(read < 20);
    }
}

#[tokio::test]
async fn handshakes_get_the_new_certificate_and_open_streams_stay() {
    let server = Running::start().await;
    let first = server.publish([service("a", 1)]);
    let mut client = server.client().await;
    let mut lines = client.follow("a", "").await;
    lines.until(first).await;
    std::fs::write(server.files.path().join("tls.key"), "half").unwrap();
    assert_eq!(server.client().await.certificate, client.certificate, "half a change changes nothing");
    let issued = server.files.issue();
    let fresh = async {
        while server.client().await.certificate != issued {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), fresh).await.expect("the new certificate");
    let second = server.publish([service("a", 2)]);
    lines.until(second).await;
}

#[tokio::test]
async fn a_replica_that_is_cut_off_takes_nobody_back_in_time() {
    let server = Running::start().await;
    let version = server.publish([service("a", 1), preview("42", 1)]);
    server.publisher.set_cut_off(true);
    let reply = server.get("/v1/stream?node=gw-a&epoch=another&version=7", "proxy").await;
    assert_eq!(reply.status, 503, "{reply:?}");
    // Whoever has nothing takes what there is, and our own go on.
    let mut a = server.client().await;
    let epoch = a.follow("gw-a", "").await.until(version).await.unwrap();
    let mut lines = a.follow("gw-a", &format!("&epoch={epoch}&version={version}")).await;
    assert!(lines.next().await.is_some());
    a.report("gw-a", &epoch, version, None).await;
    let said = server.get("/v1/previews/42", "reader").await.json();
    assert_eq!(said["ready"], false);
    assert!(said["reasons"].to_string().contains("hears nothing from the API server"), "{said}");
    server.publisher.set_cut_off(false);
    assert_eq!(server.get("/v1/previews/42", "reader").await.json()["ready"], true);
    server.client().await.follow("gw-b", "&epoch=another&version=7").await.until(version).await.unwrap();
}
