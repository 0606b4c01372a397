//! What transformers makes of a tokenizer.json whose class has rules of its own.
//!
//! transformers 5 takes a file as it is for the general class alone (`TokenizersBackend`, `PreTrainedTokenizerFast`). The classes
//! below take its vocabulary and its merges and build the rest from their own rules and tokenizer_config.json
//! (`tokenization_utils_tokenizers.py`, `convert_to_native_format`; `models/*/tokenization_*.py`); so the same file gives other
//! tokens under another class. Classes that are not here are taken as they are.

use serde_json::{Value, json};

use crate::encode::LoadError;
use crate::encode::folder::ConfigFile;

/// Classes with rules of their own, of the families that are supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Albert,
    Bert,
    Camembert,
    DebertaV2,
    Gemma,
    Llama,
    Mpnet,
    Qwen2,
    Roberta,
    T5,
    XlmRoberta,
}

/// The names of classes, without `Fast` at their ends.
const NAMES: [(&str, Class); 21] = [
    ("AlbertTokenizer", Class::Albert),
    ("BartTokenizer", Class::Roberta),
    ("BertTokenizer", Class::Bert),
    ("CamembertTokenizer", Class::Camembert),
    ("ConvBertTokenizer", Class::Bert),
    ("DebertaV2Tokenizer", Class::DebertaV2),
    ("DistilBertTokenizer", Class::Bert),
    ("ElectraTokenizer", Class::Bert),
    ("FNetTokenizer", Class::Albert),
    ("GemmaTokenizer", Class::Gemma),
    ("LEDTokenizer", Class::Roberta),
    ("LayoutLMTokenizer", Class::Bert),
    ("LlamaTokenizer", Class::Llama),
    ("LongformerTokenizer", Class::Roberta),
    ("LxmertTokenizer", Class::Bert),
    ("MPNetTokenizer", Class::Mpnet),
    ("MobileBertTokenizer", Class::Bert),
    ("Qwen2Tokenizer", Class::Qwen2),
    ("RobertaTokenizer", Class::Roberta),
    ("T5Tokenizer", Class::T5),
    ("XLMRobertaTokenizer", Class::XlmRoberta),
];

/// The class that transformers has registered for a `model_type`: `None` is the general one.
const REGISTERED: [(&str, Option<Class>); 20] = [
    ("albert", Some(Class::Albert)),
    ("bert", Some(Class::Bert)),
    ("camembert", Some(Class::Camembert)),
    ("deberta-v2", Some(Class::DebertaV2)),
    ("distilbert", Some(Class::Bert)),
    ("electra", Some(Class::Bert)),
    ("gemma3_text", Some(Class::Gemma)),
    ("gte", Some(Class::XlmRoberta)),
    ("jina_embeddings_v3", Some(Class::XlmRoberta)),
    ("mistral", None),
    ("modernbert", None),
    ("mpnet", Some(Class::Mpnet)),
    ("mt5", Some(Class::T5)),
    ("nomic_bert", Some(Class::Bert)),
    ("qwen2", Some(Class::Qwen2)),
    ("qwen3", Some(Class::Qwen2)),
    ("roberta", Some(Class::Roberta)),
    ("t5", Some(Class::T5)),
    ("umt5", None),
    ("xlm-roberta", Some(Class::XlmRoberta)),
];

