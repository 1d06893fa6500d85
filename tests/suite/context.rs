//! The key survives applications that hand on less than all carriers, and what loses it is named: a gateway, a sidecar or
//! a waypoint, an application between them, and the fork that its call has to find.

mod app;

use std::net::SocketAddr;

use serde_json::{Value, json};
use sidetrack_tests::{Call, Conn, Estate, Gateway, World, eventually, get, run};

use crate::{D, TRACEPARENT};
use app::App;

const SECRET: &str = "a secret that the estate shares\n";
const B3: &str = "0af7651916cd43dd8448eb211c80319c";
const DATADOG: &str = "9532127138774266268";

/// Everything between a client and `payment`, which 42 forks.
struct Chain {
    /// The gateway before `cart`.
    gateway: World,
    /// The sidecar of `cart`, or the waypoint before `payment`.
    inside: World,
}

impl Chain {
    /// `cart` has a sidecar, and no secret is shared: what is known inside, the sidecar has seen.
    async fn with_sidecar(handed_on: &'static [&'static str]) -> Self {
        let (app, listener) = App::listen();
        let mut estate = Estate::new();
        estate.baseline("payment").await;
        estate.fork("42", "payment").await;
        estate.preview("57");
        estate.service("cart", json!({"baseline": [app.address.to_string()]}));
        estate.config["role"] = "sidecar".into();
        estate.config["sidecar"] = json!({"service": "cart"});
        estate.config["domains"] = json!([]);
        estate.config["listeners"] = json!([
            {"address": "127.0.0.1:0", "direction": "inbound"},
            {"address": "127.0.0.1:0", "direction": "outbound", "service": "payment"},
        ]);
        let inside = estate.start().await;
        let [inbound, outbound] = inside.gateway.listeners[..] else { panic!() };
        App::calls(listener, outbound, handed_on);
        Self { gateway: gateway(inbound, None).await, inside }
    }

    /// There is a waypoint before `payment` and nothing at `cart`; it and the gateway share a secret.
    async fn with_waypoint(handed_on: &'static [&'static str], context: Value) -> Self {
        let (app, listener) = App::listen();
        let mut estate = Estate::waypoint("payment").await;
        estate.config["context"] = context;
        estate.config["context"]["keyFile"] = "keys".into();
        estate.write("keys", SECRET);
        let inside = estate.start().await;
        App::calls(listener, inside.gateway.address(), handed_on);
        Self { gateway: gateway(app.address, Some(SECRET)).await, inside }
    }

    async fn answers(&self, call: Call) -> String {
        let reply = self.gateway.send(call).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.upstream().to_owned()
    }

    /// The edge from `service` to `payment`.
    async fn edge(&self, service: &str) -> Value {
        let said = self.inside.gateway.admin("/v1/context").await.json();
        let edges = said["edges"].as_array().unwrap();
        let ours = edges.iter().find(|edge| edge["service"] == service && edge["callee"] == "payment");
        ours.unwrap_or(&Value::Null).clone()
    }

    /// What the doctor says about the proxy inside, and with which code it ends.
    async fn doctor(&self, arguments: &[&str]) -> (i32, String) {
        let admin = self.inside.gateway.admin.to_string();
        let arguments = [&["doctor", "--admin", &admin], arguments].concat();
        let output = run(&self.inside.estate.folder(), &arguments).await;
        (output.code, format!("{}{}", output.stdout, output.stderr))
    }
}

/// A gateway before `cart`, whose previews are those that are known inside.
async fn gateway(cart: SocketAddr, secret: Option<&str>) -> World {
    let mut estate = Estate::new();
    estate.service("cart", json!({"baseline": [cart.to_string()]}));
    estate.route(D, "/", "cart");
    estate.preview("42");
    estate.preview("57");
    if let Some(secret) = secret {
        estate.write("keys", secret);
        estate.config["context"] = json!({"keyFile": "keys"});
    }
    estate.start().await
}

/// A caller with a trace of its own, in every format.
fn traced() -> Call {
    let call =
        get(D, "/").header("traceparent", TRACEPARENT).header("b3", &format!("{B3}-b7ad6b7169203331-1"));
    call.header("x-b3-traceid", B3).header("x-datadog-trace-id", DATADOG)
}

