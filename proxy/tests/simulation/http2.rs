//! The same upstreams over HTTP/2: what ends a connection over HTTP/1.1 ends a stream here.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::upstream::{Arrival, Manner, Upstream};

impl Upstream {
    /// Serves a connection.
    pub(crate) async fn serve_http2(self: Rc<Self>, mut stream: TcpStream) {
        // The system would keep small pieces back for as long as its own clock says, which is not ours.
        stream.set_nodelay(true).unwrap();
        if self.manner() == Manner::Babbles {
            let _ = stream.write_all(b"220 smtp.example.com ESMTP\r\n\r\n").await;
            return;
        }
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        while let Some(Ok((request, answer))) = connection.accept().await {
            self.moved();
            // It ends with its connection.
            tokio::task::spawn_local(Rc::clone(&self).stream(request, answer));
        }
    }

    async fn stream(self: Rc<Self>, request: Request<RecvStream>, mut answer: SendResponse<Bytes>) {
        let (head, mut body) = request.into_parts();
        if self.manner() == Manner::BreaksOff {
            // It was not processed, and may be sent elsewhere.
            return answer.send_reset(Reason::REFUSED_STREAM);
        }
        while let Some(piece) = body.data().await {
            self.moved();
            let Ok(piece) = piece else { return };
            let _ = body.flow_control().release_capacity(piece.len());
        }
        let all =
            |name: &str| head.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned());
        self.arrived(Arrival {
            request: head.uri.path().trim_start_matches("/r").parse().unwrap(),
            upstream: self.id,
            keys: all("x-pr-id").collect(),
            is_strict: all("baggage").any(|value| value.contains(";strict")),
        });
        let _ = self.answer_http2(answer).await;
        self.moved();
    }

    async fn answer_http2(&self, mut answer: SendResponse<Bytes>) -> Result<(), h2::Error> {
        let manner = self.manner();
        match manner {
            Manner::Late(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
            Manner::Hangs => std::future::pending().await,
            Manner::Resets | Manner::Babbles => {
                answer.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
            _ => {}
        }
        let status = if manner == Manner::Says503 { 503 } else { 200 };
        let head = Response::builder().status(status).header("x-upstream", self.id).body(()).unwrap();
        let mut stream = answer.send_response(head, false)?;
        let name = Bytes::from(self.name());
        match manner {
            Manner::Dies => {
                stream.send_data(name.slice(..3), false)?;
                // A reset takes back what is not written yet.
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
                stream.send_reset(Reason::INTERNAL_ERROR);
                Ok(())
            }
            Manner::Stalls => {
                stream.send_data(name.slice(..3), false)?;
                std::future::pending().await
            }
            _ => stream.send_data(name, true),
        }
    }
}
