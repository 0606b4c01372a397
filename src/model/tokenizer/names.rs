//! Which of transformers' classes a folder's tokenizer is of.

use super::class::Class;

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

/// The class of a folder, by the name in its files and its model's type (`auto/tokenization_auto.py`, `from_pretrained`):
/// the name counts, but where the general class is registered for the type, or the type is known for wrong names; and a
/// file of bytes in Llama's name is taken as it is. `None` is the general class.
///
/// # Errors
/// If it is a class with rules that are not here.
pub fn class_of(name: Option<&str>, model_type: Option<&str>, tokenizer: &str) -> Result<Option<Class>, String> {
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
