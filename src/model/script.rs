//! A TorchScript file or an AOTInductor package in place of the transformer: which inputs it takes, and what it returns.
//!
//! Both are code: loading a file executes what its author wrote. A file is therefore used only if the user names it
//! (`model.script`), never because it is in a model's folder. Its inputs are read from the declaration of its `forward`, or from
//! a package's tree of inputs. What it returns is found by running it once on two short texts, before any data moves
//! (`torch::probe_script`).

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Precision;

/// The format of the file, by its extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScriptFormat {
    /// A file of `torch.jit.save`.
    TorchScript,
    /// A `.pt2` file of `torch._inductor.aoti_compile_and_package`.
    Package,
}

impl ScriptFormat {
    /// The format of a file.
    pub(crate) fn of(file: &Path) -> ScriptFormat {
        match file.extension() {
            Some(extension) if extension.eq_ignore_ascii_case("pt2") => ScriptFormat::Package,
            _ => ScriptFormat::TorchScript,
        }
    }

    /// The name that takes the place of a model's family.
    pub(crate) fn family(self) -> &'static str {
        match self {
            ScriptFormat::TorchScript => "torchscript",
            ScriptFormat::Package => "aotinductor",
        }
    }
}

/// A script, with what a worker needs to load and run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The file.
    pub file: PathBuf,
    /// The token that pads the shorter texts of a batch. The attention mask hides it.
    pub pad_id: u32,
    /// The tokens of two texts to probe the script with. The first one is longer, so that the second one is padded.
    pub probe: [Vec<u32>; 2],
}

/// What a script returns for a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScriptOutput {
    /// Whether it returns one vector per token or per text.
    pub kind: OutputKind,
    /// Length of each vector.
    pub width: usize,
    /// The precision of the vectors.
    pub precision: Precision,
}

/// What the vectors that a script returns belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputKind {
    /// One vector per token. Pooling and the other modules come after it.
    TokenVectors,
    /// One vector per text. The script has done the work of all modules.
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

/// An argument of `forward`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScriptInput {
    /// Token ids, padded: `[rows, length]`.
    Ids,
    /// The attention mask, 1 for a token and 0 for padding: `[rows, length]`.
    Mask,
    /// Token type ids, all 0 since a text is one segment: `[rows, length]`.
    TokenTypes,
    /// An argument that is passed as `None`.
    None,
}

/// What is expected of the signature of `forward`, for errors.
pub(crate) const EXPECTED: &str = "expected forward(input_ids, attention_mask) or forward(input_ids, attention_mask, token_type_ids), \
                            all Tensors (scripts/export_torchscript.py makes such a file)";

/// The arguments to call `forward` with, from its declaration as libtorch prints it:
/// `forward(__torch__.Model self, Tensor input_ids, Tensor? x=None) -> Tensor`. Arguments are matched by name. If no name is
/// known, the first two are ids and mask.
///
/// # Errors
/// If an argument has another type, a required one is unknown, or ids or mask are not among them.
pub(crate) fn inputs(declaration: &str) -> Result<Vec<ScriptInput>, String> {
    let refuse = |problem: String| Err(format!("{problem} in {declaration}; {EXPECTED}"));
    let arguments = arguments(declaration);
    let named = |name: &str| match name {
        "input_ids" => Some(ScriptInput::Ids),
        "attention_mask" => Some(ScriptInput::Mask),
        "token_type_ids" => Some(ScriptInput::TokenTypes),
        _ => None,
    };
    let any_named = arguments.iter().any(|argument| named(argument.name).is_some());
    let mut inputs = Vec::new();
    for (index, argument) in arguments.iter().enumerate() {
        let by_position = [ScriptInput::Ids, ScriptInput::Mask].get(index).copied().filter(|_| !any_named);
        match named(argument.name).or(by_position) {
            Some(input) if matches!(argument.type_name, "Tensor" | "Tensor?") => inputs.push(input),
            Some(_) => return refuse(format!("argument {:?} is a {}", argument.name, argument.type_name)),
            // An optional argument before others gets its own default, None. At the end it is left out.
            None if argument.default == Some("None") => inputs.push(ScriptInput::None),
            None if argument.default.is_some() => break,
            None => return refuse(format!("unknown required argument {:?}", argument.name)),
        }
    }
    while inputs.last() == Some(&ScriptInput::None) {
        inputs.pop();
    }
    for (input, name) in [(ScriptInput::Ids, "input_ids"), (ScriptInput::Mask, "attention_mask")] {
        if !inputs.contains(&input) {
            return refuse(format!("argument {name:?} is missing"));
        }
    }
    Ok(inputs)
}

