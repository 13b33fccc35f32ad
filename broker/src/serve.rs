//! TCP: one task per connection, which moves bytes between its socket and the engine.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use runtime::io::{AsyncRead, AsyncWrite};
use runtime::net::{Listener, Stream};
use runtime::{Either, Notify, Slots, Stop, clock, race, spawn};
use storage::disk::Disk;

use crate::engine::{Flow, Next, SessionNo};
use crate::host::{Host, stamp};
use crate::limits;

/// Accepts connections until `stop`, then waits until all of them are closed.
pub(crate) async fn listen<D: Disk>(
    host: Rc<Host<D>>,
    listener: Listener,
    connections_max: usize,
    stop: Stop,
) {
    let slots = Slots::new(connections_max);
    let mut told_at = None;
    loop {
        let next = async {
            let slot = slots.acquire().await;
            (listener.accept().await, slot)
        };
        let Either::Right((stream, slot)) = race(stop.requested(), next).await else {
            break;
        };
        let now = clock::now();
        let is_told = told_at.is_some_and(|at| now.saturating_sub(at) < limits::FULL_TOLD_INTERVAL);
        if slots.taken() >= connections_max && !is_told {
            told_at = Some(now);
            log::warn!(
                "TCP: {connections_max} connections, its share of broker.connections_max: the next waits until one ends"
            );
        }
        let host = Rc::clone(&host);
        spawn(async move {
            serve(&host, stream).await;
            drop(slot);
        })
        .detach();
    }
    drop(listener);
    host.stopping.set(true);
    host.with(|engine| engine.close_sessions(clock::now()));
    slots.all_free().await;
}

async fn serve<D: Disk>(host: &Host<D>, stream: Stream) {
    let peer = stream.peer().to_string();
    let Some((no, woken)) = host.connect(&peer) else {
        return;
    };
    log::debug!("{peer}: connected");
    let end = {
        let mut connection = Connection {
            _registered: Registered { host, no },
            host,
            no,
            woken,
            stream: stream.clone(),
            input: Vec::new(),
            filled: 0,
            next: Next::Read(0),
            sending: Vec::new(),
            sent: 0,
        };
        poll_fn(|context| connection.poll(context)).await
    };
    log::debug!("{peer}: {end:?}");
    match end {
        End::Finished => stream.finish().await,
        End::Gone | End::Cut => stream.abort(),
    }
}

/// How a connection ended.
#[derive(Debug)]
enum End {
    /// Everything is said; the peer may still be sending.
    Finished,
    /// The peer is gone.
    Gone,
    /// It was silent, or did not read, for too long.
    Cut,
}

/// However the connection's task ends, the engine forgets the session.
struct Registered<'a, D: Disk> {
    host: &'a Host<D>,
    no: SessionNo,
}

impl<D: Disk> Drop for Registered<'_, D> {
    fn drop(&mut self) {
        self.host.disconnect(self.no);
    }
}

struct Connection<'a, D: Disk> {
    _registered: Registered<'a, D>,
    host: &'a Host<D>,
    no: SessionNo,
    woken: Notify,
    stream: Stream,
    /// What was read and not taken; the first `filled` bytes are read ones. Without memory most of
    /// the time.
    input: Vec<u8>,
    filled: usize,
    next: Next,
    /// What was taken from the engine; the first `sent` bytes are written.
    sending: Vec<u8>,
    sent: usize,
}

/// Reads and writes of one connection before others get their turn.
const TURNS_MAX: u32 = 2;

