//! An answer that breaks off after each of its bytes, over each version, by a close and by a reset.

use serde_json::json;
use sidetrack_tests::{Frame, Frames, Raw, RawUpstream, World, eventually, get};

use super::{CLIENTS, Client, End, Plan, beside, host};

/// Which of the answers is sent, after how many of its bytes it breaks off, and how.
type Cut = Option<(usize, usize, End)>;

/// An answer: its name, its bytes, and how many of them are there before its body.
struct Sample {
    name: &'static str,
    bytes: Vec<u8>,
    head: usize,
}

const BODY: &str = "all of it";

fn http1_samples() -> Vec<Sample> {
    let length = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                   4\r\nall \r\n5;x=y\r\nof it\r\n0\r\nx-sum: 9\r\n\r\n";
    let hinted = format!("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n{length}");
    let sample = |name, text: &str| {
        let bytes = text.as_bytes().to_vec();
        let head = text.rfind(BODY).or(text.find("4\r\nall")).unwrap();
        Sample { name, bytes, head }
    };
    vec![sample("length", &length), sample("chunked", chunked), sample("hinted", &hinted)]
}

fn http2_sample(stream: u32) -> Sample {
    let head = Frame::head_bytes(stream, &[(":status", "200")], false);
    let body = Frame::bytes(Frame::DATA, 0, stream, BODY.as_bytes());
    let trailers = Frame::head_bytes(stream, &[("x-sum", "9")], true);
    Sample { name: "frames", head: head.len(), bytes: [head, body, trailers].concat() }
}

/// Sends what is planned, or an answer as it should be; gives the connection back if it goes on.
async fn obey(cut: Cut, samples: &[Sample], mut raw: Raw) -> Option<Raw> {
    let Some((sample, after, end)) = cut else {
        raw.write(&samples[0].bytes).await;
        return Some(raw);
    };
    raw.write(&samples[sample].bytes[..after]).await;
    if end == End::Stay {
        return Some(raw);
    }
    end.of(raw).await;
    None
}

/// An upstream that cuts the next answer as planned.
async fn over_http1(plan: Plan<Cut>) -> RawUpstream {
    RawUpstream::start(move |mut raw, _| {
        let plan = plan.clone();
        async move {
            let samples = http1_samples();
            while raw.head().await.is_some() {
                let cut = plan.lock().unwrap().take();
                let Some(same) = obey(cut, &samples, raw).await else { return };
                raw = same;
            }
        }
    })
    .await
}

async fn over_http2(plan: Plan<Cut>) -> RawUpstream {
    RawUpstream::http2(&[], move |mut frames, _| {
        let plan = plan.clone();
        async move {
            while let Some(asked) = frames.next_of(Frame::HEADERS).await {
                let cut = plan.lock().unwrap().take();
                let Some(same) = obey(cut, &[http2_sample(asked.stream)], frames.into_raw()).await else {
                    return;
                };
                frames = Frames::from(same);
            }
        }
    })
    .await
}

/// A service with an upstream that does what is planned.
struct Cutting<'w> {
    world: &'w World,
    service: &'static str,
    plan: Plan<Cut>,
}

impl Cutting<'_> {
    /// Asks once for a cut answer, and once for a healthy one.
    async fn ask(&self, client: Client, samples: &[Sample], cut: (usize, usize, End)) {
        let (index, after, end) = cut;
        let sample = &samples[index];
        let what = format!("{client:?} {} {after} {end:?}", sample.name);
        let mut conn = client.connect(self.world).await;
        let is_reused = after % 2 == 0;
        if is_reused {
            let whole = conn.send(get(&host(self.service), "/whole")).await;
            assert_eq!((whole.status, whole.text()), (200, BODY), "{what}");
        }
        *self.plan.lock().unwrap() = Some(cut);
        let is_whole = after == sample.bytes.len();
        match conn.try_send(get(&host(self.service), "/cut")).await {
            // Sent again where a kept connection brought not a byte: then it is another answer, and whole.
            Ok(reply) if reply.status == 200 => {
                assert!(is_whole || (after == 0 && is_reused), "{what}: it looks whole: {reply:?}");
                assert_eq!(reply.text(), BODY, "{what}");
            }
            Ok(reply) => {
                assert_eq!((reply.status, reply.code().as_str()), (502, "upstream_unavailable"), "{what}");
                // It can be told as long as nothing of it has gone on; and a reset takes along what was not read yet.
                assert!(!is_whole || end == End::Reset, "{what}: {reply:?}");
                assert!(!conn.is_closed(), "{what}: it is not this client's fault");
            }
            Err(_) => assert!(
                after >= sample.head && (!is_whole || end == End::Reset),
                "{what}: there was a status to tell, or an answer"
            ),
        }
        assert!(self.plan.lock().unwrap().take().is_none(), "{what}: nobody was asked");
        client.goes_on(self.world, &mut conn, &what).await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_after_any_byte() {
    let plans: [Plan<Cut>; 2] = Default::default();
    let upstreams = [over_http1(plans[0].clone()).await, over_http2(plans[1].clone()).await];
    let world = beside(&[
        ("cut1", upstreams[0].endpoint(), json!({})),
        ("cut2", upstreams[1].endpoint(), json!({"protocol": "h2c"})),
    ])
    .await;
    let [one, two] = plans;
    let both = [
        (Cutting { world: &world, service: "cut1", plan: one }, http1_samples()),
        (Cutting { world: &world, service: "cut2", plan: two }, vec![http2_sample(1)]),
    ];
    for (cutting, samples) in &both {
        for (index, sample) in samples.iter().enumerate() {
            for after in 0..=sample.bytes.len() {
                for end in [End::Close, End::Reset] {
                    for client in CLIENTS {
                        cutting.ask(client, samples, (index, after, end)).await;
                    }
                }
            }
            for client in CLIENTS {
                cutting.ask(client, samples, (index, sample.bytes.len(), End::Stay)).await;
            }
        }
    }
    eventually("nobody waits for what broke off", async || {
        world.metrics().await.sum("sidetrack_requests_in_flight", &[]) == 0.0
    })
    .await;
}