#[tokio::test]
async fn a_sidecar_gives_back_what_its_application_lost() {
    for (handed_on, survivor) in [
        (&["traceparent"][..], "trace"),
        (&["b3"], "trace"),
        (&["x-b3-traceid"], "trace"),
        (&["x-datadog-trace-id"], "trace"),
        (&["x-request-id"], "request-id"),
    ] {
        let chain = Chain::with_sidecar(handed_on).await;
        for call in [traced(), get(D, "/")] {
            assert_eq!(chain.answers(call.key("42")).await, "payment-42", "{handed_on:?}");
        }
        assert_eq!(chain.answers(get(D, "/")).await, "payment", "who has no key gets none");
        let edge = chain.edge("cart").await;
        assert_eq!((&edge["kept"], &edge["lost"], &edge["repaired"]), (&json!(0), &json!(2), &json!(2)));
        assert_eq!(edge["survived"], json!({survivor: 2}), "{handed_on:?}");
        let metrics = chain.inside.gateway.metrics().await;
        let labels = [("service", "cart"), ("callee", "payment")];
        assert_eq!(metrics.sum("sidetrack_context_lost_total", &labels), 2.0);
        assert_eq!(metrics.sum("sidetrack_context_repaired_total", &[("service", "payment")]), 2.0);
        assert!(metrics.sum("sidetrack_context_entries", &[]) > 0.0);
    }
}

#[tokio::test]
async fn what_goes_on_from_there_has_every_carrier_again() {
    let chain = Chain::with_sidecar(&["x-request-id"]).await;
    let reply = chain.gateway.send(get(D, "/").key("42,57").header("x-pr-strict", "1")).await;
    let echo = reply.echo();
    assert_eq!(echo.header("x-pr-id"), Some("42,57"));
    assert_eq!(echo.header("baggage"), Some("pr-id=42.57;strict"));
    assert_eq!(echo.header("tracestate"), Some("pr-id=42.57"));
}

#[tokio::test]
async fn an_id_that_people_share_gives_nobody_a_key() {
    let chain = Chain::with_sidecar(&["traceparent"]).await;
    let call = || get(D, "/").header("traceparent", TRACEPARENT);
    assert_eq!(chain.answers(call().key("42")).await, "payment-42");
    assert_eq!(chain.answers(call()).await, "payment", "the same trace without a key");
    assert_eq!(chain.answers(call().key("42")).await, "payment", "it says nothing any more");
    let metrics = chain.inside.gateway.metrics().await;
    assert_eq!(metrics.sum("sidetrack_context_ambiguous_total", &[]), 1.0);
    // In the other order, with another trace.
    let other = || get(D, "/").header("traceparent", &TRACEPARENT.replace("0af7", "1af7"));
    assert_eq!(chain.answers(other()).await, "payment");
    assert_eq!(chain.answers(other().key("42")).await, "payment");
}

#[tokio::test]
async fn an_id_is_forgotten() {
    let (chain, outbound) = {
        let chain = Chain::with_sidecar(&["traceparent"]).await;
        let outbound = chain.inside.gateway.listeners[1];
        (chain, outbound)
    };
    let mut document: Value =
        serde_json::from_str(&std::fs::read_to_string(chain.inside.estate.file()).unwrap()).unwrap();
    document["context"] = json!({"remember": "1s"});
    let generation = chain.inside.gateway.generation().await;
    std::fs::write(chain.inside.estate.file(), document.to_string()).unwrap();
    chain.inside.gateway.reloaded(generation).await;
    assert_eq!(chain.answers(get(D, "/").header("traceparent", TRACEPARENT).key("42")).await, "payment-42");
    // A call that comes late, as of a job that the request began.
    eventually("the trace is forgotten", async || {
        let mut conn = Conn::http1(outbound).await.unwrap();
        conn.send(get("payment", "/").header("traceparent", TRACEPARENT)).await.upstream() == "payment"
    })
    .await;
    eventually("and takes no memory any more", async || {
        chain.inside.gateway.metrics().await.sum("sidetrack_context_entries", &[]) == 0.0
    })
    .await;
}

#[tokio::test]
async fn who_hands_on_nothing_is_named_and_who_hands_on_all_is_well() {
    let ill = Chain::with_sidecar(&[]).await;
    assert_eq!(ill.answers(get(D, "/").key("42")).await, "payment", "there is no help");
    let edge = ill.edge("cart").await;
    assert_eq!(
        (&edge["lost"], &edge["repaired"], &edge["survived"]),
        (&json!(1), &json!(0), &json!({"none": 1}))
    );
    let (code, said) = ill.doctor(&["--lang", "go"]).await;
    assert_eq!(code, 1, "{said}");
    for part in
        ["cart -> payment", "1 of 1 calls lost the key", "nothing at all", "### Go", "otelhttp.NewTransport"]
    {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!said.contains("### Java"), "{said}");

    let well = Chain::with_sidecar(&["x-pr-id", "baggage", "traceparent", "tracestate"]).await;
    assert_eq!(well.answers(traced().key("42")).await, "payment-42");
    let edge = well.edge("cart").await;
    assert_eq!((&edge["kept"], &edge["lost"], &edge["lastLost"]), (&json!(1), &json!(0), &Value::Null));
    assert_eq!(edge["survived"], json!({"header": 1, "baggage": 1, "tracestate": 1, "trace": 1}));
    let (code, said) = well.doctor(&["--json"]).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["lost"], &said["edges"][0]["callee"]), (0, &json!(false), &json!("payment")));

    let output = run(&well.inside.estate.folder(), &["doctor", "--admin", "127.0.0.1:1"]).await;
    assert_eq!(output.code, 2, "{output:?}");
}

