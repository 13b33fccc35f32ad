//! The server's side.

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use smol_hyper::rt::FuturesIo;

use super::{HyperTimer, Writing};
use crate::limits::{HTTP_BODY_STEP_BYTES, HTTP_BUFFER_BYTES_MAX, HTTP_HEAD_BYTES_MAX};
use crate::net::{Listener, Peer, Stream};
use crate::{Either, Slots, Stop, race, spawn, timer};

/// What clients may take of a server. Whoever exceeds a time is disconnected.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections served at once; others wait in the kernel's queue.
    pub connections_max: usize,
    /// For the head of a request to be complete, from the end of the last request on: how long an
    /// idle connection is kept.
    pub head_time_max: Duration,
    /// Between two pieces of a request's body.
    pub body_pause_max: Duration,
    /// For a request's whole body.
    pub body_time_max: Duration,
    /// Between two pieces of an answer that the client takes.
    pub write_pause_max: Duration,
    /// For requests that are being served when the stop is requested.
    pub drain_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 64,
            head_time_max: Duration::from_secs(60),
            body_pause_max: Duration::from_secs(10),
            body_time_max: Duration::from_secs(60),
            write_pause_max: Duration::from_secs(10),
            drain_time_max: Duration::from_secs(3),
        }
    }
}

/// Serves HTTP/1.1 until `stop` is requested and the requests of that moment are answered.
/// Connections are kept alive. The handler decides on a request by its head, and only then asks for
/// its body, with a bound; a client that sent `Expect: 100-continue` is told to go on by that. A
/// body that nobody read ends the connection after the answer.
pub async fn serve<H, F>(listener: Listener, limits: Limits, stop: Stop, handler: H)
where
    H: Fn(Request) -> F + 'static,
    F: Future<Output = Response> + 'static,
{
    let handler = Rc::new(handler);
    let slots = Slots::new(limits.connections_max);
    let accept = async || {
        let slot = slots.acquire().await;
        (listener.accept().await, slot)
    };
    while let Either::Right((stream, slot)) = race(stop.requested(), accept()).await {
        let connection = connection(stream, limits, stop.clone(), Rc::clone(&handler));
        spawn(async move {
            connection.await;
            drop(slot);
        })
        .detach();
    }
    drop(listener);
    slots.all_free().await;
}

async fn connection<H, F>(stream: Stream, limits: Limits, stop: Stop, handler: Rc<H>)
where
    H: Fn(Request) -> F + 'static,
    F: Future<Output = Response> + 'static,
{
    let (peer, closing) = (stream.peer(), stream.clone());
    // A connection that says nothing costs its slot, but not yet hyper's buffers.
    let first_bytes = timer::timeout(limits.head_time_max, stream.readable());
    match race(stop.requested(), first_bytes).await {
        Either::Right(Ok(Ok(()))) => {}
        Either::Left(()) | Either::Right(_) => return,
    }
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let answer = handler(Request {
            inner: request,
            peer,
            limits,
        });
        async move { Ok::<_, Infallible>(answer.await.into_hyper()) }
    });
    let serving = http1::Builder::new()
        .timer(HyperTimer)
        .header_read_timeout(limits.head_time_max)
        .max_header_size(HTTP_HEAD_BYTES_MAX)
        .max_buf_size(HTTP_BUFFER_BYTES_MAX)
        .title_case_headers(true) // what scripts written against Go's server look for
        .serve_connection(
            FuturesIo::new(Writing::new(stream, limits.write_pause_max)),
            service,
        );
    let mut serving = pin!(serving);
    let served = match race(serving.as_mut(), stop.requested()).await {
        Either::Left(served) => served,
        Either::Right(()) => {
            serving.as_mut().graceful_shutdown();
            timer::timeout(limits.drain_time_max, serving)
                .await
                .unwrap_or(Ok(()))
        }
    };
    if let Err(error) = served {
        log::debug!("HTTP connection from {peer}: {error}");
    }
    // An answer given before the request was read to its end must survive the closing.
    closing.finish().await;
}