/// What stands between words in a sentencepiece vocabulary.
const SPACE: &str = "\u{2581}";
/// How Qwen 2 splits words before their bytes are looked at.
const QWEN2_SPLITS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Class {
    /// The class of a folder, by the name in its files and its model's type (`auto/tokenization_auto.py`, `from_pretrained`):
    /// the name counts, but where the general class is registered for the type, or the type is known for wrong names; and a
    /// file of bytes in Llama's name is taken as it is.
    pub fn of(name: Option<&str>, model_type: Option<&str>, tokenizer: &str) -> Option<Class> {
        let registered = REGISTERED.iter().find(|(kind, _)| Some(*kind) == model_type).map(|(_, class)| *class);
        let Some(name) = name else { return registered.flatten() };
        let named = NAMES.iter().find(|(known, _)| *known == name.strip_suffix("Fast").unwrap_or(name));
        let named = named.map(|(_, class)| *class);
        if named == Some(Class::Llama) && tokenizer.contains("\"ByteLevel\"") {
            return None;
        }
        match registered {
            Some(None) => None,
            Some(Some(Class::Qwen2)) if model_type == Some("qwen2") => Some(Class::Qwen2),
            _ => named,
        }
    }

    /// The kind of vocabulary that it builds on.
    fn model(self) -> &'static str {
        match self {
            Class::Bert | Class::Mpnet => "WordPiece",
            Class::Gemma | Class::Llama | Class::Qwen2 | Class::Roberta => "BPE",
            Class::Albert | Class::Camembert | Class::DebertaV2 | Class::T5 | Class::XlmRoberta => "Unigram",
        }
    }

    /// Why it cannot build on this vocabulary, as transformers cannot either; `None` where it can.
    pub fn mismatch(self, model: &Value) -> Option<String> {
        let (wanted, found) = (self.model(), kind(model));
        (found != wanted).then(|| format!("builds on a vocabulary of the kind {wanted}, tokenizer.json has {found}"))
    }

    /// Puts in place of a tokenizer.json's rules those of the class.
    ///
    /// # Errors
    /// If a switch is no switch.
    pub fn build(self, json: &mut Value, given: &Arguments) -> Result<(), LoadError> {
        let model = self.build_model(&json["model"], given);
        json["normalizer"] = self.normalizer(&json["normalizer"], given)?;
        json["pre_tokenizer"] = self.pre_tokenizer(given)?;
        if let Some(object) = json["model"].as_object_mut() {
            object.extend(model);
        }
        if let Some(template) = self.template(json, given) {
            json["post_processor"] = template;
        }
        Ok(())
    }

    /// The settings of the vocabulary's model.
    fn build_model(self, model: &Value, given: &Arguments) -> serde_json::Map<String, Value> {
        let settings = match self {
            Class::Bert | Class::Mpnet => json!({
                "unk_token": given.token("unk_token", "[UNK]"), "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
            }),
            Class::Roberta | Class::Qwen2 => json!({
                "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
                "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            }),
            Class::Llama | Class::Gemma => json!({
                "dropout": null, "unk_token": (self == Class::Gemma).then(|| given.token("unk_token", "<unk>")),
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
                "ignore_merges": false,
            }),
            Class::Albert => json!({ "unk_id": 1, "byte_fallback": false }),
            Class::T5 => json!({ "unk_id": 2, "byte_fallback": false }),
            Class::XlmRoberta => json!({ "unk_id": 3, "byte_fallback": false }),
            Class::Camembert => {
                let id = place(&model["vocab"], |token, _| token == given.token("unk_token", "<unk>"));
                json!({ "unk_id": id.unwrap_or(0), "byte_fallback": false })
            }
            Class::DebertaV2 => {
                let unknown = given.token("unk_token", "[UNK]");
                let id = place(&model["vocab"], |token, score| token == unknown && score == 0.0);
                let id = id.unwrap_or_else(|| given.count("unk_id").unwrap_or(1));
                json!({ "unk_id": id, "byte_fallback": false })
            }
        };
        let Value::Object(mut settings) = settings else { unreachable!("every arm is an object") };
        settings.insert("type".into(), self.model().into());
        settings
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
            Class::Llama | Class::Roberta => Value::Null,
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
            Class::Roberta => byte_level(prefix_space(false)?, true),
            Class::Qwen2 => {
                let pattern = json!({ "Regex": QWEN2_SPLITS });
                let words = json!({ "type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false });
                sequence(vec![words, byte_level(prefix_space(false)?, false)])
            }
        })
    }

    /// The tokens around a text, where the class and not the file says them.
    fn template(self, json: &Value, given: &Arguments) -> Option<Value> {
        let keys = match self {
            Class::Gemma | Class::Llama | Class::Qwen2 => return None,
            // The file's own is put back in place of the class's.
            Class::Albert if !json["post_processor"].is_null() => return None,
            Class::Albert | Class::Bert | Class::DebertaV2 => {
                [Some(("cls_token", "[CLS]")), Some(("sep_token", "[SEP]"))]
            }
            Class::Mpnet | Class::Roberta => [Some(("cls_token", "<s>")), Some(("sep_token", "</s>"))],
            Class::Camembert | Class::XlmRoberta => [Some(("bos_token", "<s>")), Some(("eos_token", "</s>"))],
            Class::T5 => [None, Some(("eos_token", "</s>"))],
        };
        let token = |(key, default)| {
            let text = given.token(key, default);
            let id = id(json, &text)?;
            Some((text, id))
        };
        let [first, last] = keys.map(|key| key.map(token));
        let around: Vec<&(String, u64)> = [&first, &last].into_iter().flatten().flatten().collect();
        // A token that the vocabulary lacks: the file's own rule stands.
        if around.len() < keys.iter().flatten().count() {
            return None;
        }
        let place = |token: &Option<Option<(String, u64)>>| {
            let text = &token.as_ref()?.as_ref()?.0;
            Some(json!({ "SpecialToken": { "id": text, "type_id": 0 } }))
        };
        let text = |id: &str| Some(json!({ "Sequence": { "id": id, "type_id": 0 } }));
        let present = |steps: &[Option<Value>]| Value::Array(steps.iter().flatten().cloned().collect());
        let special =
            around.iter().map(|(text, id)| (text.clone(), json!({ "id": text, "ids": [id], "tokens": [text] })));
        Some(json!({
            "type": "TemplateProcessing",
            "single": present(&[place(&first), text("A"), place(&last)]),
            "pair": present(&[place(&first), text("A"), place(&last), text("B"), place(&last)]),
            "special_tokens": special.collect::<serde_json::Map<_, _>>(),
        }))
    }
}

/// What a class is called with: tokenizer_config.json, and special_tokens_map.json where that still counts.
pub struct Arguments<'a> {
    pub config: Option<&'a ConfigFile>,
    pub special_tokens: Option<&'a ConfigFile>,
}

