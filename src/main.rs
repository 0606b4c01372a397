//! The binary `embedmill`: the command line of the library, and the process's allocator.

use std::process::ExitCode;

/// jemalloc, because glibc's allocator keeps memory that threads free in per-thread arenas, so that memory use creeps up.
/// libtorch allocates with it too, through the feature `unprefixed_malloc_on_supported_platforms`.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    embedmill::cli::main()
}
