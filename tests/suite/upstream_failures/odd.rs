//! Answers with something behind them: it is nobody's answer, and the next request meets a connection of its own.

use serde_json::json;
use sidetrack_tests::{Raw, RawUpstream, get, request};
use tokio::sync::mpsc;

use super::{CLIENTS, Plan, beside, host};

/// What comes at once, and what comes behind it when the answer was read.
type Said = (String, String);

/// An upstream that says what is planned, tells when it has said all, and goes on.
async fn saying(plan: Plan<Option<Said>>, said: mpsc::UnboundedSender<()>, later: Plan<bool>) -> RawUpstream {
    RawUpstream::start(move |mut raw: Raw, index| {
        let (plan, said, later) = (plan.clone(), said.clone(), later.clone());
        async move {
            while let Some(head) = raw.head().await {
                let Some((first, behind)) = plan.lock().unwrap().take() else {
                    let target = head.split(' ').nth(1).unwrap();
                    let length = target.len();
                    raw.write(format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nx-conn: {index}\r\n\r\n{target}"
                    ))
                    .await;
                    continue;
                };
                raw.write(&first).await;
                while *later.lock().unwrap() {
                    tokio::task::yield_now().await;
                }
                raw.write(&behind).await;
                let _ = said.send(());
            }
        }
    })
    .await
}

#[tokio::test]
async fn what_comes_behind_an_answer_is_nobodys() {
    let (plan, later): (Plan<Option<Said>>, Plan<bool>) = Default::default();
    let (tell, mut said) = mpsc::unbounded_channel();
    let upstream = saying(plan.clone(), tell, later.clone()).await;
    let world = beside(&[("odd", upstream.endpoint(), json!({}))]).await;
    let odd = host("odd");
    let short = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst";
    let foreign = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nforeign";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n";
    let of_head = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n";
    let cases = [
        ("GET", short, foreign, "first"),
        ("GET", short, "x", "first"),
        ("GET", short, "\r\n", "first"),
        (
            "GET",
            short,
            "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            "first",
        ),
        ("GET", chunked, foreign, "first"),
        ("HEAD", of_head, "foreign", ""),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", "foreign", ""),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n", "foreign", ""),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", foreign, ""),
    ];
    for client in CLIENTS {
        let mut conn = client.connect(&world).await;
        for (number, (method, first, behind, body)) in cases.iter().enumerate() {
            for is_later in [false, true] {
                let what = format!("{client:?} {number} later={is_later}");
                *plan.lock().unwrap() = Some(((*first).to_owned(), (*behind).to_owned()));
                *later.lock().unwrap() = is_later;
                let reply = conn.send(request(method, &odd, "/odd")).await;
                assert!([200, 204, 304].contains(&reply.status), "{what}: {reply:?}");
                assert_eq!(reply.text(), *body, "{what}");
                // The connection idles by now, and what was never asked for comes over it.
                *later.lock().unwrap() = false;
                sidetrack_tests::within("all is said", said.recv()).await.unwrap();
                let target = format!("/own-{number}-{is_later}");
                let own = conn.send(get(&odd, &target)).await;
                assert_eq!((own.status, own.text()), (200, target.as_str()), "{what}: {own:?}");
                client.goes_on(&world, &mut conn, &what).await;
            }
        }
    }
}

/// An upstream that ends its side behind a whole answer is not asked again on that connection.
#[tokio::test]
async fn a_connection_that_is_half_closed_is_not_used() {
    let upstream = RawUpstream::start(|mut raw: Raw, index| async move {
        while let Some(head) = raw.head().await {
            let body = format!("{index} {}", head.split(' ').next().unwrap());
            raw.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
            raw.finish().await;
        }
    })
    .await;
    let world = beside(&[("half", upstream.endpoint(), json!({}))]).await;
    for client in CLIENTS {
        let mut conn = client.connect(&world).await;
        for _ in 0..20 {
            // Not one that may be sent again: it must not be needed.
            let reply = conn.send(request("POST", &host("half"), "/")).await;
            assert_eq!(
                (reply.status, reply.text()),
                (200, format!("{} POST", upstream.connections()).as_str())
            );
        }
        client.goes_on(&world, &mut conn, "half closed").await;
    }
}
