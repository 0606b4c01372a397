//! What a tokenizer's class is called with: what the files beside tokenizer.json say.

use std::collections::BTreeMap;

use serde_json::Value;
use tokenizers::AddedToken;

use crate::model::LoadError;
use crate::model::config_file::ConfigFile;

/// The keys of special tokens, in transformers' order (`SPECIAL_TOKENS_ATTRIBUTES`).
pub const KEYS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What a class is called with: tokenizer_config.json, and special_tokens_map.json where that still counts.
pub struct Arguments<'a> {
    pub config: Option<&'a ConfigFile>,
    pub special_tokens: Option<&'a ConfigFile>,
}

impl Arguments<'_> {
    /// A switch; `None` where it is not given, or given as null.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, LoadError> {
        match self.config {
            Some(file) if file.get(key).is_some() => file.flag(key).map(Some),
            _ => Ok(None),
        }
    }

    pub fn count(&self, key: &str) -> Option<u64> {
        self.config?.get(key)?.as_u64()
    }

    /// What is said of a special token, null included. The old file of special tokens counts where tokenizer_config.json does not
    /// list all that were added (`tokenization_utils_base.py`, `_from_pretrained`).
    pub fn value(&self, key: &str) -> Option<&Value> {
        let old = self.special_tokens.filter(|_| self.listed().is_none()).and_then(|file| file.get(key));
        old.or_else(|| self.config.and_then(|file| file.json.get(key)))
    }

    /// A special token: its text, or an object that has it.
    pub fn token(&self, key: &str, default: &str) -> String {
        self.value(key).and_then(text_of).unwrap_or(default).to_owned()
    }

    fn listed(&self) -> Option<&serde_json::Map<String, Value>> {
        self.config?.get("added_tokens_decoder")?.as_object()
    }

    /// The tokens that were added, by their ids: those of tokenizer_config.json, else of added_tokens.json, which are `named`,
    /// and of tokenizer.json.
    pub fn list(&self, named: Option<&ConfigFile>, tokenizer: &Value) -> Vec<AddedToken> {
        let mut tokens = BTreeMap::new();
        match self.listed() {
            Some(listed) => {
                for (id, value) in listed {
                    if let (Ok(id), Some(text)) = (id.parse::<u64>(), text_of(value)) {
                        tokens.insert(id, added(text, Some(value), false));
                    }
                }
            }
            None => {
                let special: Vec<&str> = KEYS.iter().filter_map(|key| self.value(key).and_then(text_of)).collect();
                for (text, id) in named.into_iter().flat_map(|file| &file.json) {
                    if let Some(id) = id.as_u64() {
                        tokens.insert(id, added(text, None, special.contains(&text.as_str())));
                    }
                }
                for value in tokenizer["added_tokens"].as_array().into_iter().flatten() {
                    if let (Some(id), Some(text)) = (value["id"].as_u64(), text_of(value)) {
                        tokens.insert(id, added(text, Some(value), false));
                    }
                }
            }
        }
        tokens.into_values().collect()
    }

    /// Special tokens besides the usual ones: in lists, in a dictionary of names, or under keys of their own.
    pub fn others(&self) -> Vec<(String, Option<Value>)> {
        let mut others = Vec::new();
        let files = [self.config, self.special_tokens.filter(|_| self.listed().is_none())];
        for file in files.into_iter().flatten() {
            let is_own = |key: &str| key.ends_with("_token") && !key.starts_with("add_") && !KEYS.contains(&key);
            let named = file.json.iter().filter(|(key, _)| is_own(key)).map(|(_, value)| value);
            let listed = ["extra_special_tokens", "additional_special_tokens"].map(|key| values_of(file.get(key)));
            let values = listed.into_iter().find(|values| !values.is_empty()).unwrap_or_default();
            let with_text = |value: &Value| Some((text_of(value)?.to_owned(), Some(value.clone())));
            others.extend(named.chain(values).filter_map(with_text));
        }
        others
    }
}

/// What a list or a dictionary has, without its keys.
fn values_of(list: Option<&Value>) -> Vec<&Value> {
    match list {
        Some(Value::Array(list)) => list.iter().collect(),
        Some(Value::Object(map)) => map.values().collect(),
        _ => Vec::new(),
    }
}

/// A token's text: itself, or what an object has.
pub fn text_of(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token["content"].as_str())
}

/// A token with the switches that an object gives it.
pub fn added(text: &str, value: Option<&Value>, special: bool) -> AddedToken {
    let flag = |key: &str| value.and_then(|value| value[key].as_bool());
    let special = special || flag("special").unwrap_or(false);
    AddedToken::from(text, special)
        .single_word(flag("single_word").unwrap_or(false))
        .lstrip(flag("lstrip").unwrap_or(false))
        .rstrip(flag("rstrip").unwrap_or(false))
        .normalized(flag("normalized").unwrap_or(!special))
}
