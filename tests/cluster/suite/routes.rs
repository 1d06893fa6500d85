//! Routes by the Gateway API and by Ingress, and certificates from Secrets.

use std::sync::Arc;

use serde_json::{Value, json};
use sidetrack_cluster_tests::Estate;
use sidetrack_tests::{Ca, Conn, Identity, eventually, get};

use crate::forks::{from, refused};

/// Whether some parent of a route says that a condition is true.
fn parent_says(route: &Value, condition: &str) -> bool {
    let parents = route["status"]["parents"].as_array();
    let says = |parent: &Value| {
        let conditions = parent["conditions"].as_array();
        conditions
            .is_some_and(|all| all.iter().any(|each| each["type"] == condition && each["status"] == "True"))
    };
    parents.is_some_and(|all| all.iter().any(says))
}

/// A route written for the baseline serves every pull request unchanged, and its changes are in force at once.
pub(crate) async fn an_http_route_changes(estate: Arc<Estate>) {
    let (release, space) = (estate.release().await, estate.space("routes").await);
    let host = "routes.preview.example.com";
    for service in ["shop", "cart"] {
        space.baseline(service).await;
    }
    space.fork("cart", "1301").await;
    let path = |value: &str| json!([{"path": {"type": "PathPrefix", "value": value}}]);
    let to = |service: &str| json!([{"name": service, "port": 80}]);
    let rules = json!([
        {"matches": path("/cart"), "backendRefs": to("cart")},
        {"matches": path("/"), "backendRefs": to("shop")},
    ]);
    space.http_route("main", host, rules).await;
    release.until("the path is routed", || get(host, "/cart/1"), from("cart:main")).await;
    release.until("its fork too", || get(host, "/cart/1").key("1301"), from("cart:pr-1301")).await;
    release.gateway.send(get(host, "/").key("1301")).await.came_from("shop:main");
    let route = space.kube.until("it has a status", ("HTTPRoute", "routes", "main"), |route| {
        parent_says(route, "Accepted") && parent_says(route, "ResolvedRefs")
    });
    assert_eq!(route.await["status"]["parents"][0]["controllerName"], "sidetrack.dev/gateway");
    let class = |class: &Value| crate::previews::is_true(class, "Accepted");
    space.kube.until("the class is accepted", ("GatewayClass", "", "sidetrack"), class).await;
    let gateway = |gateway: &Value| crate::previews::is_true(gateway, "Programmed");
    space.kube.until("the Gateway is programmed", ("Gateway", "sidetrack", "public"), gateway).await;

    let header =
        json!([{"path": {"type": "Exact", "value": "/cart"}, "headers": [{"name": "x-beta", "value": "1"}]}]);
    let rewrite = json!([{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/new"}}}]);
    let rules = json!([
        {"matches": header, "filters": rewrite, "backendRefs": to("cart")},
        {"matches": path("/"), "backendRefs": to("shop")},
    ]);
    space.kube.patch("HTTPRoute", "routes", "main", json!({"spec": {"rules": rules}})).await;
    release.until("the path is not routed", || get(host, "/cart/1"), from("shop:main")).await;
    let call = || get(host, "/cart").header("x-beta", "1").key("1301");
    let reply = release.until("the header is", call, from("cart:pr-1301")).await;
    assert_eq!(reply.echo().target(), "/new");

    let nobody = json!([{"backendRefs": [{"name": "nobody", "port": 80}]}]);
    space.kube.patch("HTTPRoute", "routes", "main", json!({"spec": {"rules": nobody}})).await;
    release.until("a Service that is not there is 500", || get(host, "/"), refused(500)).await;
    let unresolved = |route: &Value| !parent_says(route, "ResolvedRefs");
    space.kube.until("its status says so", ("HTTPRoute", "routes", "main"), unresolved).await;
    space.kube.delete("HTTPRoute", "routes", "main").await;
    release.until("the route is gone", || get(host, "/"), refused(404)).await;
}

/// Shares by weight: a share of none gets nothing, and a fork takes the place of its own service only.
pub(crate) async fn shares_change(estate: Arc<Estate>) {
    let (release, space) = (estate.release().await, estate.space("shares").await);
    let host = "shares.preview.example.com";
    for service in ["blue", "green"] {
        space.baseline(service).await;
    }
    space.route("main", host, &[("blue", 1), ("green", 0)]).await;
    release.until("blue has all", || get(host, "/"), from("blue:main")).await;
    for _ in 0..20 {
        release.gateway.send(get(host, "/")).await.came_from("blue:main");
    }
    space.fork("green", "1302").await;
    let shares = json!([{"backendRefs": [
        {"name": "blue", "port": 80, "weight": 0}, {"name": "green", "port": 80, "weight": 5},
    ]}]);
    space.kube.patch("HTTPRoute", "shares", "main", json!({"spec": {"rules": shares}})).await;
    release.until("green has all", || get(host, "/"), from("green:main")).await;
    release.until("its fork too", || get(host, "/").key("1302"), from("green:pr-1302")).await;
}

/// An Ingress of our class.
pub(crate) async fn an_ingress_is_a_route(estate: Arc<Estate>) {
    let (release, space) = (estate.release().await, estate.space("ingress").await);
    let host = "ingress.preview.example.com";
    space.baseline("shop").await;
    space.fork("shop", "1303").await;
    let service = json!({"service": {"name": "shop", "port": {"number": 80}}});
    let paths = json!([{"path": "/", "pathType": "Prefix", "backend": service}]);
    let spec = json!({"ingressClassName": "sidetrack", "rules": [{"host": host, "http": {"paths": paths}}]});
    space.create(json!({"kind": "Ingress", "metadata": {"name": "main"}, "spec": spec})).await;
    release.until("it is routed", || get(host, "/"), from("shop:main")).await;
    release.until("its fork too", || get(host, "/").key("1303"), from("shop:pr-1303")).await;
}

/// A certificate is replaced in its Secret: new connections get the new one, and none that is open is cut.
pub(crate) async fn a_certificate_is_rotated(estate: Arc<Estate>) {
    let (release, space) = (estate.release().await, estate.space("tls").await);
    let host = "tls.preview.example.com";
    space.baseline("shop").await;
    let (first, second) = (Ca::new(), Ca::new());
    let names = [host, "*.tls.preview.example.com"];
    space.create(secret(&first.issue(&names))).await;
    let tls = json!({"certificateRefs": [{"name": "wild"}]});
    let listener = |name: &str, host: &str| json!({"name": name, "port": 443, "protocol": "HTTPS", "hostname": host, "tls": tls});
    let listeners = json!([listener("exact", host), listener("wild", names[1])]);
    let spec = json!({"gatewayClassName": "sidetrack", "listeners": listeners});
    space.create(json!({"kind": "Gateway", "metadata": {"name": "own"}, "spec": spec})).await;
    let spec = json!({"parentRefs": [{"name": "own"}], "hostnames": [host],
        "rules": [{"backendRefs": [{"name": "shop", "port": 80}]}]});
    space.create(json!({"kind": "HTTPRoute", "metadata": {"name": "main"}, "spec": spec})).await;

    let address = release.gateway.listeners[1];
    let connect = async |ca: &Ca, name: &str| Conn::tls(address, name, &["h2"], ca.roots()).await.ok();
    let mut open = None;
    eventually("the first certificate is served", async || {
        open = connect(&first, host).await;
        open.is_some()
    })
    .await;
    let mut open = open.unwrap();
    eventually("the route is there", async || open.send(get(host, "/")).await.status == 200).await;
    space.fork("shop", "1304").await;
    let preview = "pr-1304.tls.preview.example.com";
    let mut wild = connect(&first, preview).await.unwrap();
    eventually("a fork by its host", async || {
        wild.send(get(preview, "/")).await.header("x-upstream") == Some("shop:pr-1304")
    })
    .await;

    let data = secret(&second.issue(&names));
    space.kube.patch("Secret", "tls", "wild", json!({"stringData": data["stringData"]})).await;
    eventually("the second certificate is served", async || connect(&second, preview).await.is_some()).await;
    assert!(connect(&first, host).await.is_none(), "the first certificate is still served");
    open.send(get(host, "/")).await.came_from("shop:main");
}

fn secret(identity: &Identity) -> Value {
    let data = json!({"tls.crt": identity.cert, "tls.key": identity.key});
    json!({"kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "wild"}, "stringData": data})
}
