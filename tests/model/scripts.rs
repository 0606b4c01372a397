//! TorchScript files in place of the transformer, against sentence-transformers and against what is easy to know.
//! tests/golden/scripts.py made the files.

use std::path::{Path, PathBuf};

use embedmill::internal::batch::{BatchConfig, PaddingMode, plan};
use embedmill::internal::encode::spec;
use embedmill::internal::model::spec::ModelSpec;
use embedmill::internal::model::{LoadError, ModelConfig, Precision};

use crate::golden::{Model, check_model, check_order, difference, nowhere, odd_texts};
use crate::models::golden_folder;

const DIFFERENCE_MAX: f32 = 1e-6;

fn script(name: &str) -> PathBuf {
    golden_folder().join("scripts").join(format!("{name}.pt"))
}

fn config(model: &str, name: &str) -> ModelConfig {
    ModelConfig {
        id: Some(golden_folder().join(model).display().to_string()),
        script: Some(script(name)),
        ..ModelConfig::default()
    }
}

fn read(config: &ModelConfig) -> ModelSpec {
    spec(config, &nowhere(), &()).unwrap_or_else(|error| panic!("{error}"))
}

/// A trace gives the transformer's vectors, or the text's; pooling and modules come after the first and not after the second.
/// RoBERTa's positions depend on the id that texts are padded with.
#[test]
fn exported_models_compute_what_sentence_transformers_does() {
    let texts = odd_texts();
    let check = |model: &str, name: &str, golden: &str, modules: &str| {
        let spec = read(&config(model, name));
        let told = spec.describe();
        let expected = format!("torchscript {}, {} dims, {modules}, float32", script(name).display(), spec.dim);
        assert!(told.contains(&expected), "   found {told}\nexpected {expected}");
        let provenance = spec.provenance();
        let told = |key: &str| provenance.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str());
        assert_eq!((told("model_family"), told("script")), (Some("torchscript"), Some(format!("{name}.pt").as_str())));
        assert_eq!(told("weights_sha256").map(str::len), Some(64));
        let model = Model::start(spec);
        let found = check_model(&model, name, &texts, &format!("{golden}.safetensors"), 1e-5);
        assert!(found <= 1e-5, "{name}: {found:e}");
        check_order(&model, name);
    };
    check("tiny/mean", "mean", "mean", "mean pooling, normalised");
    check("families/roberta", "roberta", "families/roberta", "mean pooling");
    check("tiny/cls", "cls-text", "cls", "no modules after it");
}

/// Token vectors are (id, 2 id, -id / 4), so that a text's mean is known from its ids.
#[test]
fn every_kind_of_output_is_read() {
    let texts: Vec<String> = ["the river", "a boat waits near the green bank", "birds", ""].map(str::to_owned).into();
    let check = |name: &str, precision: Precision| {
        let plain = config("tiny/plain", name);
        let spec = read(&plain);
        assert_eq!((spec.dim, spec.hidden, spec.precision), (3, 3, precision), "{name}");
        let model = Model::start(spec);
        let tokens = model.tokenize(&texts);
        for (row, vector) in model.encode_all(&tokens).into_iter().enumerate() {
            let ids = tokens.ids(row);
            let mean = ids.iter().map(|id| *id as f32).sum::<f32>() / ids.len() as f32;
            let found = difference(&vector, &[mean, 2.0 * mean, -0.25 * mean]);
            assert!(found <= DIFFERENCE_MAX * 200.0, "{name}, row {row}: {vector:?}, ids {ids:?}");
        }
    };
    check("in-tuple", Precision::Float32);
    check("in-list", Precision::Float32);
    check("in-dictionary", Precision::Float16);
    check("trained", Precision::Float32);
}

