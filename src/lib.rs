//! embedmill: text records in, vectors out.
//!
//! The program is a stream-processing operator; the library provides the same functions without the command line.
//!
//! - [`Embedder`] embeds texts that are in memory, with the vectors of sentence-transformers.
//! - [`Config`] is a pipeline file, [`Plan`] is the same after all checks, and [`run`] runs a plan to its end. Records are
//!   read from files or Kafka, and rows are written to files or Kafka, in source order, with the plan's delivery guarantee.
//! - [`OutputFile`] reads vectors back from the files that a pipeline wrote, and [`Nearest`] finds nearest neighbours
//!   among them.
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
//! `examples/` has complete programs. Without the feature `torch` only the hash backend is available; without the feature
//! `kafka` pipelines read and write only files. ARCHITECTURE.md describes the structure of the source.

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
