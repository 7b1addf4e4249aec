//! The binary: hands its arguments to [`semel::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    semel::cli::main()
}
