//! Every family against sentence-transformers: a tiny random model each, of odd sizes, and more where a family has switches
//! that change much. `tests/golden/families.py` made them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use embedmill::internal::encode::{spec, torch};
use embedmill::internal::model::config_file::ConfigFile;
use embedmill::internal::model::spec::ModelSpec;
use embedmill::internal::model::{LoadError, ModelConfig};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::golden::{Model, check_model, check_order, difference, norm, nowhere, odd_texts};
use crate::models::golden_folder;

/// The promise for every family.
const DIFFERENCE_MAX: f32 = 1e-5;

/// Folders in tests/golden/families.
const MODELS: [&str; 27] = [
    "albert",
    "camembert",
    "deberta-v2",
    "deberta-v3",
    "distilbert",
    "electra",
    "eurobert",
    "gemma3_text",
    "gemma3_text-causal",
    "gte",
    "jina_embeddings_v3",
    "jina_embeddings_v3-own-names",
    "llama",
    "mistral",
    "mistral-both-ways",
    "modernbert",
    "modernbert-biased",
    "mpnet",
    "mt5",
    "new",
    "nomic_bert",
    "qwen2",
    "qwen3",
    "roberta",
    "t5",
    "umt5",
    "xlm-roberta",
];

fn folder(name: &str) -> PathBuf {
    golden_folder().join("families").join(name)
}

fn described(folder: &Path) -> ModelSpec {
    let config = ModelConfig { id: Some(folder.display().to_string()), ..ModelConfig::default() };
    spec(&config, &nowhere(), &()).unwrap_or_else(|error| panic!("{error}"))
}

/// With 1 for `threads` the loops of `encode/torch/simd` run, with more libtorch's operations.
fn load(folder: &Path, threads: usize) -> Result<Model, LoadError> {
    let config =
        ModelConfig { id: Some(folder.display().to_string()), threads: Some(threads), ..ModelConfig::default() };
    Ok(Model::start(spec(&config, &nowhere(), &())?))
}

#[test]
fn every_family_computes_what_sentence_transformers_does() {
    let texts = odd_texts();
    for name in MODELS {
        for threads in [1, 2] {
            let model = load(&folder(name), threads).unwrap_or_else(|error| panic!("{error}"));
            let found = check_model(&model, name, &texts, &format!("families/{name}.safetensors"), DIFFERENCE_MAX);
            assert!(found <= DIFFERENCE_MAX, "{name}: {found:e}");
        }
    }
}

/// A WeightedLayerPooling sees what each layer gives, and the embeddings. The weights are those of `families.py`.
#[test]
fn layers_are_summed_up_by_weight_in_every_family() {
    let texts: Vec<String> = odd_texts().into_iter().step_by(8).collect();
    let module =
        |kind: &str, path: &str| json!({ "type": format!("sentence_transformers.models.{kind}"), "path": path });
    // What transformers hands out of umT5's layers is wrong; see `families.py`.
    for name in MODELS.into_iter().filter(|name| *name != "umt5") {
        let changed = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, content: Value| {
            let path = changed.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, content.to_string()).expect("a file");
        };
        for file in ["tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
            std::fs::copy(folder(name).join(file), changed.path().join(file)).expect("a copy");
        }
        let read = |file: &str| -> Value {
            serde_json::from_slice(&std::fs::read(folder(name).join(file)).expect("a file")).expect("JSON")
        };
        write("sentence_bert_config.json", read("sentence_bert_config.json"));
        let mut config = read("config.json");
        config["output_hidden_states"] = true.into();
        write("config.json", config);
        let modules =
            [module("Transformer", ""), module("WeightedLayerPooling", "1_Layers"), module("Pooling", "2_Pooling")];
        write("modules.json", modules.as_slice().into());
        write("2_Pooling/config.json", json!({ "pooling_mode": "mean" }));
        let layers = described(&folder(name)).layers;
        write("1_Layers/config.json", json!({ "num_hidden_layers": layers, "layer_start": 0 }));
        let weights: Vec<u8> = (0..=layers).flat_map(|layer| (1.0 + layer as f32 / 2.0).to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![layers + 1], &weights).expect("a tensor");
        let path = changed.path().join("1_Layers/model.safetensors");
        safetensors::serialize_to_file([("layer_weights", view)], None, &path).expect("a file");

        let model = load(changed.path(), 1).unwrap_or_else(|error| panic!("{error}"));
        let vectors = model.encode_all(&model.tokenize(&texts));
        let bytes = std::fs::read(golden_folder().join(format!("families/{name}.layers"))).expect("the golden file");
        let golden = SafeTensors::deserialize(&bytes).expect("a golden file").tensor("vectors").expect("vectors");
        let dim = golden.shape()[1];
        let values = golden.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four")));
        let expected: Vec<f32> = values.collect();
        assert_eq!(expected.len(), texts.len() * dim, "{name}");
        for (row, (vector, expected)) in vectors.iter().zip(expected.chunks_exact(dim)).enumerate() {
            let found = difference(vector, expected);
            assert!(found <= DIFFERENCE_MAX * norm(expected).max(1.0), "{name}: text {}: {found:e}", 8 * row);
        }
    }
}