impl Arguments<'_> {
    /// A switch; `None` where it is not given, or given as null.
    fn flag(&self, key: &str) -> Result<Option<bool>, LoadError> {
        match self.config {
            Some(file) if file.get(key).is_some() => file.flag(key).map(Some),
            _ => Ok(None),
        }
    }

    fn count(&self, key: &str) -> Option<u64> {
        self.config?.get(key)?.as_u64()
    }

    /// A special token: its text, or an object that has it. The old file of special tokens counts where tokenizer_config.json
    /// does not list all that were added (`tokenization_utils_base.py`, `_from_pretrained`).
    pub fn token(&self, key: &str, default: &str) -> String {
        let lists_all = self.config.is_some_and(|file| file.get("added_tokens_decoder").is_some());
        let old = self.special_tokens.filter(|_| !lists_all).and_then(|file| file.get(key));
        let value = old.or_else(|| self.config.and_then(|file| file.get(key)));
        let text = value.and_then(|value| value.as_str().or_else(|| value["content"].as_str()));
        text.unwrap_or(default).to_owned()
    }
}

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

/// A token's id: of those that were added, or of the vocabulary.
fn id(json: &Value, token: &str) -> Option<u64> {
    let mut added = json["added_tokens"].as_array().into_iter().flatten();
    let added = added.find(|entry| entry["content"] == token).and_then(|entry| entry["id"].as_u64());
    added.or_else(|| match &json["model"]["vocab"] {
        Value::Object(ids) => ids.get(token)?.as_u64(),
        list => place(list, |text, _| text == token),
    })
}
