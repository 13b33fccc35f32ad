//! NSQ's words: names, commands, frames, IDENTIFY, error codes, lookupd V1. No I/O.
