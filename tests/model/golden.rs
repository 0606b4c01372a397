//! embedmill's vectors against sentence-transformers': tiny random models of odd sizes and the real all-MiniLM-L6-v2.
//!
//! The golden arrays and the script that made them are in tests/golden. The real model is where `make setup` puts it, or
//! where EMBEDMILL_TEST_MODEL says. Every text is held to its vector, its norm, its number of tokens and how many of them
//! truncation cut off.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::models::{golden_folder, real_model};
use embedmill::internal::batch::{BatchConfig, PaddingMode, TokenBatch, plan};
use embedmill::internal::columnar::Tokens;
use embedmill::internal::device::Device;
use embedmill::internal::digest::{hex, sha256_file};
use embedmill::internal::encode::worker::WorkerPool;
use embedmill::internal::encode::{factory, spec};
use embedmill::internal::model::ModelConfig;
use embedmill::internal::model::hub::HubSettings;
use embedmill::internal::model::spec::ModelSpec;
use embedmill::internal::model::tokenizer::Tokenizer;
use futures::future::join_all;
use safetensors::SafeTensors;
use serde_json::Value;

/// The promise for the real model, and for every model between a text in a batch and the same text alone.
const DIFFERENCE_MAX: f32 = 1e-6;
/// The promise for every other model, which on some processors' kernels small random weights need. Vectors that are longer
/// than 1 may be as much further apart.
const DIFFERENCE_MAX_TINY: f32 = 1e-5;

pub struct Model {
    tokenizer: Tokenizer,
    pool: WorkerPool,
}

/// A hub that is never asked.
pub fn nowhere() -> HubSettings {
    HubSettings { endpoint: "http://127.0.0.1:1".into(), token: None, cache: PathBuf::from("/nowhere"), offline: true }
}

impl Model {
    fn load(folder: &Path) -> Model {
        let config = ModelConfig { id: Some(folder.display().to_string()), ..ModelConfig::default() };
        Model::start(spec(&config, &nowhere(), &()).unwrap_or_else(|error| panic!("{error}")))
    }

    pub fn start(spec: ModelSpec) -> Model {
        let spec = Arc::new(spec);
        let devices = [Device::Cpu, Device::Cpu];
        let pool = WorkerPool::start(&devices, factory(&spec, &devices)).unwrap_or_else(|error| panic!("{error}"));
        Model { tokenizer: Tokenizer::load(&spec).unwrap_or_else(|error| panic!("{error}")), pool }
    }

    pub fn tokenize(&self, texts: &[String]) -> Tokens {
        let mut tokens = Tokens::default();
        for text in texts {
            self.tokenizer.encode(text, &mut tokens).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        }
        tokens
    }

    /// The vectors of `rows` of the tokens, encoded in these batches.
    pub fn encode(&self, tokens: &Tokens, batches: &[Vec<usize>]) -> Vec<Vec<f32>> {
        let submit =
            |rows: &Vec<usize>| self.pool.submit(rows.iter().map(|&row| tokens.ids(row)).collect::<TokenBatch>());
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
        let matrices = runtime.block_on(join_all(batches.iter().map(submit)));
        let mut vectors = vec![Vec::new(); tokens.len()];
        for (rows, matrix) in batches.iter().zip(matrices) {
            let matrix = matrix.unwrap_or_else(|error| panic!("{error}"));
            for (index, &row) in rows.iter().enumerate() {
                vectors[row] = matrix.row(index).to_vec();
            }
        }
        vectors
    }

    /// The vectors, batched as the pipeline does it.
    pub fn encode_all(&self, tokens: &Tokens) -> Vec<Vec<f32>> {
        let lengths: Vec<usize> = (0..tokens.len()).map(|row| tokens.ids(row).len()).collect();
        let batches = plan(&lengths, &BatchConfig { tokens: 2_048, rows: 256 }, PaddingMode::Packed);
        self.encode(tokens, &batches.into_iter().map(|batch| batch.rows).collect::<Vec<_>>())
    }
}

