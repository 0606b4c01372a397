//! What needs libtorch: vectors against sentence-transformers', and the binary with a real model.
#![cfg(feature = "torch")]

mod chains;
mod cli;
mod families;
mod golden;
mod packages;
mod precision;
mod scripts;
mod tokens;
mod vocabulary;
