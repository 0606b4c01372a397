//! The files beside tokenizer.json in, the settings and tokens that a tokenizer's class is built with out.

use std::collections::BTreeMap;

use serde_json::Value;
use tokenizers::AddedToken;

use crate::model::LoadError;
use crate::model::config_file::ConfigFile;

/// The keys of special tokens, in transformers' order (`SPECIAL_TOKENS_ATTRIBUTES`).
pub(super) const KEYS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// tokenizer_config.json, and special_tokens_map.json where it still counts.
pub(super) struct TokenizerConfig<'a> {
    /// tokenizer_config.json.
    pub config: Option<&'a ConfigFile>,
    /// special_tokens_map.json.
    pub special_tokens: Option<&'a ConfigFile>,
}

impl TokenizerConfig<'_> {
    /// A switch; `None` if it is absent or null.
    ///
    /// # Errors
    /// If the value is not a boolean.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, LoadError> {
        match self.config {
            Some(file) if file.get(key).is_some() => file.flag(key).map(Some),
            _ => Ok(None),
        }
    }

    /// A whole number; `None` if it is absent or anything else.
    pub(super) fn count(&self, key: &str) -> Option<u64> {
        self.config?.get(key)?.as_u64()
    }

    /// The value of a special token's key, null included. special_tokens_map.json wins unless tokenizer_config.json lists the added
    /// tokens (`tokenization_utils_base.py`, `_from_pretrained`).
    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        let special = self.special_tokens.filter(|_| self.listed().is_none()).and_then(|file| file.get(key));
        special.or_else(|| self.config.and_then(|file| file.json.get(key)))
    }

    /// The text of a special token.
    pub(super) fn token(&self, key: &str, default: &str) -> String {
        self.value(key).and_then(token_text).unwrap_or(default).to_owned()
    }

    /// The added tokens that tokenizer_config.json lists, by id.
    fn listed(&self) -> Option<&serde_json::Map<String, Value>> {
        self.config?.get("added_tokens_decoder")?.as_object()
    }

    /// The added tokens, sorted by id: those of tokenizer_config.json, or else of added_tokens.json and tokenizer.json.
    pub(super) fn added_tokens(&self, added_tokens: Option<&ConfigFile>, tokenizer: &Value) -> Vec<AddedToken> {
        let mut tokens = BTreeMap::new();
        match self.listed() {
            Some(listed) => {
                for (id, value) in listed {
                    if let (Ok(id), Some(text)) = (id.parse::<u64>(), token_text(value)) {
                        tokens.insert(id, added_token(text, Some(value), false));
                    }
                }
            }
            None => {
                let special: Vec<&str> = KEYS.iter().filter_map(|key| self.value(key).and_then(token_text)).collect();
                for (text, id) in added_tokens.into_iter().flat_map(|file| &file.json) {
                    if let Some(id) = id.as_u64() {
                        tokens.insert(id, added_token(text, None, special.contains(&text.as_str())));
                    }
                }
                for value in tokenizer["added_tokens"].as_array().into_iter().flatten() {
                    if let (Some(id), Some(text)) = (value["id"].as_u64(), token_text(value)) {
                        tokens.insert(id, added_token(text, Some(value), false));
                    }
                }
            }
        }
        tokens.into_values().collect()
    }

    /// Special tokens besides those of [`KEYS`]: in a list, in a dictionary of names, or under keys of their own.
    pub(super) fn extra_special_tokens(&self) -> Vec<(String, Option<Value>)> {
        let mut tokens = Vec::new();
        let files = [self.config, self.special_tokens.filter(|_| self.listed().is_none())];
        for file in files.into_iter().flatten() {
            let is_extra = |key: &str| key.ends_with("_token") && !key.starts_with("add_") && !KEYS.contains(&key);
            let named = file.json.iter().filter(|(key, _)| is_extra(key)).map(|(_, value)| value);
            let listed = ["extra_special_tokens", "additional_special_tokens"].map(|key| values_of(file.get(key)));
            let values = listed.into_iter().find(|values| !values.is_empty()).unwrap_or_default();
            let with_text = |value: &Value| Some((token_text(value)?.to_owned(), Some(value.clone())));
            tokens.extend(named.chain(values).filter_map(with_text));
        }
        tokens
    }
}

/// The values of a list or a dictionary.
fn values_of(list: Option<&Value>) -> Vec<&Value> {
    match list {
        Some(Value::Array(list)) => list.iter().collect(),
        Some(Value::Object(map)) => map.values().collect(),
        _ => Vec::new(),
    }
}

/// The text of a token: a string, or the `content` of an object.
pub(super) fn token_text(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token["content"].as_str())
}

/// An added token, with the switches of its object.
pub(super) fn added_token(text: &str, value: Option<&Value>, special: bool) -> AddedToken {
    let flag = |key: &str| value.and_then(|value| value[key].as_bool());
    let special = special || flag("special").unwrap_or(false);
    AddedToken::from(text, special)
        .single_word(flag("single_word").unwrap_or(false))
        .lstrip(flag("lstrip").unwrap_or(false))
        .rstrip(flag("rstrip").unwrap_or(false))
        .normalized(flag("normalized").unwrap_or(!special))
}
