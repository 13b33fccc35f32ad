//! The registry of brokers, its TCP and HTTP face: the nsqlookupd side.
