//! Everything that can be tested without libtorch: the library by its public surface, and the binary as a user drives it.
#![allow(unreachable_pub, reason = "`pub` is what other files of these tests use")]

mod chart;
mod cli;
mod compatibility;
mod completions;
mod dashboard;
mod deploy;
mod formats;
mod hub;
mod layers;
mod observe;
mod pipeline;
mod pipeline_files;
mod pipeline_test;
mod quantization;
mod rejected;
mod shards;
mod signals;
mod traces;
mod walls;
mod words;

#[path = "../common/collector.rs"]
mod collector;
#[path = "../common/prometheus.rs"]
mod prometheus;
#[path = "../common/repository.rs"]
mod repository;
