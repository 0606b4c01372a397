//! The encoder on libtorch: batches of token ids in, one vector for each sequence out, or one for each token. This folder is
//! the only place that names `tch`.
//!
//! From the top down:
//! - [`torch_encoder`] implements the trait [`Encoder`](super::Encoder); [`shared_model`] is a loaded model
//! - [`packed_batch`] lays a batch out flat, in groups of equal length, so that nothing is ever padded
//! - [`modules`] are the modules after the transformer; [`token_pooling`] makes token vectors one vector for each sequence
//! - [`families`] is the table of supported architectures; each reads its config.json and builds a [`layer_stack`]
//! - [`script_transformer`] runs a TorchScript file or an AOTInductor [`package`] in place of a family
//! - [`layers`], [`attention`] and [`rotary`] are what families are built of
//! - [`weights`] reads and checks safetensors by [`tensor_names`]; [`config_keys`] and [`layer_types`] read config.json
//! - [`simd`] has loops for cases where libtorch's operations cost more than the arithmetic; [`memory`] gives them access to
//!   tensors
//! - [`libtorch`] is about threads, GPUs and the meaning of libtorch's errors
//!
//! Only the finished `[rows, dim]` is copied back from the device. Every call of libtorch is one of tch's `f_` functions,
//! which return C++ exceptions as errors. Gradients are off for a worker's thread.

mod attention;
mod config_keys;
mod families;
mod layer_stack;
mod layer_types;
mod layers;
mod libtorch;
mod memory;
mod modules;
mod package;
mod packed_batch;
mod rotary;
mod script_transformer;
mod shared_model;
mod simd;
mod tensor_names;
mod token_pooling;
mod torch_encoder;
mod torchscript;
mod transformer;
mod weights;

pub(crate) use families::check;
pub use families::families;
pub(crate) use libtorch::{cuda_devices, why_no_cuda};
pub(crate) use shared_model::SharedModel;
pub(crate) use torch_encoder::{load, probe_script};
