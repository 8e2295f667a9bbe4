//! The `deston` program.

fn main() {}
