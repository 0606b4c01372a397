//! Records to rows of text: [`field`] is the `record:` section (id, text, kept fields), [`extract`] applies it.

pub(crate) mod extract;
pub(crate) mod field;
mod select_fields;
