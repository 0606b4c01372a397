//! embedmill: text records in, vectors out.
//!
//! [`Embedder`] embeds texts that are in memory. Everything else runs pipelines ([`run`]), in these stages:
//!
//! 1. [`source`] reads records, partition by partition, within the memory [`budget`]
//! 2. [`text`] extracts the id, the text and the kept columns of each record, and tokenizes the text
//! 3. [`window`] groups consecutive records into windows, the unit of delivery
//! 4. [`batch`] divides a window into micro-batches by text length
//! 5. [`encode`] runs the [`model`] on the micro-batches, with one worker thread per device
//! 6. [`output`] puts the rows back into source order, as Arrow, with vectors in the precision asked for
//! 7. [`delivery`] publishes the window through a [`sink`], and rejected records as dead letters
//!
//! Around the stages:
//!
//! - [`config`] is the pipeline file, [`plan`] the same after all checks, [`start`] makes a running [`pipeline`] of it
//! - [`check`] checks a plan against this machine, [`graph`] draws it, [`pipeline_test`] runs it on given records
//! - [`reload`] is what can change during a run, [`telemetry`] is metrics, status, logs and traces
//! - [`kafka`] has the source and the sink for Kafka, and the transactions that connect them
//! - [`record`] has the data that flows between stages, [`columnar`] its Arrow columns, [`matrix`] its vectors
//! - [`failure`] classifies errors as to be retried, rejected or fatal; [`backoff`] is the time between retries
//! - [`search`] finds nearest neighbours, and [`cli`] is the command line

pub mod backoff;
pub mod batch;
pub mod budget;
pub mod check;
pub mod cli;
pub mod columnar;
pub mod config;
pub mod delivery;
pub mod device;
pub mod digest;
pub mod embedder;
pub mod encode;
mod enum_names;
pub mod failure;
pub mod graph;
pub mod kafka;
pub mod matrix;
pub mod model;
pub mod output;
pub mod pipeline;
pub mod pipeline_test;
pub mod plan;
pub mod record;
pub mod reload;
pub mod search;
pub mod sink;
pub mod source;
pub mod start;
pub mod telemetry;
pub mod text;
pub mod window;

pub use config::{Config, ConfigError};
pub use embedder::{EmbedError, Embedder};
pub use matrix::Matrix;
pub use model::{Backend, ModelConfig};
pub use output::read::OutputFile;
pub use pipeline::{Progress, Stop, Summary};
pub use plan::{Plan, PlanError};
pub use start::{Error, run};