/// The configuration that Nomic's authors publish has keys of its own for the same sizes.
#[test]
fn nomic_by_its_authors_own_keys() {
    let changed = tempfile::tempdir().expect("a temporary folder");
    for file in ["tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        std::fs::copy(folder("nomic_bert").join(file), changed.path().join(file)).expect("a copy");
    }
    let config = serde_json::json!({
        "model_type": "nomic_bert", "architectures": ["NomicBertModel"], "activation_function": "swiglu", "causal": false,
        "layer_norm_epsilon": 1e-12, "mlp_fc1_bias": false, "mlp_fc2_bias": false, "n_embd": 32, "n_head": 2, "n_inner": 27,
        "n_layer": 2, "n_positions": 64, "parallel_block": false, "prenorm": false, "qkv_proj_bias": false,
        "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": false, "rotary_emb_scale_base": null,
        "rotary_scaling_factor": null, "type_vocab_size": 2, "use_rms_norm": false, "vocab_size": 206,
    });
    std::fs::write(changed.path().join("config.json"), config.to_string()).expect("a file");
    let model = load(changed.path(), 1).unwrap_or_else(|error| panic!("{error}"));
    check_model(&model, "nomic_bert", &odd_texts(), "families/nomic_bert.safetensors", DIFFERENCE_MAX);
}

#[test]
fn packed_alone_and_in_any_order_agree_in_every_family() {
    for name in MODELS {
        check_order(&load(&folder(name), 1).unwrap_or_else(|error| panic!("{error}")), name);
    }
}

#[test]
fn every_family_has_a_model_here() {
    let family = |name: &str| {
        let file = ConfigFile::read(folder(name).join("config.json")).ok().flatten().expect("a configuration");
        file.text("model_type").ok().flatten().expect("a family").to_owned()
    };
    let mut found: BTreeSet<String> = MODELS.into_iter().map(family).collect();
    // Its models are in tests/golden/tiny.
    found.insert("bert".into());
    assert_eq!(found, torch::families().into_iter().map(str::to_owned).collect());
    let entries = std::fs::read_dir(folder(".")).expect("the folder of families");
    let folders = entries.filter_map(Result::ok).filter(|entry| entry.path().is_dir());
    let folders: BTreeSet<String> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(folders, MODELS.into_iter().map(str::to_owned).collect());
}

/// RoBERTa and MPNet count positions from the padding token's id on; a longer text would have no row in the table.
#[test]
fn positions_before_the_first_token_do_not_count() {
    for (name, positions) in [("roberta", 47), ("xlm-roberta", 51), ("camembert", 50), ("mpnet", 148), ("electra", 47)]
    {
        let limit = |length| {
            let id = Some(folder(name).display().to_string());
            let config = ModelConfig { id, max_seq_length: Some(length), ..ModelConfig::default() };
            spec(&config, &nowhere(), &()).map(|spec| spec.max_seq_length).map_err(|error| error.to_string())
        };
        assert_eq!(limit(positions), Ok(positions), "{name}");
        let over = positions + 1;
        let expected = format!(
            "model.max_seq_length: found {over}; expected at most {positions}, the number of the model's positions"
        );
        assert_eq!(limit(over), Err(expected), "{name}");
    }
}

