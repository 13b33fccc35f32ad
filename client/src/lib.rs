//! NSQ producer and consumer: cores without I/O, and their host.
