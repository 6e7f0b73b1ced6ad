//! The program `kinora`; everything is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    kinora::run()
}
