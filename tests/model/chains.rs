//! What comes after the transformer, against sentence-transformers: poolings, module chains, prompts, routers, and the
//! smaller outputs against its `quantize_embeddings`. tests/golden/chains.py made the arrays.

use std::path::Path;

use embedmill::internal::batch::TokenBatch;
use embedmill::internal::device::Device;
use embedmill::internal::encode::{factory, query_spec, spec};
use embedmill::internal::matrix::Matrix;
use embedmill::internal::model::chain::DenseActivation;
use embedmill::internal::model::{ModelConfig, Pooling, PoolingMode};
use embedmill::internal::output::quantize::{OutputPrecision, Quantized, Quantizer, Ranges};
use safetensors::SafeTensors;

use super::golden::{Model, difference, norm, nowhere, odd_texts};
use crate::models::{golden_folder, tiny};

/// Vectors are not all of length 1; longer ones get as much more.
const DIFFERENCE_MAX: f32 = 1e-6;

/// One golden file: tensors by name, and which of the odd texts their rows are.
struct Golden {
    name: String,
    bytes: Vec<u8>,
}

impl Golden {
    fn read(name: &str) -> Golden {
        let bytes = std::fs::read(golden_folder().join(format!("{name}.safetensors"))).expect("the golden file");
        Golden { name: name.into(), bytes }
    }

    /// A tensor's bytes, four each or one each, and the length of its rows.
    fn tensor(&self, name: &str) -> (Vec<u8>, usize) {
        let file = SafeTensors::deserialize(&self.bytes).expect("a golden file");
        let tensor = file.tensor(name).unwrap_or_else(|error| panic!("{}: {name}: {error}", self.name));
        (tensor.data().to_vec(), tensor.shape().last().copied().unwrap_or(1))
    }

    fn floats(&self, name: &str) -> Vec<Vec<f32>> {
        let (bytes, width) = self.tensor(name);
        let values: Vec<f32> =
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four"))).collect();
        values.chunks_exact(width).map(<[f32]>::to_vec).collect()
    }

    /// The texts of the rows.
    fn texts(&self) -> Vec<String> {
        let all = odd_texts();
        let rows = self.tensor("rows").0;
        let rows = rows.chunks_exact(4).map(|four| i32::from_le_bytes(four.try_into().expect("four")) as usize);
        rows.map(|row| all[row].clone()).collect()
    }
}

fn config(folder: &Path) -> ModelConfig {
    ModelConfig { id: Some(folder.display().to_string()), ..ModelConfig::default() }
}

/// Holds a model's vectors to `expected`, row by row; a row alone is as it is among others.
fn check_model(what: &str, model: &Model, texts: &[String], expected: &[Vec<f32>]) {
    assert_eq!(texts.len(), expected.len());
    let tokens = model.tokenize(texts);
    let vectors = model.encode_all(&tokens);
    let alone = model.encode(&tokens, &(0..texts.len()).map(|row| vec![row]).collect::<Vec<_>>());
    let mut largest = 0f32;
    for (row, text) in texts.iter().enumerate() {
        let text: String = text.chars().take(60).collect();
        let most = DIFFERENCE_MAX * norm(&expected[row]).max(1.0);
        let found = difference(&vectors[row], &expected[row]);
        assert!(found <= most, "{what}: text {row}, {text:?}: largest difference {found:e}");
        let packed = difference(&vectors[row], &alone[row]);
        assert!(packed <= most, "{what}: text {row}, {text:?}: alone and packed differ by {packed:e}");
        let longer = (norm(&vectors[row]) - norm(&expected[row])).abs();
        assert!(longer <= most, "{what}: norm of text {row}, {text:?}");
        largest = largest.max(found);
    }
    eprintln!("{what}: largest difference {largest:e} over {} texts", texts.len());
}

/// Loads what `config` says and holds it to a tensor of a golden file.
fn check(golden: &Golden, tensor: &str, config: &ModelConfig) {
    let spec = spec(config, &nowhere(), &()).unwrap_or_else(|error| panic!("{error}"));
    let what = format!("{} {tensor}", golden.name);
    check_model(&what, &Model::start(spec), &golden.texts(), &golden.floats(tensor));
}

