//! An application that calls another one, and hands on the header fields that it was told to, and nothing else.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

/// A running application. It ends with the process of the test.
pub(super) struct App {
    /// Where it listens.
    pub(super) address: SocketAddr,
}

impl App {
    /// Begins to listen; it answers once [`App::calls`] says whom it calls.
    pub(super) fn listen() -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (Self { address: listener.local_addr().unwrap() }, listener)
    }

    /// Answers each request with what `callee` answers to a call with the fields `handed_on` of it.
    pub(super) fn calls(listener: TcpListener, callee: SocketAddr, handed_on: &'static [&'static str]) {
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                thread::spawn(move || serve(stream, callee, handed_on));
            }
        });
    }
}

/// One request on one connection.
fn serve(stream: TcpStream, callee: SocketAddr, handed_on: &[&str]) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let Some((_, fields)) = head(&mut reader) else { return };
    let mut call = "GET / HTTP/1.1\r\nhost: payment\r\nconnection: close\r\n".to_owned();
    for (name, value) in fields.iter().filter(|(name, _)| handed_on.contains(&name.as_str())) {
        call.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut upstream = TcpStream::connect(callee).unwrap();
    upstream.write_all(format!("{call}\r\n").as_bytes()).unwrap();
    let mut answer = BufReader::new(upstream);
    let (status, fields) = head(&mut answer).unwrap();
    let mut body = Vec::new();
    let length =
        fields.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse().unwrap());
    answer.take(length.unwrap_or(u64::MAX)).read_to_end(&mut body).unwrap();
    let mut head = format!("{status}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in
        fields.iter().filter(|(name, _)| ["x-upstream", "content-type"].contains(&name.as_str()))
    {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut stream = stream;
    // Whoever asked may have gone.
    let _ = stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(&body));
}

type Fields = Vec<(String, String)>;

/// The first line, and the fields with their names in lower case; `None` where the connection ended before.
fn head(reader: &mut impl BufRead) -> Option<(String, Fields)> {
    let mut lines = reader.lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let first = lines.next()?;
    let fields = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    Some((first, fields.collect()))
}
