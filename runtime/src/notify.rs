//! What we tell the service manager and what it gives us, through libsystemd behind the feature
//! `systemd`.
//!
//! Without the feature, and when no service manager started us, every call does nothing: there is
//! no watchdog and there are no passed sockets. A message that cannot be sent is not worth an exit:
//! it is logged and the daemon goes on.

use std::time::Duration;

/// Start-up is finished: listeners accept.
pub fn ready() {
    send("READY", "1");
}

/// We drain and will exit.
pub fn stopping() {
    send("STOPPING", "1");
}

/// One line about our state for `systemctl status`. Line breaks in it become blanks.
pub fn status(text: &str) {
    send("STATUS", &text.replace(['\n', '\r', '\0'], " "));
}

/// Both the event loop and the storage thread made progress.
pub fn watchdog() {
    send("WATCHDOG", "1");
}

/// How often [`watchdog`] is due: half of the time after which the service manager would kill us,
/// as sd_watchdog_enabled(3) advises. `None` when there is no watchdog.
pub fn watchdog_interval() -> Option<Duration> {
    watchdog_timeout()
        .map(|timeout| timeout / 2)
        .filter(|interval| !interval.is_zero())
}

/// A listening socket that the service manager passed.
#[derive(Debug)]
pub struct PassedSocket {
    /// `FileDescriptorName=` of the socket unit; by default the unit's name.
    pub name: String,
    /// The socket.
    pub listener: std::net::TcpListener,
}

#[cfg(feature = "systemd")]
mod sys {
    use super::PassedSocket;
    use std::time::Duration;

    pub(super) fn send(key: &str, value: &str) {
        if let Err(error) = systemd::daemon::notify(false, [(key, value)].iter()) {
            log::warn!("the service manager cannot be told {key}={value}: {error}");
        }
    }

    pub(super) fn watchdog_timeout() -> Option<Duration> {
        match systemd::daemon::watchdog_enabled(false) {
            Ok(0) => None,
            Ok(micros) => Some(Duration::from_micros(micros)),
            Err(error) => {
                log::warn!("the service manager's watchdog setting cannot be read: {error}");
                None
            }
        }
    }

    pub(super) fn listen_fds() -> std::io::Result<Vec<PassedSocket>> {
        // Names are read first: the call below takes the variables away, so that children do not
        // inherit them.
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = Vec::new();
        for fd in systemd::daemon::listen_fds(true)?.iter() {
            let name = names.next().unwrap_or("unknown").to_owned();
            let listener = systemd::daemon::tcp_listener(fd).map_err(|error| {
                std::io::Error::new(
                    error.kind(),
                    format!("passed socket {name:?} (descriptor {fd}) is no TCP listener: {error}"),
                )
            })?;
            passed.push(PassedSocket { name, listener });
        }
        Ok(passed)
    }
}

#[cfg(not(feature = "systemd"))]
mod sys {
    use super::PassedSocket;
    use std::time::Duration;

    pub(super) fn send(_key: &str, _value: &str) {}

    pub(super) fn watchdog_timeout() -> Option<Duration> {
        None
    }

    pub(super) fn listen_fds() -> std::io::Result<Vec<PassedSocket>> {
        Ok(Vec::new())
    }
}

use sys::{send, watchdog_timeout};

/// The listening TCP sockets that the service manager passed, with their names, in its order. To be
/// called once, at start and before threads: it takes the descriptors and the environment variables
/// that announce them.
///
/// # Errors
/// When a passed descriptor is not a listening TCP socket.
pub fn listen_fds() -> std::io::Result<Vec<PassedSocket>> {
    sys::listen_fds()
}

#[cfg(test)]
#[cfg(feature = "systemd")]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;
    use std::time::Duration;

    /// Runs one of the tests below in a process of its own, which has the environment that the service
    /// manager gives: it cannot be changed in ours, where other threads may read it.
    fn child(test: &str, variables: &[(&str, &str)]) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            &format!("notify::tests::{test}"),
            "--ignored",
            "--nocapture",
        ]);
        command.envs(variables.iter().copied());
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }

    #[test]
    fn the_service_manager_is_told_and_asked_about_the_watchdog() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let path = path.to_str().unwrap();
        child(
            "told",
            &[("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "3000000")],
        );
        for expected in ["READY=1", "STATUS=a b", "WATCHDOG=1", "STOPPING=1"] {
            let mut buffer = [0; 100];
            let bytes = socket.recv(&mut buffer).unwrap();
            assert_eq!(std::str::from_utf8(&buffer[..bytes]).unwrap(), expected);
        }
    }

    #[test]
    #[ignore = "run by the test above, in a process of its own"]
    fn told() {
        assert_eq!(
            super::watchdog_interval(),
            Some(Duration::from_millis(1500))
        );
        super::ready();
        super::status("a\nb");
        super::watchdog();
        super::stopping();
    }

    #[test]
    fn without_a_service_manager_nothing_happens() {
        child("alone", &[]);
    }

    #[test]
    #[ignore = "run by the test above, in a process of its own"]
    fn alone() {
        super::ready();
        assert_eq!(super::watchdog_interval(), None);
        assert!(super::listen_fds().unwrap().is_empty());
    }

    #[test]
    fn a_passed_socket_is_taken_with_its_name() {
        // The shell makes the variables true: they name the process that they are for. What it passes is no
        // socket, which is as far as a test gets without a service manager.
        let script = "exec 3</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=tcp exec \"$@\"";
        let output = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "notify::tests::passed",
                "--ignored",
                "--nocapture",
            ])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }

    #[test]
    #[ignore = "run by the test above, in a process of its own"]
    fn passed() {
        let error = super::listen_fds().unwrap_err().to_string();
        assert!(
            error.contains("\"tcp\" (descriptor 3) is no TCP listener"),
            "{error}"
        );
    }
}
