//! Topics, channels, in-flight, sessions: the nsqd side.

mod registration;
