//! The binary: hands its arguments to [`semel::cli`].

use std::process::ExitCode;

/// Requests are many small and short-lived pieces of memory, which threads hand to each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    semel::cli::main()
}