/// README's table of families: a row begins with a model type in backquotes.
#[test]
fn the_readme_has_every_family() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md");
    let section = readme.split("\n## ").find(|section| section.starts_with("Models\n")).expect("a section on models");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    let found: BTreeSet<&str> = cells.flat_map(|cell| cell.trim_end_matches('`').split("`, `")).collect();
    assert_eq!(found, torch::families().into_iter().collect());
}

/// A family's config.json with one key changed, and how the model is then refused: before any weight is read.
#[test]
fn what_a_family_cannot_compute_is_refused_by_name() {
    let check = |name: &str, key: &str, value: serde_json::Value, expected: &str| {
        let changed = tempfile::tempdir().expect("a temporary folder");
        let path = changed.path().join("config.json");
        let file = ConfigFile::read(folder(name).join("config.json")).ok().flatten().expect("a configuration");
        let mut json = file.json;
        json.insert(key.into(), value);
        std::fs::write(&path, serde_json::to_vec(&json).expect("JSON")).expect("a file");
        let config = ModelConfig { id: Some(changed.path().display().to_string()), ..ModelConfig::default() };
        let found = spec(&config, &nowhere(), &()).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(found, format!("{}: {expected}", path.display()));
    };
    let unsupported = "which is not supported; expected";
    check("roberta", "is_decoder", true.into(), &format!("\"is_decoder\": found true, {unsupported} false"));
    check(
        "electra",
        "position_embedding_type",
        "relative_key".into(),
        &format!("\"position_embedding_type\": found \"relative_key\", {unsupported} \"absolute\""),
    );
    check(
        "distilbert",
        "activation",
        "mish".into(),
        &format!("\"activation\": found \"mish\", {unsupported} one of gelu, gelu_new, relu, silu, tanh"),
    );
    check(
        "mpnet",
        "relative_attention_num_buckets",
        8.into(),
        "\"relative_attention_num_buckets\": found 8; expected a whole number from 32 to 10000000",
    );
    check(
        "deberta-v3",
        "pos_att_type",
        "p2p".into(),
        &format!("\"pos_att_type\": found \"p2p\", {unsupported} \"c2p\", \"p2c\" or both"),
    );
    check("deberta-v2", "conv_kernel_size", 4.into(), "\"conv_kernel_size\": found 4; expected an odd number");
    check(
        "new",
        "rope_scaling",
        serde_json::json!({"type": "ntk", "factor": 2.0, "mixed_b": 0.6}),
        &format!("\"rope_scaling.mixed_b\": found 0.6, {unsupported} null or no such key"),
    );
    check("nomic_bert", "prenorm", true.into(), &format!("\"prenorm\": found true, {unsupported} false"));
    check(
        "nomic_bert",
        "rotary_emb_fraction",
        0.5.into(),
        &format!("\"rotary_emb_fraction\": found 0.5, {unsupported} 1"),
    );
    check(
        "qwen3",
        "quantization_config",
        serde_json::json!({"bits": 4}),
        &format!("\"quantization_config\": found {{\"bits\":4}}, {unsupported} null or no such key"),
    );
    check(
        "qwen2",
        "num_key_value_heads",
        4.into(),
        "\"num_attention_heads\": found 6; expected a multiple of \"num_key_value_heads\", which is 4",
    );
    check(
        "modernbert",
        "layer_types",
        serde_json::json!(["full_attention"]),
        "\"layer_types\": found [\"full_attention\"]; expected a list of 5 layers, each full_attention or sliding_attention",
    );
    check(
        "gemma3_text",
        "is_causal",
        false.into(),
        &format!("\"is_causal\": found false, {unsupported} true for Gemma"),
    );
    check(
        "t5",
        "feed_forward_proj",
        "gated-gelu".into(),
        "\"dense_act_fn\": found \"relu\"; expected a value that agrees with \"feed_forward_proj\", which is \"gated-gelu\"",
    );
    check("t5", "is_decoder", true.into(), &format!("\"is_decoder\": found true, {unsupported} false"));
}
