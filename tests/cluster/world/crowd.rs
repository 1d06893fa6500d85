//! A crowd: many Services, Previews and forks at once, and one server that stands for all of their pods.
//!
//! Service `n` is `s{n}` with the host `s{n}.preview.example.com`; Preview `n` has the key `k{n}`. Each pod has an
//! address of its own, and the server says in `x-upstream` at which one it was reached: what answered can't be mistaken.

use std::net::Ipv4Addr;

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::api::Kube;

/// The namespace of all of it.
pub const CROWD: &str = "crowd";
/// The port of every pod.
const PORT: u16 = 9000;
/// How many requests to the API server are under way at once.
const AT_ONCE: usize = 16;

/// How many there are of each.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Services, each with a route.
    pub services: usize,
    /// Previews.
    pub previews: usize,
    /// Forks of each Preview; those of Preview `n` are of the Services `n * forks` and the following, around.
    pub forks: usize,
}

impl Crowd {
    /// The address of the baseline of a service.
    pub fn baseline(service: usize) -> Ipv4Addr {
        pod(10, service)
    }

    /// The address of the fork number `fork` of all.
    pub fn fork(fork: usize) -> Ipv4Addr {
        pod(40, fork)
    }

    /// The service that this fork of all is of.
    pub fn service_of(&self, fork: usize) -> usize {
        fork % self.services
    }

    /// The key that this fork of all is for.
    pub fn key_of(&self, fork: usize) -> String {
        format!("k{}", fork / self.forks)
    }

    /// Makes all of it, and starts the server, which ends with the runtime.
    pub async fn make(&self, kube: &Kube) {
        tokio::spawn(serve(TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await.unwrap()));
        kube.create(json!({"kind": "Namespace", "metadata": {"name": CROWD}})).await;
        let mut objects: Vec<Value> = Vec::new();
        for service in 0..self.services {
            let name = format!("s{service}");
            let host = format!("{name}.preview.example.com");
            let parent = json!({"namespace": "sidetrack", "name": "public"});
            let rules = json!([{"backendRefs": [{"name": name, "port": 80}]}]);
            let spec = json!({"parentRefs": [parent], "hostnames": [host], "rules": rules});
            objects.extend([service_object(&name), slice(&name, Self::baseline(service))]);
            objects.push(json!({"kind": "HTTPRoute", "metadata": {"name": name}, "spec": spec}));
        }
        for preview in 0..self.previews {
            let range = preview * self.forks..(preview + 1) * self.forks;
            let fork = |fork: usize| json!({"service": format!("s{}", self.service_of(fork)), "endpointsFrom": format!("f{fork}")});
            let forks: Vec<Value> = range.clone().map(fork).collect();
            let key = format!("k{preview}");
            let spec = json!({"key": key, "forks": forks});
            objects.push(json!({"kind": "Preview", "metadata": {"name": key}, "spec": spec}));
            for fork in range {
                let name = format!("f{fork}");
                objects.extend([service_object(&name), slice(&name, Self::fork(fork))]);
            }
        }
        create_all(kube, objects).await;
    }
}

/// Lets the only endpoint of a Service be this one.
pub async fn move_to(kube: &Kube, service: &str, address: Ipv4Addr) {
    let endpoints = slice(service, address)["endpoints"].clone();
    kube.patch("EndpointSlice", CROWD, service, json!({"endpoints": endpoints})).await;
}

fn pod(block: usize, index: usize) -> Ipv4Addr {
    let part = |number: usize| u8::try_from(number).expect("a crowd fits the network");
    Ipv4Addr::new(10, 99, part(block + index / 250), part(1 + index % 250))
}

fn service_object(name: &str) -> Value {
    // Without a selector: its slice is said by hand, and no pod is needed.
    json!({"kind": "Service", "metadata": {"name": name}, "spec": {"clusterIP": "None", "ports": [{"port": 80, "targetPort": PORT}]}})
}

fn slice(service: &str, address: Ipv4Addr) -> Value {
    json!({
        "kind": "EndpointSlice", "addressType": "IPv4", "ports": [{"name": "", "port": PORT, "protocol": "TCP"}],
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [{"addresses": [address.to_string()], "conditions": {"ready": true}}],
    })
}

async fn create_all(kube: &Kube, objects: Vec<Value>) {
    let mut tasks = tokio::task::JoinSet::new();
    for mut object in objects {
        if tasks.len() == AT_ONCE {
            tasks.join_next().await.unwrap().unwrap();
        }
        object["metadata"]["namespace"] = CROWD.into();
        let kube = kube.clone();
        tasks.spawn(async move { kube.try_create(&object).await.unwrap() });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        // A client that goes away is its own business.
        tokio::spawn(async move { answer(stream).await.ok() });
    }
}

/// Answers requests without a body, one after the other.
async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-upstream: {}\r\n\r\n", stream.local_addr()?.ip());
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        received.extend_from_slice(&buffer[..count]);
        if received.ends_with(b"\r\n\r\n") {
            received.clear();
            stream.write_all(head.as_bytes()).await?;
        }
    }
}

/// Deletes an EndpointSlice: nothing of that Service is ready any more.
pub async fn empty(kube: &Kube, service: &str) {
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{CROWD}/endpointslices/{service}");
    kube.ask(Method::DELETE, &path, "application/json", None).await.unwrap();
}
