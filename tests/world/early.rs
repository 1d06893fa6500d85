//! Informational answers over HTTP/2, which hyper's client keeps to itself.

use std::future::poll_fn;
use std::net::SocketAddr;

use hyper::{HeaderMap, Request};
use tokio::net::TcpStream;

use crate::wait::within;

/// Sends a GET over HTTP/2; every 1xx answer to it, and the status of the last one.
pub async fn early_answers(address: SocketAddr, host: &str, target: &str) -> (Vec<(u16, HeaderMap)>, u16) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        within("an HTTP/2 handshake", h2::client::handshake(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::get(format!("http://{host}{target}")).body(()).unwrap();
    let (mut response, _) = sender.send_request(request, true).unwrap();
    let mut early = Vec::new();
    while let Some(answer) =
        within("an answer", poll_fn(|context| response.poll_informational(context))).await
    {
        let answer = answer.unwrap();
        early.push((answer.status().as_u16(), answer.headers().clone()));
    }
    let status = within("the last answer", response).await.unwrap().status().as_u16();
    driver.abort();
    (early, status)
}
