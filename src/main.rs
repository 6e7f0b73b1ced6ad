//! The program `kinora`.

fn main() {}
