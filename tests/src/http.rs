//! A small HTTP/1.1 client over a plain socket, so that a test decides every byte of a request.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::wait::PATIENCE;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code, 0 if the peer closed without an answer.
    pub status: u16,
    /// Names in lower case, in the order sent.
    pub headers: Vec<(String, String)>,
    /// The body, without chunk framing.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first header of this name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics with the text if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// GET.
pub fn get(to: SocketAddr, target: &str) -> Reply {
    request(to, "GET", target, &[], b"")
}

/// POST with a body of known length.
pub fn post(to: SocketAddr, target: &str, body: &[u8]) -> Reply {
    request(to, "POST", target, &[], body)
}

/// One request on a connection of its own; Content-Length is added unless the headers name Transfer-Encoding or it.
pub fn request(
    to: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n");
    let mut framed = false;
    for (name, value) in headers {
        framed |= name.eq_ignore_ascii_case("transfer-encoding")
            || name.eq_ignore_ascii_case("content-length");
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    if !framed {
        write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    exchange(to, &bytes)
}

/// Sends exactly these bytes and reads to the end of the connection.
pub fn exchange(to: SocketAddr, bytes: &[u8]) -> Reply {
    try_exchange(to, bytes).unwrap_or_else(|error| panic!("HTTP with {to}: {error}"))
}

/// As [`exchange`], with every answer that came.
pub fn exchange_all(to: SocketAddr, bytes: &[u8]) -> Vec<Reply> {
    let all = try_read_all(to, bytes).unwrap_or_else(|error| panic!("HTTP with {to}: {error}"));
    let mut replies = Vec::new();
    let mut rest = all.as_slice();
    while replies.is_empty() || !rest.is_empty() {
        let (reply, behind) = parse(rest);
        replies.push(reply);
        rest = behind;
    }
    replies
}

/// As [`exchange`], but ends our side after the bytes: for requests that are cut short.
pub fn exchange_cut(to: SocketAddr, bytes: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut all = Vec::new();
    let _reset = stream.read_to_end(&mut all);
    parse(&all).0
}

/// As [`exchange`], for a peer that may not be there.
pub fn try_exchange(to: SocketAddr, bytes: &[u8]) -> io::Result<Reply> {
    Ok(parse(&try_read_all(to, bytes)?).0)
}

/// Is somebody answering /ping with 200 here?
pub fn pings(to: SocketAddr) -> bool {
    let request = format!("GET /ping HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    try_exchange(to, request.as_bytes()).is_ok_and(|reply| reply.status == 200)
}

fn try_read_all(to: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // A peer may refuse by the head alone and close while we still send: its answer is what counts.
    let sent = stream.write_all(bytes);
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Err(error) if all.is_empty() => Err(sent.err().unwrap_or(error)),
        _ => Ok(all),
    }
}

/// The first answer, and what lies behind it.
fn parse(all: &[u8]) -> (Reply, &[u8]) {
    let mut rest = all;
    loop {
        let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") else {
            return (
                Reply {
                    status: 0,
                    headers: Vec::new(),
                    body: rest.to_vec(),
                },
                b"",
            );
        };
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 4..];
        let mut lines = head.split("\r\n");
        let code = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok());
        let status = code.unwrap_or(0);
        if status == 100 {
            continue;
        }
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
            .collect();
        let reply = Reply {
            status,
            headers,
            body: Vec::new(),
        };
        if reply.header("transfer-encoding") == Some("chunked") {
            return (
                Reply {
                    body: unchunk(rest),
                    ..reply
                },
                b"",
            );
        }
        let length = reply
            .header("content-length")
            .and_then(|length| length.parse().ok());
        let (body, behind) = rest.split_at(length.unwrap_or(rest.len()).min(rest.len()));
        return (
            Reply {
                body: body.to_vec(),
                ..reply
            },
            behind,
        );
    }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size =
            usize::from_str_radix(String::from_utf8_lossy(&rest[..end]).trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < end + 2 + size + 2 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
    body
}
