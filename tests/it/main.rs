//! Everything that can be tested without libtorch: the library by its public surface, and the binary as a user drives it.

mod cli;
mod formats;
mod hub;
mod pipeline;
mod pipelines;
mod rejected;
mod signals;
mod smaller;
mod walls;
