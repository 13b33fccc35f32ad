//! nsq-edge: the NSQ of the edge.

fn main() {}
