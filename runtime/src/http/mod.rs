//! HTTP/1.1 as server and as client, on hyper: small messages, bounded in every direction.

mod client;
mod query;
mod router;
mod server;
#[cfg(test)]
mod tests;

pub use client::{FetchError, Fetched, Url, UrlError, fetch};
pub use query::{Query, QueryError};
pub use router::{Found, Route, find};
pub use server::{BodyError, Limits, Request, Response, serve};

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use smol::io::{AsyncRead, AsyncWrite};

use crate::net::Stream;
use crate::{clock, timer};

/// Our timers for hyper.
#[derive(Debug, Clone, Copy)]
struct HyperTimer;

impl hyper::rt::Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(timer::sleep(duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep(deadline.saturating_duration_since(clock::instant()))
    }

    fn now(&self) -> Instant {
        clock::instant()
    }
}

impl hyper::rt::Sleep for timer::Sleep {}

/// A stream on which a write that makes no progress for a time is an error: a peer that does not
/// read its answer must not keep it in our memory for ever. (Reads have hyper's and our own
/// deadlines.)
#[derive(Debug)]
struct Writing {
    stream: Stream,
    patience: Duration,
    stalled: Option<timer::Sleep>,
}

impl Writing {
    fn new(stream: Stream, patience: Duration) -> Writing {
        Writing {
            stream,
            patience,
            stalled: None,
        }
    }

    fn progress<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<std::io::Result<T>>,
    ) -> Poll<std::io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| timer::sleep(patience));
        match Pin::new(stalled).poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(timer::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Writing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Writing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.progress(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.progress(context, polled)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_close(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}
