//! Words that the code once had of its own, and what the field calls them. They are found in sources, documents and what is
//! shipped; docs/glossary.md has the few words that are ours to define.

use std::fs;
use std::path::PathBuf;

use super::repository::root;
use super::walls::sources;

/// A word or phrase in lower case, as it stands between other words, and what to say instead.
const SAY_INSTEAD: [(&str, &str); 16] = [
    ("perceptron", "MLP"),
    ("ours", "owned, or assigned to this consumer"),
    ("taken away", "revoked"),
    ("given up", "abandoned, or aborted"),
    ("goes on behind", "resumes after"),
    ("is no such", "unknown"),
    ("there is no such", "unknown"),
    ("is no file", "not a regular file"),
    ("is no json", "invalid JSON"),
    ("there are {", "expected one of {"),
    ("there are `", "expected one of `"),
    ("this version does not support; there", "expected one of"),
    ("nobody reads it any more", "broken pipe"),
    ("please report this as a defect", "this is a bug (please report it)"),
    ("digits of 2", "bits of the significand"),
    ("the letters", "the dead letters"),
];

fn documents() -> Vec<PathBuf> {
    let shipped = ["docs", "deploy", "pipelines", "examples", "scripts", "benches"];
    let files = shipped.iter().flat_map(|folder| walkdir::WalkDir::new(root().join(folder)));
    let files = files.map(|entry| entry.expect("it can be listed").into_path());
    let texts = files.filter(|path| {
        path.extension()
            .is_some_and(|extension| ["md", "yaml", "py", "rs", "tpl", "json"].iter().any(|text| extension == *text))
    });
    let top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| root().join(name));
    texts.chain(top).collect()
}

/// Whether the phrase stands in the line as words of their own, rather than as a part of others.
fn says(line: &str, phrase: &str) -> bool {
    let goes_on = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(phrase).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + phrase.len()..].chars().next().filter(|_| phrase.ends_with(char::is_alphabetic));
        !before.into_iter().chain(after).any(goes_on)
    })
}

#[test]
fn the_fields_words_are_used() {
    let mut found = Vec::new();
    for path in sources().into_iter().chain(documents()) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            let line = line.to_lowercase();
            let wrong = SAY_INSTEAD.iter().filter(|(phrase, _)| says(&line, phrase));
            let shown = path.strip_prefix(root()).unwrap_or(&path).display();
            found.extend(wrong.map(|(phrase, instead)| format!("{shown}:{}: {phrase:?}; say {instead:?}", number + 1)));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
