//! The reader of the h2 crate.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};

use super::peer::Peer;
use super::script::Script;
use super::{Lines, Read, STREAM_WINDOW};

/// Asks, and reads the answer.
pub(super) async fn read(script: &Script) -> (Read, Vec<u8>) {
    let (peer, wire) = Peer::begin(script);
    let mut read = Read::default();
    let client = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(101 * STREAM_WINDOW)
        .max_header_list_size(64 << 10)
        // That is about memory for frames, of which we keep none.
        .data_frame_budget(usize::MAX)
        .enable_push(false)
        .handshake::<_, Bytes>(wire);
    let (client, connection) = client.await.expect("first words");
    let connection = tokio::task::spawn_local(connection);
    peer.begun.notified().await;
    if let Err(why) = exchange(script, &peer, client, &mut read).await {
        read.fault = Some(why.to_string());
    }
    // What is wrong with the connection is why its streams are.
    if let (Some(fault), Ok(Err(why))) = (&mut read.fault, connection.await) {
        fault.push_str(&format!("; {why}"));
    }
    (read, peer.end().await)
}

async fn exchange(
    script: &Script,
    peer: &Peer,
    client: h2::client::SendRequest<Bytes>,
    read: &mut Read,
) -> Result<(), h2::Error> {
    let mut client = client.ready().await?;
    let request = Request::builder().method(&script.method).uri("http://a.example/").body(());
    let has_body = script.method == Method::POST;
    let (mut answer, mut upload) = client.send_request(request.expect("a request"), !has_body)?;
    if has_body {
        // Where it is not wanted any more the answer says why.
        let _ = upload.send_data(vec![b'b'; script.body].into(), true);
    }
    let early = &mut read.early;
    let (head, mut body) = poll_fn(|cx| {
        while let Poll::Ready(Some(Ok(one))) = answer.poll_informational(cx) {
            early.push((one.status().as_u16(), lines(one.headers())));
        }
        Pin::new(&mut answer).poll(cx)
    })
    .await?
    .into_parts();
    read.head = Some((head.status.as_u16(), lines(&head.headers)));
    if script.is_late {
        peer.said.notified().await;
    }
    while let Some(data) = body.data().await {
        let data = data?;
        read.body.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    read.trailers = body.trailers().await?.map(|map| lines(&map));
    Ok(())
}

fn lines(map: &HeaderMap) -> Lines {
    let mut lines = Lines::new();
    for (name, value) in map {
        let value = value.as_bytes().escape_ascii().to_string();
        lines.entry(name.as_str().as_bytes().escape_ascii().to_string()).or_default().push(value);
    }
    lines
}
