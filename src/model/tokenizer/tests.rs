use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::split_points::{PIECE_BYTES, SplitPoints};
use super::*;
use crate::model::{Backend, ModelConfig};

fn whitespace(text: &str, max_seq_length: usize) -> (Vec<u32>, u32) {
    let mut tokens = Tokens::default();
    super::whitespace::encode(text, max_seq_length, &mut tokens);
    (tokens.ids(0).to_vec(), tokens.truncated(0))
}

#[test]
fn whitespace_tokens_are_runs_of_letters_and_digits_in_any_case() {
    let (ids, cut) = whitespace("The  quick, brown\tFOX9!", 100);
    assert_eq!((ids.len(), cut), (6, 0));
    assert_eq!(whitespace("the\nquick , BROWN fox9 !", 100).0, ids);
    assert_ne!(whitespace("the quick, brown fox8!", 100).0, ids);
    assert_eq!(whitespace("", 5), (vec![], 0));
    assert_eq!(whitespace(" \n\u{3000} ", 5), (vec![], 0));
    assert_eq!(whitespace("a b c d e", 2), (whitespace("a b", 9).0, 3));
    // Pinned, because vectors that were written earlier must stay comparable with new ones.
    assert_eq!(whitespace("fox", 9).0, [577_464_726]);
}

/// A WordPiece tokenizer over a few tokens, as a model folder has it.
fn tokenizer_json() -> Value {
    let vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "fox", "##es", ",", "!", "[", "]", "cls", "中", "a"];
    let vocab: serde_json::Map<String, Value> =
        vocab.iter().enumerate().map(|(id, token)| ((*token).into(), json!(id))).collect();
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false})
    };
    let token = |name: &str, id: u32| json!({"id": name, "ids": [id], "tokens": [name]});
    json!({
        "version": "1.0",
        "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {"strategy": {"Fixed": 8}, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]")],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": token("[CLS]", 2), "[SEP]": token("[SEP]", 3)}
        },
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocab}
    })
}

struct Case {
    json: Value,
    config: Value,
    max_seq_length: usize,
    vocab_size: usize,
    prompt: &'static str,
    lower_case: bool,
}

impl Default for Case {
    fn default() -> Self {
        let (json, config) = (tokenizer_json(), json!({}));
        Case { json, config, max_seq_length: 6, vocab_size: 14, prompt: "", lower_case: false }
    }
}

fn load(case: &Case) -> Result<Tokenizer, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("tokenizer.json"), case.json.to_string()).expect("a file");
    std::fs::write(folder.path().join("tokenizer_config.json"), case.config.to_string()).expect("a file");
    let config = ModelConfig { backend: Backend::Hash, ..ModelConfig::default() };
    let spec = ModelSpec {
        transformer: Some(folder.path().to_owned()),
        max_seq_length: case.max_seq_length,
        vocab_size: case.vocab_size,
        prompt: case.prompt.into(),
        lower_case: case.lower_case,
        ..ModelSpec::hash_backend(&config)
    };
    Tokenizer::load(&spec).map_err(|error| error.to_string().replace(&format!("{}", folder.path().display()), "FOLDER"))
}

fn ids(case: &Case, text: &str) -> (Vec<u32>, u32) {
    let tokenizer = load(case).expect("it loads");
    let mut tokens = Tokens::default();
    tokenizer.encode(text, &mut tokens).expect("it encodes");
    (tokens.ids(0).to_vec(), tokens.truncated(0))
}

#[test]
fn truncation_is_exact_and_the_files_own_is_ignored() {
    let case = Case::default();
    let check =
        |text: &str, expected: &[u32], cut: u32| assert_eq!(ids(&case, text), (expected.to_vec(), cut), "{text:?}");
    check("", &[2, 3], 0);
    check("  \n ", &[2, 3], 0);
    check("The foxes", &[2, 4, 5, 6, 3], 0);
    check("The foxes!", &[2, 4, 5, 6, 8, 3], 0);
    check("the foxes, the fox!", &[2, 4, 5, 6, 7, 3], 3);
    check("[CLS] fox [SEP]", &[2, 2, 5, 3, 3], 0);
    check("[cls", &[2, 9, 11, 3], 0);
    check("中中fox", &[2, 12, 12, 5, 3], 0);
    check("zebra", &[2, 1, 3], 0);
}

#[test]
fn a_prompt_comes_before_every_text() {
    let case = Case { prompt: "the ", ..Case::default() };
    assert_eq!(ids(&case, "fox"), (vec![2, 4, 5, 3], 0));
    assert_eq!(ids(&case, ""), (vec![2, 4, 3], 0));
}

