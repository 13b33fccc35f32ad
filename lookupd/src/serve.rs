//! The daemon around the registry: sockets.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use config::LookupdOptions;
use protocol::lookup::PeerInfo;
use runtime::io::AsyncWriteExt;
use runtime::net::{Address, AddressError, BindError, Listener, Stream};
use runtime::{Either, Slots, Stop, clock, http, race, spawn, timer};

use crate::limits::{
    ENTRIES_MAX, FIRST_COMMAND_TIME_MAX, LINK_SILENCE_MIN, READ_BYTES, WRITE_TIME_MAX,
};
use crate::link::Link;
use crate::registry::{Lifetimes, Registry};

/// The registry as a daemon, listening already.
#[derive(Debug)]
pub struct Lookupd {
    tcp: Listener,
    http: Listener,
    tcp_address: Address,
    http_address: Address,
    shared: Rc<Shared>,
    connections_max: usize,
}

/// Why the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An option is no address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The kernel does not tell where we listen.
    #[error("lookupd: {0}")]
    Io(#[from] io::Error),
}

#[derive(Debug)]
struct Shared {
    registry: RefCell<Registry>,
    own: PeerInfo,
    /// Without a word for so long, a link is closed.
    silence_max: Duration,
}

impl Lookupd {
    /// Opens the listeners.
    ///
    /// # Errors
    /// See [`StartError`]; the text names the address.
    pub fn bind(options: LookupdOptions) -> Result<Lookupd, StartError> {
        let tcp = Listener::bind(&options.tcp_address.parse()?)?;
        let http = Listener::bind(&options.http_address.parse()?)?;
        Lookupd::with_listeners(&options, tcp, http)
    }

    /// Takes listeners that are open already: those that a service manager passes.
    ///
    /// # Errors
    /// [`StartError::Io`].
    pub fn with_listeners(
        options: &LookupdOptions,
        tcp: Listener,
        http: Listener,
    ) -> Result<Lookupd, StartError> {
        let (tcp_address, http_address) = (tcp.local_address()?, http.local_address()?);
        let lifetimes = Lifetimes {
            inactive_producer_timeout: options.inactive_producer_timeout,
            tombstone_lifetime: options.tombstone_lifetime,
        };
        let port = |address: &Address| address.port().map_or(-1, i32::from);
        let own = PeerInfo {
            broadcast_address: options.broadcast_address.clone(),
            hostname: hostname().unwrap_or_else(|| options.broadcast_address.clone()),
            tcp_port: port(&tcp_address),
            http_port: port(&http_address),
            version: crate::NSQ_VERSION.to_owned(),
        };
        let shared = Rc::new(Shared {
            registry: RefCell::new(Registry::new(lifetimes, ENTRIES_MAX)),
            own,
            silence_max: options.inactive_producer_timeout.max(LINK_SILENCE_MIN),
        });
        let connections_max = usize::try_from(options.connections_max).unwrap_or(usize::MAX);
        Ok(Lookupd {
            tcp,
            http,
            tcp_address,
            http_address,
            shared,
            connections_max,
        })
    }

    /// Where brokers connect, with the real port.
    pub fn tcp_address(&self) -> &Address {
        &self.tcp_address
    }

    /// Where HTTP is served, with the real port.
    pub fn http_address(&self) -> &Address {
        &self.http_address
    }

    /// Serves until `stop`. Nothing needs to be drained: brokers register again elsewhere, or at
    /// the next start.
    pub async fn run(self, stop: Stop) {
        log::info!(
            "lookupd: TCP on {}, HTTP on {}",
            self.tcp_address,
            self.http_address
        );
        // Brokers keep their connections, HTTP clients do not: half each leaves room for both.
        let http_max = (self.connections_max / 2).max(1);
        let links_max = self.connections_max.saturating_sub(http_max).max(1);
        let shared = Rc::clone(&self.shared);
        let answer = move |request: http::Request| {
            let shared = Rc::clone(&shared);
            async move { shared.answer(&request) }
        };
        let limits = http::Limits {
            connections_max: http_max,
            ..http::Limits::default()
        };
        let serving = spawn(http::serve(self.http, limits, stop.clone(), answer));
        let slots = Slots::new(links_max);
        let accept = async || {
            let slot = slots.acquire().await;
            (self.tcp.accept().await, slot)
        };
        while let Either::Right((stream, slot)) = race(stop.requested(), accept()).await {
            let (shared, stop) = (Rc::clone(&self.shared), stop.clone());
            spawn(async move {
                race(stop.requested(), shared.serve_link(stream)).await;
                drop(slot);
            })
            .detach();
        }
        slots.all_free().await;
        serving.await;
    }
}

impl Shared {
    fn answer(&self, request: &http::Request) -> http::Response {
        crate::http::answer(
            &mut self.registry.borrow_mut(),
            clock::now(),
            clock::wall_ns(),
            request.method(),
            request.path(),
            request.query(),
        )
    }

    async fn serve_link(&self, mut stream: Stream) {
        let peer = stream.peer();
        let mut link = Registered {
            link: Link::new(peer.to_string()),
            shared: self,
        };
        let (mut buffer, mut out) = (Vec::new(), Vec::new());
        let served = self
            .converse(&mut link.link, &mut stream, &mut buffer, &mut out)
            .await;
        if let Err(error) = &served {
            log::info!("lookupd: link of {peer} is gone: {error}");
        }
        link.link
            .close(&mut self.registry.borrow_mut(), &buffer, &mut out);
        if matches!(write(&mut stream, &mut out).await, Ok(())) {
            stream.finish().await;
        }
    }

    /// Reads, executes and answers until the link is to be closed. What is left in the buffers is
    /// the caller's.
    async fn converse(
        &self,
        link: &mut Link,
        stream: &mut Stream,
        buffer: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let first_deadline = clock::now() + FIRST_COMMAND_TIME_MAX;
        let mut needed = READ_BYTES;
        loop {
            // A link that has not said who it is gets a time in all, the others one of silence.
            let deadline = if link.is_identified() {
                clock::now() + self.silence_max
            } else {
                first_deadline
            };
            let wanted = READ_BYTES.max(needed.saturating_sub(buffer.len()));
            if timer::timeout_at(deadline, stream.read_into(buffer, wanted)).await?? == 0 {
                return Ok(());
            }
            loop {
                let handled = link.handle_bytes(
                    &mut self.registry.borrow_mut(),
                    &self.own,
                    clock::now(),
                    buffer,
                    out,
                );
                buffer.drain(..handled.consumed);
                write(stream, out).await?;
                if handled.close {
                    buffer.clear(); // the error has been told
                    return Ok(());
                }
                needed = handled.needed;
                if needed > buffer.len() {
                    break;
                }
                runtime::yield_now().await; // others first, then the rest of the flood
            }
            if buffer.is_empty() {
                *buffer = Vec::new(); // a link that only pings needs no memory in between
            }
        }
    }
}

/// The machine's name, which is only for people who read it.
fn hostname() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Ends the link's registrations also when its task is dropped in the middle.
struct Registered<'a> {
    link: Link,
    shared: &'a Shared,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.link
            .close(&mut self.shared.registry.borrow_mut(), b"", &mut Vec::new());
    }
}

async fn write(stream: &mut Stream, out: &mut Vec<u8>) -> io::Result<()> {
    if !out.is_empty() {
        timer::timeout(WRITE_TIME_MAX, stream.write_all(out)).await??;
        *out = Vec::new();
    }
    Ok(())
}
