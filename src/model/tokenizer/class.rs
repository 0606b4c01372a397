//! The vocabulary of a tokenizer.json and the files beside it in, the parts of the tokenizer that its class builds from them out.
//!
//! transformers 5 uses a tokenizer.json as it is only for the general class (`TokenizersBackend`, `PreTrainedTokenizerFast`). The
//! classes below take its vocabulary and merges and build the rest by rules of their own and tokenizer_config.json
//! (`tokenization_utils_tokenizers.py`, `convert_to_native_format`; `models/*/tokenization_*.py`). The same file therefore gives
//! different tokens under different classes. class_names.rs says which class a folder has.

use serde_json::{Value, json};
use tokenizers::AddedToken;

use super::byte_level::QWEN2_SPLIT;
use super::config::{KEYS, TokenizerConfig, added_token, token_text};
use crate::model::LoadError;

/// The classes of the supported families that have rules of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenizerClass {
    Albert,
    Bert,
    Camembert,
    DebertaV2,
    Gemma,
    Gpt2,
    Llama,
    Mpnet,
    Qwen2,
    Roberta,
    T5,
    XlmRoberta,
}

/// The character that replaces a space in a SentencePiece vocabulary.
const SPACE: &str = "\u{2581}";

impl TokenizerClass {
    /// The default special tokens of the class, in the order of [`KEYS`].
    fn defaults(self) -> [Option<&'static str>; 7] {
        let all = |[bos, eos, unk, sep, pad, cls, mask]: [&'static str; 7]| {
            [Some(bos), Some(eos), Some(unk), Some(sep), Some(pad), Some(cls), Some(mask)]
        };
        let end = Some("<|endoftext|>");
        match self {
            TokenizerClass::Albert => all(["[CLS]", "[SEP]", "<unk>", "[SEP]", "<pad>", "[CLS]", "[MASK]"]),
            TokenizerClass::Bert => {
                [None, None, Some("[UNK]"), Some("[SEP]"), Some("[PAD]"), Some("[CLS]"), Some("[MASK]")]
            }
            TokenizerClass::DebertaV2 => all(["[CLS]", "[SEP]", "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"]),
            TokenizerClass::Gemma => {
                [Some("<bos>"), Some("<eos>"), Some("<unk>"), None, Some("<pad>"), None, Some("<mask>")]
            }
            TokenizerClass::Gpt2 => [end, end, end, None, None, None, None],
            TokenizerClass::Llama => [Some("<s>"), Some("</s>"), Some("<unk>"), None, None, None, None],
            TokenizerClass::Mpnet => all(["<s>", "</s>", "[UNK]", "</s>", "<pad>", "<s>", "<mask>"]),
            TokenizerClass::Qwen2 => [None, end, end, None, end, None, None],
            TokenizerClass::Camembert | TokenizerClass::Roberta | TokenizerClass::XlmRoberta => {
                all(["<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"])
            }
            TokenizerClass::T5 => [None, Some("</s>"), Some("<unk>"), None, Some("<pad>"), None, None],
        }
    }

    /// The keys and default texts of the class's special tokens.
    pub(super) fn special_tokens(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        KEYS.into_iter().zip(self.defaults()).filter_map(|(key, default)| Some((key, default?)))
    }

    /// The text of a special token by the files, or else the default of the class.
    fn token(self, key: &str, config: &TokenizerConfig<'_>) -> String {
        let default = self.special_tokens().find(|(known, _)| *known == key);
        config.token(key, default.map_or("", |(_, token)| token))
    }

    /// Whether the vocabulary has scores.
    pub(super) fn has_scores(self) -> bool {
        self.model_type() == "Unigram"
    }

