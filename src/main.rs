//! The `globaldns` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    globaldns::cli::main()
}