/// What a golden file holds of each text.
struct Golden {
    vectors: Vec<Vec<f32>>,
    tokens: Vec<i32>,
    cut: Vec<i32>,
}

impl Golden {
    fn read(name: &str) -> Golden {
        let bytes = std::fs::read(golden_folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let file = SafeTensors::deserialize(&bytes).expect("a golden file");
        let numbers = |name: &str| file.tensor(name).expect("it has this tensor").data().to_vec();
        let ints = |name: &str| -> Vec<i32> {
            numbers(name).chunks_exact(4).map(|bytes| i32::from_le_bytes(bytes.try_into().expect("four"))).collect()
        };
        let values: Vec<f32> = ints("vectors").into_iter().map(|bits| f32::from_bits(bits as u32)).collect();
        let dim = file.tensor("vectors").expect("it has vectors").shape()[1];
        let vectors = values.chunks_exact(dim).map(<[f32]>::to_vec).collect();
        Golden { vectors, tokens: ints("tokens"), cut: ints("cut") }
    }
}

/// texts.jsonl: a text, or a text and how often it is repeated.
pub fn odd_texts() -> Vec<String> {
    let lines = std::fs::read_to_string(golden_folder().join("texts.jsonl")).expect("texts.jsonl");
    let texts = lines.lines().map(|line| {
        let entry: Value = serde_json::from_str(line).expect("a line of JSON");
        match entry["text"].as_str() {
            Some(text) => text.to_owned(),
            None => {
                entry["repeat"].as_str().expect("a text").repeat(entry["times"].as_u64().expect("a count") as usize)
            }
        }
    });
    texts.collect()
}

pub fn norm(vector: &[f32]) -> f32 {
    vector.iter().map(|value| value * value).sum::<f32>().sqrt()
}

pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Holds a model to a golden file; returns the largest difference.
fn check(folder: &Path, texts: &[String], golden: &str) -> f32 {
    check_model(&Model::load(folder), &folder.display().to_string(), texts, golden, DIFFERENCE_MAX)
}

/// The same with a loaded model, its name, and how much may be between vectors of length 1.
pub fn check_model(model: &Model, name: &str, texts: &[String], golden: &str, difference_max: f32) -> f32 {
    let golden = Golden::read(golden);
    assert_eq!(golden.vectors.len(), texts.len(), "{name}");
    let tokens = model.tokenize(texts);
    let vectors = model.encode_all(&tokens);
    let mut largest = 0f32;
    for (row, text) in texts.iter().enumerate() {
        let text: String = text.chars().take(60).collect();
        let expected = &golden.vectors[row];
        assert_eq!(tokens.ids(row).len() as i32, golden.tokens[row], "{name}: tokens of text {row}, {text:?}");
        assert_eq!(tokens.truncated(row) as i32, golden.cut[row], "{name}: tokens cut off from text {row}, {text:?}");
        let most = difference_max * norm(expected).max(1.0);
        let found = difference(&vectors[row], expected);
        assert!(found <= most, "{name}: text {row}, {text:?}: largest difference {found:e}");
        assert!((norm(&vectors[row]) - norm(expected)).abs() <= most, "{name}: norm of text {row}, {text:?}");
        largest = largest.max(found);
    }
    eprintln!("{name}: largest difference {largest:e} over {} texts", texts.len());
    largest
}

#[test]
fn tiny_models_of_odd_sizes() {
    let texts = odd_texts();
    for name in ["mean", "max", "cls", "plain", "old-names"] {
        let folder = golden_folder().join("tiny").join(name);
        check_model(&Model::load(&folder), name, &texts, &format!("{name}.safetensors"), DIFFERENCE_MAX_TINY);
    }
}

#[test]
fn the_real_model_on_odd_texts() {
    check(&real_model(), &odd_texts(), "all-MiniLM-L6-v2.odd.safetensors");
}

/// The paragraphs are not in the repository: scripts/corpus.py finds them again, and each is held to its hash.
#[test]
fn the_real_model_on_real_paragraphs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let corpus = folder.path().join("corpus.jsonl");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/corpus.py");
    let made = Command::new("python3").arg(&script).arg(&corpus).status().expect("python3 runs");
    assert!(made.success(), "{} failed; see above", script.display());
    let mut by_id: HashMap<String, String> = HashMap::new();
    for line in std::fs::read_to_string(&corpus).expect("the corpus").lines() {
        let entry: Value = serde_json::from_str(line).expect("a line of JSON");
        let field = |key: &str| entry[key].as_str().expect("a string").to_owned();
        by_id.insert(field("id"), field("text"));
    }
    let list = std::fs::read(golden_folder().join("all-MiniLM-L6-v2.corpus.json")).expect("the corpus' list");
    let list: Vec<Value> = serde_json::from_slice(&list).expect("a list");
    let texts = list.iter().map(|entry| {
        let id = entry["id"].as_str().expect("an id");
        let text =
            by_id.remove(id).unwrap_or_else(|| panic!("{id} is not in the corpus; `make golden` makes a new list"));
        let path = folder.path().join("text");
        std::fs::write(&path, &text).expect("a file");
        let hash = hex(&sha256_file(&path).expect("its hash"));
        assert_eq!(entry["sha256"].as_str(), Some(hash.as_str()), "{id} has changed; `make golden` makes new vectors");
        text
    });
    check(&real_model(), &texts.collect::<Vec<_>>(), "all-MiniLM-L6-v2.corpus.safetensors");
}

