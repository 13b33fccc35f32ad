//! The client's side: one request, one bounded answer, one connection.

use std::fmt;
use std::pin::pin;
use std::str::FromStr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use smol_hyper::rt::FuturesIo;

use super::server::read_body;
use super::{BodyError, Writing};
use crate::limits::{HTTP_BUFFER_BYTES_MAX, HTTP_HEAD_BYTES_MAX};
use crate::net::{Address, ConnectError, connect};
use crate::{Either, clock, race, timer};

/// `http://host[:port][/path][?query]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    address: Address,
    /// Path and query.
    target: String,
}

/// Why a text is no URL that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no URL: {reason}")]
pub struct UrlError {
    text: String,
    reason: String,
}

impl Url {
    /// A path with its query, at an address.
    ///
    /// # Errors
    /// When `target` does not begin with a slash, or has a blank, a control character or a `#` in
    /// it.
    pub fn new(address: Address, target: &str) -> Result<Url, UrlError> {
        let refused = |byte: u8| byte <= b' ' || byte == 0x7f || byte == b'#';
        if !target.starts_with('/') || target.bytes().any(refused) {
            let reason = "its path must begin with / and have no blanks, controls or #".to_owned();
            return Err(UrlError {
                text: target.to_owned(),
                reason,
            });
        }
        Ok(Url {
            address,
            target: target.to_owned(),
        })
    }

    /// Where it connects to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        &self.target
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.address, self.target)
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason: String| UrlError {
            text: text.to_owned(),
            reason,
        };
        let Some(rest) = text.strip_prefix("http://") else {
            return Err(refuse("it must begin with http://".to_owned()));
        };
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(split).unwrap_or((rest, ""));
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.ends_with(']'));
        let authority = if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        let address: Address = authority
            .parse()
            .map_err(|error| refuse(format!("{error}")))?;
        match &address {
            Address::Tcp { host, .. } if !host.is_empty() => {}
            _ => return Err(refuse("it has no host".to_owned())),
        }
        let target = if target.starts_with('/') {
            target.to_owned()
        } else {
            format!("/{target}")
        };
        Url::new(address, &target)
    }
}

/// An answer, whatever its status: redirects are not followed.
#[derive(Debug)]
pub struct Fetched {
    /// 200 and so on.
    pub status: u16,
    /// All of it.
    pub body: Vec<u8>,
    headers: hyper::HeaderMap,
}

impl Fetched {
    /// A header's first value, if it is printable ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Not within the time that the caller gave.
    #[error("no answer from {url} within {timeout:?}")]
    TimedOut {
        /// What was asked for.
        url: String,
        /// The bound.
        timeout: Duration,
    },
    /// The connection broke, or what came is no HTTP, or is larger than it may be.
    #[error("no answer from {url}: {reason}")]
    Broken {
        /// What was asked for.
        url: String,
        /// What happened.
        reason: String,
    },
}

/// Asks once, over a connection of its own, within `timeout` from connecting to the answer's last
/// byte. An answer's body larger than `bytes_max` is an error.
///
/// # Errors
/// See [`FetchError`]. A status of 400 or 500 is an answer.
pub async fn fetch(
    method: &str,
    url: &Url,
    headers: &[(&str, &str)],
    body: Vec<u8>,
    timeout: Duration,
    bytes_max: usize,
) -> Result<Fetched, FetchError> {
    let deadline = clock::now().saturating_add(timeout);
    let broken = |reason: String| FetchError::Broken {
        url: url.to_string(),
        reason,
    };
    let mut request = hyper::Request::builder()
        .method(method)
        .uri(url.target())
        .header("Host", host_header(&url.address))
        .header("Connection", "close");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| broken(error.to_string()))?;
    let stream = connect(&url.address, timeout).await?;
    let exchange = exchange(Writing::new(stream, timeout), request, timeout, bytes_max);
    match timer::timeout_at(deadline, exchange).await {
        Ok(Ok(fetched)) => Ok(fetched),
        Ok(Err(reason)) => Err(broken(reason)),
        Err(timer::TimedOut) => Err(FetchError::TimedOut {
            url: url.to_string(),
            timeout,
        }),
    }
}

async fn exchange(
    io: Writing,
    request: hyper::Request<Full<Bytes>>,
    pause_max: Duration,
    bytes_max: usize,
) -> Result<Fetched, String> {
    let (mut sender, connection) = http1::Builder::new()
        .max_header_size(HTTP_HEAD_BYTES_MAX)
        .max_buf_size(HTTP_BUFFER_BYTES_MAX)
        .title_case_headers(true)
        .handshake(FuturesIo::new(io))
        .await
        .map_err(|error| error.to_string())?;
    let asking = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let (parts, mut body) = response.into_parts();
        let body = read_body(&mut body, bytes_max, pause_max).await;
        let body = body.map_err(|error: BodyError| error.to_string())?;
        Ok(Fetched {
            status: parts.status.as_u16(),
            body,
            headers: parts.headers,
        })
    };
    let mut asking = pin!(asking);
    match race(asking.as_mut(), connection).await {
        Either::Left(fetched) => fetched,
        // The connection is done before we have taken all that it handed us.
        Either::Right(_) => asking.await,
    }
}

/// As clients write it: without the port when it is HTTP's own.
fn host_header(address: &Address) -> String {
    match address {
        Address::Tcp { host, port: 80 } if !host.contains(':') => host.clone(),
        Address::Tcp { .. } => address.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_with_and_without_port_path_and_query() {
        for (text, printed) in [
            (
                "http://a:4161/lookup?topic=t",
                "http://a:4161/lookup?topic=t",
            ),
            ("http://a", "http://a:80/"),
            ("http://a?x=1", "http://a:80/?x=1"),
            ("http://[::1]/ping", "http://[::1]:80/ping"),
            ("http://[::1]:4161", "http://[::1]:4161/"),
        ] {
            assert_eq!(text.parse::<Url>().unwrap().to_string(), printed);
        }
        for text in [
            "https://a/",
            "a:4161",
            "http://",
            "http:///x",
            "http://a:b/",
            "http://a/ b",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_host_header_leaves_out_the_port_of_http() {
        assert_eq!(host_header(&"a:80".parse().unwrap()), "a");
        assert_eq!(host_header(&"a:81".parse().unwrap()), "a:81");
        assert_eq!(host_header(&"[::1]:80".parse().unwrap()), "[::1]:80");
    }
}