#[test]
fn every_pooling_alone_and_every_pair() {
    let golden = Golden::read("poolings");
    for first in PoolingMode::ALL {
        let one = ModelConfig { pooling: Some(first.into()), ..config(&tiny("poolings")) };
        check(&golden, first.as_str(), &one);
        for second in PoolingMode::ALL.into_iter().filter(|second| *second != first) {
            let pooling = Some(Pooling::Several(vec![first, second]));
            let pair = ModelConfig { pooling, ..config(&tiny("poolings")) };
            let spec = spec(&pair, &nowhere(), &()).unwrap_or_else(|error| panic!("{error}"));
            let sides = golden.floats(first.as_str()).into_iter().zip(golden.floats(second.as_str()));
            let expected: Vec<Vec<f32>> = sides.map(|(first, second)| [first, second].concat()).collect();
            check_model(&format!("poolings {first}+{second}"), &Model::start(spec), &golden.texts(), &expected);
        }
    }
}

#[test]
fn whole_chains() {
    let chained = || config(&tiny("chained"));
    let golden = Golden::read("chained");
    check(&golden, "own", &chained());
    check(&golden, "whole", &ModelConfig { truncate_dim: Some(12), ..chained() });
    let five = ModelConfig { truncate_dim: Some(5), normalize: Some(true), ..chained() };
    check(&golden, "five_normalized", &five);
    check(&Golden::read("on-tokens"), "own", &config(&tiny("on-tokens")));
}

/// A copy of a model's folder, in which one file is another.
fn changed(name: &str, file: &str, change: impl FnOnce(String) -> Vec<u8>) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).expect("a folder");
        for entry in std::fs::read_dir(from).expect("a folder") {
            let path = entry.expect("an entry").path();
            let target = to.join(path.file_name().expect("a name"));
            if path.is_dir() {
                copy(&path, &target);
            } else {
                std::fs::copy(&path, &target).expect("a copy");
            }
        }
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy(&tiny(name), folder.path());
    let path = folder.path().join(file);
    let text = String::from_utf8_lossy(&std::fs::read(&path).expect("the file")).into_owned();
    std::fs::write(path, change(text)).expect("the file");
    folder
}

#[test]
fn every_activation_of_a_dense_module() {
    let golden = Golden::read("activated");
    for activation in DenseActivation::ALL {
        let name = format!("torch.nn.modules.activation.{activation}");
        let folder = changed("activated", "2_Dense/config.json", |text| {
            text.replace("torch.nn.modules.activation.Tanh", &name).into_bytes()
        });
        check(&golden, activation.as_str(), &config(folder.path()));
    }
}

#[test]
fn prompts_and_what_of_them_is_pooled() {
    let golden = Golden::read("prompted");
    let prompted = || config(&tiny("prompted"));
    let named = |name: &str| ModelConfig { prompt_name: Some(name.into()), ..prompted() };
    check(&golden, "default", &prompted());
    check(&golden, "query", &named("query"));
    check(&golden, "long", &named("long"));
    check(&golden, "explicit", &ModelConfig { prompt: Some("children count ".into()), ..prompted() });
    check(&golden, "empty", &ModelConfig { prompt: Some(String::new()), ..prompted() });
    check(&golden, "included", &ModelConfig { include_prompt: Some(true), ..prompted() });
    let query = query_spec(&prompted(), &nowhere(), &()).unwrap_or_else(|error| panic!("{error}"));
    check_model("prompted for a query", &Model::start(query), &golden.texts(), &golden.floats("encode_query"));
}

#[test]
fn both_ways_of_a_router() {
    let golden = Golden::read("routed");
    let on = |route: Option<&str>| ModelConfig { route: route.map(str::to_owned), ..config(&tiny("routed")) };
    check(&golden, "default", &on(None));
    check(&golden, "query", &on(Some("query")));
    check(&golden, "document", &on(Some("document")));
    let query = query_spec(&on(None), &nowhere(), &()).unwrap_or_else(|error| panic!("{error}"));
    check_model("routed for a query", &Model::start(query), &golden.texts(), &golden.floats("encode_query"));
}

#[test]
fn smaller_outputs_are_the_same_to_the_bit() {
    let golden = Golden::read("quantized");
    let (vectors, ranges) = (golden.floats("vectors"), golden.floats("ranges"));
    let matrix = || Matrix::new(vectors[0].len(), vectors.concat());
    let check = |precision: OutputPrecision| {
        let ranges = Ranges::new(ranges[0].clone(), ranges[1].clone()).expect("ranges");
        let found = match Quantizer::new(precision, Some(ranges)).expect("it has ranges").apply(matrix()) {
            Quantized::Int8(numbers) => numbers.into_iter().map(i8::cast_unsigned).collect(),
            Quantized::Uint8(numbers) => numbers,
            Quantized::Float32(_) => panic!("{precision} is no float"),
        };
        let (expected, width) = golden.tensor(precision.as_str());
        assert_eq!(width, precision.width(vectors[0].len()));
        let differing = found.iter().zip(&expected).filter(|(found, expected)| found != expected).count();
        assert_eq!((found.len(), differing), (expected.len(), 0), "{precision}");
    };
    check(OutputPrecision::Int8);
    check(OutputPrecision::Uint8);
    check(OutputPrecision::Binary);
    check(OutputPrecision::Ubinary);
}

