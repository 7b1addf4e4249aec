//! The binary: what it does comes with the command line.

fn main() {}
