//! What needs libtorch: vectors against sentence-transformers', and the binary with a real model.
#![allow(unreachable_pub, reason = "`pub` is what other files of these tests use")]
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

#[path = "../common/models.rs"]
mod models;
