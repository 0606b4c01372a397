//! What transformers makes of a tokenizer.json whose class has rules of its own.
//!
//! transformers 5 takes a file as it is for the general class alone (`TokenizersBackend`, `PreTrainedTokenizerFast`). The classes
//! below take its vocabulary and its merges and build the rest from their own rules and tokenizer_config.json
//! (`tokenization_utils_tokenizers.py`, `convert_to_native_format`; `models/*/tokenization_*.py`); so the same file gives other
//! tokens under another class. names.rs says which class a folder's is.

use serde_json::{Value, json};
use tokenizers::AddedToken;

use super::config::{Arguments, KEYS, added, text_of};
use crate::model::LoadError;

/// Classes with rules of their own, of the families that are supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
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

/// What stands between words in a sentencepiece vocabulary.
const SPACE: &str = "\u{2581}";
/// How Qwen 2 splits words before their bytes are looked at.
const QWEN2_SPLITS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Class {
    /// Its special tokens where nothing is said of them, as [`KEYS`].
    fn defaults(self) -> [Option<&'static str>; 7] {
        let all = |[bos, eos, unk, sep, pad, cls, mask]: [&'static str; 7]| {
            [Some(bos), Some(eos), Some(unk), Some(sep), Some(pad), Some(cls), Some(mask)]
        };
        let end = Some("<|endoftext|>");
        match self {
            Class::Albert => all(["[CLS]", "[SEP]", "<unk>", "[SEP]", "<pad>", "[CLS]", "[MASK]"]),
            Class::Bert => [None, None, Some("[UNK]"), Some("[SEP]"), Some("[PAD]"), Some("[CLS]"), Some("[MASK]")],
            Class::DebertaV2 => all(["[CLS]", "[SEP]", "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"]),
            Class::Gemma => [Some("<bos>"), Some("<eos>"), Some("<unk>"), None, Some("<pad>"), None, Some("<mask>")],
            Class::Gpt2 => [end, end, end, None, None, None, None],
            Class::Llama => [Some("<s>"), Some("</s>"), Some("<unk>"), None, None, None, None],
            Class::Mpnet => all(["<s>", "</s>", "[UNK]", "</s>", "<pad>", "<s>", "<mask>"]),
            Class::Qwen2 => [None, end, end, None, end, None, None],
            Class::Camembert | Class::Roberta | Class::XlmRoberta => {
                all(["<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"])
            }
            Class::T5 => [None, Some("</s>"), Some("<unk>"), None, Some("<pad>"), None, None],
        }
    }

    /// Its special tokens and their keys, where nothing is said of them.
    pub fn special_tokens(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        KEYS.into_iter().zip(self.defaults()).filter_map(|(key, default)| Some((key, default?)))
    }

    /// What the files say that a special token is, else its own.
    fn token(self, key: &str, given: &Arguments) -> String {
        let own = self.special_tokens().find(|(known, _)| *known == key);
        given.token(key, own.map_or("", |(_, token)| token))
    }

    /// Whether it is built of pieces with scores.
    pub fn has_scores(self) -> bool {
        self.model() == "Unigram"
    }

    /// The kind of vocabulary that it builds on.
    fn model(self) -> &'static str {
        match self {
            Class::Bert | Class::Mpnet => "WordPiece",
            Class::Gemma | Class::Gpt2 | Class::Llama | Class::Qwen2 | Class::Roberta => "BPE",
            Class::Albert | Class::Camembert | Class::DebertaV2 | Class::T5 | Class::XlmRoberta => "Unigram",
        }
    }

    /// Why it cannot build on this vocabulary, as transformers cannot either; `None` where it can.
    pub fn mismatch(self, model: &Value) -> Option<String> {
        let (wanted, found) = (self.model(), kind(model));
        (found != wanted).then(|| format!("builds on a vocabulary of the kind {wanted}, tokenizer.json has {found}"))
    }

    /// The token for what is unknown, where a word could not be tokenised for want of it in the vocabulary.
    pub fn missing_unknown(self, model: &Value, given: &Arguments) -> Option<String> {
        let unknown = self.token("unk_token", given);
        (self.model() == "WordPiece" && model["vocab"].get(&unknown).is_none()).then_some(unknown)
    }

    /// Puts in place of a tokenizer.json's rules those of the class, and leaves added tokens and what stands around a text to
    /// [`Class::additions`] and [`Class::template`].
    ///
    /// # Errors
    /// If a switch is no switch.
    pub fn build(self, json: &mut Value, given: &Arguments) -> Result<(), LoadError> {
        let settings = self.model_settings(&json["model"], given);
        json["normalizer"] = self.normalizer(&json["normalizer"], given)?;
        json["pre_tokenizer"] = self.pre_tokenizer(given)?;
        json["model"]["type"] = self.model().into();
        for (key, value) in settings.as_object().into_iter().flatten() {
            json["model"][key] = value.clone();
        }
        json["added_tokens"] = Value::Array(Vec::new());
        Ok(())
    }

    /// The settings of the vocabulary's model.
    fn model_settings(self, model: &Value, given: &Arguments) -> Value {
        match self {
            Class::Bert | Class::Mpnet => json!({
                "unk_token": self.token("unk_token", given), "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
            }),
            Class::Roberta | Class::Gpt2 | Class::Qwen2 => json!({
                "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
                "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            }),
            Class::Llama | Class::Gemma => json!({
                "dropout": null, "unk_token": (self == Class::Gemma).then(|| self.token("unk_token", given)),
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
                "ignore_merges": false,
            }),
            Class::Albert => json!({ "unk_id": 1, "byte_fallback": false }),
            Class::T5 => json!({ "unk_id": 2, "byte_fallback": false }),
            Class::XlmRoberta => json!({ "unk_id": 3, "byte_fallback": false }),
            Class::Camembert => {
                let id = place(&model["vocab"], |token, _| token == self.token("unk_token", given));
                json!({ "unk_id": id.unwrap_or(0), "byte_fallback": false })
            }
            Class::DebertaV2 => {
                let unknown = self.token("unk_token", given);
                let id = place(&model["vocab"], |token, score| token == unknown && score == 0.0);
                let id = id.unwrap_or_else(|| given.count("unk_id").unwrap_or(1));
                json!({ "unk_id": id, "byte_fallback": false })
            }
        }
    }

    fn normalizer(self, own: &Value, given: &Arguments) -> Result<Value, LoadError> {
        let sequence = |steps: Vec<Value>| json!({ "type": "Sequence", "normalizers": steps });
        Ok(match self {
            Class::Bert | Class::Mpnet => json!({
                "type": "BertNormalizer",
                "clean_text": true,
                "handle_chinese_chars": given.flag("tokenize_chinese_chars")?.unwrap_or(true),
                "strip_accents": given.flag("strip_accents")?,
                "lowercase": given.flag("do_lower_case")?.unwrap_or(true),
            }),
            Class::Camembert | Class::T5 | Class::XlmRoberta => precompiled(own).unwrap_or(Value::Null),
            Class::Albert => {
                let quotes = |quotes: &str| replace(json!({ "String": quotes }), "\"");
                let mut steps = vec![quotes("``"), quotes("''")];
                if !given.flag("keep_accents")?.unwrap_or(false) {
                    steps.extend([json!({ "type": "NFKD" }), json!({ "type": "StripAccents" })]);
                }
                if given.flag("do_lower_case")?.unwrap_or(true) {
                    steps.push(json!({ "type": "Lowercase" }));
                }
                steps.extend(precompiled(own));
                sequence(steps)
            }
            Class::DebertaV2 => {
                let lower = given.flag("do_lower_case")?.unwrap_or(false).then(|| json!({ "type": "Lowercase" }));
                let spaces = replace(json!({ "Regex": r"\s{2,}|[\n\r\t]" }), " ");
                let strip = json!({ "type": "Strip", "strip_left": false, "strip_right": true });
                sequence(lower.into_iter().chain([spaces, json!({ "type": "NFC" }), strip]).collect())
            }
            Class::Gemma => replace(json!({ "String": " " }), SPACE),
            Class::Qwen2 => json!({ "type": "NFC" }),
            Class::Gpt2 | Class::Llama | Class::Roberta => Value::Null,
        })
    }

    fn pre_tokenizer(self, given: &Arguments) -> Result<Value, LoadError> {
        let sequence = |steps: Vec<Value>| json!({ "type": "Sequence", "pretokenizers": steps });
        let prefix_space = |default: bool| given.flag("add_prefix_space").map(|flag| flag.unwrap_or(default));
        let metaspace = |scheme: &str, split: bool| json!({ "type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": split });
        Ok(match self {
            Class::Bert | Class::Mpnet => json!({ "type": "BertPreTokenizer" }),
            Class::Albert | Class::Camembert | Class::XlmRoberta | Class::T5 => {
                let always = self == Class::T5 || prefix_space(true)?;
                let pieces = metaspace(if always { "always" } else { "never" }, true);
                sequence(vec![json!({ "type": "WhitespaceSplit" }), pieces])
            }
            Class::DebertaV2 => {
                let punctuation = given.flag("split_by_punct")?.unwrap_or(false);
                let punctuation = punctuation.then(|| json!({ "type": "Punctuation", "behavior": "Isolated" }));
                let pieces = metaspace(if prefix_space(true)? { "always" } else { "first" }, true);
                sequence(punctuation.into_iter().chain([pieces]).collect())
            }
            Class::Llama => {
                let scheme = match (prefix_space(true)?, given.flag("legacy")?.unwrap_or(false)) {
                    (false, _) => "never",
                    (true, true) => "always",
                    (true, false) => "first",
                };
                metaspace(scheme, false)
            }
            Class::Gemma => json!({
                "type": "Split", "pattern": { "String": " " }, "behavior": "MergedWithPrevious", "invert": false,
            }),
            Class::Gpt2 | Class::Roberta => byte_level(prefix_space(false)?, true),
            Class::Qwen2 => {
                let pattern = json!({ "Regex": QWEN2_SPLITS });
                let words = json!({ "type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false });
                sequence(vec![words, byte_level(prefix_space(false)?, false)])
            }
        })
    }

    /// What it adds to its vocabulary, in order: first `listed`, which its files do, then special tokens, its own where the files
    /// say nothing, then others that are named (`tokenization_utils_tokenizers.py`, `__init__` and `_post_init`).
    pub fn additions(class: Option<Class>, listed: Vec<AddedToken>, given: &Arguments) -> Vec<AddedToken> {
        let mut tokens = listed;
        let known = tokens.clone();
        let as_listed = |text: &str, value: Option<&Value>| {
            let listed = known.iter().find(|token| token.content == text).cloned();
            listed.unwrap_or_else(|| added(text, value, true))
        };
        let defaults = class.map_or([None; 7], Class::defaults);
        for (key, default) in KEYS.into_iter().zip(defaults) {
            match (given.value(key), default) {
                (Some(value), _) if value.is_null() => {}
                (Some(value), _) => tokens.extend(text_of(value).map(|text| as_listed(text, Some(value)))),
                (None, Some(default)) => {
                    let own = matches!(class, Some(Class::Camembert | Class::Mpnet)) && key == "mask_token";
                    tokens.push(added(default, None, true).lstrip(own));
                }
                (None, None) => {}
            }
        }
        let mut others = given.others();
        if class == Some(Class::T5) && !others.iter().any(|(text, _)| text.contains("<extra_id_")) {
            let count = given.count("extra_ids").unwrap_or(100).min(EXTRA_IDS_MAX);
            others.extend((0..count).map(|number| (format!("<extra_id_{number}>"), None)));
        }
        if class == Some(Class::Camembert) && others.is_empty() {
            others.extend(["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"].map(|text| (text.to_owned(), None)));
        }
        tokens.extend(others.into_iter().map(|(text, value)| as_listed(&text, value.as_ref())));
        tokens
    }

    /// The tokens around a text, where the class and not the file says them; `id` is of its whole vocabulary.
    ///
    /// # Errors
    /// The token that there is no id of.
    pub fn template(
        self,
        own: &Value,
        given: &Arguments,
        id: impl Fn(&str) -> Option<u32>,
    ) -> Result<Option<Value>, String> {
        let keys: &[&str] = match self {
            Class::Gemma | Class::Gpt2 | Class::Llama | Class::Qwen2 => return Ok(None),
            // The file's own is put back in place of the class's.
            Class::Albert if !own.is_null() => return Ok(None),
            Class::Albert | Class::Bert | Class::DebertaV2 | Class::Mpnet | Class::Roberta => {
                &["cls_token", "sep_token"]
            }
            Class::Camembert | Class::XlmRoberta => &["bos_token", "eos_token"],
            Class::T5 => &["eos_token"],
        };
        let mut around = Vec::new();
        for key in keys {
            let text = self.token(key, given);
            let id = id(&text).ok_or(&text)?;
            around.push((text, id));
        }
        let (before, after) = around.split_at(around.len() - 1);
        let place = |(text, _): &(String, u32)| json!({ "SpecialToken": { "id": text, "type_id": 0 } });
        let text = |id: &str| json!({ "Sequence": { "id": id, "type_id": 0 } });
        let row = |texts: &[&str]| -> Value {
            let inner = texts.iter().flat_map(|id| [text(id)].into_iter().chain(after.iter().map(place)));
            before.iter().map(place).chain(inner).collect()
        };
        let special =
            around.iter().map(|(text, id)| (text.clone(), json!({ "id": text, "ids": [id], "tokens": [text] })));
        Ok(Some(json!({
            "type": "TemplateProcessing",
            "single": row(&["A"]),
            "pair": row(&["A", "B"]),
            "special_tokens": special.collect::<serde_json::Map<_, _>>(),
        })))
    }
}

/// Of T5's; it has 100.
const EXTRA_IDS_MAX: u64 = 10_000;

/// A vocabulary's kind: files of the first tokenizers do not name it.
fn kind(model: &Value) -> &'static str {
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

/// The table of characters that a sentencepiece model came with, wherever it stands among the normalizers.
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

/// Where the first token that is wanted stands in a vocabulary of tokens and scores.
fn place(vocabulary: &Value, wanted: impl Fn(&str, f64) -> bool) -> Option<u64> {
    let entries = vocabulary.as_array()?;
    let is_wanted = |entry: &Value| {
        let score = entry[1].as_f64().unwrap_or(f64::NAN);
        entry[0].as_str().is_some_and(|token| wanted(token, score))
    };
    entries.iter().position(is_wanted).map(|place| place as u64)
}
