//! embedmill: text records in, vectors out.
//!
//! The program is a stream-processing operator; the library is the same without the command line.
//!
//! - [`Embedder`] embeds texts that are in memory, with the vectors of sentence-transformers.
//! - [`Config`] is a pipeline file, [`Plan`] the same after all checks, [`run`] runs it to its end. Records come from files or
//!   Kafka, and rows go to files or Kafka, in source order, with the guarantee that the plan describes.
//! - [`OutputFile`] reads vectors back from the files that a pipeline wrote, and [`Nearest`] finds the nearest of them.
//!
//! ```
//! use embedmill::{Backend, Embedder, ModelConfig};
//!
//! // The hash backend needs neither libtorch nor a model; a real one is named by its id on the hub, or by its folder.
//! let config = ModelConfig { backend: Backend::Hash, ..ModelConfig::default() };
//! let vectors = Embedder::load(&config)?.embed(&["a text", "another"])?;
//! assert_eq!((vectors.rows(), vectors.dim()), (2, 384));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/` has whole programs. Without the feature `torch` only the hash backend computes; without the feature `kafka`
//! pipelines have files at both ends. ARCHITECTURE.md is the map of the source.

#![cfg_attr(
    not(all(feature = "kafka", feature = "torch")),
    allow(dead_code, reason = "some code serves only Kafka or libtorch; the build with both finds what nothing calls")
)]

mod backoff;
mod batch;
mod budget;
mod check;
mod columnar;
mod config;
mod delivery;
mod device;
mod digest;
mod embedder;
mod encode;
mod enum_names;
mod failure;
mod graph;
mod kafka;
mod matrix;
mod model;
mod output;
mod pipeline;
mod pipeline_test;
mod plan;
mod record;
mod reload;
mod search;
mod sink;
mod source;
mod start;
mod telemetry;
mod text;
mod window;

#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod internal;

pub use config::{Config, ConfigError};
pub use embedder::{EmbedError, Embedder};
pub use encode::EncodeError;
pub use matrix::Matrix;
pub use model::{Backend, DenseChoice, LoadError, ModelConfig, OutputValue, Pooling, PoolingMode, Precision};
pub use output::Vectors;
pub use output::quantize::{OutputPrecision, Quantizer};
pub use output::read::{OutputFile, ReadError};
pub use pipeline::{Progress, RunError, Stop, Summary};
pub use plan::{Plan, PlanError};
pub use record::Settled;
pub use search::{Hit, Nearest};
pub use sink::Written;
pub use start::{Error, StartError, run};
