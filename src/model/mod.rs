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

pub(crate) mod chain;
mod chain_builder;
pub(crate) mod config;
pub(crate) mod config_file;
pub(crate) mod dense;
mod error;
pub(crate) mod files;
mod find;
pub(crate) mod hub;
mod max_seq_length;
pub(crate) mod module_classes;
pub(crate) mod modules_json;
pub(crate) mod pooling;
mod read;
pub(crate) mod runtime;
pub(crate) mod script;
pub(crate) mod sentence_bert_config;
pub(crate) mod sentence_transformers_config;
pub(crate) mod spec;
pub(crate) mod tokenizer;

pub use config::{Backend, DenseChoice, ModelConfig, OutputValue, Precision};
pub use error::LoadError;
pub(crate) use find::{find, find_for_queries};
pub use pooling::{Pooling, PoolingMode};
pub(crate) use runtime::{ModelRuntime, Sizes};
pub(crate) use spec::ModelSpec;
