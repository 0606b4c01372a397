//! The layers of the source, written once: a module imports only from layers below its own, and no two files import each
//! other. ARCHITECTURE.md shows the same list.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::walls::{is_test, source_root, sources};

/// From the bottom up: each layer's modules, and what the layer is about.
const LAYERS: [(&[&str], &str); 14] = [
    (
        &["backoff", "batch", "budget", "columnar", "device", "digest", "enum_names", "failure", "matrix"],
        "the foundation: data structures, names and arithmetic that use no other module of embedmill",
    ),
    (&["model", "record"], "the description of a model, read from its folder; the data that flows from source to sink"),
    (&["window"], "the unit of delivery"),
    (&["output", "telemetry"], "rows as they are published and read back; metrics, traces and status of a run"),
    (&["encode", "search", "sink", "source"], "computing, searching, writing and reading"),
    (&["delivery", "text"], "how a window becomes durable; how a record becomes rows"),
    (&["kafka", "pipeline"], "the Kafka clients; the stages with their channels and threads"),
    (&["config"], "the pipeline file, composed of sections that are defined beside the code they configure"),
    (&["plan"], "the pipeline file after all checks that need neither disk nor network"),
    (&["graph", "reload"], "the diagram of a plan; changes to a plan while it runs"),
    (&["check", "start"], "whether a plan can run on this machine; how a plan becomes a running pipeline"),
    (&["pipeline_test"], "unit tests of pipeline files: a plan runs on given records"),
    (&["embedder"], "the library's interface for embedding texts that are in memory"),
    (&["cli"], "the command line"),
];

/// Imports by module path: `["kafka", "config"]` is `src/kafka/config.rs` or `src/kafka/config/mod.rs`.
type Module = Vec<String>;

fn module_of(file: &Path) -> Module {
    let relative = file.strip_prefix(source_root()).expect("a source lies under src");
    let mut parts: Module =
        relative.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// The code without comments, strings and the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let mut code = String::with_capacity(text.len());
    for line in text.lines() {
        let mut in_string = false;
        let mut before = ' ';
        let line = line.split("//").next().unwrap_or_default();
        for c in line.chars() {
            if c == '"' && before != '\\' && before != '\'' {
                in_string = !in_string;
            } else if !in_string {
                code.push(c);
            }
            before = c;
        }
        code.push('\n');
    }
    code
}

/// Every path that begins with `crate`, `super` or `self`, and every path of a `use`, with braces taken apart.
fn paths(code: &str) -> Vec<PathParts> {
    let mut found = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':') {
                expand(&code[at..], Vec::new(), &mut found);
            }
        }
    }
    for (at, _) in code.match_indices("use ") {
        expand(&code[at + "use ".len()..], Vec::new(), &mut found);
    }
    found
}

/// The paths of `pub use`, by the name that each gives to what it leads to.
fn reexports(code: &str) -> BTreeMap<String, PathParts> {
    let mut found = Vec::new();
    for (at, text) in code.match_indices("pub use ").chain(code.match_indices("pub(crate) use ")) {
        expand(&code[at + text.len()..], Vec::new(), &mut found);
    }
    found.into_iter().filter_map(|path| Some((path.last()?.clone(), path))).collect()
}

/// Reads a path, or a list of them in braces, into `found`; returns how many bytes it took.
fn expand(text: &str, prefix: PathParts, found: &mut Vec<PathParts>) -> usize {
    let mut path = prefix;
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if !name.is_empty() {
            at += name.len();
            if name != "self" || path.is_empty() {
                path.push(name);
            }
            if text[at..].starts_with("::") {
                at += 2;
                continue;
            }
        } else if rest.starts_with('{') {
            at += 1;
            loop {
                at += text[at..].len() - text[at..].trim_start_matches([' ', '\n', ',']).len();
                if text[at..].starts_with('}') || text[at..].is_empty() {
                    return at + 1;
                }
                let taken = expand(&text[at..], path.clone(), found);
                // `as NAME`, `*` and the like.
                let skipped = text[at + taken..].find([',', '}', '{']).unwrap_or(0);
                at += (taken + skipped).max(1);
            }
        }
        found.push(path);
        return at;
    }
}

/// A path as it is written: `["crate", "record", "Block"]`.
type PathParts = Vec<String>;

/// All modules, and what each of them gives another name to.
struct Tree {
    modules: BTreeMap<Module, BTreeMap<String, PathParts>>,
}