#[test]
fn packed_alone_and_in_any_order_agree() {
    let tiny = golden_folder().join("tiny");
    for folder in [real_model(), tiny.join("mean"), tiny.join("max"), tiny.join("cls")] {
        check_order(&Model::load(&folder), &folder.display().to_string());
    }
}

/// A row's vector is the same whatever is in its batch, in whatever order, and alone.
pub fn check_order(model: &Model, name: &str) {
    let mut texts = odd_texts();
    // The longest are covered by `check`; here each text is encoded five times.
    texts.retain(|text| text.len() < 400);
    let tokens = model.tokenize(&texts);
    let alone = model.encode(&tokens, &(0..tokens.len()).map(|row| vec![row]).collect::<Vec<_>>());
    for seed in 1..=4u64 {
        let batches = shuffled(tokens.len(), seed);
        let packed = model.encode(&tokens, &batches);
        for row in 0..tokens.len() {
            let found = difference(&packed[row], &alone[row]);
            let most = DIFFERENCE_MAX * norm(&alone[row]).max(1.0);
            assert!(found <= most, "{name}, seed {seed}, row {row}: {found:e}");
        }
    }
}

/// All rows in a random order, cut into batches of random sizes.
fn shuffled(rows: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut state = seed;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut order: Vec<usize> = (0..rows).collect();
    for end in (1..rows).rev() {
        order.swap(end, random(end + 1));
    }
    let mut batches = Vec::new();
    while !order.is_empty() {
        let rest = order.split_off(order.len().min(1 + random(40)));
        batches.push(std::mem::replace(&mut order, rest));
    }
    batches
}

/// Rows without tokens cannot come from this tokenizer; the encoder takes them all the same.
#[test]
fn rows_without_tokens_are_zeros() {
    let model = Model::load(&golden_folder().join("tiny/mean"));
    let mut tokens = Tokens::default();
    for ids in [&[][..], &[2, 9, 3], &[]] {
        tokens.push(ids, 0);
    }
    let vectors = model.encode(&tokens, &[vec![0, 1, 2], vec![]]);
    assert!(vectors[0].iter().chain(&vectors[2]).all(|value| *value == 0.0));
    assert!((norm(&vectors[1]) - 1.0).abs() < 1e-6);
    let nothing = model.encode(&tokens, &[vec![0, 2]]);
    assert!(nothing[0].iter().all(|value| *value == 0.0));
}
