//! A model folder's tokenizer files in, one tokenizer.json out, as transformers puts it together.
//!
//! For BERT's own classes transformers takes only the vocabulary of tokenizer.json and builds the rest by class from
//! tokenizer_config.json: whether texts are lowered, whether accents go, which special tokens stand around a text. So it is
//! done here, and the same serves a folder that has only a vocab.txt. Other classes' files are taken as they are.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::encode::LoadError;
use crate::encode::folder::ConfigFile;

/// The largest tokenizers have some 30 MB.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// Classes that transformers builds as it builds BERT's, and the model types that mean them where no class is named.
const BERT_CLASSES: [&str; 3] = ["BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"];
const BERT_TYPES: [&str; 3] = ["bert", "distilbert", "electra"];
/// What a folder may have in place of tokenizer.json, which no well-kept crate reads.
const OTHER_FILES: [&str; 5] =
    ["sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "spm.model", "vocab.json"];

/// How a folder without tokenizer.json gets one.
const CONVERT: &str =
    "python -c \"from transformers import AutoTokenizer as T; T.from_pretrained('MODEL').save_pretrained('FOLDER')\"";

/// The file that it comes from, its bytes as a tokenizer.json, and the same as JSON.
pub struct Found {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub json: Value,
}

pub fn read(folder: &Path) -> Result<Found, LoadError> {
    let config = ConfigFile::read(folder.join("tokenizer_config.json"))?;
    let is_bert = is_bert(folder, config.as_ref())?;
    let path = folder.join("tokenizer.json");
    if let Some(bytes) = read_bounded(&path)? {
        let no_json = |error| LoadError::model(&path, format!("is no tokenizer: {error}"));
        let mut json: Value = serde_json::from_slice(&bytes).map_err(no_json)?;
        if is_bert && json["model"]["type"] == "WordPiece" {
            let own = json.clone();
            build_bert(&mut json, config.as_ref())?;
            let bytes = if own == json { bytes } else { json.to_string().into_bytes() };
            return Ok(Found { path, bytes, json });
        }
        return Ok(Found { path, bytes, json });
    }
    let vocabulary = folder.join("vocab.txt");
    if let Some(bytes) = read_bounded(&vocabulary)? {
        if is_bert {
            let json = from_vocabulary(folder, &vocabulary, bytes, config.as_ref())?;
            return Ok(Found { path: vocabulary, bytes: json.to_string().into_bytes(), json });
        }
        let kinds = BERT_CLASSES.join(", ");
        let message = format!("is missing, and vocab.txt alone is read of {kinds} only; make it with {CONVERT}");
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

/// Whether transformers builds the folder's tokenizer by BERT's rules.
fn is_bert(folder: &Path, config: Option<&ConfigFile>) -> Result<bool, LoadError> {
    let class = config.map(|file| file.text("tokenizer_class")).transpose()?.flatten();
    if let Some(class) = class {
        return Ok(BERT_CLASSES.contains(&class.strip_suffix("Fast").unwrap_or(class)));
    }
    let model = ConfigFile::read(folder.join("config.json"))?;
    let kind = model.as_ref().map(|file| file.text("model_type")).transpose()?.flatten();
    Ok(kind.is_some_and(|kind| BERT_TYPES.contains(&kind)))
}

/// A special token by its key in tokenizer_config.json: its text, or an object that has it.
fn special(config: Option<&ConfigFile>, key: &str, default: &str) -> String {
    let value = config.and_then(|file| file.get(key));
    let text = value.and_then(|value| value.as_str().or_else(|| value["content"].as_str()));
    text.unwrap_or(default).to_owned()
}

/// What transformers' BertTokenizer makes of its arguments: all of a tokenizer but its vocabulary.
fn build_bert(json: &mut Value, config: Option<&ConfigFile>) -> Result<(), LoadError> {
    let flag = |key: &str| match config {
        Some(file) if file.get(key).is_some() => file.flag(key).map(Some),
        _ => Ok(None),
    };
    json["normalizer"] = json!({
        "type": "BertNormalizer",
        "clean_text": true,
        "handle_chinese_chars": flag("tokenize_chinese_chars")?.unwrap_or(true),
        "strip_accents": flag("strip_accents")?,
        "lowercase": flag("do_lower_case")?.unwrap_or(true),
    });
    json["pre_tokenizer"] = json!({ "type": "BertPreTokenizer" });
    let [first, last] = [("cls_token", "[CLS]"), ("sep_token", "[SEP]")].map(|(key, name)| special(config, key, name));
    let ids = [&first, &last].map(|token| json["model"]["vocab"][token.as_str()].as_u64());
    if let [Some(first_id), Some(last_id)] = ids {
        let token = |token: &str, id| json!({ "id": token, "ids": [id], "tokens": [token] });
        let place = |token: &str| json!({ "SpecialToken": { "id": token, "type_id": 0 } });
        let text = |id: &str| json!({ "Sequence": { "id": id, "type_id": 0 } });
        json["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [place(&first), text("A"), place(&last)],
            "pair": [place(&first), text("A"), place(&last), text("B"), place(&last)],
            "special_tokens": { &first: token(&first, first_id), &last: token(&last, last_id) },
        });
    }
    Ok(())
}

/// The keys of BERT's special tokens and the tokens that they are by default, in transformers' order.
const SPECIAL: [(&str, &str); 5] = [
    ("unk_token", "[UNK]"),
    ("sep_token", "[SEP]"),
    ("pad_token", "[PAD]"),
    ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
];

/// A tokenizer of a vocab.txt, a token a line.
fn from_vocabulary(
    folder: &Path,
    path: &Path,
    bytes: Vec<u8>,
    config: Option<&ConfigFile>,
) -> Result<Value, LoadError> {
    let text = String::from_utf8(bytes).map_err(|_| LoadError::model(path, "is not UTF-8"))?;
    refuse_what_is_added(folder, config)?;
    let mut vocabulary = serde_json::Map::new();
    for (id, token) in text.lines().enumerate() {
        vocabulary.insert(token.to_owned(), id.into());
    }
    let special = SPECIAL.map(|(key, default)| special(config, key, default));
    let mut added = Vec::new();
    for token in &special {
        let Some(id) = vocabulary.get(token) else {
            return Err(LoadError::model(path, format!("has no line {token}, which the tokenizer needs")));
        };
        added.push(json!({
            "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true,
        }));
    }
    added.sort_by_key(|token| token["id"].as_u64());
    let mut json = json!({
        "version": "1.0",
        "added_tokens": added,
        "model": {
            "type": "WordPiece", "unk_token": special[0], "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary,
        },
    });
    build_bert(&mut json, config)?;
    Ok(json)
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
            return Err(file.error(format!("`{key}` is {}, {how}", crate::encode::folder::short(value))));
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
        let found = match read(folder.path()) {
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
        let cased_json = r#"{"normalizer": {"type": "BertNormalizer", "lowercase": false}, "model": {"type": "WordPiece", "vocab": {}}}"#;
        check(
            &[BERT, ("tokenizer.json", cased_json)],
            r#"{"clean_text":true,"handle_chinese_chars":true,"lowercase":true"#,
        );
        let generic = ("tokenizer_config.json", r#"{"tokenizer_class": "PreTrainedTokenizerFast"}"#);
        check(&[BERT, generic, ("tokenizer.json", cased_json)], r#"{"lowercase":false,"type":"BertNormalizer"} {}"#);
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
            "tokenizer.json: is missing, and vocab.txt alone is read of BertTokenizer",
        );
        check(&[BERT, ("vocab.txt", "[PAD]\n[UNK]\n")], "vocab.txt: has no line [SEP], which the tokenizer needs");
        let added = ("added_tokens.json", r#"{"[NEW]": 6}"#);
        check(&[BERT, ("vocab.txt", VOCABULARY), added], "added_tokens.json: adds tokens, which is not read beside");
        let basic = ("tokenizer_config.json", r#"{"do_basic_tokenize": false}"#);
        check(&[BERT, ("vocab.txt", VOCABULARY), basic], "tokenizer_config.json: `do_basic_tokenize` is false, which");
        check(&[BERT, ("tokenizer.json", "{")], "tokenizer.json: is no tokenizer: ");
    }
}
