//! The names in a model folder's files in, the class of transformers that loads its tokenizer out.
//!
//! Fails for a class that has rules of its own which are not implemented.

use super::class::TokenizerClass;

/// The implemented classes by transformers' names, without the suffix `Fast`.
const NAMES: [(&str, TokenizerClass); 21] = [
    ("AlbertTokenizer", TokenizerClass::Albert),
    ("BartTokenizer", TokenizerClass::Roberta),
    ("BertTokenizer", TokenizerClass::Bert),
    ("CamembertTokenizer", TokenizerClass::Camembert),
    ("ConvBertTokenizer", TokenizerClass::Bert),
    ("DebertaV2Tokenizer", TokenizerClass::DebertaV2),
    ("DistilBertTokenizer", TokenizerClass::Bert),
    ("ElectraTokenizer", TokenizerClass::Bert),
    ("GPT2Tokenizer", TokenizerClass::Gpt2),
    ("GemmaTokenizer", TokenizerClass::Gemma),
    ("LEDTokenizer", TokenizerClass::Roberta),
    ("LayoutLMTokenizer", TokenizerClass::Bert),
    ("LlamaTokenizer", TokenizerClass::Llama),
    ("LongformerTokenizer", TokenizerClass::Roberta),
    ("LxmertTokenizer", TokenizerClass::Bert),
    ("MPNetTokenizer", TokenizerClass::Mpnet),
    ("MobileBertTokenizer", TokenizerClass::Bert),
    ("Qwen2Tokenizer", TokenizerClass::Qwen2),
    ("RobertaTokenizer", TokenizerClass::Roberta),
    ("T5Tokenizer", TokenizerClass::T5),
    ("XLMRobertaTokenizer", TokenizerClass::XlmRoberta),
];

/// The class that transformers registers for a `model_type`; `None` is the general class.
const REGISTERED: [(&str, Option<TokenizerClass>); 20] = [
    ("albert", Some(TokenizerClass::Albert)),
    ("bert", Some(TokenizerClass::Bert)),
    ("camembert", Some(TokenizerClass::Camembert)),
    ("deberta-v2", Some(TokenizerClass::DebertaV2)),
    ("distilbert", Some(TokenizerClass::Bert)),
    ("electra", Some(TokenizerClass::Bert)),
    ("gemma3_text", Some(TokenizerClass::Gemma)),
    ("gte", Some(TokenizerClass::XlmRoberta)),
    ("jina_embeddings_v3", Some(TokenizerClass::XlmRoberta)),
    ("mistral", None),
    ("modernbert", None),
    ("mpnet", Some(TokenizerClass::Mpnet)),
    ("mt5", Some(TokenizerClass::T5)),
    ("nomic_bert", Some(TokenizerClass::Bert)),
    ("qwen2", Some(TokenizerClass::Qwen2)),
    ("qwen3", Some(TokenizerClass::Qwen2)),
    ("roberta", Some(TokenizerClass::Roberta)),
    ("t5", Some(TokenizerClass::T5)),
    ("umt5", None),
    ("xlm-roberta", Some(TokenizerClass::XlmRoberta)),
];

/// Classes of transformers that have rules of their own and are not implemented.
const UNSUPPORTED: [&str; 66] = [
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

/// The class of a folder's tokenizer, by the class name in its files and the model's type, as transformers decides it
/// (`auto/tokenization_auto.py`, `from_pretrained`). The name counts, unless the general class is registered for the type, or the
/// type is known for wrong names. A byte-level tokenizer.json with the name of Llama's class is used as it is. `None` is the
/// general class.
///
/// # Errors
/// If the class is not implemented.
pub(super) fn class_of(
    name: Option<&str>,
    model_type: Option<&str>,
    tokenizer: &str,
) -> Result<Option<TokenizerClass>, String> {
    let registered = REGISTERED.iter().find(|(known, _)| Some(*known) == model_type).map(|(_, class)| *class);
    let Some(name) = name else { return Ok(registered.flatten()) };
    let plain = name.strip_suffix("Fast").unwrap_or(name);
    let named = NAMES.iter().find(|(known, _)| *known == plain).map(|(_, class)| *class);
    match registered {
        Some(None) => return Ok(None),
        Some(Some(TokenizerClass::Qwen2)) if model_type == Some("qwen2") => return Ok(Some(TokenizerClass::Qwen2)),
        _ => {}
    }
    if UNSUPPORTED.contains(&plain) {
        return Err(format!("\"tokenizer_class\": unsupported class {name:?}"));
    }
    Ok(named.filter(|class| *class != TokenizerClass::Llama || !tokenizer.contains("\"ByteLevel\"")))
}
