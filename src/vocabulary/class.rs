//! What transformers makes of a tokenizer.json whose class has rules of its own.
//!
//! transformers 5 takes a file as it is for the general class alone (`TokenizersBackend`, `PreTrainedTokenizerFast`). The classes
//! below take its vocabulary and its merges and build the rest from their own rules and tokenizer_config.json
//! (`tokenization_utils_tokenizers.py`, `convert_to_native_format`; `models/*/tokenization_*.py`); so the same file gives other
//! tokens under another class. Classes that are not here are taken as they are.

use serde_json::{Value, json};
use tokenizers::AddedToken;

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
    Gpt2,
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
    ("GPT2Tokenizer", Class::Gpt2),
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

/// Other classes of transformers with rules of their own, which are not here.
const OTHERS: [&str; 66] = [
    "BarthezTokenizer",
    "BartphoTokenizer",
    "BertJapaneseTokenizer",
    "BertweetTokenizer",
    "BigBirdTokenizer",
    "BioGptTokenizer",
    "BlenderbotSmallTokenizer",
    "BlenderbotTokenizer",
    "ByT5Tokenizer",
    "CLIPTokenizer",
    "CTRLTokenizer",
    "CanineTokenizer",
    "ClvpTokenizer",
    "CodeLlamaTokenizer",
    "CohereTokenizer",
    "CpmAntTokenizer",
    "CpmTokenizer",
    "DPRContextEncoderTokenizer",
    "DPRQuestionEncoderTokenizer",
    "DPRReaderTokenizer",
    "DebertaTokenizer",
    "EsmTokenizer",
    "EsmcTokenizer",
    "FNetTokenizer",
    "FSMTTokenizer",
    "FlaubertTokenizer",
    "FunnelTokenizer",
    "GPTNeoXJapaneseTokenizer",
    "GPTNeoXTokenizer",
    "HerbertTokenizer",
    "LayoutLMv2Tokenizer",
    "LayoutLMv3Tokenizer",
    "LayoutXLMTokenizer",
    "LukeTokenizer",
    "MBart50Tokenizer",
    "MBartTokenizer",
    "MarkupLMTokenizer",
    "MgpstrTokenizer",
    "MvpTokenizer",
    "MyT5Tokenizer",
    "NllbTokenizer",
    "NougatTokenizer",
    "OpenAIGPTTokenizer",
    "PLBartTokenizer",
    "PegasusTokenizer",
    "PerceiverTokenizer",
    "PhobertTokenizer",
    "ProphetNetTokenizer",
    "Qwen3_5Tokenizer",
    "RagTokenizer",
    "ReformerTokenizer",
    "RemBertTokenizer",
    "RoCBertTokenizer",
    "RoFormerTokenizer",
    "SeamlessM4TTokenizer",
    "Siglip2Tokenizer",
    "SplinterTokenizer",
    "TapasTokenizer",
    "UdopTokenizer",
    "VitsTokenizer",
    "Wav2Vec2CTCTokenizer",
    "Wav2Vec2PhonemeCTCTokenizer",
    "WhisperTokenizer",
    "XGLMTokenizer",
    "XLMTokenizer",
    "XLNetTokenizer",
];

