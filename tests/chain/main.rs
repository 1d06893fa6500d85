//! One service of the estate of hops (`tests/clients/hops.py`), in Rust with nothing but the standard library: a thread for
//! each connection. What the environment and the target of a request say is told in `tests/clients/apps/chain.py`.

mod styles;

use std::collections::BTreeMap;
use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use self::styles::{ALL, Fields, onward};

const PATIENCE: Duration = Duration::from_secs(30);

/// Who this is, and whom it calls where.
struct Me {
    service: String,
    version: String,
    style: String,
    calls: BTreeMap<String, String>,
}

fn main() -> io::Result<()> {
    let said = |name: &str| env::var(name).map_err(|_| io::Error::other(format!("{name} is missing")));
    let me = Me {
        service: said("SERVICE")?,
        version: said("VERSION")?,
        style: env::var("STYLE").unwrap_or_else(|_| "full".into()),
        calls: serde_json::from_str(&env::var("CALLS").unwrap_or_else(|_| "{}".into()))?,
    };
    let me: &'static Me = Box::leak(Box::new(me));
    let listener = TcpListener::bind(said("LISTEN")?)?;
    println!("listening");
    for stream in listener.incoming() {
        let stream = stream?;
        // Who breaks off has nobody to be told.
        thread::spawn(move || serve(me, &stream));
    }
    Ok(())
}

/// Answers the requests of one connection.
fn serve(me: &Me, mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some((line, fields)) = head(&mut reader)? {
        let target = line.split(' ').nth(1).unwrap_or("/");
        let body = answer(me, target, &fields).to_string();
        let length = body.len();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all((head + &body).as_bytes())?;
    }
    Ok(())
}

/// What this service says to a request.
fn answer(me: &Me, target: &str, received: &Fields) -> Value {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let asked = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let style = asked(&me.service).or_else(|| asked("all")).unwrap_or(&me.style);
    let leaf = format!("/leaf?{query}");
    let next = if path == "/chain" { target } else { &leaf };
    let is_called = |name: &str| match path {
        "/chain" => name != me.service,
        "/job" => true,
        _ => path.strip_prefix("/call/") == Some(name),
    };
    let brought = |name: &&str| Some(((*name).to_owned(), received.get(*name)?.clone()));
    let known: Fields = if path == "/job" { Fields::new() } else { ALL.iter().filter_map(brought).collect() };
    let calls: Vec<Value> = me
        .calls
        .iter()
        .filter(|(name, _)| is_called(name))
        .map(|(name, base)| {
            let sent = onward(style, &known).unwrap_or_default();
            let (status, receipt, text) =
                ask(base, next, &sent).unwrap_or_else(|error| (0, None, error.to_string()));
            let answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| json!({"text": text}));
            json!({"service": name, "sent": sent, "status": status, "receipt": receipt, "answer": answer})
        })
        .collect();
    json!({"service": me.service, "version": me.version, "style": style, "received": known, "calls": calls})
}

/// Status, receipt and body of the answer to a call.
fn ask(base: &str, target: &str, fields: &Fields) -> io::Result<(u16, Option<String>, String)> {
    let authority = base.trim_start_matches("http://");
    let own = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    // Where nothing is redirected, a pod says by what its calls are to go.
    let by = env::var("SIDETRACK_OUTBOUND").ok();
    let address = by.as_deref().map_or(&*own, |url| url.trim_start_matches("http://"));
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    stream.write_all(format!("GET {target} HTTP/1.1\r\nhost: {authority}\r\n{lines}\r\n").as_bytes())?;
    let mut reader = BufReader::new(&stream);
    let (line, fields) = head(&mut reader)?.ok_or_else(|| io::Error::other("no answer"))?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let length = fields.get("content-length").and_then(|word| word.parse().ok());
    let mut body = vec![0; length.ok_or_else(|| io::Error::other("an answer of no length"))?];
    reader.read_exact(&mut body)?;
    Ok((status, fields.get("x-pr-route").cloned(), String::from_utf8_lossy(&body).into_owned()))
}

/// The first line and the fields of a message, lines of one list joined; `None`: the connection has ended.
fn head(reader: &mut impl BufRead) -> io::Result<Option<(String, Fields)>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut fields = Fields::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Ok(Some((first.trim_end().to_owned(), fields)));
        };
        let list = fields.entry(name.to_ascii_lowercase()).or_default();
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(value.trim());
    }
}
