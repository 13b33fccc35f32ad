//! Relays local channels to upstream nsqd: routes, uplinks, windows, backoff.