impl<D: Disk> Connection<'_, D> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        for _ in 0..TURNS_MAX {
            // First, so that a wake-up during what follows is not lost.
            let woken = self.woken.poll_notified(context).is_ready();
            let wrote = match self.poll_output(context) {
                Ok(wrote) => wrote,
                Err(end) => return Poll::Ready(end),
            };
            let read = match self.poll_input(context, woken) {
                Ok(read) => read,
                Err(end) => return Poll::Ready(end),
            };
            if !woken && !wrote && !read {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what there is; true if that made a difference.
    fn poll_output(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let mut progress = false;
        loop {
            if self.sent == self.sending.len() {
                give_back(&mut self.sending, self.sent);
                self.sent = 0;
                let (no, sending) = (self.no, &mut self.sending);
                match self
                    .host
                    .with(|engine| engine.take_output(no, clock::now(), sending))
                {
                    Flow::Open => {}
                    Flow::Finished => return Err(End::Finished),
                    Flow::Cut => return Err(End::Cut),
                }
                if self.sending.is_empty() {
                    return Ok(progress);
                }
            }
            let unsent = self.sending.get(self.sent..).unwrap_or_default();
            match Pin::new(&mut self.stream).poll_write(context, unsent) {
                Poll::Pending => {
                    // The engine may have decided to cut it meanwhile.
                    if self.host.view(|engine| engine.is_cut(self.no)) {
                        return Err(End::Cut);
                    }
                    return Ok(progress);
                }
                Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => return Err(End::Gone),
                Poll::Ready(Ok(bytes)) => {
                    self.sent += bytes;
                    progress = true;
                    let no = self.no;
                    self.host
                        .with_quietly(|engine| engine.written(no, clock::now()));
                }
            }
        }
    }

    /// Reads if the engine wants more, and lets it have what there is; true if that made a
    /// difference.
    fn poll_input(&mut self, context: &mut Context<'_>, woken: bool) -> Result<bool, End> {
        let read = match self.next {
            Next::End => return Ok(false),
            Next::Wait if !woken => return Ok(false),
            Next::Wait | Next::Yield => {
                self.feed();
                return Ok(self.next != Next::Wait);
            }
            Next::Read(_) if self.filled == 0 => self.poll_read_shared(context),
            Next::Read(total) => self.poll_read_own(context, total),
        };
        match read {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => {
                self.next = Next::End;
                let no = self.no;
                self.host
                    .with(|engine| engine.input_ended(no, clock::now()));
                Ok(true)
            }
            Poll::Ready(Ok(_)) => Ok(true),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Poll::Ready(Err(_)) => Err(End::Gone),
        }
    }

    /// Reads through the shared buffer; only what the engine does not take is kept.
    fn poll_read_shared(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut shared = self.host.scratch.borrow_mut();
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut shared);
        if let Poll::Ready(Ok(bytes)) = polled {
            let read = shared.get(..bytes).unwrap_or_default();
            let no = self.no;
            let progress = self.host.with(|engine| engine.input(no, stamp(), read));
            self.next = progress.next;
            let rest = read.get(progress.consumed..).unwrap_or_default();
            self.input = rest.to_vec();
            self.filled = rest.len();
        }
        polled
    }

    /// Reads behind what is there already, up to what the engine wants: of a large command not a
    /// byte beyond its end, because only that much of the pool is ours.
    fn poll_read_own(
        &mut self,
        context: &mut Context<'_>,
        total: usize,
    ) -> Poll<io::Result<usize>> {
        let size = total.max(limits::INPUT_BYTES_MAX);
        if self.input.len() < size {
            self.input.reserve_exact(size - self.input.len());
            self.input.resize(size, 0);
        }
        let space = self.input.get_mut(self.filled..size).unwrap_or_default();
        let polled = Pin::new(&mut self.stream).poll_read(context, space);
        if let Poll::Ready(Ok(bytes)) = polled {
            self.filled += bytes;
            if self.filled >= total {
                self.feed();
            }
        }
        polled
    }

    /// Lets the engine have what was read.
    fn feed(&mut self) {
        let read = self.input.get(..self.filled).unwrap_or_default();
        let no = self.no;
        let progress = self.host.with(|engine| engine.input(no, stamp(), read));
        self.next = progress.next;
        self.filled -= progress.consumed;
        if self.filled == 0 {
            self.input = Vec::new();
        } else {
            self.input
                .copy_within(progress.consumed..progress.consumed + self.filled, 0);
        }
    }
}

/// Keeps a written buffer for the engine to fill again, without the memory that a burst left in it.
fn give_back(buffer: &mut Vec<u8>, written: usize) {
    buffer.clear();
    if buffer.capacity() > limits::OUTPUT_BYTES_MAX {
        *buffer = Vec::new();
    } else if written < buffer.capacity() / 8 {
        buffer.shrink_to(written);
    }
}
