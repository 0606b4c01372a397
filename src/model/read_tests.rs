use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::encode::Libtorch;
use crate::model::files::stays_inside;
use crate::model::{Pooling, PoolingMode};

/// The files of a small model in the older generation of names, as (name, content).
pub(super) fn good() -> Vec<(String, Value)> {
    let files = [
        (
            "config.json",
            json!({"model_type": "bert", "hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2,
                   "intermediate_size": 8, "vocab_size": 11, "max_position_embeddings": 32}),
        ),
        (
            "modules.json",
            json!([
                {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
                {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
            ]),
        ),
        ("1_Pooling/config.json", json!({"word_embedding_dimension": 6, "pooling_mode_max_tokens": true})),
        ("sentence_bert_config.json", json!({"max_seq_length": 16, "do_lower_case": true})),
        ("tokenizer_config.json", json!({"model_max_length": 20})),
        ("model.safetensors", json!("weights are not looked at here")),
    ];
    files.map(|(name, content)| (name.to_owned(), content)).into()
}

/// Writes the good folder with `changes` (a null removes a file; strings are written as they are) and reads it.
pub(super) fn read(config: &ModelConfig, changes: &[(&str, Value)]) -> Result<ModelSpec, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut files = good();
    for (name, content) in changes {
        files.retain(|(known, _)| known != name);
        files.push(((*name).to_owned(), content.clone()));
    }
    for (name, content) in files.iter().filter(|(_, content)| !content.is_null()) {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a folder");
        let text = content.as_str().map_or_else(|| content.to_string(), str::to_owned);
        std::fs::write(path, text).expect("a file");
    }
    let found = ModelFolder { path: folder.path().into(), id: "test".into(), revision: None };
    let spec = super::read(&found, config, &Libtorch);
    spec.map_err(|error| error.to_string().replace(&format!("{}", folder.path().display()), "FOLDER"))
}

pub(super) fn config() -> ModelConfig {
    ModelConfig { id: Some("test".into()), ..ModelConfig::default() }
}

/// One key of the good config.json replaced.
pub(super) fn with_key(key: &str, value: Value) -> Value {
    let mut config = good().swap_remove(0).1;
    config[key] = value;
    config
}

#[test]
fn a_folder_is_read_in_both_generations_and_without_modules() {
    let old = read(&config(), &[]).expect("the good folder");
    assert_eq!(old.describe(), "test: bert, 2 layers, 6 dims, max pooling, normalised, float32, at most 16 tokens");
    assert_eq!((old.hidden, old.vocab_size, old.lower_case, old.weights.len()), (6, 11, true, 1));

    let types = ["base.modules.transformer.Transformer", "sentence_transformer.modules.pooling.Pooling"];
    let modules = json!([
        {"path": "0_Transformer", "type": format!("sentence_transformers.{}", types[0])},
        {"path": "1_Pooling", "type": format!("sentence_transformers.{}", types[1])}
    ]);
    let new = [
        ("modules.json", modules),
        ("0_Transformer/config.json", good()[0].1.clone()),
        ("0_Transformer/model.safetensors", json!("weights")),
        ("1_Pooling/config.json", json!({"embedding_dimension": 6, "pooling_mode": ["cls", "mean"]})),
    ];
    let new = read(&config(), &new).expect("the newer generation");
    assert_eq!((new.pooling().as_str(), new.normalize(), new.dim, new.max_seq_length), ("cls+mean", false, 12, 32));

    let plain = read(&config(), &[("modules.json", Value::Null), ("sentence_bert_config.json", Value::Null)]);
    let plain = plain.expect("a plain Hugging Face model");
    assert_eq!((plain.pooling().as_str(), plain.normalize(), plain.max_seq_length), ("mean", false, 20));
}

#[test]
fn the_pipeline_file_overrides_the_folder() {
    let with = |pooling: Option<PoolingMode>, normalize, max_seq_length| {
        let pooling = pooling.map(Pooling::One);
        let spec = read(&ModelConfig { pooling, normalize, max_seq_length, ..config() }, &[]).expect("it is read");
        (spec.pooling(), spec.normalize(), spec.max_seq_length)
    };
    assert_eq!(with(None, None, None), ("max".into(), true, 16));
    assert_eq!(with(Some(PoolingMode::Cls), Some(false), Some(32)), ("cls".into(), false, 32));
    assert_eq!(with(Some(PoolingMode::Mean), Some(true), Some(3)), ("mean".into(), true, 3));
}

#[test]
fn the_length_follows_sentence_transformers_rules() {
    let no_sentence = ("sentence_bert_config.json", Value::Null);
    let tokenizer = |length: Value| ("tokenizer_config.json", json!({"model_max_length": length}));
    let check = |changes: &[(&str, Value)], expected: usize| {
        assert_eq!(read(&config(), changes).expect("it is read").max_seq_length, expected, "{changes:?}");
    };
    check(&[], 16);
    check(std::slice::from_ref(&no_sentence), 20);
    check(&[no_sentence.clone(), tokenizer(json!(100))], 32);
    check(&[no_sentence.clone(), tokenizer(json!(1e30))], 32);
    check(&[no_sentence.clone(), tokenizer(json!(1_000_000_000_000_000_019_884_624_838_656u128 as f64))], 32);
    check(&[no_sentence, ("tokenizer_config.json", Value::Null)], 32);
    check(
        &[("sentence_bert_config.json", Value::Null), ("sentence_roberta_config.json", json!({"max_seq_length": 9}))],
        9,
    );
}

#[test]
fn a_default_prompt_is_honoured() {
    let prompts = |name: &str, config: ModelConfig| {
        let content = json!({"prompts": {"query": "find: ", "bare": null}, "default_prompt_name": name});
        read(&config, &[("config_sentence_transformers.json", content)]).map(|spec| spec.prompt)
    };
    let named = |name: &str| ModelConfig { prompt_name: Some(name.into()), ..config() };
    let given = |prompt: &str| ModelConfig { prompt: Some(prompt.into()), ..config() };
    assert_eq!(prompts("query", config()), Ok("find: ".into()));
    assert_eq!(prompts("bare", config()), Ok(String::new()));
    assert_eq!(prompts("bare", named("query")), Ok("find: ".into()));
    assert_eq!(prompts("query", given("as: ")), Ok("as: ".into()));
    assert_eq!(prompts("query", given("")), Ok(String::new()));
    let broken = prompts("doc", config()).expect_err("the prompt is unknown");
    assert!(broken.ends_with("\"default_prompt_name\": found \"doc\"; expected a name in \"prompts\""), "{broken}");
    let unknown = prompts("query", named("doc")).expect_err("the prompt is unknown");
    let expected = "model.prompt_name: unknown prompt \"doc\"; expected one of bare, query (of FOLDER/config_sentence_transformers.json; or set \
         model.prompt";
    assert!(unknown.starts_with(expected), "{unknown}");
    let none = read(&named("query"), &[]).expect_err("there are no prompts");
    assert!(
        none.starts_with(
            "model.prompt_name: unknown prompt \"query\"; expected none, since the model has no config_sentence"
        ),
        "{none}"
    );
}

#[test]
fn the_hash_backend_takes_the_tokenizer_and_no_weights() {
    let hash = ModelConfig { backend: Backend::Hash, hash_dim: 9, ..config() };
    let spec = read(&hash, &[("model.safetensors", Value::Null)]).expect("weights are not needed");
    assert_eq!((spec.dim, spec.max_seq_length, spec.vocab_size, spec.weights_sha256), (9, 16, 11, None));
    assert_eq!(ModelSpec::hash_backend(&hash).describe(), "hash: hash encoder, 9 dims, at most 512 tokens");
}

#[test]
fn weights_are_hashed_as_the_hub_shows_them() {
    let spec = read(&config(), &[("model.safetensors", json!("abc"))]).expect("it is read");
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(spec.weights_sha256.as_deref(), Some(abc));
    let pairs = spec.provenance();
    assert!(pairs.contains(&("weights_sha256", abc.into())) && pairs.contains(&("pooling", "max".into())), "{pairs:?}");

    let map = json!({"weight_map": {"b": "s2.safetensors", "a": "s1.safetensors", "c": "s2.safetensors"}});
    let shards = [
        ("model.safetensors", Value::Null),
        ("model.safetensors.index.json", map),
        ("s1.safetensors", json!("abc")),
        ("s2.safetensors", json!("d")),
    ];
    let sharded = read(&config(), &shards).expect("it is read");
    let names: Vec<_> = sharded.weights.iter().map(|path| path.file_name().unwrap_or_default()).collect();
    assert_eq!(names, ["s1.safetensors", "s2.safetensors"]);
    assert_ne!(sharded.weights_sha256.as_deref(), Some(abc));
}

/// A broken folder, and the beginning of what is said about it.
#[test]
fn broken_folders_are_refused_with_file_and_key() {
    let check = |changes: &[(&str, Value)], expected: &str| {
        let found = read(&config(), changes).err().unwrap_or_else(|| "it was read".into());
        assert!(found.starts_with(expected), "{changes:?}\n   found {found}\nexpected {expected}");
    };
    let module = |kind: &str, path: &str| json!({"path": path, "type": kind});
    let transformer = module("sentence_transformers.models.Transformer", "");
    let pooling = module("sentence_transformers.models.Pooling", "1_Pooling");

    check(&[("config.json", Value::Null)], "FOLDER/config.json: missing; expected config.json");
    check(&[("config.json", json!("{\"model_type\": "))], "FOLDER/config.json: invalid JSON: EOF while parsing");
    check(&[("config.json", json!([1]))], "FOLDER/config.json: found a list; expected a JSON object");
    check(&[("config.json", json!({"hidden_size": 3}))], "FOLDER/config.json: \"model_type\": missing; expected");
    check(
        &[("config.json", with_key("hidden_size", json!(1e12)))],
        "FOLDER/config.json: \"hidden_size\": found 1000000000000.0; expected a whole number from 1 to ",
    );
    check(
        &[("config.json", with_key("vocab_size", json!(u64::MAX)))],
        "FOLDER/config.json: \"vocab_size\": found 18446744073709551615; expected a whole number from 1 to 10000000",
    );
    check(
        &[("config.json", with_key("num_hidden_layers", json!("two")))],
        "FOLDER/config.json: \"num_hidden_layers\": found \"two\"; expected a whole number from 1 to 1024",
    );

    check(&[("modules.json", json!({}))], "FOLDER/modules.json: found {}; expected a list of modules");
    check(
        &[("modules.json", json!([]))],
        "FOLDER/modules.json: incomplete; expected a Transformer and a Pooling after it",
    );
    check(
        &[("modules.json", json!([transformer]))],
        "FOLDER/modules.json: incomplete; expected a Transformer and a Pooling after it",
    );
    check(
        &[("modules.json", json!([{"path": ""}]))],
        "FOLDER/modules.json: module 0: \"type\": missing; expected the class of the module",
    );
    check(
        &[("modules.json", json!([module("sentence_transformers.models.StaticEmbedding", "")]))],
        "FOLDER/modules.json: module 0: unsupported first class \"sentence_transformers.models.StaticEmbedding\"; expected Transformer",
    );
    check(
        &[("modules.json", json!([transformer, pooling, module("sentence_transformers.models.LSTM", "2_LSTM")]))],
        "FOLDER/modules.json: module 2: unsupported class \"sentence_transformers.models.LSTM\"; expected one of Transformer, Router, ",
    );
    check(
        &[("modules.json", json!([transformer, pooling, module("custom_st.Pooling", "2")]))],
        "FOLDER/modules.json: module 2: unsupported class \"custom_st.Pooling\"; expected one of Transformer, Router, ",
    );
    check(
        &[("modules.json", json!([transformer, module("sentence_transformers.models.Normalize", "2")]))],
        "FOLDER/modules.json: incomplete; expected a Transformer and a Pooling after it",
    );
    check(
        &[("modules.json", json!([module("sentence_transformers.models.Transformer", "../other")]))],
        "FOLDER/modules.json: module 0: path \"../other\" leaves the folder; expected a path inside it",
    );
    check(
        &[("modules.json", json!([transformer, module("sentence_transformers.models.Pooling", "/etc")]))],
        "FOLDER/modules.json: module 1: path \"/etc\" leaves the folder; expected a path inside it",
    );

    let pooling = |content: Value| [("1_Pooling/config.json", content)];
    check(&pooling(Value::Null), "FOLDER/1_Pooling/config.json: missing; expected the configuration of the module");
    check(
        &pooling(json!({"pooling_mode": "median"})),
        "FOLDER/1_Pooling/config.json: \"pooling_mode\": unknown pooling mode \"median\"; expected one of cls, max, mean, mean_sqrt_len_",
    );
    check(
        &pooling(json!({"pooling_mode": ["cls", "cls"]})),
        "FOLDER/1_Pooling/config.json: \"pooling_mode\": found cls twice; expected each mode once",
    );
    check(
        &pooling(json!({"pooling_mode": []})),
        "FOLDER/1_Pooling/config.json: \"pooling_mode\": found no mode; expected at least one",
    );
    check(
        &pooling(json!({"word_embedding_dimension": 7})),
        "FOLDER/1_Pooling/config.json: \"word_embedding_dimension\": found 7; expected 6, the width of the token embeddings",
    );

    check(
        &[("sentence_bert_config.json", json!({"max_seq_length": 64}))],
        "FOLDER/sentence_bert_config.json: \"max_seq_length\": found 64; expected at most 32, the number of the model's positions",
    );
    check(
        &[("sentence_bert_config.json", json!({"transformer_task": "fill-mask"}))],
        "FOLDER/sentence_bert_config.json: \"transformer_task\": found \"fill-mask\", which is not supported",
    );

    for (key, value, named) in [
        (
            "config_args",
            json!({"hidden_act": "relu"}),
            "\"config_args.hidden_act\": found \"relu\", which is not supported",
        ),
        (
            "model_kwargs",
            json!({"dtype": "bfloat16"}),
            "\"model_kwargs.dtype\": found \"bfloat16\", which is not supported",
        ),
        (
            "modality_config",
            json!({"text": {"method": "forward", "method_output_name": ["hidden_states", -2]}}),
            "\"modality_config.text.method_output_name\": found",
        ),
    ] {
        let expected = format!("FOLDER/sentence_bert_config.json: {named}");
        check(&[("sentence_bert_config.json", json!({ key: value }))], &expected);
    }
    check(
        &[("adapter_config.json", json!({"peft_type": "LORA"}))],
        "FOLDER/adapter_config.json: adapters are not supported",
    );

    check(&[("model.safetensors", Value::Null)], "FOLDER: no weights; expected model.safetensors or");
    check(
        &[("model.safetensors", Value::Null), ("pytorch_model.bin", json!("pickle"))],
        "FOLDER: found pytorch_model.bin but no model.safetensors; expected safetensors (take a revision",
    );
    let index = |map: Value| [("model.safetensors", Value::Null), ("model.safetensors.index.json", map)];
    check(&index(json!({})), "FOLDER/model.safetensors.index.json: \"weight_map\": missing; expected an object");
    check(
        &index(json!({"weight_map": {"a": "../../secret.safetensors"}})),
        "FOLDER/model.safetensors.index.json: \"weight_map.a\": found \"../../secret.safetensors\"; expected the name of a .safetensors \
         file inside the folder",
    );
    check(
        &index(json!({"weight_map": {"a": "one.safetensors"}})),
        "FOLDER/model.safetensors.index.json: shard \"one.safetensors\" is missing; expected it beside this file",
    );
}

#[test]
fn an_override_beyond_the_model_is_refused() {
    let long = read(&ModelConfig { max_seq_length: Some(33), ..config() }, &[]).expect_err("32 positions");
    assert_eq!(long, "model.max_seq_length: found 33; expected at most 32, the number of the model's positions");
}

#[test]
fn names_that_leave_the_folder_are_told() {
    for name in ["a", "a/b", "1_Pooling"] {
        assert!(stays_inside(name), "{name}");
    }
    for name in ["..", "../a", "a/../../b", "/a", "a\\..\\b", "a\0", "./a"] {
        assert!(!stays_inside(name), "{name}");
    }
    assert!(Path::new("a/b").is_relative());
}

#[cfg(feature = "torch")]
#[test]
fn what_bert_cannot_honour_is_refused() {
    let check = |key: &str, value: Value, expected: &str| {
        let found = read(&config(), &[("config.json", with_key(key, value))]).err().unwrap_or_default();
        assert_eq!(found, format!("FOLDER/config.json: {expected}"));
    };
    let families = crate::encode::torch::families().join(", ");
    let expected = format!("\"model_type\": found \"bart\", which is not supported; expected one of {families}");
    check("model_type", json!("bart"), &expected);
    check(
        "hidden_act",
        json!("mish"),
        "\"hidden_act\": found \"mish\", which is not supported; expected one of gelu, gelu_new, relu, silu, tanh",
    );
    check(
        "position_embedding_type",
        json!("relative_key"),
        "\"position_embedding_type\": found \"relative_key\", which is not supported; expected \"absolute\"",
    );
    check("is_decoder", json!(true), "\"is_decoder\": found true, which is not supported; expected false");
    check(
        "add_cross_attention",
        json!(true),
        "\"add_cross_attention\": found true, which is not supported; expected false",
    );
    check(
        "num_attention_heads",
        json!(4),
        "\"hidden_size\": found 6; expected a multiple of \"num_attention_heads\", which is 4",
    );
    check(
        "layer_norm_eps",
        json!(-1.0),
        "\"layer_norm_eps\": found -1; expected a number greater than 0 and less than 1",
    );
    check(
        "pruned_heads",
        json!({"0": [1]}),
        "\"pruned_heads\": found {\"0\":[1]}, which is not supported; expected null or no such key",
    );
}