/// A sequence without tokens is pooled to zeros, and these go through the rest of the chain like any vector.
#[test]
fn a_sequence_without_tokens_goes_through_the_chain() {
    let spec = std::sync::Arc::new(spec(&config(&tiny("activated")), &nowhere(), &()).expect("it is read"));
    let mut encoder = factory(&spec, &[Device::Cpu])(&Device::Cpu).expect("it loads");
    let batch: TokenBatch = [&[][..], &[2, 9, 3]].into_iter().collect();
    let matrix = encoder.encode(&batch).expect("it encodes");
    let bytes = std::fs::read(tiny("activated").join("2_Dense/model.safetensors")).expect("the weights");
    let weights = SafeTensors::deserialize(&bytes).expect("safetensors");
    let bias = weights.tensor("linear.bias").expect("a bias").data().to_vec();
    let expected: Vec<f32> =
        bias.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four")).tanh()).collect();
    assert!(difference(matrix.row(0), &expected) < 1e-6, "{:?}, expected {expected:?}", matrix.row(0));
    assert!(difference(matrix.row(1), &expected) > 1e-3);
}

/// A module's weights that are not what its configuration says are refused when the model is loaded.
#[test]
fn broken_modules_are_refused_before_any_data_moves() {
    let dense = |tensors: &[(&str, &[usize], &[f32])]| {
        let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
            .iter()
            .map(|(name, shape, values)| {
                let bytes = values.iter().cycle().take(shape.iter().product()).flat_map(|value| value.to_le_bytes());
                ((*name).to_owned(), shape.to_vec(), bytes.collect())
            })
            .collect();
        let views = bytes.iter().map(|(name, shape, bytes)| {
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
            (name.clone(), view.expect("a tensor"))
        });
        safetensors::serialize(views, None).expect("safetensors")
    };
    let check = |bytes: Vec<u8>, expected: &str| {
        let folder = changed("activated", "2_Dense/model.safetensors", |_| bytes);
        let spec = std::sync::Arc::new(spec(&config(folder.path()), &nowhere(), &()).expect("it is read"));
        let loaded = factory(&spec, &[Device::Cpu])(&Device::Cpu);
        let found = loaded.err().map(|error| error.to_string()).unwrap_or_else(|| "it was loaded".into());
        let found = found.replace(&format!("{}/", folder.path().display()), "");
        assert!(found.starts_with(expected), "   found {found}\nexpected {expected}");
    };
    let bias: (&str, &[usize], &[f32]) = ("linear.bias", &[6], &[0.5]);
    let file = "2_Dense/model.safetensors";
    check(dense(&[bias]), &format!("{file}: tensor \"linear.weight\": missing; expected shape [6, 10]"));
    check(
        dense(&[("linear.weight", &[6, 10], &[0.5])]),
        &format!("{file}: tensor \"linear.bias\": missing; expected shape [6]"),
    );
    check(
        dense(&[bias, ("linear.weight", &[10, 6], &[0.5])]),
        &format!("{file}: tensor \"linear.weight\": found shape [10, 6]; expected [6, 10] by config.json"),
    );
    check(
        dense(&[bias, ("linear.weight", &[6, 10], &[0.5, f32::NAN])]),
        &format!("{file}: tensor \"linear.weight\": found NaN or infinity; expected finite values"),
    );
    check(
        dense(&[bias, ("linear.weight", &[6, 10], &[0.5]), ("residual.weight", &[6, 10], &[0.5])]),
        &format!("{file}: tensor \"residual.weight\": unused; expected only the tensors that config.json describes"),
    );
    check(b"pickle".to_vec(), &format!("{file}: not a safetensors file: found 6 bytes; expected at least 8"));
    let huge = br#"{"linear.weight":{"dtype":"F32","shape":[1099511627776,1024],"data_offsets":[0,4503599627370496]}}"#;
    let huge = [&(huge.len() as u64).to_le_bytes(), &huge[..]].concat();
    let found = huge.len();
    check(huge, &format!("{file}: truncated or changed: found {found} bytes; expected 4503599627"));
}
