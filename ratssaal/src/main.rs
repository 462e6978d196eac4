//! The Ratssaal binary.
fn main() {}