impl Tree {
    /// The module that a path in `from` leads to: the longest part of it that is a file, through `pub use`.
    fn resolve(&self, path: &[String], from: &Module, depth: usize) -> Option<Module> {
        let mut absolute: Module = match path.first()?.as_str() {
            "crate" => path[1..].to_vec(),
            "self" => from.iter().chain(&path[1..]).cloned().collect(),
            "super" => {
                let up = path.iter().take_while(|part| *part == "super").count();
                let kept = from.len().checked_sub(up)?;
                from[..kept].iter().chain(&path[up..]).cloned().collect()
            }
            // A module that lies in this one; else another crate.
            _ => from.iter().chain(path).cloned().collect(),
        };
        let mut behind = None;
        while !self.modules.contains_key(&absolute) {
            behind = absolute.pop();
        }
        let renamed = behind.and_then(|name| self.modules.get(&absolute)?.get(&name));
        match renamed {
            Some(path) if depth > 0 => self.resolve(path, &absolute, depth - 1).or(Some(absolute)),
            _ => (!absolute.is_empty()).then_some(absolute),
        }
    }
}

/// Every module with those that it imports.
fn imports() -> BTreeMap<Module, BTreeSet<Module>> {
    let files: Vec<PathBuf> = sources().into_iter().filter(|file| !is_test(file)).collect();
    let code = |file: &PathBuf| code(&fs::read_to_string(file).expect("a source can be read"));
    let mut modules: BTreeMap<Module, _> = files.iter().map(|file| (module_of(file), reexports(&code(file)))).collect();
    modules.insert(Module::new(), BTreeMap::new());
    let tree = Tree { modules };
    let of_file = |file: &PathBuf| {
        let module = module_of(file);
        let found = paths(&code(file));
        let found = found.iter().filter_map(|path| tree.resolve(path, &module, 8)).filter(|other| *other != module);
        (module.clone(), found.collect())
    };
    files.iter().map(of_file).filter(|(module, _)| !["internal", "lib", "main"].contains(&module[0].as_str())).collect()
}

fn layer_of(room: &str) -> Option<usize> {
    LAYERS.iter().position(|(rooms, _)| rooms.contains(&room))
}

#[test]
fn imports_go_down() {
    let mut wrong = BTreeSet::new();
    for (module, imported) in imports() {
        let room = module[0].as_str();
        let Some(layer) = layer_of(room) else {
            panic!("`{room}` is in no layer: add it to LAYERS in tests/it/layers.rs");
        };
        for other in imported.iter().map(|other| other[0].as_str()).filter(|other| *other != room) {
            let other_layer = layer_of(other).unwrap_or_else(|| panic!("`{other}` is in no layer"));
            if other_layer >= layer {
                let where_it_is = match other_layer - layer {
                    0 => "is in the same layer".to_owned(),
                    1 => "is one layer up".to_owned(),
                    up => format!("is {up} layers up"),
                };
                wrong.insert(format!("`{}` may not import `{other}`: it {where_it_is}", module.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", Vec::from_iter(wrong).join("\n"));
}

#[test]
fn no_file_imports_itself_through_others() {
    let mut left = imports();
    // A module and what lies in it are one thing in two files: the one declares the other, which may name it.
    for (module, imported) in &mut left {
        imported.retain(|other| !module.starts_with(other) && !other.starts_with(module));
    }
    // What imports nothing that is left is in no circle, and neither is what only leads there.
    loop {
        let done: Vec<Module> = left
            .iter()
            .filter(|(_, imported)| !imported.iter().any(|other| left.contains_key(other)))
            .map(|(module, _)| module.clone())
            .collect();
        if done.is_empty() {
            break;
        }
        left.retain(|module, _| !done.contains(module));
    }
    let Some(mut module) = left.keys().next() else { return };
    let mut way = Vec::new();
    while !way.contains(&module) {
        way.push(module);
        module = left[module].iter().find(|other| left.contains_key(*other)).expect("it leads on");
    }
    way.push(module);
    let shown: Vec<String> = way.iter().map(|module| module.join("::")).collect();
    panic!("these files import each other: {}", shown.join(" -> "));
}

#[test]
fn every_layer_is_used_and_shown_in_the_architecture() {
    let rooms: BTreeSet<String> = imports().into_keys().map(|module| module[0].clone()).collect();
    let listed: BTreeSet<String> = LAYERS.iter().flat_map(|(rooms, _)| *rooms).map(|room| (*room).to_owned()).collect();
    assert_eq!(rooms, listed, "the modules under src, and those in LAYERS");
    let mut table = String::from("| layer | modules | what they are about |\n|---|---|---|\n");
    for (number, (rooms, what)) in LAYERS.iter().enumerate().rev() {
        let rooms: Vec<String> = rooms.iter().map(|room| format!("`{room}`")).collect();
        table += &format!("| {} | {} | {what} |\n", number + 1, rooms.join(", "));
    }
    let architecture = fs::read_to_string(source_root().join("../ARCHITECTURE.md")).expect("it is there");
    assert!(
        architecture.contains(&table),
        "ARCHITECTURE.md does not show the layers as they are; expected:\n\n{table}"
    );
}
