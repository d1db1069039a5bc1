//! The executable `captcha`. Everything is in the library.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Gives memory back to the system within seconds after a peak, by a thread of its own; the C library's allocator keeps
/// it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    captcha::cli::run()
}