/// A script needs no configuration but the tokenizer's, and no other weights; what is set for it counts.
#[test]
fn a_folder_with_a_tokenizer_is_enough() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokenizer = golden_folder().join("tiny/plain/tokenizer.json");
    std::fs::copy(tokenizer, folder.path().join("tokenizer.json")).expect("a copy");
    std::fs::copy(script("in-tuple"), folder.path().join("model.pt")).expect("a copy");
    let of = |script: Option<PathBuf>, max_seq_length| {
        let id = Some(folder.path().display().to_string());
        let config = ModelConfig { id, script, max_seq_length, truncate_dim: Some(2), ..ModelConfig::default() };
        spec(&config, &nowhere(), &())
            .map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "M"))
    };
    let named = folder.path().join("model.pt");
    let spec = of(Some(named.clone()), Some(9)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((spec.dim, spec.max_seq_length, spec.pooling().as_str()), (2, 9, "mean"));
    let refused = |found: Result<ModelSpec, String>| found.err().unwrap_or_else(|| "it was taken".into());
    assert_eq!(
        refused(of(Some(named), None)),
        "M: unknown maximum length of a text; expected it in the model's or the tokenizer's files (or set model.max_seq_length)"
    );
    let config = r#"{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 8, "vocab_size": 300, "max_position_embeddings": 20}"#;
    std::fs::write(folder.path().join("config.json"), config).expect("a file");
    assert_eq!(
        refused(of(None, None)),
        "M: found model.pt but no weights; expected model.safetensors (if model.pt is TorchScript and you trust it, set \
         model.script (--script) to M/model.pt; loading it executes its code)"
    );
}

#[test]
fn unusable_scripts_are_refused_before_any_data_moves() {
    let check = |path: &Path, expected: &str| {
        let config = ModelConfig { script: Some(path.to_owned()), ..config("tiny/mean", "") };
        let error = spec(&config, &nowhere(), &()).err().map(|error| error.to_string());
        let found = error.unwrap_or_else(|| "it was taken".into());
        let message = format!("{}{expected}", path.display());
        let expected = LoadError::Config { key: "model.script", message }.to_string();
        assert!(found.starts_with(&expected), "   found {found}\nexpected {expected}");
    };
    let named = |name: &str, expected: &str| check(&script(name), expected);
    named("without-mask", ": argument \"attention_mask\" is missing in forward(__torch__.WithoutMask self, Tensor");
    named("mask-ignored", ": returns other vectors for a text when a longer one is beside it (");
    named(
        "flat-shape",
        ": returns a tensor of shape [2] for 2 texts of up to 13 tokens; expected token vectors [2, 13, width]",
    );
    named("not-finite", ": returns NaN or infinity for a short text; expected finite values");
    named("whole-numbers", ": returns values of type Int64; expected one of Float, Half, BFloat16");
    named(
        "other-keys",
        ": returns a dictionary of logits; expected a tensor, a tuple or list that begins with one, or a",
    );
    named("always-fails", ": failed: RuntimeError: shape '[7, 1000003]' is invalid for input of size ");
    named("no-forward", ": cannot be called: Method 'forward' is not defined");
    let folder = tempfile::tempdir().expect("a temporary folder");
    check(folder.path(), ": not a regular file; expected a TorchScript file");
    check(&folder.path().join("none.pt"), ": cannot be read: No such file or directory");
    let weights = golden_folder().join("tiny/mean/model.safetensors");
    check(&weights, ": not a TorchScript file: ");
    let cut = folder.path().join("cut.pt");
    let whole = std::fs::read(script("mean")).expect("the script");
    std::fs::write(&cut, &whole[..whole.len() / 2]).expect("a file");
    check(&cut, ": not a TorchScript file: ");

    let refused = |config: ModelConfig, expected: &str| {
        let found = spec(&config, &nowhere(), &()).err().map(|error| error.to_string());
        assert_eq!(found.as_deref(), Some(expected));
    };
    let pools = "model.pooling: not supported, since model.script returns one vector per text (leave it out)";
    refused(ModelConfig { pooling: "max".parse().ok(), ..config("tiny/cls", "cls-text") }, pools);
    let fits = "model.truncate_dim: found 900; expected at most 24, the length of the model's vectors";
    refused(ModelConfig { truncate_dim: Some(900), ..config("tiny/mean", "mean") }, fits);
}

/// The token budget of a batch counts what is padded.
#[test]
fn padded_batches_keep_the_budget() {
    let batches = plan(&[10, 6, 5, 5, 1, 1], &BatchConfig { tokens: 20, rows: 9 }, PaddingMode::Padded);
    let rows: Vec<_> = batches.iter().map(|batch| batch.rows.as_slice()).collect();
    assert_eq!(rows, [&[0, 1][..], &[2, 3, 4, 5]]);
}