#[test]
fn lower_case_comes_before_a_tokenizer_that_keeps_case() {
    let mut case = Case::default();
    case.json["normalizer"]["lowercase"] = json!(false);
    assert_eq!(ids(&case, "FOX").0, [2, 1, 3]);
    case.lower_case = true;
    assert_eq!(ids(&case, "FOX").0, [2, 5, 3]);
    case.json["normalizer"] = Value::Null;
    assert_eq!(ids(&case, "FOX").0, [2, 5, 3]);
}

/// Long texts of all kinds: the pieces' ids are those of the whole, and nothing is lost between pieces.
#[test]
fn a_long_text_in_pieces_has_the_ids_of_the_whole() {
    let case = Case { max_seq_length: 1 << 30, ..Case::default() };
    let tokenizer = load(&case).expect("it loads");
    let Algorithm::Model(model) = &tokenizer.algorithm else { panic!("a tokenizer.json is there") };
    let alphabet =
        ["the ", "fox", "foxes", "[CLS]", "[SEP]", "[", "]", "中", ", ", "!", "\n", "e\u{301}", " ", "\u{301}", "a"];
    // A generator of its own, so that a failure can be run again.
    let mut state = 7u64;
    for _ in 0..12 {
        let mut text = String::new();
        while text.len() < 3 * PIECE_BYTES + 1_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(alphabet[(state >> 33) as usize % alphabet.len()]);
        }
        assert!(model.split_points.pieces(&text).count() >= 3, "it is split");
        assert_eq!(model.split_points.pieces(&text).collect::<String>(), text);
        let whole = model.tokenizer.encode_fast(text.as_str(), true).expect("it encodes");
        let mut tokens = Tokens::default();
        tokenizer.encode(&text, &mut tokens).expect("it encodes");
        assert!(tokens.ids(0) == whole.get_ids(), "the ids differ");
    }
}

/// A byte-level tokenizer of a family's tiny model.
fn byte_level(name: &str) -> (tokenizers::Tokenizer, SplitPoints) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/families").join(name).join("tokenizer.json");
    let json: Value = serde_json::from_slice(&std::fs::read(path).expect("the tokenizer")).expect("JSON");
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(json.to_string()).expect("a tokenizer");
    tokenizer.with_padding(None).with_truncation(None).expect("no truncation");
    (tokenizer, SplitPoints::of(&json))
}

proptest! {
    #[test]
    fn byte_level_pieces_have_the_ids_of_the_whole(parts in prop::collection::vec(0usize..24, 0..60), bytes in 4usize..40) {
        const PARTS: [&str; 24] = [
            "river", "a", "B", "7", "42", " ", " ", " ", " ", "  ", "\n", "\r\n", "\t", ".", "'s", "'", "[PAD]", "é", "\u{301}",
            "中", "😀", "\u{a0}", "_", "!?",
        ];
        let text: String = parts.iter().map(|&part| PARTS[part]).collect();
        for name in ["qwen3", "qwen2"] {
            let (tokenizer, split_points) = byte_level(name);
            let ids = |text: &str| tokenizer.encode_fast(text, false).expect("it encodes").get_ids().to_vec();
            let pieces: Vec<&str> = split_points.pieces_of(&text, bytes).collect();
            prop_assert_eq!(pieces.concat(), text.as_str());
            let found: Vec<u32> = pieces.iter().flat_map(|piece| ids(piece)).collect();
            prop_assert_eq!(found, ids(&text), "{}: {:?}", name, pieces);
        }
    }
}

#[test]
fn byte_level_texts_are_split_and_others_of_that_kind_are_not() {
    for name in ["qwen3", "qwen2"] {
        let (_, split_points) = byte_level(name);
        assert_eq!(split_points.pieces(&"word ".repeat(PIECE_BYTES)).count(), 5, "{name}");
        assert_eq!(split_points.pieces(&"word  ".repeat(PIECE_BYTES)).count(), 1, "{name}");
    }
    let pieces = |change: fn(&mut Value)| {
        let mut json = json!({
            "pre_tokenizer": {"type": "ByteLevel", "use_regex": true}, "normalizer": null,
            "added_tokens": [{"content": "<mask>", "lstrip": true, "rstrip": false, "single_word": false}],
        });
        change(&mut json);
        SplitPoints::of(&json).pieces(&"word ".repeat(PIECE_BYTES)).count()
    };
    assert_eq!(pieces(|_| ()), 5);
    assert_eq!(pieces(|json| json["pre_tokenizer"]["use_regex"] = json!(false)), 1);
    assert_eq!(pieces(|json| json["normalizer"] = json!({"type": "Replace"})), 1);
    assert_eq!(pieces(|json| json["added_tokens"][0]["rstrip"] = json!(true)), 1);
    assert_eq!(pieces(|json| json["added_tokens"][0]["content"] = json!("mask")), 1);
    assert_eq!(pieces(|json| json["added_tokens"][0]["content"] = json!("<a b>")), 1);
}

