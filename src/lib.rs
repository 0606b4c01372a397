//! embedmill: text records in, vectors out.
//!
//! The data's way:
//!
//! 1. [`source`] reads records, partition by partition, within the memory [`budget`]
//! 2. [`text`] finds each record's id, text and kept columns
//! 3. [`tokenize`] turns texts into token sequences
//! 4. [`window`] closes runs of records: the unit of delivery
//! 5. [`batch`] cuts a window into micro-batches by length
//! 6. [`encode`] runs the model on them, a worker thread a device
//! 7. [`columnar`] puts the rows back in source order, as Arrow, with vectors as [`quantize`] writes them
//! 8. [`delivery`] publishes the window through a [`sink`], rejected records through [`dead_letter`]
//!
//! [`config`] is what the user wrote, [`plan`] the same checked, [`start`] makes it a [`pipeline`] that runs, and
//! [`check`] looks whether it could;
//! [`kafka`] is a source, a sink and the promise between them; [`record`] holds what flows, [`failure`] what errors mean;
//! [`backoff`] is how long a try waits for the next, [`reload`] what can change while a run goes on;
//! [`telemetry`] shows what a run does, [`graph`] draws what it will do, [`trial`] tries it on given records.

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
pub mod embedder;

pub use config::{Config, ConfigError};
pub use embedder::{EmbedError, Embedder};
pub use matrix::Matrix;
pub use model::{Backend, ModelConfig};
pub use output::read::OutputFile;
pub use pipeline::{Progress, Stop, Summary};
pub use plan::{Plan, PlanError};
pub use start::{Error, run};
