//! Opening connections.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use async_io::Async;

use super::{Address, Stream};
use crate::{clock, timer};

/// An address that cannot be connected to; of several resolved ones, the last one's error.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {address}: {source}")]
pub struct ConnectError {
    address: Address,
    source: io::Error,
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        io::Error::new(error.source.kind(), error)
    }
}

/// Connects to `address` within `timeout`, which covers resolving its name and trying each address
/// that it has, in the resolver's order; each gets an equal share of the time that is left.
///
/// # Errors
/// With the address in the text.
pub async fn connect(address: &Address, timeout: Duration) -> Result<Stream, ConnectError> {
    let deadline = clock::now().saturating_add(timeout);
    let connected = match address {
        Address::Tcp { host, port } => connect_tcp(host, *port, deadline).await,
        Address::Unix(path) => {
            let connecting = Async::<UnixStream>::connect(path);
            match timer::timeout_at(deadline, connecting).await {
                Ok(connected) => connected.map(Stream::from_unix),
                Err(timed_out) => Err(timed_out.into()),
            }
        }
    };
    connected.map_err(|source| ConnectError {
        address: address.clone(),
        source,
    })
}

async fn connect_tcp(host: &str, port: u16, deadline: Duration) -> io::Result<Stream> {
    let addresses = timer::timeout_at(deadline, resolve(host, port)).await??;
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let now = clock::now();
        let share = deadline.saturating_sub(now) / left.max(1);
        left = left.saturating_sub(1);
        let connecting = Async::<TcpStream>::connect(address);
        let connected = match timer::timeout_at(now.saturating_add(share), connecting).await {
            Ok(connected) => connected,
            Err(timed_out) => Err(timed_out.into()),
        };
        match connected.and_then(|stream| Stream::from_tcp(stream, address)) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A name goes to the system's resolver, which blocks, on another thread; what is still queued there
/// when the caller gives up is taken back. An address does not need it, nor does `localhost`: while
/// the name servers are away the resolver is busy for half a minute with each other name, and local
/// connections must not wait behind those. An empty host is this machine.
async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host.is_empty() || host.eq_ignore_ascii_case("localhost") {
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Ok(loopback.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let host = host.to_owned();
    smol::unblock(move || Ok((host.as_str(), port).to_socket_addrs()?.collect())).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Listener;
    use crate::run;

    #[test]
    fn a_refused_connection_names_the_address() {
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_address().unwrap();
        drop(listener);
        let error = run(connect(&address, Duration::from_secs(5))).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("cannot connect to {address}: "))
        );
        assert_eq!(
            io::Error::from(error).kind(),
            io::ErrorKind::ConnectionRefused
        );
    }

    #[test]
    fn each_address_of_a_name_is_tried() {
        // This one is only IPv6, which localhost's first address is not.
        let Ok(listener) = Listener::bind(&"[::1]:0".parse().unwrap()) else {
            return; // a machine without IPv6
        };
        let port = listener.local_address().unwrap().port().unwrap();
        let address = Address::Tcp {
            host: "localhost".into(),
            port,
        };
        run(async {
            connect(&address, Duration::from_secs(10)).await.unwrap();
        });
    }

    #[test]
    fn a_name_that_does_not_exist_is_an_error_and_does_not_block_the_loop() {
        let address = Address::Tcp {
            host: "no-such-host.invalid".into(),
            port: 1,
        };
        run(async {
            let asking = crate::spawn(async move {
                connect(&address, Duration::from_millis(200))
                    .await
                    .unwrap_err()
                    .to_string()
            });
            let mut turns = 0;
            while !asking.is_finished() {
                timer::sleep(Duration::from_millis(1)).await;
                turns += 1;
            }
            assert!(turns > 0);
            let error = asking.await;
            assert!(
                error.starts_with("cannot connect to no-such-host.invalid:1: "),
                "{error}"
            );
        });
    }

    #[test]
    fn a_connection_that_nobody_answers_times_out() {
        // A listener whose queue is full drops further attempts; how long it is depends on the
        // kernel, so fill it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::from(listener.local_addr().unwrap());
        run(async {
            let mut held = Vec::new();
            loop {
                match connect(&address, Duration::from_millis(300)).await {
                    Ok(stream) => held.push(stream),
                    Err(error) => {
                        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);
                        break;
                    }
                }
                assert!(held.len() < 10_000, "the queue never filled");
            }
        });
    }
}
