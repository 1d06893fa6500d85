//! Where a connection was meant to go before the system redirected it to us (iptables, nftables).

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

/// Where `stream`, which came in at `local`, was meant to go.
///
/// # Errors
/// It was meant for us: nobody redirected it, and to pass it on to where it was meant to go would bring it here again.
pub fn destination(stream: &TcpStream, local: SocketAddr) -> io::Result<SocketAddr> {
    let meant = asked(stream, local)?;
    if same(meant, local) {
        return Err(io::Error::other("nobody redirected it here"));
    }
    Ok(meant)
}

fn same(one: SocketAddr, other: SocketAddr) -> bool {
    (one.ip().to_canonical(), one.port()) == (other.ip().to_canonical(), other.port())
}

/// What the system says. An IPv4 connection to a socket of both versions is one of IPv4.
#[cfg(target_os = "linux")]
fn asked(stream: &TcpStream, local: SocketAddr) -> io::Result<SocketAddr> {
    use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};

    Ok(match local.ip().to_canonical().is_ipv4() {
        true => ip_original_dst(stream)?.into(),
        false => ipv6_original_dst(stream)?.into(),
    })
}

#[cfg(not(target_os = "linux"))]
fn asked(_: &TcpStream, _: SocketAddr) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_nobody_redirected_is_refused() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            let at = listener.local_addr().unwrap();
            let _client = std::net::TcpStream::connect(at).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let local = stream.local_addr().unwrap();
            assert!(destination(&stream, local).is_err(), "{address}");
        }
    }

    #[test]
    fn one_address_in_two_forms_is_one_address() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(same(at("10.0.0.1:80"), at("[::ffff:10.0.0.1]:80")));
        assert!(!same(at("10.0.0.1:80"), at("10.0.0.1:81")));
        assert!(!same(at("10.0.0.1:80"), at("10.0.0.2:80")));
    }
}