    /// The type of the vocabulary that the class builds on.
    fn model_type(self) -> &'static str {
        match self {
            TokenizerClass::Bert | TokenizerClass::Mpnet => "WordPiece",
            TokenizerClass::Gemma
            | TokenizerClass::Gpt2
            | TokenizerClass::Llama
            | TokenizerClass::Qwen2
            | TokenizerClass::Roberta => "BPE",
            TokenizerClass::Albert
            | TokenizerClass::Camembert
            | TokenizerClass::DebertaV2
            | TokenizerClass::T5
            | TokenizerClass::XlmRoberta => "Unigram",
        }
    }

    /// Why the class cannot build on this vocabulary, as in transformers; `None` if it can.
    pub(super) fn mismatch(self, model: &Value) -> Option<String> {
        let (expected, found) = (self.model_type(), model_type_of(model));
        (found != expected).then(|| format!("found a vocabulary of type {found}; expected {expected}"))
    }

    /// The unknown token, if the class needs it and the vocabulary lacks it, so that a word could fail to be tokenised.
    pub(super) fn missing_unknown_token(self, model: &Value, config: &TokenizerConfig<'_>) -> Option<String> {
        let unknown = self.token("unk_token", config);
        (self.model_type() == "WordPiece" && model["vocab"].get(&unknown).is_none()).then_some(unknown)
    }

    /// Replaces the rules in a tokenizer.json by those of the class, except added tokens and the template, which
    /// [`TokenizerClass::tokens_to_add`] and [`TokenizerClass::template`] make.
    ///
    /// # Errors
    /// If a switch is not a boolean.
    pub(super) fn build(self, json: &mut Value, config: &TokenizerConfig<'_>) -> Result<(), LoadError> {
        let settings = self.model_settings(&json["model"], config);
        json["normalizer"] = self.normalizer(&json["normalizer"], config)?;
        json["pre_tokenizer"] = self.pre_tokenizer(config)?;
        json["model"]["type"] = self.model_type().into();
        for (key, value) in settings.as_object().into_iter().flatten() {
            json["model"][key] = value.clone();
        }
        json["added_tokens"] = Value::Array(Vec::new());
        Ok(())
    }

    /// The settings of the vocabulary's model.
    fn model_settings(self, model: &Value, config: &TokenizerConfig<'_>) -> Value {
        match self {
            TokenizerClass::Bert | TokenizerClass::Mpnet => json!({
                "unk_token": self.token("unk_token", config), "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
            }),
            TokenizerClass::Roberta | TokenizerClass::Gpt2 | TokenizerClass::Qwen2 => json!({
                "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
                "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            }),
            TokenizerClass::Llama | TokenizerClass::Gemma => json!({
                "dropout": null, "unk_token": (self == TokenizerClass::Gemma).then(|| self.token("unk_token", config)),
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
                "ignore_merges": false,
            }),
            TokenizerClass::Albert => json!({ "unk_id": 1, "byte_fallback": false }),
            TokenizerClass::T5 => json!({ "unk_id": 2, "byte_fallback": false }),
            TokenizerClass::XlmRoberta => json!({ "unk_id": 3, "byte_fallback": false }),
            TokenizerClass::Camembert => {
                let id = position(&model["vocab"], |token, _| token == self.token("unk_token", config));
                json!({ "unk_id": id.unwrap_or(0), "byte_fallback": false })
            }
            TokenizerClass::DebertaV2 => {
                let unknown = self.token("unk_token", config);
                let id = position(&model["vocab"], |token, score| token == unknown && score == 0.0);
                let id = id.unwrap_or_else(|| config.count("unk_id").unwrap_or(1));
                json!({ "unk_id": id, "byte_fallback": false })
            }
        }
    }

    /// The normalizer of the class. `own` is that of tokenizer.json.
    fn normalizer(self, own: &Value, config: &TokenizerConfig<'_>) -> Result<Value, LoadError> {
        let sequence = |steps: Vec<Value>| json!({ "type": "Sequence", "normalizers": steps });
        Ok(match self {
            TokenizerClass::Bert | TokenizerClass::Mpnet => json!({
                "type": "BertNormalizer",
                "clean_text": true,
                "handle_chinese_chars": config.flag("tokenize_chinese_chars")?.unwrap_or(true),
                "strip_accents": config.flag("strip_accents")?,
                "lowercase": config.flag("do_lower_case")?.unwrap_or(true),
            }),
            TokenizerClass::Camembert | TokenizerClass::T5 | TokenizerClass::XlmRoberta => {
                precompiled(own).unwrap_or(Value::Null)
            }
            TokenizerClass::Albert => {
                let quotes = |quotes: &str| replace(json!({ "String": quotes }), "\"");
                let mut steps = vec![quotes("``"), quotes("''")];
                if !config.flag("keep_accents")?.unwrap_or(false) {
                    steps.extend([json!({ "type": "NFKD" }), json!({ "type": "StripAccents" })]);
                }
                if config.flag("do_lower_case")?.unwrap_or(true) {
                    steps.push(json!({ "type": "Lowercase" }));
                }
                steps.extend(precompiled(own));
                sequence(steps)
            }
            TokenizerClass::DebertaV2 => {
                let lower = config.flag("do_lower_case")?.unwrap_or(false).then(|| json!({ "type": "Lowercase" }));
                let spaces = replace(json!({ "Regex": r"\s{2,}|[\n\r\t]" }), " ");
                let strip = json!({ "type": "Strip", "strip_left": false, "strip_right": true });
                sequence(lower.into_iter().chain([spaces, json!({ "type": "NFC" }), strip]).collect())
            }
            TokenizerClass::Gemma => replace(json!({ "String": " " }), SPACE),
            TokenizerClass::Qwen2 => json!({ "type": "NFC" }),
            TokenizerClass::Gpt2 | TokenizerClass::Llama | TokenizerClass::Roberta => Value::Null,
        })
    }

    /// The pre-tokenizer of the class.
    fn pre_tokenizer(self, config: &TokenizerConfig<'_>) -> Result<Value, LoadError> {
        let sequence = |steps: Vec<Value>| json!({ "type": "Sequence", "pretokenizers": steps });
        let prefix_space = |default: bool| config.flag("add_prefix_space").map(|flag| flag.unwrap_or(default));
        let metaspace = |scheme: &str, split: bool| json!({ "type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": split });
        Ok(match self {
            TokenizerClass::Bert | TokenizerClass::Mpnet => json!({ "type": "BertPreTokenizer" }),
            TokenizerClass::Albert | TokenizerClass::Camembert | TokenizerClass::XlmRoberta | TokenizerClass::T5 => {
                let always = self == TokenizerClass::T5 || prefix_space(true)?;
                let pieces = metaspace(if always { "always" } else { "never" }, true);
                sequence(vec![json!({ "type": "WhitespaceSplit" }), pieces])
            }
            TokenizerClass::DebertaV2 => {
                let punctuation = config.flag("split_by_punct")?.unwrap_or(false);
                let punctuation = punctuation.then(|| json!({ "type": "Punctuation", "behavior": "Isolated" }));
                let pieces = metaspace(if prefix_space(true)? { "always" } else { "first" }, true);
                sequence(punctuation.into_iter().chain([pieces]).collect())
            }
            TokenizerClass::Llama => {
                let scheme = match (prefix_space(true)?, config.flag("legacy")?.unwrap_or(false)) {
                    (false, _) => "never",
                    (true, true) => "always",
                    (true, false) => "first",
                };
                metaspace(scheme, false)
            }
            TokenizerClass::Gemma => json!({
                "type": "Split", "pattern": { "String": " " }, "behavior": "MergedWithPrevious", "invert": false,
            }),
            TokenizerClass::Gpt2 | TokenizerClass::Roberta => byte_level(prefix_space(false)?, true),
            TokenizerClass::Qwen2 => {
                let pattern = json!({ "Regex": QWEN2_SPLIT });
                let words = json!({ "type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false });
                sequence(vec![words, byte_level(prefix_space(false)?, false)])
            }
        })
    }

    /// The tokens to add to the vocabulary, in order: first `listed`, from the files; then the special tokens, with the class's
    /// defaults where the files say nothing; then other special tokens of the files (`tokenization_utils_tokenizers.py`, `__init__`
    /// and `_post_init`). `None` is the general class.
    pub(super) fn tokens_to_add(
        class: Option<TokenizerClass>,
        listed: Vec<AddedToken>,
        config: &TokenizerConfig<'_>,
    ) -> Vec<AddedToken> {
        let mut tokens = listed;
        let known = tokens.clone();
        let as_listed = |text: &str, value: Option<&Value>| {
            let listed = known.iter().find(|token| token.content == text).cloned();
            listed.unwrap_or_else(|| added_token(text, value, true))
        };
        let defaults = class.map_or([None; 7], TokenizerClass::defaults);
        for (key, default) in KEYS.into_iter().zip(defaults) {
            match (config.value(key), default) {
                (Some(value), _) if value.is_null() => {}
                (Some(value), _) => tokens.extend(token_text(value).map(|text| as_listed(text, Some(value)))),
                (None, Some(default)) => {
                    let lstrip =
                        matches!(class, Some(TokenizerClass::Camembert | TokenizerClass::Mpnet)) && key == "mask_token";
                    tokens.push(added_token(default, None, true).lstrip(lstrip));
                }
                (None, None) => {}
            }
        }
        let mut others = config.extra_special_tokens();
        if class == Some(TokenizerClass::T5) && !others.iter().any(|(text, _)| text.contains("<extra_id_")) {
            let count = config.count("extra_ids").unwrap_or(100).min(EXTRA_IDS_MAX);
            others.extend((0..count).map(|number| (format!("<extra_id_{number}>"), None)));
        }
        if class == Some(TokenizerClass::Camembert) && others.is_empty() {
            others.extend(["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"].map(|text| (text.to_owned(), None)));
        }
        tokens.extend(others.into_iter().map(|(text, value)| as_listed(&text, value.as_ref())));
        tokens
    }

    /// The template of special tokens around a text (a post-processor), or `None` if the class keeps `own`, that of
    /// tokenizer.json. `id` looks a token up in the whole vocabulary.
    ///
    /// # Errors
    /// A token of the template that has no id.
    pub(super) fn template(
        self,
        own: &Value,
        config: &TokenizerConfig<'_>,
        id: impl Fn(&str) -> Option<u32>,
    ) -> Result<Option<Value>, String> {
        let keys: &[&str] = match self {
            TokenizerClass::Gemma | TokenizerClass::Gpt2 | TokenizerClass::Llama | TokenizerClass::Qwen2 => {
                return Ok(None);
            }
            // transformers restores the post-processor of the file here.
            TokenizerClass::Albert if !own.is_null() => return Ok(None),
            TokenizerClass::Albert
            | TokenizerClass::Bert
            | TokenizerClass::DebertaV2
            | TokenizerClass::Mpnet
            | TokenizerClass::Roberta => &["cls_token", "sep_token"],
            TokenizerClass::Camembert | TokenizerClass::XlmRoberta => &["bos_token", "eos_token"],
            TokenizerClass::T5 => &["eos_token"],
        };
        let mut around = Vec::new();
        for key in keys {
            let text = self.token(key, config);
            let id = id(&text).ok_or(&text)?;
            around.push((text, id));
        }
        let (before, after) = around.split_at(around.len() - 1);
        let special_token = |(text, _): &(String, u32)| json!({ "SpecialToken": { "id": text, "type_id": 0 } });
        let sequence = |id: &str| json!({ "Sequence": { "id": id, "type_id": 0 } });
        let template = |sequences: &[&str]| -> Value {
            let inner =
                sequences.iter().flat_map(|id| [sequence(id)].into_iter().chain(after.iter().map(special_token)));
            before.iter().map(special_token).chain(inner).collect()
        };
        let special =
            around.iter().map(|(text, id)| (text.clone(), json!({ "id": text, "ids": [id], "tokens": [text] })));
        Ok(Some(json!({
            "type": "TemplateProcessing",
            "single": template(&["A"]),
            "pair": template(&["A", "B"]),
            "special_tokens": special.collect::<serde_json::Map<_, _>>(),
        })))
    }
}

/// Maximum of T5's `extra_ids`, whose default is 100.
const EXTRA_IDS_MAX: u64 = 10_000;

/// The type of a vocabulary. The files of early versions of the tokenizers crate do not name it.
fn model_type_of(model: &Value) -> &'static str {
    match model["type"].as_str() {
        Some("BPE") => "BPE",
        Some("Unigram") => "Unigram",
        Some("WordPiece") => "WordPiece",
        Some("WordLevel") => "WordLevel",
        Some(_) => "another",
        None if model["vocab"].is_array() => "Unigram",
        None if model["merges"].is_array() => "BPE",
        None => "WordPiece",
    }
}

/// The normalizer with a SentencePiece model's table of characters, wherever it is among the normalizers.
fn precompiled(normalizer: &Value) -> Option<Value> {
    let inner = normalizer["normalizers"].as_array().into_iter().flatten();
    inner.chain([normalizer]).find(|step| step["type"] == "Precompiled").cloned()
}

fn replace(pattern: Value, content: &str) -> Value {
    json!({ "type": "Replace", "pattern": pattern, "content": content })
}

fn byte_level(add_prefix_space: bool, use_regex: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": use_regex })
}

/// The id of the first matching token in a vocabulary of tokens and scores.
fn position(vocabulary: &Value, matches: impl Fn(&str, f64) -> bool) -> Option<u64> {
    let entries = vocabulary.as_array()?;
    let is_match = |entry: &Value| {
        let score = entry[1].as_f64().unwrap_or(f64::NAN);
        entry[0].as_str().is_some_and(|token| matches(token, score))
    };
    entries.iter().position(is_match).map(|index| index as u64)
}
