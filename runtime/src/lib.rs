//! The one crate that names smol, async-io, hyper and systemd: listeners, streams, clock, timers, signals, HTTP.
