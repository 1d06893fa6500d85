//! Binding on real addresses.

use std::io::Read;
use std::net::TcpStream;

use super::*;

const LOOPBACK: &str = "127.0.0.1:0";

fn address(sockets: &[TcpListener]) -> SocketAddr {
    sockets[0].local_addr().unwrap()
}

#[test]
fn all_sockets_share_the_port_that_the_first_got() {
    let sockets = bind(LOOPBACK.parse().unwrap(), 3).unwrap();
    let address = address(&sockets);
    assert_eq!(sockets.len(), 3);
    assert_ne!(address.port(), 0);
    for socket in &sockets {
        assert_eq!(socket.local_addr().unwrap(), address);
        assert_eq!(socket.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
    let more = join(address, 1).unwrap();
    assert_eq!(more[0].local_addr().unwrap(), address);
}

#[test]
fn a_second_gateway_on_the_address_is_refused() {
    let sockets = bind(LOOPBACK.parse().unwrap(), 1).unwrap();
    let taken = address(&sockets);
    for wanted in [taken, SocketAddr::new([0, 0, 0, 0].into(), taken.port())] {
        let error = bind(wanted, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let text = error.to_string();
        assert!(text.contains(&wanted.to_string()) && text.contains("stop its process"), "{text}");
    }
    drop(sockets);
    bind(taken, 1).unwrap();
}

#[test]
fn connections_that_linger_do_not_keep_the_port() {
    let sockets = bind(LOOPBACK.parse().unwrap(), 1).unwrap();
    let address = address(&sockets);
    sockets[0].set_nonblocking(false).unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    // The side that closes first is the one that lingers in TIME_WAIT.
    drop(sockets[0].accept().unwrap());
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    drop((client, sockets));
    bind(address, 2).unwrap();
}

#[test]
fn an_address_of_another_machine_is_explained() {
    // RFC 5737: an address for documentation, nobody's.
    let error = bind("192.0.2.1:8080".parse().unwrap(), 1).unwrap_err().to_string();
    assert!(error.contains("cannot listen on 192.0.2.1:8080: this machine has no such address"), "{error}");
}

#[test]
fn the_unspecified_v6_address_takes_v4_too() {
    let sockets = bind("[::]:0".parse().unwrap(), 1).unwrap();
    let port = address(&sockets).port();
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    TcpStream::connect(("::1", port)).unwrap();
}

#[test]
fn the_descriptor_limit_is_the_hard_one() {
    let raised = raise_descriptor_limit().unwrap();
    assert_eq!(Some(raised), getrlimit(Resource::Nofile).maximum.or(Some(u64::MAX)));
    assert_eq!(raise_descriptor_limit().unwrap(), raised);
}
