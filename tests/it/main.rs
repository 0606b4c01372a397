//! Everything that can be tested without libtorch: the library by its public surface, and the binary as a user drives it.

mod cli;
mod collector;
mod dashboard;
mod formats;
mod hub;
mod observe;
mod pipeline;
mod pipelines;
mod prometheus;
mod rejected;
mod signals;
mod smaller;
mod traces;
mod trial;
mod walls;
