//! From records to rows of text: what is the id, what is the text, what travels along.

pub mod extract;
pub mod field;
mod pick;
