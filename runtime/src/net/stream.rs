//! Connected sockets.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use async_io::Async;
use smol::io::{AsyncRead, AsyncWrite};

use crate::limits::{DRAIN_BYTES_MAX, DRAIN_CHUNK_BYTES, DRAIN_TIME_MAX, READ_CHUNK_BYTES};
use crate::timer;

/// A connection. Clones share the socket, so that one task can read while another writes; of each
/// kind there is one at a time. It is closed when the last clone is dropped. Reads and writes try
/// the kernel first and wait only when they must.
#[derive(Debug, Clone)]
pub struct Stream {
    socket: Rc<Socket>,
}

#[derive(Debug)]
enum Socket {
    Tcp(Async<TcpStream>, SocketAddr),
    Unix(Async<UnixStream>),
}

/// The other end, printed as `ip:port`, or `@` for a unix socket (as Go prints a peer without a
/// name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Address and port.
    Tcp(SocketAddr),
    /// A process on this machine.
    Unix,
}

impl Peer {
    /// The address; `None` for a unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Peer::Tcp(address) => Some(address.ip()),
            Peer::Unix => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => address.fmt(f),
            Peer::Unix => f.write_str("@"),
        }
    }
}

impl Stream {
    /// Sets TCP_NODELAY: we write whole answers and want them to leave.
    pub(super) fn from_tcp(stream: Async<TcpStream>, peer: SocketAddr) -> io::Result<Stream> {
        stream.get_ref().set_nodelay(true)?;
        // A dual-stack listener sees IPv4 clients as ::ffff:a.b.c.d; logs and statistics show them
        // as what they are.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Ok(Stream {
            socket: Rc::new(Socket::Tcp(stream, peer)),
        })
    }

    pub(super) fn from_unix(stream: Async<UnixStream>) -> Stream {
        Stream {
            socket: Rc::new(Socket::Unix(stream)),
        }
    }

    /// The other end.
    pub fn peer(&self) -> Peer {
        match &*self.socket {
            Socket::Tcp(_, peer) => Peer::Tcp(*peer),
            Socket::Unix(_) => Peer::Unix,
        }
    }

    /// Our end's address; `None` for a unix socket.
    pub fn local_ip(&self) -> Option<IpAddr> {
        match &*self.socket {
            Socket::Tcp(stream, _) => stream
                .get_ref()
                .local_addr()
                .ok()
                .map(|address| address.ip().to_canonical()),
            Socket::Unix(_) => None,
        }
    }

    /// Waits until a read would not wait: an idle connection then needs no buffer.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn readable(&self) -> io::Result<()> {
        match &*self.socket {
            Socket::Tcp(stream, _) => stream.readable().await,
            Socket::Unix(stream) => stream.readable().await,
        }
    }

    /// Waits for bytes and appends what is there to `buffer`, `bytes_max` at most (and not more
    /// than 16 KiB at once). Zero is the end. The buffer grows only by what has come: a connection
    /// that waits here needs none.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn read_into(&self, buffer: &mut Vec<u8>, bytes_max: usize) -> io::Result<usize> {
        loop {
            // The first try saves a system call when more is there already.
            match self.try_read_into(buffer, bytes_max) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn try_read_into(&self, buffer: &mut Vec<u8>, bytes_max: usize) -> io::Result<usize> {
        let mut chunk = [0_u8; READ_CHUNK_BYTES];
        let wanted = bytes_max.min(READ_CHUNK_BYTES);
        let bytes = self.try_read(chunk.get_mut(..wanted).unwrap_or_default())?;
        buffer.extend_from_slice(chunk.get(..bytes).unwrap_or_default());
        Ok(bytes)
    }

    /// Reads without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing yet, else what the kernel says.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &*self.socket {
            Socket::Tcp(stream, _) => io::Read::read(&mut stream.get_ref(), buffer),
            Socket::Unix(stream) => io::Read::read(&mut stream.get_ref(), buffer),
        }
    }

    /// Writes without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when the kernel's buffer is full, else what the kernel says.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &*self.socket {
            Socket::Tcp(stream, _) => io::Write::write(&mut stream.get_ref(), bytes),
            Socket::Unix(stream) => io::Write::write(&mut stream.get_ref(), bytes),
        }
    }

    /// Ends our direction; the peer reads to the end of what was sent.
    ///
    /// # Errors
    /// What the kernel says; of a connection that is gone already, nothing.
    pub fn half_close(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    /// Ends both directions at once, whatever is on its way: other clones see the end of the
    /// stream.
    pub fn abort(&self) {
        // Nothing is lost with the error: the connection is gone either way.
        let _gone = self.shutdown(Shutdown::Both);
    }

    /// Closes after a fatal error without losing what was written: a socket closed with unread
    /// bytes is reset by the kernel, and the peer then never sees our last frame. Half-closes, and
    /// discards what still comes until the peer closes too, for a second and 8 MiB at most.
    pub async fn finish(self) {
        if self.half_close().is_err() {
            return;
        }
        let discard = async {
            let mut discarded = 0;
            while discarded < DRAIN_BYTES_MAX && self.readable().await.is_ok() {
                let mut chunk = [0_u8; DRAIN_CHUNK_BYTES]; // not held while waiting
                match self.try_read(&mut chunk) {
                    Ok(bytes) if bytes > 0 => discarded += bytes as u64,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Ok(_) | Err(_) => return,
                }
            }
        };
        // Timed out or not: the peer had its time.
        let _timed_out = timer::timeout(DRAIN_TIME_MAX, discard).await;
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let ended = match &*self.socket {
            Socket::Tcp(stream, _) => stream.get_ref().shutdown(how),
            Socket::Unix(stream) => stream.get_ref().shutdown(how),
        };
        match ended {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            other => other,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match &*self.socket {
            Socket::Tcp(stream, _) => Pin::new(&mut &*stream).poll_read(context, buffer),
            Socket::Unix(stream) => Pin::new(&mut &*stream).poll_read(context, buffer),
        }
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        match &*self.socket {
            Socket::Tcp(stream, _) => Pin::new(&mut &*stream).poll_read_vectored(context, buffers),
            Socket::Unix(stream) => Pin::new(&mut &*stream).poll_read_vectored(context, buffers),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &*self.socket {
            Socket::Tcp(stream, _) => Pin::new(&mut &*stream).poll_write(context, bytes),
            Socket::Unix(stream) => Pin::new(&mut &*stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &*self.socket {
            Socket::Tcp(stream, _) => Pin::new(&mut &*stream).poll_write_vectored(context, parts),
            Socket::Unix(stream) => Pin::new(&mut &*stream).poll_write_vectored(context, parts),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // nothing is held back here
    }

    fn poll_close(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.half_close())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{AsyncReadExt, AsyncWriteExt};
    use crate::net::{Listener, connect};
    use crate::{run, spawn};
    use std::time::Duration;

    async fn pair() -> (Stream, Stream) {
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_address().unwrap();
        let client = connect(&address, Duration::from_secs(5)).await.unwrap();
        (client, listener.accept().await)
    }

    #[test]
    fn a_last_frame_arrives_although_the_client_is_still_sending() {
        run(async {
            let (mut client, mut server) = pair().await;
            let sender = client.clone();
            let sending = spawn(async move {
                let mut sender = sender;
                // More than the sockets hold, none of it read by the server before it answers.
                sender.write_all(&vec![0; 6 << 20]).await.is_ok()
            });
            server.write_all(b"E_INVALID").await.unwrap();
            server.finish().await;
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"E_INVALID");
            assert!(sending.await);
        });
    }

    #[test]
    fn finish_ends_although_the_peer_never_does() {
        run(async {
            let (client, server) = pair().await;
            let start = crate::clock::now();
            server.finish().await;
            let took = crate::clock::now() - start;
            assert!(
                took >= DRAIN_TIME_MAX && took < 10 * DRAIN_TIME_MAX,
                "{took:?}"
            );
            drop(client);
        });
    }

    #[test]
    fn clones_read_and_write_at_the_same_time() {
        run(async {
            let (mut client, server) = pair().await;
            let (mut reader, mut writer) = (server.clone(), server);
            let reading = spawn(async move {
                let mut buffer = vec![0; 1 << 20];
                reader.read_exact(&mut buffer).await.unwrap();
                buffer.len()
            });
            let writing = spawn(async move { writer.write_all(&vec![7; 1 << 20]).await });
            client.write_all(&vec![1; 1 << 20]).await.unwrap();
            let mut buffer = vec![0; 1 << 20];
            client.read_exact(&mut buffer).await.unwrap();
            writing.await.unwrap();
            assert_eq!(reading.await, 1 << 20);
        });
    }

    #[test]
    fn bytes_are_appended_up_to_a_bound_and_waiting_for_them_holds_no_buffer() {
        run(async {
            let (client, server) = pair().await;
            let mut buffer = Vec::new();
            assert!(size_of_val(&server.read_into(&mut buffer, 9)) < 500);
            assert!(size_of_val(&server.clone().finish()) < 500);
            assert_eq!(client.try_write(b"abcdef").unwrap(), 6);
            assert_eq!(server.read_into(&mut buffer, 4).await.unwrap(), 4);
            assert_eq!(server.read_into(&mut buffer, 4).await.unwrap(), 2);
            assert_eq!(buffer, b"abcdef");
            drop(client);
            assert_eq!(server.read_into(&mut buffer, 4).await.unwrap(), 0);
        });
    }

    #[test]
    fn readable_and_the_reads_that_do_not_wait_agree() {
        run(async {
            let (client, server) = pair().await;
            let mut buffer = [0; 8];
            let kind = server.try_read(&mut buffer).unwrap_err().kind();
            assert_eq!(kind, io::ErrorKind::WouldBlock);
            assert_eq!(client.try_write(b"abc").unwrap(), 3);
            server.readable().await.unwrap();
            assert_eq!(server.try_read(&mut buffer).unwrap(), 3);
            client.abort();
            server.readable().await.unwrap();
            assert_eq!(server.try_read(&mut buffer).unwrap(), 0);
        });
    }
}