/// The keys of vectors in a dictionary that a script returns. The first that exists counts.
pub(crate) const VECTORS: [&str; 3] = ["sentence_embedding", "token_embeddings", "last_hidden_state"];

/// What is expected of a package's inputs, for errors.
const PACKAGE_EXPECTED: &str = "expected input_ids and attention_mask, in this order or by these names, and perhaps \
                                token_type_ids, all tensors (scripts/export_package.py makes such a file)";

/// The arguments to run a package with, from torch's specification of the tree of its inputs (`torch.utils._pytree.TreeSpec`).
/// Positional arguments are ids, mask and token types; keyword arguments are matched by name.
///
/// # Errors
/// If the specification is unreadable, or has other inputs.
pub(crate) fn package_inputs(spec: &str) -> Result<Vec<ScriptInput>, String> {
    let refuse = |problem: &str| Err(format!("{problem}; {PACKAGE_EXPECTED}"));
    let Some([positional, keyword]) = tree(spec).and_then(|tree| <[Value; 2]>::try_from(children(&tree)).ok()) else {
        return refuse("the specification of its inputs is unreadable");
    };
    let (by_position, by_name) = (children(&positional), children(&keyword));
    if by_position.iter().chain(&by_name).any(|child| !child["type"].is_null()) {
        return refuse("an input is not a tensor");
    }
    let order = [ScriptInput::Ids, ScriptInput::Mask, ScriptInput::TokenTypes];
    let mut inputs: Vec<ScriptInput> = order.into_iter().take(by_position.len()).collect();
    if inputs.len() < by_position.len() {
        return refuse("too many positional inputs");
    }
    for name in keys(&keyword) {
        match ["input_ids", "attention_mask", "token_type_ids"].iter().position(|known| *known == name) {
            Some(index) => inputs.push(order[index]),
            None => return refuse(&format!("unknown input {name:?}")),
        }
    }
    if !inputs.contains(&ScriptInput::Ids) || !inputs.contains(&ScriptInput::Mask) {
        return refuse("ids or mask are missing among its inputs");
    }
    Ok(inputs)
}

/// The index of the output tensor that holds the vectors, from torch's specification of the tree of a package's outputs: the only
/// tensor, the first of a tuple or list, or the one that a dictionary has under a key of [`VECTORS`].
///
/// # Errors
/// If the specification is unreadable, or has no such tensor.
pub(crate) fn package_output(spec: &str) -> Result<usize, String> {
    let expected = format!(
        "expected a tensor, a tuple or list that begins with one, or a dictionary with one of {}",
        VECTORS.join(", ")
    );
    let refuse = |found: &str| Err(format!("returns {found}; {expected}"));
    let Some(tree) = tree(spec) else { return refuse("something unreadable") };
    let children = children(&tree);
    match tree["type"].as_str() {
        None => Ok(0),
        Some("builtins.tuple" | "builtins.list") => match children.first() {
            Some(first) if first["type"].is_null() => Ok(0),
            _ => refuse("a tuple that does not begin with a tensor"),
        },
        Some("builtins.dict") => {
            let keys = keys(&tree);
            let index = VECTORS.iter().find_map(|known| keys.iter().position(|key| key == known));
            let is_flat = children.iter().all(|child| child["type"].is_null());
            index.filter(|_| is_flat).map_or_else(|| refuse(&format!("a dictionary of {}", keys.join(", "))), Ok)
        }
        Some(other) => refuse(&format!("a {other}")),
    }
}

/// The root of a specification, which is `[version, root]`.
fn tree(spec: &str) -> Option<Value> {
    let spec: Value = serde_json::from_str(spec).ok()?;
    spec.get(1).cloned()
}

fn children(tree: &Value) -> Vec<Value> {
    tree["children_spec"].as_array().cloned().unwrap_or_default()
}

/// The keys of a dictionary, whose context is JSON in a string.
fn keys(tree: &Value) -> Vec<String> {
    let context = tree["context"].as_str().and_then(|context| serde_json::from_str(context).ok());
    context.unwrap_or_default()
}

/// An argument in a declaration.
struct Argument<'a> {
    type_name: &'a str,
    name: &'a str,
    default: Option<&'a str>,
}

