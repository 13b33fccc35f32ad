//! Listening sockets.

use std::cell::Cell;
use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_io::Async;

use super::{Address, Stream};
use crate::limits::{ACCEPT_LOG_EVERY, ACCEPT_REST};
use crate::{clock, timer};

/// A listening socket. A unix socket's file is removed when it is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// When a refused accept was last logged.
    logged_at: Cell<Option<Duration>>,
}

#[derive(Debug)]
enum Socket {
    Tcp(Async<TcpListener>),
    Unix(Async<UnixListener>, PathBuf),
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    address: Address,
    source: io::Error,
}

impl Listener {
    /// Listens on `address`. An empty host is all interfaces, IPv6 and IPv4. A unix socket's file
    /// that nobody listens on any more, left by a crash, is replaced. A host name is resolved here,
    /// blocking: listeners are opened at start.
    ///
    /// # Errors
    /// With the address in the text.
    pub fn bind(address: &Address) -> Result<Listener, BindError> {
        let socket = match address {
            Address::Tcp { host, port } => bind_tcp(host, *port).map(Socket::Tcp),
            Address::Unix(path) => bind_unix(path).map(|fd| Socket::Unix(fd, path.clone())),
        };
        match socket {
            Ok(socket) => Ok(Listener {
                socket,
                logged_at: Cell::new(None),
            }),
            Err(source) => Err(BindError {
                address: address.clone(),
                source,
            }),
        }
    }

    /// A socket that is listening already: one that the service manager passed.
    ///
    /// # Errors
    /// What the kernel says when it cannot be watched.
    pub fn from_std(listener: TcpListener) -> io::Result<Listener> {
        Ok(Listener {
            socket: Socket::Tcp(Async::new(listener)?),
            logged_at: Cell::new(None),
        })
    }

    /// Where it really listens: the port is the one given for port 0.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn local_address(&self) -> io::Result<Address> {
        match &self.socket {
            Socket::Tcp(listener) => Ok(listener.get_ref().local_addr()?.into()),
            Socket::Unix(_, path) => Ok(Address::Unix(path.clone())),
        }
    }

    /// Waits for the next connection. Connections that break before they are accepted are passed
    /// over. When the kernel is out of descriptors or memory this logs, rests and tries again:
    /// those who wait stay in the kernel's queue.
    pub async fn accept(&self) -> Stream {
        loop {
            match self.accept_once().await {
                Ok(stream) => return stream,
                Err(error) if is_the_peers_doing(&error) => {}
                Err(error) => {
                    let now = clock::now();
                    let quiet = |at| now.saturating_sub(at) < ACCEPT_LOG_EVERY;
                    if !self.logged_at.get().is_some_and(quiet) {
                        self.logged_at.set(Some(now));
                        log::warn!("a connection cannot be accepted: {error}");
                    }
                    timer::sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    async fn accept_once(&self) -> io::Result<Stream> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Stream::from_tcp(stream, peer)
            }
            Socket::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok(Stream::from_unix(stream))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socket::Unix(_, path) = &self.socket {
            if let Err(error) = std::fs::remove_file(path) {
                log::debug!("the socket {} is not removed: {error}", path.display());
            }
        }
    }
}

/// accept(2) passes on errors of the new connection itself; the list is its manual page's.
fn is_the_peers_doing(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::Interrupted
            | Kind::NotConnected
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::InvalidInput
    )
}

fn bind_tcp(host: &str, port: u16) -> io::Result<Async<TcpListener>> {
    let listener = if host.is_empty() {
        // `[::]` takes IPv4 too, unless the kernel has no IPv6 or keeps the two apart.
        TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?
    } else {
        let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
        TcpListener::bind(addresses.as_slice())?
    };
    Async::new(listener)
}

fn bind_unix(path: &Path) -> io::Result<Async<UnixListener>> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path) => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    Async::new(listener)
}

/// Whether a socket's file has no listener behind it. Anything else at that path is left alone
/// (connecting to a plain file is "refused" too).
fn is_left_over(path: &Path) -> bool {
    let is_socket =
        std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).is_err_and(refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{AsyncReadExt, AsyncWriteExt};
    use crate::net::connect;
    use crate::run;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_bind_error_names_the_address() {
        let first = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let taken = first.local_address().unwrap();
        let error = Listener::bind(&taken).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot listen on {taken}: ")),
            "{error}"
        );
    }

    #[test]
    fn bytes_go_both_ways_over_a_unix_socket_and_its_file_goes_with_the_listener() {
        let directory = tempfile::tempdir().unwrap();
        let address = Address::Unix(directory.path().join("nsq.sock"));
        let listener = Listener::bind(&address).unwrap();
        run(async {
            let mut client = connect(&address, SECOND).await.unwrap();
            client.write_all(b"ping").await.unwrap();
            let mut server = listener.accept().await;
            let mut buffer = [0; 4];
            server.read_exact(&mut buffer).await.unwrap();
            server.write_all(&buffer).await.unwrap();
            client.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, b"ping");
            assert_eq!(server.peer().to_string(), "@");
            assert!(
                Listener::bind(&address).is_err(),
                "a live socket is not taken over"
            );
        });
        drop(listener);
        assert!(!directory.path().join("nsq.sock").exists());
    }

    #[test]
    fn a_unix_socket_left_by_a_crash_is_replaced_and_a_plain_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nsq.sock");
        drop(UnixListener::bind(&path).unwrap()); // std leaves the file behind
        assert!(path.exists());
        let listener = Listener::bind(&Address::Unix(path.clone())).unwrap();
        drop(listener);
        std::fs::write(&path, b"precious").unwrap();
        assert!(Listener::bind(&Address::Unix(path.clone())).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn an_empty_host_listens_for_ipv4_too() {
        let listener = Listener::bind(&":0".parse().unwrap()).unwrap();
        let port = listener.local_address().unwrap().port().unwrap();
        run(async {
            let address = Address::Tcp {
                host: "127.0.0.1".into(),
                port,
            };
            let client = connect(&address, SECOND).await.unwrap();
            let server = listener.accept().await;
            let local = client.local_ip().unwrap();
            assert!(server.peer().to_string().starts_with(&local.to_string()));
        });
    }
}
