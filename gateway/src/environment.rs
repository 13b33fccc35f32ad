//! What the surroundings say, read once.

use config::Environment;

/// Where Linux says the machine's name without a system call of ours.
const HOSTNAME_FILE: &str = "/proc/sys/kernel/hostname";

/// Reads `$STATE_DIRECTORY` and the machine's name.
pub(crate) fn read() -> Environment {
    let hostname = std::fs::read_to_string(HOSTNAME_FILE).unwrap_or_default();
    let hostname = match hostname.trim() {
        "" | "(none)" => "localhost",
        name => name,
    };
    Environment {
        state_directory: std::env::var("STATE_DIRECTORY").ok(),
        hostname: hostname.to_owned(),
    }
}