/// The arguments of a declaration, without `self`.
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
        // Offsets rather than slices, so that the result borrows from the declaration.
        let equals = part.find('=').unwrap_or(part.len());
        part[..equals].rfind(' ').map(|space| (space, equals, part.len()))
    };
    let parts = parts.into_iter().map(str::trim).skip(1);
    let read = parts.filter_map(|part| {
        let (space, equals, end) = argument(part)?;
        let default = (equals < end).then(|| &part[equals + 1..]);
        Some(Argument { type_name: part[..space].trim(), name: &part[space + 1..equals], default })
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_matched_by_name_or_else_by_position() {
        let check = |arguments: &str, expected: &[ScriptInput]| {
            let declaration = format!("forward(__torch__.a.M self{arguments}) -> (Tensor, Dict(str, Tensor))");
            assert_eq!(inputs(&declaration).as_deref(), Ok(expected), "{declaration}");
        };
        use ScriptInput::{Ids, Mask, TokenTypes};
        check(", Tensor input_ids, Tensor attention_mask", &[Ids, Mask]);
        check(", Tensor attention_mask, Tensor input_ids", &[Mask, Ids]);
        check(", Tensor input_ids, Tensor attention_mask, Tensor? token_type_ids=None", &[Ids, Mask, TokenTypes]);
        check(", Tensor input_ids, Tensor? token_type_ids=None, Tensor? attention_mask=None", &[Ids, TokenTypes, Mask]);
        check(
            ", Tensor input_ids, Tensor? position_ids=None, Tensor? attention_mask=None",
            &[Ids, ScriptInput::None, Mask],
        );
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
    fn a_packages_inputs_are_matched_by_position_and_by_name() {
        let check = |positional: usize, named: &str, count: usize, expected: Result<&[ScriptInput], &str>| {
            let arguments = node("tuple", "null", &vec![LEAF; positional]);
            let keywords = node("dict", named, &vec![LEAF; count]);
            let spec = format!("[1, {}]", node("tuple", "null", &[arguments.as_str(), keywords.as_str()]));
            match (package_inputs(&spec), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{found}"),
                (found, expected) => panic!("{found:?} instead of {expected:?}"),
            }
        };
        use ScriptInput::{Ids, Mask, TokenTypes};
        check(2, "[]", 0, Ok(&[Ids, Mask]));
        check(3, "[]", 0, Ok(&[Ids, Mask, TokenTypes]));
        check(0, r#"["attention_mask", "input_ids"]"#, 2, Ok(&[Mask, Ids]));
        check(1, r#"["token_type_ids", "attention_mask"]"#, 2, Ok(&[Ids, TokenTypes, Mask]));
        check(1, "[]", 0, Err("ids or mask are missing among its inputs"));
        check(4, "[]", 0, Err("too many positional inputs"));
        check(2, r#"["position_ids"]"#, 1, Err("unknown input \"position_ids\""));
        assert!(
            package_inputs("{").is_err_and(|error| error.starts_with("the specification of its inputs is unreadable"))
        );
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
        check(node("dict", r#"["logits"]"#, &[LEAF]), Err("returns a dictionary of logits"));
        check(node("list", "null", &[]), Err("returns a tuple that does not begin with a tensor"));
        check(node("set", "null", &[LEAF]), Err("returns a builtins.set"));
    }

    #[test]
    fn other_signatures_are_refused_with_what_is_expected() {
        let check = |arguments: &str, expected: &str| {
            let declaration = format!("forward(__torch__.M self{arguments}) -> Tensor");
            let found = inputs(&declaration).expect_err("it is refused");
            assert_eq!(found, format!("{expected} in {declaration}; {EXPECTED}"));
        };
        check("", "argument \"input_ids\" is missing");
        check(", Tensor input_ids", "argument \"attention_mask\" is missing");
        check(", Tensor x", "argument \"attention_mask\" is missing");
        check(", Dict(str, Tensor) inputs", "argument \"inputs\" is a Dict(str, Tensor)");
        let positions = ", Tensor input_ids, Tensor attention_mask, Tensor position_ids";
        check(positions, "unknown required argument \"position_ids\"");
        check(", Tensor[] input_ids, Tensor attention_mask", "argument \"input_ids\" is a Tensor[]");
        check(
            ", Tensor input_ids, bool flag=False, Tensor? attention_mask=None",
            "argument \"attention_mask\" is missing",
        );
    }
}
