//! Everything that can be tested without libtorch: the library by its public surface, and the binary as a user drives it.

mod chart;
mod cli;
mod collector;
mod dashboard;
mod deploy;
mod formats;
mod hub;
mod layers;
mod observe;
mod pipeline;
mod pipelines;
mod prometheus;
mod rejected;
mod shards;
mod shipped;
mod signals;
mod smaller;
mod traces;
mod trial;
mod walls;
