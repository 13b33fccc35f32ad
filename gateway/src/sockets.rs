//! Where the daemons listen: sockets that systemd passes, by their `FileDescriptorName=`, or else the
//! configured addresses.

use runtime::net::{Address, Listener};
use runtime::notify::{self, PassedSocket};

/// The names that a socket unit may give.
const NAMES: [&str; 4] = ["broker-tcp", "broker-http", "lookupd-tcp", "lookupd-http"];

/// Where this machine itself reaches a listener: on the loopback, if it listens on all addresses.
pub(crate) fn to_dial(listening: &Address) -> String {
    match listening {
        Address::Tcp { host, port } if host.is_empty() || host == "0.0.0.0" => {
            format!("127.0.0.1:{port}")
        }
        Address::Tcp { host, port } if host == "::" => format!("[::1]:{port}"),
        other => other.to_string(),
    }
}

/// The sockets that were passed and not yet taken.
pub(crate) struct Sockets {
    passed: Vec<PassedSocket>,
}

impl Sockets {
    /// Takes what was passed. To be called once, before threads start.
    pub(crate) fn take() -> Result<Self, String> {
        let passed =
            notify::listen_fds().map_err(|error| format!("sockets passed by systemd: {error}"))?;
        Ok(Self { passed })
    }

    /// The passed socket of that name, or else a listener on `address`.
    pub(crate) fn listener(&mut self, name: &str, address: &str) -> Result<Listener, String> {
        if let Some(at) = self.passed.iter().position(|socket| socket.name == name) {
            let socket = self.passed.swap_remove(at);
            log::info!("{name}: the socket passed by systemd wins over {address}");
            return Listener::from_std(socket.listener)
                .map_err(|error| format!("{name}: the socket passed by systemd: {error}"));
        }
        let address: Address = address
            .parse()
            .map_err(|error| format!("{name}: {error}"))?;
        Listener::bind(&address).map_err(|error| format!("{name}: {error}"))
    }

    /// A socket that nobody listens on would accept connections and never answer.
    pub(crate) fn all_taken(&self) -> Result<(), String> {
        match self.passed.first() {
            None => Ok(()),
            Some(socket) => Err(format!(
                "systemd passed a socket named {:?}; FileDescriptorName= must be one of {}, of a \
                 daemon that runs",
                socket.name,
                NAMES.join(", ")
            )),
        }
    }
}
