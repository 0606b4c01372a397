//! The tokenizer files of a model folder in, a tokenizer out, put together as transformers does it.
//!
//! Most classes take only the vocabulary of tokenizer.json and build the rest by rules of their own from tokenizer_config.json;
//! class.rs has these rules. For BERT's classes a vocab.txt alone is enough. Fails if the files are missing, broken or of a class
//! that is not supported.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use tokenizers::models::unigram::Unigram;
use tokenizers::{AddedToken, PostProcessorWrapper, Tokenizer};

use super::class::TokenizerClass;
use super::class_names::class_of;
use super::config::TokenizerConfig;
use super::scores::unigram_scores;
use crate::model::LoadError;
use crate::model::config_file::{ConfigFile, shorten};

/// Maximum size of a tokenizer file. The largest known ones have some 30 MB.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// Files that a folder may have instead of tokenizer.json, and that no maintained crate reads.
const OTHER_FILES: [&str; 5] =
    ["sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "spm.model", "vocab.json"];

/// The command that makes a tokenizer.json.
const CONVERT: &str =
    "python -c \"from transformers import AutoTokenizer as T; T.from_pretrained('MODEL').save_pretrained('FOLDER')\"";

/// A tokenizer, as its files and its class define it.
pub(super) struct LoadedTokenizer {
    /// The file with the vocabulary.
    pub path: PathBuf,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The same as JSON, in the form of a tokenizer.json.
    pub json: Value,
}

/// Reads the tokenizer of a folder. `vocab_size` is the number of tokens that the model has rows for; added tokens beyond it are
/// left out.
///
/// # Errors
/// If the files are missing or broken, or their class is not supported or does not fit the vocabulary.
pub(super) fn read(folder: &Path, vocab_size: usize) -> Result<LoadedTokenizer, LoadError> {
    let tokenizer_config = ConfigFile::read(folder.join("tokenizer_config.json"))?;
    let special_tokens = ConfigFile::read(folder.join("special_tokens_map.json"))?;
    let config = TokenizerConfig { config: tokenizer_config.as_ref(), special_tokens: special_tokens.as_ref() };
    let path = folder.join("tokenizer.json");
    if let Some(bytes) = read_bounded(&path)? {
        return read_tokenizer_json(folder, path, bytes, &config, vocab_size);
    }
    let vocabulary = folder.join("vocab.txt");
    if let Some(bytes) = read_bounded(&vocabulary)? {
        if let Some((_, TokenizerClass::Bert)) = named_class(folder, &config, "")? {
            let mut json = from_vocabulary(folder, &vocabulary, bytes, &config)?;
            let tokenizer = build(TokenizerClass::Bert, &mut json, Vec::new(), None, &config, vocab_size);
            let tokenizer = tokenizer.map_err(|error| error.at(&vocabulary))?;
            return Ok(LoadedTokenizer { path: vocabulary, tokenizer, json });
        }
        let message =
            format!("missing; a vocab.txt alone is enough for BERT's classes only (make the file with {CONVERT})");
        return Err(LoadError::model(path, message));
    }
    match OTHER_FILES.iter().find(|name| folder.join(name).is_file()) {
        Some(name) => Err(LoadError::model(path, format!("missing; {name} must be converted to it (with {CONVERT})"))),
        None => {
            Err(LoadError::model(path, format!("missing; expected the model's tokenizer (make it with {CONVERT})")))
        }
    }
}

/// A tokenizer of a tokenizer.json: as the file is for the general class, and by the rules of its class for any other.
fn read_tokenizer_json(
    folder: &Path,
    path: PathBuf,
    bytes: Vec<u8>,
    config: &TokenizerConfig<'_>,
    vocab_size: usize,
) -> Result<LoadedTokenizer, LoadError> {
    let invalid = |error: String| LoadError::model(&path, format!("invalid tokenizer: {error}"));
    let text = String::from_utf8(bytes).map_err(|error| invalid(error.to_string()))?;
    let mut json: Value = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    let added_tokens = ConfigFile::read(folder.join("added_tokens.json"))?;
    let listed = config.added_tokens(added_tokens.as_ref(), &json);
    let Some((name, class)) = named_class(folder, config, &text)? else {
        let mut tokenizer = Tokenizer::from_bytes(text).map_err(|error| invalid(error.to_string()))?;
        let tokens = TokenizerClass::tokens_to_add(None, listed, config);
        add_tokens(&mut tokenizer, &mut json, tokens, vocab_size).map_err(|error| error.at(&path))?;
        return Ok(LoadedTokenizer { path, tokenizer, json });
    };
    if let Some(mismatch) = class.mismatch(&json["model"]) {
        let hint = "if the file is right as it is, set \"tokenizer_class\" of tokenizer_config.json to \"PreTrainedTokenizerFast\"";
        return Err(LoadError::model(
            path,
            format!("{mismatch}, the type that the class of {name} builds on ({hint})"),
        ));
    }
    let scores = if class.has_scores() { unigram_scores(&text) } else { None };
    let tokenizer = build(class, &mut json, listed, scores, config, vocab_size).map_err(|error| error.at(&path))?;
    Ok(LoadedTokenizer { path, tokenizer, json })
}

/// Why a tokenizer cannot be built from its files.
enum BuildError {
    /// The file with the vocabulary is wrong; the message does not name it.
    Vocabulary(String),
    /// A file beside it is wrong.
    Other(LoadError),
}

impl BuildError {
    /// The error, with the path of the file with the vocabulary.
    fn at(self, path: &Path) -> LoadError {
        match self {
            BuildError::Vocabulary(message) => LoadError::model(path, message),
            BuildError::Other(error) => error,
        }
    }
}

/// Builds a tokenizer by the rules of its class: the vocabulary, then the added tokens, then the template around a text. `listed`
/// are the added tokens of the files, and `scores` the exact scores of a Unigram vocabulary. `json` becomes what was built.
fn build(
    class: TokenizerClass,
    json: &mut Value,
    listed: Vec<AddedToken>,
    scores: Option<Vec<(String, f64)>>,
    config: &TokenizerConfig<'_>,
    vocab_size: usize,
) -> Result<Tokenizer, BuildError> {
    let invalid = |error: &dyn std::fmt::Display| BuildError::Vocabulary(format!("invalid tokenizer: {error}"));
    if let Some(token) = class.missing_unknown_token(&json["model"], config) {
        return Err(BuildError::Vocabulary(format!(
            "token {token:?} is missing; expected the \"unk_token\", which replaces every unknown word, in the vocabulary (or \
             another one in tokenizer_config.json)"
        )));
    }
    class.build(json, config).map_err(BuildError::Other)?;
    // The template may name tokens that are added only below, so it is set last.
    let own = json["post_processor"].take();
    let mut tokenizer = match scores {
        None => Tokenizer::from_bytes(json.to_string()).map_err(|error| invalid(&error))?,
        Some(scores) => {
            let unknown = json["model"]["unk_id"].as_u64().map(|id| id as usize);
            let model = Unigram::from(scores, unknown, false).map_err(|error| invalid(&error))?;
            // The rules are parsed with a tiny vocabulary, because the real one is large and is in `model` already.
            let vocabulary = std::mem::replace(&mut json["model"]["vocab"], json!([["", 0.0]]));
            let unknown = std::mem::replace(&mut json["model"]["unk_id"], Value::Null);
            let rules = Tokenizer::from_bytes(json.to_string());
            (json["model"]["vocab"], json["model"]["unk_id"]) = (vocabulary, unknown);
            let mut tokenizer = rules.map_err(|error| invalid(&error))?;
            tokenizer.with_model(model);
            tokenizer
        }
    };
    add_tokens(&mut tokenizer, json, TokenizerClass::tokens_to_add(Some(class), listed, config), vocab_size)?;
    let template = class.template(&own, config, |token| tokenizer.token_to_id(token));
    let template = template.map_err(|token| {
        BuildError::Vocabulary(format!(
            "token {token:?} does not fit the model; expected it, which is added to every text, within the {vocab_size} tokens of \
             the model's \"vocab_size\""
        ))
    })?;
    json["post_processor"] = template.unwrap_or(own);
    let post_processor =
        Option::<PostProcessorWrapper>::deserialize(&json["post_processor"]).map_err(|error| invalid(&error))?;
    tokenizer.with_post_processor(post_processor);
    Ok(tokenizer)
}

/// Adds tokens to a tokenizer and to its JSON. A new token that the model has no row for is left out.
fn add_tokens(
    tokenizer: &mut Tokenizer,
    json: &mut Value,
    tokens: Vec<AddedToken>,
    vocab_size: usize,
) -> Result<(), BuildError> {
    let failed = |error: tokenizers::Error| BuildError::Vocabulary(format!("tokens cannot be added: {error}"));
    let mut count = tokenizer.get_vocab_size(true);
    let mut new = HashSet::new();
    let mut tokens = tokens;
    tokens.retain(|token| {
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
        list.extend(tokens.iter().map(|token| {
            json!({
                "content": token.content, "single_word": token.single_word, "lstrip": token.lstrip, "rstrip": token.rstrip,
            })
        }));
    }
    // One call for all, because each call builds the search for added tokens anew. Each token says whether it is special.
    tokenizer.add_tokens(tokens).map(drop).map_err(failed)
}

/// The bytes of a file; `None` if it does not exist.
fn read_bounded(path: &Path) -> Result<Option<Vec<u8>>, LoadError> {
    match std::fs::metadata(path) {
        Err(_) => Ok(None),
        Ok(file) if file.len() > FILE_BYTES_MAX => {
            Err(LoadError::model(path, format!("found {} bytes; expected at most {FILE_BYTES_MAX}", file.len())))
        }
        Ok(_) => {
            let bytes = std::fs::read(path);
            bytes.map(Some).map_err(|error| LoadError::model(path, format!("cannot be read: {error}")))
        }
    }
}

/// The class that transformers loads the folder's tokenizer with, and the name that says so; `None` is the general class.
fn named_class(
    folder: &Path,
    config: &TokenizerConfig<'_>,
    tokenizer: &str,
) -> Result<Option<(String, TokenizerClass)>, LoadError> {
    let model = ConfigFile::read(folder.join("config.json"))?;
    let text = |file: Option<&ConfigFile>, key: &str| -> Result<Option<String>, LoadError> {
        Ok(file.map(|file| file.text(key)).transpose()?.flatten().map(str::to_owned))
    };
    let model_type = text(model.as_ref(), "model_type")?;
    let name = text(config.config, "tokenizer_class")?;
    let name = if name.is_some() { name } else { text(model.as_ref(), "tokenizer_class")? };
    let class = class_of(name.as_deref(), model_type.as_deref(), tokenizer).map_err(|problem| {
        let hint = "if tokenizer.json is right as it is, set it to \"PreTrainedTokenizerFast\"";
        LoadError::model(folder.join("tokenizer_config.json"), format!("{problem} ({hint})"))
    })?;
    let shown = || name.or(model_type).unwrap_or_default();
    Ok(class.map(|class| (shown(), class)))
}

/// The tokenizer.json of a vocab.txt, which has one token per line.
fn from_vocabulary(
    folder: &Path,
    path: &Path,
    bytes: Vec<u8>,
    config: &TokenizerConfig<'_>,
) -> Result<Value, LoadError> {
    let text =
        String::from_utf8(bytes).map_err(|_| LoadError::model(path, "invalid UTF-8; expected one token per line"))?;
    refuse_additions(folder, config.config)?;
    let mut vocabulary = serde_json::Map::new();
    for (id, token) in text.lines().enumerate() {
        vocabulary.insert(token.to_owned(), id.into());
    }
    for (key, default) in TokenizerClass::Bert.special_tokens() {
        let token = config.token(key, default);
        if !vocabulary.contains_key(&token) {
            return Err(LoadError::model(path, format!("token {token:?} is missing; expected a line for it")));
        }
    }
    Ok(json!({
        "version": "1.0",
        "added_tokens": [],
        "model": { "type": "WordPiece", "vocab": vocabulary },
    }))
}

/// Refuses tokens besides the vocabulary, and switches of BERT's original tokenizer. Beside a vocab.txt they are not implemented,
/// and ignoring them would give other tokens.
fn refuse_additions(folder: &Path, config: Option<&ConfigFile>) -> Result<(), LoadError> {
    let hint = format!("which is not supported beside a vocab.txt (make a tokenizer.json with {CONVERT})");
    if let Some(file) = ConfigFile::read(folder.join("added_tokens.json"))?
        && !file.json.is_empty()
    {
        return Err(file.error(format!("found added tokens, {hint}")));
    }
    let Some(file) = config else { return Ok(()) };
    for key in ["never_split", "additional_special_tokens", "extra_special_tokens"] {
        let is_empty = |value: &Value| {
            value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(serde_json::Map::is_empty)
        };
        if let Some(value) = file.get(key).filter(|value| !is_empty(value)) {
            return Err(file.error(format!("{key:?}: found {}, {hint}", shorten(value))));
        }
    }
    if file.get("do_basic_tokenize").is_some() && !file.flag("do_basic_tokenize")? {
        return Err(file.error(format!("\"do_basic_tokenize\": found false, {hint}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a folder with these files and compares the tokenizer, or the error.
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
        check(&[BERT], "tokenizer.json: missing; expected the model's tokenizer (make it with python -c");
        check(&[BERT, ("spiece.model", "")], "tokenizer.json: missing; spiece.model must be converted to it");
        let other = ("config.json", r#"{"model_type": "mpnet"}"#);
        check(
            &[other, ("vocab.txt", VOCABULARY)],
            "tokenizer.json: missing; a vocab.txt alone is enough for BERT's classes",
        );
        check(
            &[BERT, ("vocab.txt", "[PAD]\n[UNK]\n")],
            "vocab.txt: token \"[SEP]\" is missing; expected a line for it",
        );
        let added = ("added_tokens.json", r#"{"[NEW]": 6}"#);
        check(
            &[BERT, ("vocab.txt", VOCABULARY), added],
            "added_tokens.json: found added tokens, which is not supported beside",
        );
        let basic = ("tokenizer_config.json", r#"{"do_basic_tokenize": false}"#);
        check(
            &[BERT, ("vocab.txt", VOCABULARY), basic],
            "tokenizer_config.json: \"do_basic_tokenize\": found false, which",
        );
        check(&[BERT, ("tokenizer.json", "{")], "tokenizer.json: invalid tokenizer: ");
        let pieces = ("tokenizer.json", r#"{"model": {"type": "Unigram", "vocab": [["a", 0.0]]}}"#);
        check(
            &[BERT, pieces],
            "tokenizer.json: found a vocabulary of type Unigram; expected WordPiece, the type that the class of bert builds on (if \
             the file is right as it is, set \"tokenizer_class\"",
        );
    }
}
