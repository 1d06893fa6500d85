//! For tests: an API server that says what it is told to, and notes what it is asked.

use std::sync::{Arc, Mutex};

use kube::{Client, Config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// The first lines of all requests so far.
pub(crate) type Asked = Arc<Mutex<Vec<String>>>;

/// Answers each request by what `say` makes of method and path: a status, and JSON.
pub(crate) async fn serve(say: impl Fn(&str) -> (u16, String) + Send + 'static) -> (Client, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Asked::default();
    let noted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.windows(4).any(|end| end == b"\r\n\r\n")
                && stream.read_buf(&mut head).await.unwrap() > 0
            {}
            let text = String::from_utf8_lossy(&head);
            let line: String = text.split(' ').take(2).collect::<Vec<_>>().join(" ");
            let (status, body) = say(&line);
            noted.lock().unwrap().push(line);
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let config = Config::new(format!("http://{address}").parse().unwrap());
    (Client::try_from(config).unwrap(), asked)
}
