//! The token ids of folders whose tokenizer transformers builds by its class, or of a vocab.txt, against transformers'.
//! tests/golden/vocabulary.json lists the folders, vocabulary.py beside it made the ids.

use std::path::Path;

use embedmill::internal::columnar::Tokens;
use embedmill::internal::encode::spec;
use embedmill::internal::model::tokenizer::Tokenizer;
use embedmill::internal::model::{Backend, ModelConfig};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::golden::{nowhere, odd_texts};
use crate::models::golden_folder;

/// Ids that a golden row has at most.
const IDS_MAX: usize = 48;

fn read_json(path: &str) -> Value {
    let text = std::fs::read_to_string(golden_folder().join(path)).expect("a file of JSON");
    serde_json::from_str(&text).expect("JSON")
}

/// The folder of a variant, as vocabulary.py writes it.
fn write_folder(variant: &Value, folder: &Path) {
    let write = |name: &str, content: String| std::fs::write(folder.join(name), content).expect("a file");
    let base = variant["base"].as_str().expect("a folder");
    let mut tokenizer = read_json(&format!("{base}/tokenizer.json"));
    if variant["vocab_txt"] == true {
        let vocabulary = tokenizer["model"]["vocab"].as_object().expect("a vocabulary");
        let mut lines: Vec<(u64, &str)> =
            vocabulary.iter().map(|(token, id)| (id.as_u64().expect("an id"), token.as_str())).collect();
        lines.sort_unstable();
        write("vocab.txt", lines.iter().map(|(_, token)| format!("{token}\n")).collect());
    } else {
        for (key, value) in variant["changes"].as_object().into_iter().flatten() {
            tokenizer[key] = value.clone();
        }
        write("tokenizer.json", tokenizer.to_string());
    }
    for name in ["tokenizer_config", "special_tokens_map", "added_tokens"] {
        if !variant[name].is_null() {
            write(&format!("{name}.json"), variant[name].to_string());
        }
    }
    // What the folder needs besides a tokenizer: sizes, which here no weights are held to.
    let mut config = read_json("tiny/mean/config.json");
    config["model_type"] = variant["config"]["model_type"].clone();
    config["vocab_size"] = 1_000.into();
    write("config.json", config.to_string());
}

fn tokenizer(folder: &Path) -> Tokenizer {
    let config = ModelConfig {
        id: Some(folder.display().to_string()),
        backend: Backend::Hash,
        max_seq_length: Some(48),
        ..ModelConfig::default()
    };
    let mut spec = spec(&config, &nowhere(), &()).unwrap_or_else(|error| panic!("{error}"));
    // Long texts whole, too.
    spec.max_seq_length = 1_000_000;
    Tokenizer::load(&spec).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_class_gives_the_ids_that_transformers_gives() {
    let bytes = std::fs::read(golden_folder().join("vocabulary.safetensors")).expect("the golden file");
    let golden = SafeTensors::deserialize(&bytes).expect("a golden file");
    let numbers = |name: String| -> Vec<usize> {
        let data = golden.tensor(&name).expect("it is there").data().to_vec();
        data.chunks_exact(4).map(|four| i32::from_le_bytes(four.try_into().expect("four")) as usize).collect()
    };
    let given = read_json("vocabulary.json");
    let list = |key: &str| given[key].as_array().expect("a list").iter();
    let more = list("texts").map(|text| text.as_str().expect("a text").to_owned());
    let texts: Vec<String> = odd_texts().into_iter().step_by(2).chain(more).collect();
    for variant in list("folders") {
        let name = variant["name"].as_str().expect("a name");
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_folder(variant, folder.path());
        let tokenizer = tokenizer(folder.path());
        let mut tokens = Tokens::default();
        texts.iter().for_each(|text| tokenizer.encode(text, &mut tokens).expect("it is tokenised"));
        let lengths = numbers(format!("{name}.lengths"));
        let mut ids = numbers(format!("{name}.ids")).into_iter();
        for (row, text) in texts.iter().enumerate() {
            let text: String = text.chars().take(60).collect();
            let found: Vec<usize> = tokens.ids(row).iter().take(IDS_MAX).map(|&id| id as usize).collect();
            let expected: Vec<usize> = ids.by_ref().take(lengths[row].min(IDS_MAX)).collect();
            assert_eq!(found, expected, "{name}: text {row}, {text:?}");
            assert_eq!(tokens.ids(row).len(), lengths[row], "{name}: text {row}, {text:?}");
        }
    }
}
