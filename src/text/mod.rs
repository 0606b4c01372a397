//! Records to rows of text: [`field`] is the `record:` section (id, text, kept fields), [`extract`] applies it.

pub mod extract;
pub mod field;
mod select_fields;
