//! argv to exit code.

use std::process::ExitCode;

/// libtorch allocates by it too, by the feature `unprefixed_malloc_on_supported_platforms`. glibc's allocator keeps what
/// threads free in arenas of their own, so that memory creeps up for a minute.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    embedmill::cli::main()
}
