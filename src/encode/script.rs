//! A TorchScript file in place of the transformer: what it takes, and what it gives.
//!
//! TorchScript is code: whoever loads a file runs what its author wrote. So a file is used only where the user names it
//! (`model.script`), never because it lies in a model's folder. What it takes is read from its `forward`; what it gives is
//! found by running it once on two short texts, before any data moves (`torch::probe`).

use std::fmt;
use std::path::PathBuf;

use super::Precision;

/// A script as a worker loads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    pub file: PathBuf,
    /// What shorter texts of a batch are filled up with; the attention mask hides it.
    pub pad_id: u32,
    /// The tokens of two texts of different lengths, the longer one first, that it is tried with.
    pub trial: [Vec<u32>; 2],
}

/// What a script gives for a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub what: Gives,
    /// Length of each vector.
    pub width: usize,
    /// What the vectors come in.
    pub precision: Precision,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    /// A vector a token; pooling and modules come after it.
    TokenVectors,
    /// A vector a text; whatever modules there are, it has done their work.
    TextVectors,
}

impl fmt::Display for Gives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Gives::TokenVectors => "token vectors",
            Gives::TextVectors => "text vectors",
        })
    }
}

/// One argument of `forward`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// `[rows, length]`, padded.
    Ids,
    /// `[rows, length]`, 1 where there is a token and 0 where there is padding.
    Mask,
    /// `[rows, length]`, all 0: a text is one segment.
    TokenTypes,
    /// Left at None.
    None,
}

/// What a refusal of a signature ends with.
pub const EXPECTED: &str = "expected forward(input_ids, attention_mask) or forward(input_ids, attention_mask, token_type_ids), \
                            all Tensors; deploy/export_torchscript.py makes such a file";

/// The arguments to call `forward` with, of its declaration as libtorch prints it:
/// `forward(__torch__.Model self, Tensor input_ids, Tensor? x=None) -> Tensor`. Arguments are known by their names; where none
/// is, the first two are ids and mask.
pub fn inputs(declaration: &str) -> Result<Vec<Input>, String> {
    let refuse = |what: String| Err(format!("{what}; its declaration is {declaration}; {EXPECTED}"));
    let arguments = arguments(declaration);
    let named = |name: &str| match name {
        "input_ids" => Some(Input::Ids),
        "attention_mask" => Some(Input::Mask),
        "token_type_ids" => Some(Input::TokenTypes),
        _ => None,
    };
    let any_named = arguments.iter().any(|argument| named(argument.name).is_some());
    let mut inputs = Vec::new();
    for (index, argument) in arguments.iter().enumerate() {
        let by_place = [Input::Ids, Input::Mask].get(index).copied().filter(|_| !any_named);
        match named(argument.name).or(by_place) {
            Some(input) if matches!(argument.kind, "Tensor" | "Tensor?") => inputs.push(input),
            Some(_) => return refuse(format!("takes `{}` as {}", argument.name, argument.kind)),
            // Left out at the end, and None before other arguments: both are the author's own default.
            None if argument.default == Some("None") => inputs.push(Input::None),
            None if argument.default.is_some() => break,
            None => return refuse(format!("needs `{}`, which embedmill does not have", argument.name)),
        }
    }
    while inputs.last() == Some(&Input::None) {
        inputs.pop();
    }
    for (input, name) in [(Input::Ids, "input_ids"), (Input::Mask, "attention_mask")] {
        if !inputs.contains(&input) {
            return refuse(format!("does not take `{name}`"));
        }
    }
    Ok(inputs)
}

struct Argument<'a> {
    kind: &'a str,
    name: &'a str,
    default: Option<&'a str>,
}

/// The arguments but for `self`.
fn arguments(declaration: &str) -> Vec<Argument<'_>> {
    let inner = declaration.split_once('(').map_or("", |(_, rest)| rest);
    let (mut depth, mut start, mut parts) = (0usize, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            ')' if depth == 0 => {
                parts.push(&inner[start..at]);
                break;
            }
            ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    let argument = |part: &'_ str| -> Option<(usize, usize, usize)> {
        // Offsets rather than slices keep the borrow that of the declaration.
        let equals = part.find('=').unwrap_or(part.len());
        part[..equals].rfind(' ').map(|space| (space, equals, part.len()))
    };
    let parts = parts.into_iter().map(str::trim).skip(1);
    let read = parts.filter_map(|part| {
        let (space, equals, end) = argument(part)?;
        let default = (equals < end).then(|| &part[equals + 1..]);
        Some(Argument { kind: part[..space].trim(), name: &part[space + 1..equals], default })
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_known_by_name_else_by_place() {
        let check = |arguments: &str, expected: &[Input]| {
            let declaration = format!("forward(__torch__.a.M self{arguments}) -> (Tensor, Dict(str, Tensor))");
            assert_eq!(inputs(&declaration).as_deref(), Ok(expected), "{declaration}");
        };
        use Input::{Ids, Mask, TokenTypes};
        check(", Tensor input_ids, Tensor attention_mask", &[Ids, Mask]);
        check(", Tensor attention_mask, Tensor input_ids", &[Mask, Ids]);
        check(", Tensor input_ids, Tensor attention_mask, Tensor? token_type_ids=None", &[Ids, Mask, TokenTypes]);
        check(", Tensor input_ids, Tensor? token_type_ids=None, Tensor? attention_mask=None", &[Ids, TokenTypes, Mask]);
        check(", Tensor input_ids, Tensor? position_ids=None, Tensor? attention_mask=None", &[Ids, Input::None, Mask]);
        check(", Tensor input_ids, Tensor attention_mask, bool return_dict=False", &[Ids, Mask]);
        check(", Tensor input_ids, Tensor attention_mask, Tensor? position_ids=None", &[Ids, Mask]);
        check(", Tensor x, Tensor x0", &[Ids, Mask]);
    }

    #[test]
    fn other_signatures_are_refused_with_what_is_expected() {
        let check = |arguments: &str, expected: &str| {
            let declaration = format!("forward(__torch__.M self{arguments}) -> Tensor");
            let found = inputs(&declaration).expect_err("it is refused");
            assert_eq!(found, format!("{expected}; its declaration is {declaration}; {EXPECTED}"));
        };
        check("", "does not take `input_ids`");
        check(", Tensor input_ids", "does not take `attention_mask`");
        check(", Tensor x", "does not take `attention_mask`");
        check(", Dict(str, Tensor) inputs", "takes `inputs` as Dict(str, Tensor)");
        let positions = ", Tensor input_ids, Tensor attention_mask, Tensor position_ids";
        check(positions, "needs `position_ids`, which embedmill does not have");
        check(", Tensor[] input_ids, Tensor attention_mask", "takes `input_ids` as Tensor[]");
        check(", Tensor input_ids, bool flag=False, Tensor? attention_mask=None", "does not take `attention_mask`");
    }
}
