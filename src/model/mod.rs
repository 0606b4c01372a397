//! What a model folder says, before libtorch or a weight is touched. Everything in a folder is untrusted: whatever changes
//! the vectors and is not supported is refused by name.
//!
//! - [`config`] is the `model:` section of the pipeline file
//! - [`hub`] finds the model's folder: a path, the cache, or a download by model id
//! - [`spec`] reads that folder, checked, as a [`ModelSpec`]: with [`modules_json`] the modules in their order, by their
//!   [`module_classes`], with
//!   [`chain`] what they compute together, with [`pooling`] and [`prompts`] the settings of these
//! - [`files`] finds the weights, [`config_file`] reads the small JSON files
//! - [`script`] is a TorchScript file in place of the transformer, which only the user can name
//! - [`tokenizer`] turns texts into token ids as the model's own tokenizer does
//! - [`find`] is the way from the configuration to all that
//! - [`runtime`] is what this room asks of the room that runs the model

pub mod chain;
pub mod config;
pub mod config_file;
mod error;
pub mod files;
mod find;
pub mod hub;
pub mod module_classes;
pub mod modules_json;
pub mod pooling;
pub mod prompts;
pub mod runtime;
pub mod script;
pub mod spec;
pub mod tokenizer;

pub use config::{Backend, DenseChoice, ModelConfig, OutputValue, Precision};
pub use error::LoadError;
pub use find::{find, find_for_queries};
pub use pooling::{Pooling, PoolingMode};
pub use runtime::{ModelRuntime, Sizes};
pub use spec::ModelSpec;