/// A request whose head has arrived.
#[derive(Debug)]
pub struct Request {
    inner: hyper::Request<Incoming>,
    peer: Peer,
    limits: Limits,
}

impl Request {
    /// In capitals.
    pub fn method(&self) -> &str {
        self.inner.method().as_str()
    }

    /// Without the query, as it was sent.
    pub fn path(&self) -> &str {
        self.inner.uri().path()
    }

    /// What follows the question mark; empty without one.
    pub fn query(&self) -> &str {
        self.inner.uri().query().unwrap_or("")
    }

    /// A header's first value, if it is printable ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// Who asks.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The body's size; `None` when it comes in chunks of unknown number.
    pub fn content_length(&self) -> Option<u64> {
        self.inner.body().size_hint().exact()
    }

    /// Reads the body. One that is announced to be larger than `bytes_max` is refused without
    /// reading any of it.
    ///
    /// # Errors
    /// See [`BodyError`].
    pub async fn body(&mut self, bytes_max: usize) -> Result<Vec<u8>, BodyError> {
        let pause_max = self.limits.body_pause_max;
        let reading = read_body(self.inner.body_mut(), bytes_max, pause_max);
        timer::timeout(self.limits.body_time_max, reading)
            .await
            .unwrap_or(Err(BodyError::TimedOut))
    }
}

/// Why a body is not had.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is, or is announced to be, larger than it may be.
    #[error("the body is larger than {bytes_max} bytes")]
    TooLarge {
        /// The bound.
        bytes_max: usize,
    },
    /// It came too slowly.
    #[error("the body did not arrive in time")]
    TimedOut,
    /// The connection ended, or what came is no HTTP.
    #[error("the body did not arrive: {0}")]
    Broken(String),
}

/// Reads a body into memory that grows with what has really arrived.
pub(super) async fn read_body(
    body: &mut Incoming,
    bytes_max: usize,
    pause_max: Duration,
) -> Result<Vec<u8>, BodyError> {
    let too_large = BodyError::TooLarge { bytes_max };
    // The lower bound is the Content-Length if there is one, else 0.
    let Ok(announced) = usize::try_from(body.size_hint().lower()) else {
        return Err(too_large);
    };
    if announced > bytes_max {
        return Err(too_large);
    }
    let mut bytes = Vec::with_capacity(announced.min(HTTP_BODY_STEP_BYTES));
    loop {
        let frame = match timer::timeout(pause_max, body.frame()).await {
            Err(_) => return Err(BodyError::TimedOut),
            Ok(None) => return Ok(bytes),
            Ok(Some(Err(error))) => return Err(BodyError::Broken(error.to_string())),
            Ok(Some(Ok(frame))) => frame,
        };
        let Some(data) = frame.data_ref() else {
            continue;
        }; // trailers
        let needed = bytes.len() + data.len();
        if needed > bytes_max {
            return Err(too_large);
        }
        if needed > bytes.capacity() {
            // Twice as much each time, but not past the end that is announced, or else allowed.
            let end = if announced > 0 { announced } else { bytes_max };
            let grown = (bytes.capacity() * 2).clamp(needed, end.max(needed));
            bytes.reserve_exact(grown - bytes.len());
        }
        bytes.extend_from_slice(data);
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    status: u16,
    headers: Vec<(&'static str, Cow<'static, str>)>,
    body: Vec<u8>,
}

impl Response {
    /// Without headers and body.
    pub fn new(status: u16) -> Response {
        Response {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(
        mut self,
        name: &'static str,
        value: impl Into<Cow<'static, str>>,
    ) -> Response {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Response {
        self.body = body.into();
        self
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    fn into_hyper(self) -> hyper::Response<Full<Bytes>> {
        let mut response = hyper::Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = hyper::StatusCode::from_u16(self.status)
            .unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            match (
                HeaderName::try_from(name),
                HeaderValue::try_from(value.as_bytes()),
            ) {
                (Ok(name), Ok(value)) => drop(response.headers_mut().append(name, value)),
                _ => log::error!("the header {name} cannot be sent: {value:?}"),
            }
        }
        response
    }
}
