//! A TorchScript file or a package of AOTInductor in place of the transformer: what it takes, and what it gives.
//!
//! Both are code: whoever loads a file runs what its author wrote. So a file is used only where the user names it
//! (`model.script`), never because it lies in a model's folder. What it takes is read from its `forward`, or from a package's
//! tree of inputs; what it gives is found by running it once on two short texts, before any data moves
//! (`torch::try_script`).

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Precision;

/// What kind of file it is, by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `torch.jit.save`
    TorchScript,
    /// `torch._inductor.aoti_compile_and_package`: `.pt2`
    Package,
}

impl Kind {
    pub fn of(file: &Path) -> Kind {
        match file.extension() {
            Some(end) if end.eq_ignore_ascii_case("pt2") => Kind::Package,
            _ => Kind::TorchScript,
        }
    }

    /// As it stands in the place of a model's family.
    pub fn family(self) -> &'static str {
        match self {
            Kind::TorchScript => "torchscript",
            Kind::Package => "aotinductor",
        }
    }
}

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
pub struct ScriptOutput {
    pub what: OutputKind,
    /// Length of each vector.
    pub width: usize,
    /// What the vectors come in.
    pub precision: Precision,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    /// A vector a token; pooling and modules come after it.
    TokenVectors,
    /// A vector a text; whatever modules there are, it has done their work.
    TextVectors,
}

impl fmt::Display for OutputKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OutputKind::TokenVectors => "token vectors",
            OutputKind::TextVectors => "text vectors",
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
                            all Tensors; scripts/export_torchscript.py makes such a file";

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

/// The names under which dictionaries have vectors, the whole text's first.
pub const VECTORS: [&str; 3] = ["sentence_embedding", "token_embeddings", "last_hidden_state"];

/// What is asked of a package, where it does not fit.
const PACKAGE_EXPECTED: &str = "expected input_ids and attention_mask, in this order or by these names, and perhaps \
                                token_type_ids, all tensors; scripts/export_package.py makes such a file";

/// The arguments to run a package with, of torch's specification of the tree of its inputs: those given by place are ids,
/// mask and token types; others are known by their names.
pub fn package_inputs(spec: &str) -> Result<Vec<Input>, String> {
    let refuse = |what: &str| Err(format!("{what}; {PACKAGE_EXPECTED}"));
    let Some([by_place, by_name]) = tree(spec).and_then(|tree| <[Value; 2]>::try_from(children(&tree)).ok()) else {
        return refuse("has inputs that cannot be read");
    };
    let (placed, named) = (children(&by_place), children(&by_name));
    if placed.iter().chain(&named).any(|child| !child["type"].is_null()) {
        return refuse("takes more than tensors");
    }
    let order = [Input::Ids, Input::Mask, Input::TokenTypes];
    let mut inputs: Vec<Input> = order.into_iter().take(placed.len()).collect();
    if inputs.len() < placed.len() {
        return refuse("takes more inputs than there are");
    }
    for name in names(&by_name) {
        match ["input_ids", "attention_mask", "token_type_ids"].iter().position(|known| *known == name) {
            Some(place) => inputs.push(order[place]),
            None => return refuse(&format!("needs `{name}`, which embedmill does not have")),
        }
    }
    if !inputs.contains(&Input::Ids) || !inputs.contains(&Input::Mask) {
        return refuse("does not take both ids and mask");
    }
    Ok(inputs)
}

