//! The token ids of folders that have a vocab.txt, or a tokenizer.json that BERT's class changes, against transformers'.
//! tests/golden/vocabulary.py made the ids.

use embedmill::encode::{Backend, ModelConfig, spec};
use embedmill::record::Tokens;
use embedmill::tokenize::Tokenizer;
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::golden::{golden_folder, nowhere, odd_texts};

/// Ids that a golden row has at most.
const IDS_MAX: usize = 64;

#[test]
fn a_vocabulary_gives_the_ids_that_transformers_gives() {
    let source = golden_folder().join("tiny/mean");
    let text = std::fs::read_to_string(source.join("tokenizer.json")).expect("the tokenizer");
    let tokenizer: Value = serde_json::from_str(&text).expect("JSON");
    let bytes = std::fs::read(golden_folder().join("vocabulary.safetensors")).expect("the golden file");
    let golden = SafeTensors::deserialize(&bytes).expect("a golden file");
    let numbers = |name: String| -> Vec<usize> {
        let data = golden.tensor(&name).expect("it is there").data().to_vec();
        data.chunks_exact(4).map(|four| i32::from_le_bytes(four.try_into().expect("four")) as usize).collect()
    };
    let texts = odd_texts();
    let check = |name: &str, config: Value| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, content: String| std::fs::write(folder.path().join(name), content).expect("a file");
        if name == "changed" {
            let mut changed = tokenizer.clone();
            changed["post_processor"] = Value::Null;
            changed["normalizer"]["lowercase"] = false.into();
            write("tokenizer.json", changed.to_string());
        } else {
            let vocabulary = tokenizer["model"]["vocab"].as_object().expect("a vocabulary");
            let mut lines: Vec<(u64, &str)> =
                vocabulary.iter().map(|(token, id)| (id.as_u64().expect("an id"), token.as_str())).collect();
            lines.sort_unstable();
            write("vocab.txt", lines.iter().map(|(_, token)| format!("{token}\n")).collect());
        }
        write("config.json", std::fs::read_to_string(source.join("config.json")).expect("the configuration"));
        write("tokenizer_config.json", config.to_string());
        let config = ModelConfig {
            id: Some(folder.path().display().to_string()),
            backend: Backend::Hash,
            max_seq_length: Some(48),
            ..ModelConfig::default()
        };
        let mut spec = spec(&config, &nowhere(), &()).unwrap_or_else(|error| panic!("{error}"));
        // Long texts whole, too.
        spec.max_seq_length = 1_000_000;
        let tokenizer = Tokenizer::load(&spec).unwrap_or_else(|error| panic!("{error}"));
        let mut tokens = Tokens::default();
        texts.iter().for_each(|text| tokenizer.encode(text, &mut tokens).expect("it is tokenised"));
        let (ids, lengths) = (numbers(format!("{name}.ids")), numbers(format!("{name}.lengths")));
        let mut ids = ids.into_iter();
        for (row, text) in texts.iter().enumerate() {
            let text: String = text.chars().take(60).collect();
            let found: Vec<usize> = tokens.ids(row).iter().take(IDS_MAX).map(|&id| id as usize).collect();
            let expected: Vec<usize> = ids.by_ref().take(lengths[row].min(IDS_MAX)).collect();
            assert_eq!(found, expected, "{name}: text {row}, {text:?}");
            assert_eq!(tokens.ids(row).len(), lengths[row], "{name}: text {row}, {text:?}");
        }
    };
    check("lowered", json!({ "tokenizer_class": "BertTokenizer" }));
    check("cased", json!({ "tokenizer_class": "DistilBertTokenizer", "do_lower_case": false }));
    check("stripped", json!({ "do_lower_case": false, "tokenize_chinese_chars": false, "strip_accents": true }));
    check("changed", json!({ "tokenizer_class": "BertTokenizerFast" }));
}
