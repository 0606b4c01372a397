//! The pipeline file: YAML files, environment variables and `--set` merged into one typed [`Config`].
//!
//! Each stage defines its section beside its code; this file puts the sections together. Layers, each overriding those
//! before it: defaults, files in the order given, environment variables such as `EMBEDMILL__A__B`, `--set a.b=v`.
//! `${VAR}`, `${VAR:-default}` and `${VAR:?message}` are expanded in string values. Only this module reads the
//! environment.

mod aliases;
mod environment;
mod error;
mod file;
mod keys;
mod layers;
mod messages;
mod read;
mod source_and_sink;
mod variables;
mod yaml;

pub(crate) use environment::{hub_settings, log_filter, otlp_settings};
pub use error::ConfigError;
pub use file::{Config, schema};
pub use layers::Layers;
pub(crate) use layers::document;
pub(crate) use source_and_sink::{DeadLetterConfig, SinkConfig, SourceConfig};
