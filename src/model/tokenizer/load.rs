//! A model folder's tokenizer files in, one tokenizer.json out, as transformers puts it together.
//!
//! Most classes take only the vocabulary of tokenizer.json and build the rest by rules of their own, from tokenizer_config.json:
//! class.rs has them. For BERT's classes the same serves a folder that has only a vocab.txt.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use tokenizers::models::unigram::Unigram;
use tokenizers::{AddedToken, PostProcessorWrapper, Tokenizer};

use crate::model::LoadError;
use crate::model::config_file::ConfigFile;

use super::class::Class;
use super::config::Arguments;
pub use super::config::text_of;

/// The largest tokenizers have some 30 MB.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// What a folder may have in place of tokenizer.json, which no well-kept crate reads.
const OTHER_FILES: [&str; 5] =
    ["sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "spm.model", "vocab.json"];

/// How a folder without tokenizer.json gets one.
const CONVERT: &str =
    "python -c \"from transformers import AutoTokenizer as T; T.from_pretrained('MODEL').save_pretrained('FOLDER')\"";

/// The file that it comes from, the tokenizer, and its rules as JSON.
pub struct Found {
    pub path: PathBuf,
    pub tokenizer: Tokenizer,
    pub json: Value,
}

/// `vocab_size` is how many tokens the model knows: what the files add beyond it is left out.
pub fn read(folder: &Path, vocab_size: usize) -> Result<Found, LoadError> {
    let config = ConfigFile::read(folder.join("tokenizer_config.json"))?;
    let special_tokens = ConfigFile::read(folder.join("special_tokens_map.json"))?;
    let given = Arguments { config: config.as_ref(), special_tokens: special_tokens.as_ref() };
    let path = folder.join("tokenizer.json");
    if let Some(bytes) = read_bounded(&path)? {
        let no_tokenizer = |error: String| LoadError::model(&path, format!("is no tokenizer: {error}"));
        let text = String::from_utf8(bytes).map_err(|error| no_tokenizer(error.to_string()))?;
        let mut json: Value = serde_json::from_str(&text).map_err(|error| no_tokenizer(error.to_string()))?;
        let named = ConfigFile::read(folder.join("added_tokens.json"))?;
        let listed = given.list(named.as_ref(), &json);
        let Some((name, class)) = named_class(folder, &given, &text)? else {
            let mut tokenizer = Tokenizer::from_bytes(text).map_err(|error| no_tokenizer(error.to_string()))?;
            let added = add(&mut tokenizer, &mut json, Class::additions(None, listed, &given), vocab_size);
            added.map_err(|problem| problem.at(&path))?;
            return Ok(Found { path, tokenizer, json });
        };
        let how = "if the file is right as it is, set `tokenizer_class` of tokenizer_config.json to \"PreTrainedTokenizerFast\"";
        if let Some(mismatch) = class.mismatch(&json["model"]) {
            return Err(LoadError::model(path, format!("does not fit its class: {name} {mismatch}; {how}")));
        }
        let scores = if class.has_scores() { super::scores::scores(&text) } else { None };
        let tokenizer = build(class, &mut json, (listed, scores), &given, vocab_size);
        let tokenizer = tokenizer.map_err(|problem| problem.at(&path))?;
        return Ok(Found { path, tokenizer, json });
    }
    let vocabulary = folder.join("vocab.txt");
    if let Some(bytes) = read_bounded(&vocabulary)? {
        if let Some((_, Class::Bert)) = named_class(folder, &given, "")? {
            let mut json = from_vocabulary(folder, &vocabulary, bytes, &given)?;
            let tokenizer = build(Class::Bert, &mut json, (Vec::new(), None), &given, vocab_size);
            let tokenizer = tokenizer.map_err(|problem| problem.at(&vocabulary))?;
            return Ok(Found { path: vocabulary, tokenizer, json });
        }
        let message = format!("is missing, and vocab.txt alone is read of BERT's classes only; make it with {CONVERT}");
        return Err(LoadError::model(path, message));
    }
    match OTHER_FILES.iter().find(|name| folder.join(name).is_file()) {
        Some(name) => {
            let message = format!("is missing; {name} has to be converted to it first, with {CONVERT}");
            Err(LoadError::model(path, message))
        }
        None => Err(LoadError::model(path, format!("is missing; make it with {CONVERT}"))),
    }
}

/// What is wrong with a tokenizer file, or with what stands beside it.
enum Problem {
    File(String),
    Config(LoadError),
}

impl Problem {
    fn at(self, path: &Path) -> LoadError {
        match self {
            Problem::File(message) => LoadError::model(path, message),
            Problem::Config(error) => error,
        }
    }
}

/// A tokenizer by the rules of its class: vocabulary, then tokens that are added, then what stands around a text.
fn build(
    class: Class,
    json: &mut Value,
    (listed, scores): (Vec<AddedToken>, Option<Vec<(String, f64)>>),
    given: &Arguments,
    vocab_size: usize,
) -> Result<Tokenizer, Problem> {
    let failed = |error: &dyn std::fmt::Display| Problem::File(format!("is no tokenizer: {error}"));
    if let Some(token) = class.missing_unknown(&json["model"], given) {
        return Err(Problem::File(format!(
            "lacks {token} in its vocabulary, the `unk_token`, which stands for every unknown word; expected it there, or \
             another name of it in tokenizer_config.json"
        )));
    }
    class.build(json, given).map_err(Problem::Config)?;
    // What stands around a text may be tokens that are still to be added.
    let own = json["post_processor"].take();
    let mut tokenizer = match scores {
        None => Tokenizer::from_bytes(json.to_string()).map_err(|error| failed(&error))?,
        Some(scores) => {
            let unknown = json["model"]["unk_id"].as_u64().map(|id| id as usize);
            let model = Unigram::from(scores, unknown, false).map_err(|error| failed(&error))?;
            // The rules with next to no vocabulary, for it is the largest part and is there already.
            let vocabulary = std::mem::replace(&mut json["model"]["vocab"], json!([["", 0.0]]));
            let unknown = std::mem::replace(&mut json["model"]["unk_id"], Value::Null);
            let rules = Tokenizer::from_bytes(json.to_string());
            (json["model"]["vocab"], json["model"]["unk_id"]) = (vocabulary, unknown);
            let mut tokenizer = rules.map_err(|error| failed(&error))?;
            tokenizer.with_model(model);
            tokenizer
        }
    };
    add(&mut tokenizer, json, Class::additions(Some(class), listed, given), vocab_size)?;
    let template = class.template(&own, given, |token| tokenizer.token_to_id(token));
    let template = template.map_err(|token| {
        Problem::File(format!(
            "has no room for {token:?}, which stands around every text: the model's `vocab_size` is {vocab_size}"
        ))
    })?;
    json["post_processor"] = template.unwrap_or(own);
    let around =
        Option::<PostProcessorWrapper>::deserialize(&json["post_processor"]).map_err(|error| failed(&error))?;
    tokenizer.with_post_processor(around);
    Ok(tokenizer)
}

/// Adds tokens to a tokenizer, and to its list of them. A token is left out for which the model has no row, and with it all
/// that would come after.
fn add(tokenizer: &mut Tokenizer, json: &mut Value, tokens: Vec<AddedToken>, vocab_size: usize) -> Result<(), Problem> {
    let failed = |error: tokenizers::Error| Problem::File(format!("cannot be added to: {error}"));
    let mut count = tokenizer.get_vocab_size(true);
    let mut new = HashSet::new();
    let mut added = tokens;
    added.retain(|token| {
        let is_known = new.contains(&token.content) || tokenizer.token_to_id(&token.content).is_some();
        if token.content.is_empty() || (!is_known && count >= vocab_size) {
            return false;
        }
        if !is_known {
            count += 1;
            new.insert(token.content.clone());
        }
        true
    });
    if let Some(list) = json["added_tokens"].as_array_mut() {
        list.extend(added.iter().map(|token| {
            json!({
                "content": token.content, "single_word": token.single_word, "lstrip": token.lstrip, "rstrip": token.rstrip,
            })
        }));
    }
    // All at once: the search for them is built anew by every call. Each knows whether it is special.
    tokenizer.add_tokens(added).map(drop).map_err(failed)
}

/// A file's bytes; `None` where there is none.
fn read_bounded(path: &Path) -> Result<Option<Vec<u8>>, LoadError> {
    match std::fs::metadata(path) {
        Err(_) => Ok(None),
        Ok(file) if file.len() > FILE_BYTES_MAX => {
            Err(LoadError::model(path, format!("has {} bytes; no tokenizer is that large", file.len())))
        }
        Ok(_) => {
            let bytes = std::fs::read(path);
            bytes.map(Some).map_err(|error| LoadError::model(path, format!("cannot be read: {error}")))
        }
    }
}

/// The class that transformers loads the folder's tokenizer with, where it has rules of its own, and its name there.
fn named_class(folder: &Path, given: &Arguments, tokenizer: &str) -> Result<Option<(String, Class)>, LoadError> {
    let model = ConfigFile::read(folder.join("config.json"))?;
    let text = |file: Option<&ConfigFile>, key: &str| -> Result<Option<String>, LoadError> {
        Ok(file.map(|file| file.text(key)).transpose()?.flatten().map(str::to_owned))
    };
    let model_type = text(model.as_ref(), "model_type")?;
    let name = text(given.config, "tokenizer_class")?;
    let name = if name.is_some() { name } else { text(model.as_ref(), "tokenizer_class")? };
    let class = super::names::class_of(name.as_deref(), model_type.as_deref(), tokenizer).map_err(|what| {
        let how = "if tokenizer.json is right as it is, set it to \"PreTrainedTokenizerFast\"";
        LoadError::model(folder.join("tokenizer_config.json"), format!("{what}; {how}"))
    })?;
    let shown = || name.or(model_type).unwrap_or_default();
    Ok(class.map(|class| (shown(), class)))
}

/// A tokenizer of a vocab.txt, a token a line.
fn from_vocabulary(folder: &Path, path: &Path, bytes: Vec<u8>, given: &Arguments) -> Result<Value, LoadError> {
    let text = String::from_utf8(bytes).map_err(|_| LoadError::model(path, "is not UTF-8"))?;
    refuse_what_is_added(folder, given.config)?;
    let mut vocabulary = serde_json::Map::new();
    for (id, token) in text.lines().enumerate() {
        vocabulary.insert(token.to_owned(), id.into());
    }
    for (key, default) in Class::Bert.special_tokens() {
        let token = given.token(key, default);
        if !vocabulary.contains_key(&token) {
            return Err(LoadError::model(path, format!("has no line {token}, which the tokenizer needs")));
        }
    }
    Ok(json!({
        "version": "1.0",
        "added_tokens": [],
        "model": { "type": "WordPiece", "vocab": vocabulary },
    }))
}

/// Tokens besides the vocabulary, and switches that BERT's old tokenizer had: not built here, so not ignored either.
fn refuse_what_is_added(folder: &Path, config: Option<&ConfigFile>) -> Result<(), LoadError> {
    let how = format!("which is not read beside a vocab.txt; make a tokenizer.json with {CONVERT}");
    if let Some(file) = ConfigFile::read(folder.join("added_tokens.json"))?
        && !file.json.is_empty()
    {
        return Err(file.error(format!("adds tokens, {how}")));
    }
    let Some(file) = config else { return Ok(()) };
    for key in ["never_split", "additional_special_tokens", "extra_special_tokens"] {
        let is_empty = |value: &Value| {
            value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(serde_json::Map::is_empty)
        };
        if let Some(value) = file.get(key).filter(|value| !is_empty(value)) {
            return Err(file.error(format!("`{key}` is {}, {how}", crate::model::config_file::short(value))));
        }
    }
    if file.get("do_basic_tokenize").is_some() && !file.flag("do_basic_tokenize")? {
        return Err(file.error(format!("`do_basic_tokenize` is false, {how}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files; what comes of it, or the refusal.
    fn check(files: &[(&str, &str)], expected: &str) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).expect("a file");
        }
        let found = match read(folder.path(), 1_000) {
            Ok(found) => format!("{} {}", found.json["normalizer"], found.json["model"]["vocab"]),
            Err(error) => error.to_string().replace(&format!("{}/", folder.path().display()), ""),
        };
        assert!(found.starts_with(expected), "   found {found}\nexpected {expected}");
    }

    const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nriver\n";
    const BERT: (&str, &str) = ("config.json", r#"{"model_type": "bert"}"#);

    #[test]
    fn a_vocabulary_is_enough_for_bert_and_what_is_beside_it_counts() {
        let lowered = r#"{"clean_text":true,"handle_chinese_chars":true,"lowercase":true,"strip_accents":null,"type":"BertNormalizer"} {"[CLS]":2"#;
        check(&[BERT, ("vocab.txt", VOCABULARY)], lowered);
        let config = r#"{"tokenizer_class": "BertTokenizerFast", "do_lower_case": false, "strip_accents": false, "tokenize_chinese_chars": false}"#;
        let cased = r#"{"clean_text":true,"handle_chinese_chars":false,"lowercase":false,"strip_accents":false,"type":"BertNormalizer"} "#;
        check(&[("tokenizer_config.json", config), ("vocab.txt", VOCABULARY)], cased);
        let cased_json = r#"{
            "version": "1.0", "added_tokens": [], "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "truncation": null, "padding": null,
            "normalizer": {
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
                "lowercase": false
            },
            "model": {
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "", "max_input_chars_per_word": 100,
                "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
            }
        }"#;
        check(
            &[BERT, ("tokenizer.json", cased_json)],
            r#"{"clean_text":true,"handle_chinese_chars":true,"lowercase":true"#,
        );
        let generic = ("tokenizer_config.json", r#"{"tokenizer_class": "PreTrainedTokenizerFast"}"#);
        check(
            &[BERT, generic, ("tokenizer.json", cased_json)],
            r#"{"clean_text":true,"handle_chinese_chars":true,"lowercase":false"#,
        );
    }

    #[test]
    fn what_cannot_be_built_is_refused_with_what_to_do() {
        check(&[BERT], "tokenizer.json: is missing; make it with python -c");
        check(
            &[BERT, ("spiece.model", "")],
            "tokenizer.json: is missing; spiece.model has to be converted to it first",
        );
        let other = ("config.json", r#"{"model_type": "mpnet"}"#);
        check(
            &[other, ("vocab.txt", VOCABULARY)],
            "tokenizer.json: is missing, and vocab.txt alone is read of BERT's classes",
        );
        check(&[BERT, ("vocab.txt", "[PAD]\n[UNK]\n")], "vocab.txt: has no line [SEP], which the tokenizer needs");
        let added = ("added_tokens.json", r#"{"[NEW]": 6}"#);
        check(&[BERT, ("vocab.txt", VOCABULARY), added], "added_tokens.json: adds tokens, which is not read beside");
        let basic = ("tokenizer_config.json", r#"{"do_basic_tokenize": false}"#);
        check(&[BERT, ("vocab.txt", VOCABULARY), basic], "tokenizer_config.json: `do_basic_tokenize` is false, which");
        check(&[BERT, ("tokenizer.json", "{")], "tokenizer.json: is no tokenizer: ");
        let pieces = ("tokenizer.json", r#"{"model": {"type": "Unigram", "vocab": [["a", 0.0]]}}"#);
        check(
            &[BERT, pieces],
            "tokenizer.json: does not fit its class: bert builds on a vocabulary of the kind WordPiece, tokenizer.json has \
             Unigram; if the file is right as it is, set `tokenizer_class`",
        );
    }
}