/// Which of a package's output tensors are its vectors, of torch's specification of the tree of its outputs: the only one, the
/// first of a tuple or list, or the one that a dictionary has under a name of [`VECTORS`].
pub fn package_output(spec: &str) -> Result<usize, String> {
    let expected = format!(
        "expected a tensor, a tuple or list that begins with one, or a dictionary with one of {}",
        VECTORS.join(", ")
    );
    let refuse = |what: &str| Err(format!("gives {what}; {expected}"));
    let Some(tree) = tree(spec) else { return refuse("what cannot be read") };
    let children = children(&tree);
    match tree["type"].as_str() {
        None => Ok(0),
        Some("builtins.tuple" | "builtins.list") => match children.first() {
            Some(first) if first["type"].is_null() => Ok(0),
            _ => refuse("a tuple that begins with no tensor"),
        },
        Some("builtins.dict") => {
            let names = names(&tree);
            let place = VECTORS.iter().find_map(|wanted| names.iter().position(|name| name == wanted));
            let flat = children.iter().all(|child| child["type"].is_null());
            place.filter(|_| flat).map_or_else(|| refuse(&format!("a dictionary of {}", names.join(", "))), Ok)
        }
        Some(other) => refuse(&format!("a {other}")),
    }
}

/// The root of `[version, root]`.
fn tree(spec: &str) -> Option<Value> {
    let spec: Value = serde_json::from_str(spec).ok()?;
    spec.get(1).cloned()
}

fn children(tree: &Value) -> Vec<Value> {
    tree["children_spec"].as_array().cloned().unwrap_or_default()
}

/// A dictionary's keys: its context is JSON in a string.
fn names(tree: &Value) -> Vec<String> {
    let context = tree["context"].as_str().and_then(|context| serde_json::from_str(context).ok());
    context.unwrap_or_default()
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

    const LEAF: &str = r#"{"type": null, "context": null, "children_spec": []}"#;

    fn node(kind: &str, context: &str, children: &[&str]) -> String {
        format!(
            r#"{{"type": "builtins.{kind}", "context": {}, "children_spec": [{}]}}"#,
            Value::from(context),
            children.join(",")
        )
    }

    #[test]
    fn a_packages_inputs_are_known_by_place_and_by_name() {
        let check = |placed: usize, named: &str, count: usize, expected: Result<&[Input], &str>| {
            let arguments = node("tuple", "null", &vec![LEAF; placed]);
            let keywords = node("dict", named, &vec![LEAF; count]);
            let spec = format!("[1, {}]", node("tuple", "null", &[arguments.as_str(), keywords.as_str()]));
            match (package_inputs(&spec), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{found}"),
                (found, expected) => panic!("{found:?} instead of {expected:?}"),
            }
        };
        use Input::{Ids, Mask, TokenTypes};
        check(2, "[]", 0, Ok(&[Ids, Mask]));
        check(3, "[]", 0, Ok(&[Ids, Mask, TokenTypes]));
        check(0, r#"["attention_mask", "input_ids"]"#, 2, Ok(&[Mask, Ids]));
        check(1, r#"["token_type_ids", "attention_mask"]"#, 2, Ok(&[Ids, TokenTypes, Mask]));
        check(1, "[]", 0, Err("does not take both ids and mask"));
        check(4, "[]", 0, Err("takes more inputs than there are"));
        check(2, r#"["position_ids"]"#, 1, Err("needs `position_ids`, which embedmill does not have"));
        assert!(package_inputs("{").is_err_and(|error| error.starts_with("has inputs that cannot be read")));
    }

    #[test]
    fn a_packages_vectors_are_found_among_its_outputs() {
        let check = |tree: String, expected: Result<usize, &str>| {
            let found = package_output(&format!("[1, {tree}]"));
            assert_eq!(
                found.as_ref().map_err(|error| error.split(';').next().unwrap_or_default()),
                expected.as_ref().map_err(|error| *error)
            );
        };
        check(LEAF.into(), Ok(0));
        check(node("tuple", "null", &[LEAF, LEAF]), Ok(0));
        check(node("dict", r#"["x", "last_hidden_state"]"#, &[LEAF, LEAF]), Ok(1));
        check(node("dict", r#"["last_hidden_state", "sentence_embedding"]"#, &[LEAF, LEAF]), Ok(1));
        check(node("dict", r#"["logits"]"#, &[LEAF]), Err("gives a dictionary of logits"));
        check(node("list", "null", &[]), Err("gives a tuple that begins with no tensor"));
        check(node("set", "null", &[LEAF]), Err("gives a builtins.set"));
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
