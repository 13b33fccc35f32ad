//! End to end: real programs, simulation, conformance, crashes.
