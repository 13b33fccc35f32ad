//! What a broker takes at most, as a formula of what an operator sets.

use config::BrokerOptions;

use crate::engine::ENTRY_BYTES_MAX;
use crate::limits::SESSION_BYTES_MAX;

/// Bytes that the broker's own structures take at most when every bound is reached at once: the sessions, the
/// parts of bodies beyond their small buffers, and everything outstanding. The store's come on top; the formula of
/// the whole program, which `memory.max` is checked against, is [`config::MemoryEstimate`], and a test sees to it
/// that it covers this one.
#[must_use]
pub fn bytes_max(options: &BrokerOptions) -> u64 {
    let sessions = u64::from(options.connections_max) * SESSION_BYTES_MAX as u64;
    let outstanding = u64::from(options.storage.outstanding_max) * ENTRY_BYTES_MAX as u64;
    sessions + outstanding + u64::from(options.bodies_bytes_max)
}

#[cfg(test)]
mod tests {
    use config::{Config, Environment};

    use super::*;

    #[test]
    fn the_programs_formula_covers_the_brokers() {
        let options = Config::default().resolve(&Environment::default()).unwrap();
        let part = |what: &str| {
            let parts = options.memory.parts.iter();
            parts
                .filter(|part| part.what == what)
                .map(|part| part.bytes_each)
                .sum::<u64>()
        };
        assert!(
            part("connections") >= SESSION_BYTES_MAX as u64,
            "{SESSION_BYTES_MAX}"
        );
        assert!(
            part("messages outstanding") >= ENTRY_BYTES_MAX as u64,
            "{ENTRY_BYTES_MAX}"
        );
        assert!(part("ephemeral messages") >= storage::limits::EPHEMERAL_BYTES_MAX as u64);
        assert!(bytes_max(&options.broker) < options.memory.bytes());
    }
}