#[tokio::test]
async fn the_id_of_a_trace_that_the_gateway_began_says_the_key() {
    let datadog = ["x-datadog-trace-id", "x-datadog-parent-id", "x-datadog-tags"];
    let datadog: &'static [&'static str] = Vec::leak(datadog.to_vec());
    for (handed_on, half, expected) in [
        (&["traceparent"][..], false, "payment-42"),
        (&["x-b3-traceid", "x-b3-spanid", "x-b3-sampled"], false, "payment-42"),
        (datadog, false, "payment-42"),
        (&["x-datadog-trace-id"], false, "payment"),
        (&["x-datadog-trace-id"], true, "payment-42"),
        (&["x-request-id"], false, "payment-42"),
        (&[], false, "payment"),
    ] {
        let chain = Chain::with_waypoint(handed_on, json!({"trace64": half})).await;
        assert_eq!(chain.answers(get(D, "/").key("42")).await, expected, "{handed_on:?} {half}");
        for other in [get(D, "/"), traced(), get(D, "/").key("57"), get(D, "/").key("57,42").header("b3", B3)]
        {
            assert_ne!(chain.answers(other).await, "payment-57");
        }
        assert_eq!(chain.answers(traced()).await, "payment");
        if expected == "payment-42" {
            let edge = chain.edge("unknown").await;
            assert_eq!(
                (&edge["lost"], &edge["survived"]["trace"]),
                (&edge["repaired"], &edge["lost"]),
                "{edge}"
            );
        }
    }
}

#[tokio::test]
async fn a_secret_changes_without_a_restart() {
    let chain = Chain::with_waypoint(&["traceparent"], json!({})).await;
    let says = async |world: &World, secrets: &str| {
        std::fs::write(world.estate.folder().join("keys"), secrets).unwrap();
        world.gateway.hang_up();
    };
    let ask = async || chain.answers(get(D, "/").key("42")).await;
    assert_eq!(ask().await, "payment-42");
    let both = format!("a secret that is new to all\n{SECRET}");
    says(&chain.gateway, &both).await;
    eventually("the gateway writes with the new one", async || ask().await == "payment").await;
    says(&chain.inside, &both).await;
    eventually("the waypoint reads the new one", async || ask().await == "payment-42").await;
}

#[tokio::test]
async fn an_id_is_no_way_around_access() {
    let mut chain = Chain::with_waypoint(&["traceparent"], json!({})).await;
    chain.gateway = {
        let document: Value =
            serde_json::from_str(&std::fs::read_to_string(chain.gateway.estate.file()).unwrap()).unwrap();
        let mut estate = Estate::new();
        estate.config = document;
        estate.config["access"] = json!({"header": {"name": "x-preview-token", "secretFile": "token"}});
        estate.write("token", "s3cret");
        estate.write("keys", SECRET);
        estate.start().await
    };
    let reply = chain.gateway.send(get(D, "/").key("42").header("x-preview-token", "s3cret")).await;
    reply.came_from("payment-42");
    let trace = reply.echo().header("traceparent").unwrap().to_owned();
    chain.gateway.send(get(D, "/").key("42")).await.failed(401, "access_denied");
    assert_eq!(chain.answers(get(D, "/").header("traceparent", &trace)).await, "payment");
    assert_eq!(
        chain.answers(get(D, "/").header("traceparent", &trace).header("x-preview-token", "s3cret")).await,
        "payment-42"
    );
}

#[tokio::test]
async fn a_gateway_makes_its_own_secret_and_keeps_it() {
    let mut estate = Estate::new();
    estate.baseline("shop").await;
    estate.route(D, "/", "shop");
    estate.preview("42");
    let world = estate.start().await;
    let file = world.estate.folder().join(".sidetrack/context.key");
    let secret = std::fs::read_to_string(&file).unwrap();
    assert_eq!(secret.trim().len(), 64);
    let echo = world.send(get(D, "/").key("42")).await.echo();
    let id = echo.header("x-request-id").unwrap().to_owned();
    assert_eq!(echo.header("traceparent").unwrap().split('-').nth(1), Some(id.as_str()), "one id for both");
    assert_eq!(echo.header("x-b3-traceid"), Some(id.as_str()));
    let plain = world.send(get(D, "/")).await.echo();
    for name in ["traceparent", "x-b3-traceid", "x-datadog-trace-id", "tracestate"] {
        assert_eq!(plain.header(name), None, "{name}");
    }
    let again = Gateway::start(&world.estate.file()).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), secret);
    drop(again);
}