/// A special token that a class has where its files say nothing; in transformers' order (`SPECIAL_TOKENS_ATTRIBUTES`).
const KEYS: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What stands between words in a sentencepiece vocabulary.
const SPACE: &str = "\u{2581}";
/// How Qwen 2 splits words before their bytes are looked at.
const QWEN2_SPLITS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Class {
    /// The class of a folder, by the name in its files and its model's type (`auto/tokenization_auto.py`, `from_pretrained`):
    /// the name counts, but where the general class is registered for the type, or the type is known for wrong names; and a
    /// file of bytes in Llama's name is taken as it is. `None` is the general class.
    ///
    /// # Errors
    /// If it is a class with rules that are not here.
    pub fn of(name: Option<&str>, model_type: Option<&str>, tokenizer: &str) -> Result<Option<Class>, String> {
        let registered = REGISTERED.iter().find(|(kind, _)| Some(*kind) == model_type).map(|(_, class)| *class);
        let Some(name) = name else { return Ok(registered.flatten()) };
        let plain = name.strip_suffix("Fast").unwrap_or(name);
        let named = NAMES.iter().find(|(known, _)| *known == plain).map(|(_, class)| *class);
        match registered {
            Some(None) => return Ok(None),
            Some(Some(Class::Qwen2)) if model_type == Some("qwen2") => return Ok(Some(Class::Qwen2)),
            _ => {}
        }
        if OTHERS.contains(&plain) {
            return Err(format!("`tokenizer_class` is {name:?}, whose rules this version does not have"));
        }
        Ok(named.filter(|class| *class != Class::Llama || !tokenizer.contains("\"ByteLevel\"")))
    }

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

    fn default(self, key: &str) -> &'static str {
        let place = KEYS.iter().position(|known| *known == key);
        place.and_then(|place| self.defaults()[place]).unwrap_or_default()
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
        let unknown = given.token("unk_token", self.default("unk_token"));
        (self.model() == "WordPiece" && model["vocab"].get(&unknown).is_none()).then_some(unknown)
    }

    /// Puts in place of a tokenizer.json's rules those of the class, and leaves added tokens and what stands around a text to
    /// [`Class::additions`] and [`Class::template`].
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
        json["added_tokens"] = Value::Array(Vec::new());
        Ok(())
    }

    /// The settings of the vocabulary's model.
    fn build_model(self, model: &Value, given: &Arguments) -> serde_json::Map<String, Value> {
        let settings = match self {
            Class::Bert | Class::Mpnet => json!({
                "unk_token": given.token("unk_token", self.default("unk_token")), "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
            }),
            Class::Roberta | Class::Gpt2 | Class::Qwen2 => json!({
                "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
                "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            }),
            Class::Llama | Class::Gemma => json!({
                "dropout": null, "unk_token": (self == Class::Gemma).then(|| given.token("unk_token", self.default("unk_token"))),
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
                "ignore_merges": false,
            }),
            Class::Albert => json!({ "unk_id": 1, "byte_fallback": false }),
            Class::T5 => json!({ "unk_id": 2, "byte_fallback": false }),
            Class::XlmRoberta => json!({ "unk_id": 3, "byte_fallback": false }),
            Class::Camembert => {
                let id =
                    place(&model["vocab"], |token, _| token == given.token("unk_token", self.default("unk_token")));
                json!({ "unk_id": id.unwrap_or(0), "byte_fallback": false })
            }
            Class::DebertaV2 => {
                let unknown = given.token("unk_token", self.default("unk_token"));
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
        let as_listed = |text: String, value: Option<&Value>| {
            let listed = known.iter().find(|token| token.content == text).cloned();
            listed.unwrap_or_else(|| added(&text, value, true))
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
        tokens.extend(others.into_iter().map(|(text, value)| as_listed(text, value.as_ref())));
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
            let text = given.token(key, self.default(key));
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

    /// What is said of a special token, null included. The old file of special tokens counts where tokenizer_config.json does not
    /// list all that were added (`tokenization_utils_base.py`, `_from_pretrained`).
    fn value(&self, key: &str) -> Option<&Value> {
        let old = self.special_tokens.filter(|_| self.listed().is_none()).and_then(|file| file.get(key));
        old.or_else(|| self.config.and_then(|file| file.json.get(key)))
    }

    /// A special token: its text, or an object that has it.
    pub fn token(&self, key: &str, default: &str) -> String {
        self.value(key).and_then(text_of).unwrap_or_else(|| default.to_owned())
    }

    fn listed(&self) -> Option<&serde_json::Map<String, Value>> {
        self.config?.get("added_tokens_decoder")?.as_object()
    }

    /// The tokens that were added, by their ids: those of tokenizer_config.json, else of added_tokens.json, which are `named`,
    /// and of tokenizer.json.
    pub fn list(&self, named: Option<&ConfigFile>, tokenizer: &Value) -> Vec<AddedToken> {
        let mut tokens: Vec<(u64, AddedToken)> = Vec::new();
        let mut push = |id: u64, token: AddedToken| {
            tokens.retain(|(known, _)| *known != id);
            tokens.push((id, token));
        };
        match self.listed() {
            Some(listed) => {
                for (id, value) in listed {
                    if let (Ok(id), Some(text)) = (id.parse(), text_of(value)) {
                        push(id, added(&text, Some(value), false));
                    }
                }
            }
            None => {
                let special: Vec<String> = KEYS.iter().filter_map(|key| self.value(key).and_then(text_of)).collect();
                for (text, id) in named.into_iter().flat_map(|file| &file.json) {
                    if let Some(id) = id.as_u64() {
                        push(id, added(text, None, special.contains(text)));
                    }
                }
                for value in tokenizer["added_tokens"].as_array().into_iter().flatten() {
                    if let (Some(id), Some(text)) = (value["id"].as_u64(), text_of(value)) {
                        push(id, added(&text, Some(value), false));
                    }
                }
            }
        }
        tokens.sort_by_key(|(id, _)| *id);
        tokens.into_iter().map(|(_, token)| token).collect()
    }

    /// Special tokens besides the usual ones: in lists, in a dictionary of names, or under keys of their own.
    fn others(&self) -> Vec<(String, Option<Value>)> {
        let mut others = Vec::new();
        let files = [self.config, self.special_tokens.filter(|_| self.listed().is_none())];
        for file in files.into_iter().flatten() {
            let named = file.json.iter().filter(|(key, value)| {
                key.ends_with("_token")
                    && !key.starts_with("add_")
                    && !KEYS.contains(&key.as_str())
                    && text_of(value).is_some()
            });
            others.extend(named.filter_map(|(_, value)| Some((text_of(value)?, Some(value.clone())))));
            let list = ["extra_special_tokens", "additional_special_tokens"].into_iter().find_map(|key| {
                file.get(key).filter(|list| {
                    list.as_array().is_some_and(|list| !list.is_empty())
                        || list.as_object().is_some_and(|map| !map.is_empty())
                })
            });
            let values: Vec<&Value> = match list {
                Some(Value::Array(list)) => list.iter().collect(),
                Some(Value::Object(map)) => map.values().collect(),
                _ => Vec::new(),
            };
            others.extend(values.into_iter().filter_map(|value| Some((text_of(value)?, Some(value.clone())))));
        }
        others
    }
}

/// A token's text: itself, or what an object has.
fn text_of(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
}

/// A token with the switches that an object gives it.
fn added(text: &str, value: Option<&Value>, special: bool) -> AddedToken {
    let flag = |key: &str| value.and_then(|value| value[key].as_bool());
    let special = special || flag("special").unwrap_or(false);
    AddedToken::from(text, special)
        .single_word(flag("single_word").unwrap_or(false))
        .lstrip(flag("lstrip").unwrap_or(false))
        .rstrip(flag("rstrip").unwrap_or(false))
        .normalized(flag("normalized").unwrap_or(!special))
}

/// The pieces and scores of a tokenizer.json, as Python reads numbers: to the last bit, which serde_json's fast way does not.
/// Between two ways to cut a text with the same sum, that bit decides.
pub fn scores(text: &str) -> Option<Vec<(String, f64)>> {
    let opened = text.match_indices("\"vocab\"").find_map(|(at, key)| {
        // A piece of this text has no colon after it.
        text[at + key.len()..].trim_start().strip_prefix(':')?.trim_start().strip_prefix('[')
    });
    let mut rest = opened?.trim_start();
    let mut found = Vec::new();
    while let Some(entry) = rest.strip_prefix('[') {
        let mut strings = serde_json::Deserializer::from_str(entry).into_iter::<String>();
        let piece = strings.next()?.ok()?;
        let after = entry[strings.byte_offset()..].trim_start().strip_prefix(',')?.trim_start();
        let end = after.find(|c: char| c == ']' || c.is_whitespace())?;
        found.push((piece, after[..end].parse().ok()?));
        rest = after[end..].trim_start().strip_prefix(']')?.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    rest.starts_with(']').then_some(found)
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
