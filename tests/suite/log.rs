//! The access log: one line of JSON for each request, whatever became of it.

use serde_json::{Value, json};
use sidetrack_tests::{Conn, Estate, Refused, World, binary, eventually, get, post, put, request};

use crate::D;

async fn logging() -> World {
    let refused = Refused::new();
    let mut estate = Estate::standard().await;
    estate.config["accessLog"] = json!({"format": "json", "path": "access.log"});
    estate.preview("1")["forks"]["checkout"] = json!([refused.address.to_string()]);
    estate.start().await
}

/// The lines so far, once there are `count` of them.
async fn lines(world: &World, count: usize) -> Vec<Value> {
    world.estate.log_lines("access.log", count).await
}

#[tokio::test]
async fn a_line_has_the_whole_decision() {
    let world = logging().await;
    let reply = world.send(post(D, "/api/checkout/a?pr-id=42", "four").act("bytes 1000")).await;
    assert_eq!(reply.status, 200);
    let line = &lines(&world, 1).await[0];
    for (field, value) in [
        ("method", json!("POST")),
        ("host", json!(D)),
        ("status", json!(200)),
        ("keys", json!("42")),
        ("carrier", json!("query")),
        ("service", json!("checkout")),
        ("target", json!("fork")),
        ("reason", json!("fork")),
        ("endpoint", json!(world.of("checkout-42").endpoint())),
        ("generation", json!(world.generation().await as u64)),
    ] {
        assert_eq!(line[field], value, "{field} in {line:#}");
    }
    let text = line.to_string();
    let id = world.of("checkout-42").seen()[0].headers["x-request-id"].to_str().unwrap().to_owned();
    for part in [id.as_str(), "/api/checkout/a", "127.0.0.1", "1000"] {
        assert!(text.contains(part), "{part} in {line:#}");
    }
}

#[tokio::test]
async fn one_line_whatever_happens() {
    let world = logging().await;
    let mut conn = world.http1().await;
    conn.send(get(D, "/")).await.came_from("shop");
    conn.send(get(D, "/").key("99")).await.failed(404, "unknown_preview");
    conn.send(get(D, "/").key("4_2")).await.failed(400, "malformed_key");
    conn.send(get("nowhere.test", "/")).await.failed(404, "no_route");
    conn.send(get(D, "/api/checkout").key("1")).await.failed(503, "fork_unavailable");
    // Two workers write in no order: the lines of one connection are waited for before the next has any.
    lines(&world, 5).await;
    world.http2().await.send(get(D, "/").act("status 418")).await;
    let lines = lines(&world, 6).await;
    let told: Vec<(u64, &str)> = lines
        .iter()
        .map(|line| (line["status"].as_u64().unwrap(), line["error"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(
        told,
        [
            (200, ""),
            (404, "unknown_preview"),
            (400, "malformed_key"),
            (404, "no_route"),
            (503, "fork_unavailable"),
            (418, ""),
        ]
    );
    assert_eq!((&lines[4]["reason"], &lines[4]["service"]), (&json!("fork_down"), &json!("checkout")));
    assert_eq!(lines[0]["reason"], "no_key");
}

#[tokio::test]
async fn a_request_that_the_client_gave_up() {
    let world = logging().await;
    for mut conn in [world.http1().await, world.http2().await] {
        let aborted = tokio::spawn(async move { conn.try_send(get(D, "/").act("hold")).await.is_err() });
        eventually("it is under way", async || {
            world.metrics().await.sum("sidetrack_requests_in_flight", &[]) >= 1.0
        })
        .await;
        aborted.abort();
        eventually("it is over", async || {
            world.metrics().await.sum("sidetrack_requests_in_flight", &[]) == 0.0
        })
        .await;
    }
    let mut conn = world.http1().await;
    let opened = conn.open(get(D, "/").act("stream 100000000")).await.unwrap();
    drop((opened, conn));
    let lines = lines(&world, 3).await;
    for line in lines {
        assert_eq!((&line["service"], &line["aborted"]), (&json!("shop"), &json!(true)), "{line:#}");
    }
}

#[tokio::test]
async fn a_body_that_broke_is_told_from_one_that_did_not() {
    let world = logging().await;
    let broken = world.http1().await.try_send(get(D, "/").act("cut")).await;
    assert!(broken.is_err());
    lines(&world, 1).await;
    world.send(get(D, "/").act("bytes 8")).await;
    let lines = lines(&world, 2).await;
    assert_eq!((&lines[0]["aborted"], &lines[1]["aborted"]), (&json!(true), &Value::Null), "{lines:#?}");
}

#[tokio::test]
async fn standard_output_and_off() {
    let mut estate = Estate::standard().await;
    estate.config["accessLog"] = json!({"format": "json", "path": "stdout"});
    let world = estate.start().await;
    world.send(put(D, "/x", "y")).await;
    eventually("a line is on standard output", async || world.stdout().len() == 1).await;
    let line: Value = serde_json::from_str(&world.stdout()[0]).unwrap();
    assert_eq!(line["method"], "PUT");
    for off in [json!("off"), json!(false)] {
        let mut estate = Estate::standard().await;
        estate.config["accessLog"] = off;
        let mut world = estate.start().await;
        world.send(request("GET", D, "/")).await;
        world.gateway.terminate();
        world.gateway.ended().await;
        assert!(world.stdout().is_empty(), "{:?}", world.stdout());
    }
}

#[tokio::test]
async fn what_a_client_writes_cannot_forge_a_line() {
    let world = logging().await;
    let mut raw = world.raw().await;
    raw.write(format!("GET /x%0a%22?a HTTP/1.1\r\nHost: {D}\r\nUser-Agent: a\"b\\c\tz\r\n\r\n")).await;
    raw.answer().await;
    lines(&world, 1).await;
}

#[tokio::test]
async fn lines_for_people() {
    let mut estate = Estate::standard().await;
    estate.config["accessLog"] = json!({"format": "text", "path": "stdout"});
    let world = estate.start().await;
    world.send(get(D, "/api/checkout").key("42").header("user-agent", "a \"b\"")).await;
    eventually("a line is on standard output", async || world.stdout().len() == 1).await;
    let line = &world.stdout()[0];
    for part in ["method=GET", "status=200", "keys=42", "reason=fork", "service=checkout", r#""a \"b\"""#] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

/// One line that standard error did not take ended the whole proxy.
#[tokio::test]
async fn a_log_that_nobody_can_write_ends_nothing() {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (address, admin) = (free(), free());
    let mut estate = Estate::standard().await;
    estate.config["listeners"] = json!([{"address": address.to_string()}]);
    estate.config["admin"] = json!({"address": admin.to_string()});
    estate.save();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut gateway = tokio::process::Command::new(binary())
        .args(["gateway", "-c"])
        .arg(estate.file())
        .current_dir(estate.folder())
        .stdout(full())
        .stderr(full())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let ask = async |address, call| match Conn::http1(address).await {
        Ok(mut conn) => conn.send(call).await.text().to_owned(),
        Err(_) => String::new(),
    };
    let host = admin.to_string();
    eventually("it is ready", async || ask(admin, get(&host, "/readyz")).await.contains("\"ready\":true"))
        .await;
    std::fs::write(estate.file(), "x: [").unwrap();
    eventually("it has said so", async || ask(admin, get(&host, "/readyz")).await.contains("\"ok\":false"))
        .await;
    Conn::http1(address).await.unwrap().send(get(D, "/")).await.came_from("shop");
    assert!(gateway.try_wait().unwrap().is_none());
}
