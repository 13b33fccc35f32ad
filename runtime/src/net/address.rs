//! Where to listen or connect.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// `host:port`, `:port` (all interfaces), `[v6]:port`, or a unix socket as a path with a slash or
/// `unix:path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host name or an IP address, and a port.
    Tcp {
        /// Without brackets; empty for all interfaces.
        host: String,
        /// Zero asks for any free port when listening.
        port: u16,
    },
    /// A unix socket's path.
    Unix(PathBuf),
}

impl Address {
    /// The port; `None` for a unix socket.
    pub fn port(&self) -> Option<u16> {
        match self {
            Address::Tcp { port, .. } => Some(*port),
            Address::Unix(_) => None,
        }
    }
}

impl From<std::net::SocketAddr> for Address {
    fn from(address: std::net::SocketAddr) -> Self {
        Address::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no address: {reason} (HOST:PORT, :PORT, [IPv6]:PORT or a unix socket's /PATH)"
)]
pub struct AddressError {
    text: String,
    reason: &'static str,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| {
            Err(AddressError {
                text: text.to_owned(),
                reason,
            })
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() || path.contains('\0') {
                refuse("the path is empty or has a zero byte")
            } else {
                Ok(Address::Unix(path.into()))
            };
        }
        if text.contains('\0') {
            return refuse("it has a zero byte");
        }
        if text.contains('/') {
            return Ok(Address::Unix(text.into()));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return refuse("it has no port");
        };
        let host = match host.strip_prefix('[') {
            Some(inner) => match inner.strip_suffix(']') {
                Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
                _ => return refuse("what is in brackets is no IPv6 address"),
            },
            None if host.contains(':') => return refuse("an IPv6 address needs brackets"),
            None => host,
        };
        if host.contains(char::is_whitespace) {
            return refuse("the host has a blank");
        }
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse() {
            Ok(port) if digits => Ok(Address::Tcp {
                host: host.to_owned(),
                port,
            }),
            _ => refuse("the port is not between 0 and 65535"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address_is_read_and_printed_back() {
        for text in [
            "example.com:4150",
            "127.0.0.1:0",
            ":4150",
            "[::1]:4150",
            "/run/nsq.sock",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!(
            "unix:nsq.sock".parse(),
            Ok(Address::Unix("nsq.sock".into()))
        );
        assert_eq!(
            "[::1]:1".parse(),
            Ok(Address::Tcp {
                host: "::1".into(),
                port: 1
            })
        );
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "no port"),
            ("example.com", "no port"),
            ("host:", "between 0 and 65535"),
            ("host:65536", "between 0 and 65535"),
            ("host:+1", "between 0 and 65535"),
            ("::1:4150", "needs brackets"),
            ("[nonsense]:1", "in brackets"),
            ("a b:1", "blank"),
            ("unix:", "path is empty"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
