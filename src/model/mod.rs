//! A model folder read and checked, before libtorch or a weight is touched. The files in it are untrusted: a setting that
//! changes the vectors and is not supported is refused by name, never ignored.
//!
//! From the pipeline file to a model:
//! - [`config`] is the `model:` section of the pipeline file
//! - [`find()`] leads from that section to a [`ModelSpec`]
//! - [`hub`] resolves a model id to a folder: a path, the cache, or a download
//! - `read` reads that folder as a [`spec::ModelSpec`], which says everything about the model but its weights
//! - [`runtime`] is what this module asks of the code that runs the model
//!
//! What a folder holds:
//! - [`modules_json`] lists the modules in their order, by the classes in [`module_classes`]
//! - [`chain`] is what they compute together, which `chain_builder` reads from their folders, with [`pooling`] and [`dense`]
//! - [`sentence_transformers_config`] holds the prompts and `truncate_dim`, [`sentence_bert_config`] the Transformer module's
//!   settings, and `max_seq_length` decides how long a text may be
//! - [`files`] finds the weights, [`config_file`] reads the small JSON files
//! - [`tokenizer`] turns texts into token ids as the model's own tokenizer does
//! - [`script`] is a TorchScript file or a compiled package in place of the transformer, which only the user can name

pub mod chain;
mod chain_builder;
pub mod config;
pub mod config_file;
pub mod dense;
mod error;
pub mod files;
mod find;
pub mod hub;
mod max_seq_length;
pub mod module_classes;
pub mod modules_json;
pub mod pooling;
mod read;
pub mod runtime;
pub mod script;
pub mod sentence_bert_config;
pub mod sentence_transformers_config;
pub mod spec;
pub mod tokenizer;

pub use config::{Backend, DenseChoice, ModelConfig, OutputValue, Precision};
pub use error::LoadError;
pub use find::{find, find_for_queries};
pub use pooling::{Pooling, PoolingMode};
pub use runtime::{ModelRuntime, Sizes};
pub use spec::ModelSpec;