#[test]
fn where_split_points_are_not_known_a_text_stays_whole() {
    let pieces = |change: fn(&mut Value), text: &str| {
        let mut json = tokenizer_json();
        change(&mut json);
        let split_points = SplitPoints::of(&json);
        split_points.pieces(text).count()
    };
    let spaces = "word ".repeat(PIECE_BYTES);
    assert_eq!(pieces(|_| (), &spaces), 5);
    assert_eq!(pieces(|_| (), &"w".repeat(3 * PIECE_BYTES)), 1);
    assert_eq!(pieces(|_| (), &"中".repeat(PIECE_BYTES)), 4);
    assert_eq!(pieces(|_| (), &"!".repeat(3 * PIECE_BYTES)), 3);
    assert_eq!(pieces(|_| (), &"]".repeat(3 * PIECE_BYTES)), 1);
    assert_eq!(pieces(|json| json["pre_tokenizer"] = json!({"type": "ByteLevel"}), &spaces), 1);
    assert_eq!(pieces(|json| json["normalizer"] = json!({"type": "Precompiled"}), &spaces), 1);
    assert_eq!(pieces(|json| json["added_tokens"][0]["content"] = json!("a b"), &spaces), 1);
    assert_eq!(pieces(|json| json["added_tokens"][0]["single_word"] = json!(true), &spaces), 1);
    fn whitespace_first(json: &mut Value, prepend: &str) {
        let metaspace = json!({"type": "Metaspace", "prepend_scheme": prepend});
        json["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]});
        json["normalizer"] = json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]});
    }
    assert_eq!(pieces(|json| whitespace_first(json, "always"), &spaces), 5);
    assert_eq!(pieces(|json| whitespace_first(json, "first"), &spaces), 1);
}

#[test]
fn what_does_not_fit_is_refused() {
    let check = |change: fn(&mut Case), expected: &str| {
        let mut case = Case::default();
        change(&mut case);
        let found = load(&case).err().unwrap_or_else(|| "it was loaded".into());
        assert!(found.starts_with(expected), "   found {found}\nexpected {expected}");
    };
    check(
        |case| case.vocab_size = 13,
        "FOLDER/tokenizer.json: token \"a\" has id 13; expected ids below 13, the model's \"vocab_size\"",
    );
    check(
        |case| case.max_seq_length = 2,
        "model.max_seq_length: found 2; expected more than 2, the number of special tokens that the tokenizer adds to every text",
    );
    check(|case| case.json = json!({"version": "1.0"}), "FOLDER/tokenizer.json: invalid tokenizer: ");
    check(
        |case| case.config = json!({"split_special_tokens": true}),
        "FOLDER/tokenizer_config.json: \"split_special_tokens\": found true; expected false",
    );
    check(
        |case| case.config = json!({"truncation_side": "left"}),
        "FOLDER/tokenizer_config.json: \"truncation_side\": found \"left\"; expected \"right\"",
    );
    check(
        |case| case.json["truncation"]["direction"] = json!("Left"),
        "FOLDER/tokenizer.json: \"truncation.direction\": found \"Left\"; expected \"Right\"",
    );
    let twice = "FOLDER/tokenizer.json: unsupported post-processor; expected one that adds special tokens only before and after a text";
    check(
        |case| {
            let again = json!({"Sequence": {"id": "A", "type_id": 0}});
            case.json["post_processor"]["single"].as_array_mut().expect("a list").push(again);
        },
        twice,
    );
    let config = ModelConfig { backend: Backend::Hash, ..ModelConfig::default() };
    let nowhere = ModelSpec { transformer: Some(PathBuf::from("/nowhere")), ..ModelSpec::hash_backend(&config) };
    let missing = Tokenizer::load(&nowhere).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(
        missing.starts_with("/nowhere/tokenizer.json: missing; expected the model's tokenizer (make it with python -c"),
        "{missing}"
    );
}

#[test]
fn it_is_used_from_several_threads_at_once() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&load(&Case::default()).expect("it loads"));
}
