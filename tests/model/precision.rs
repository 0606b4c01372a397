//! Models that compute in bfloat16, against sentence-transformers in bfloat16; tests/golden/precision.py made the arrays. Both
//! round some thousand times on the way, in other places: what may lie between them is what lies between bfloat16 and float32.

use std::path::PathBuf;
use std::sync::Arc;

use crate::models::{golden_folder, real_model};
use embedmill::internal::device::Device;
use embedmill::internal::encode::factory;
use embedmill::internal::model::spec::ModelSpec;
use embedmill::internal::model::{LoadError, ModelConfig, Precision};
use safetensors::SafeTensors;

use crate::golden::{Model, difference, norm, nowhere, odd_texts};

fn config(folder: PathBuf, precision: Precision, threads: usize) -> ModelConfig {
    let id = Some(folder.display().to_string());
    ModelConfig { id, precision, threads: Some(threads), ..ModelConfig::default() }
}

#[test]
fn bfloat16_is_as_near_as_sentence_transformers_in_bfloat16() {
    let texts: Vec<String> = odd_texts().into_iter().step_by(3).collect();
    let bytes = std::fs::read(golden_folder().join("bfloat16.safetensors")).expect("the golden file");
    let golden = SafeTensors::deserialize(&bytes).expect("a golden file");
    // The largest difference in shares of a vector's length; sentence-transformers' own from float32 beside it.
    let check = |name: &str, folder: PathBuf, most: f32| {
        let spec = spec(&config(folder.clone(), Precision::Bfloat16, 1));
        assert!(spec.provenance().contains(&("precision", "bfloat16".into())));
        let model = Model::start(spec);
        let exact = Model::start(self::spec(&config(folder, Precision::Float32, 1)));
        let tokens = model.tokenize(&texts);
        let (vectors, exact) = (model.encode_all(&tokens), exact.encode_all(&tokens));
        let tensor = golden.tensor(name).expect("it is there");
        let expected = tensor.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four")));
        let expected: Vec<f32> = expected.collect();
        let dim = tensor.shape()[1];
        let (mut apart, mut from_exact, mut theirs) = (0f32, 0f32, 0f32);
        for (row, vector) in vectors.iter().enumerate() {
            let expected = &expected[row * dim..][..dim];
            let length = norm(&exact[row]);
            apart = apart.max(difference(vector, expected) / length);
            from_exact = from_exact.max(difference(vector, &exact[row]) / length);
            theirs = theirs.max(difference(expected, &exact[row]) / length);
        }
        eprintln!(
            "{name}: {apart:.1e} from sentence-transformers in bfloat16; from float32 {from_exact:.1e}, theirs {theirs:.1e}"
        );
        assert!(from_exact > 0.0, "{name}: nothing was rounded");
        assert!(apart <= most, "{name}: {apart:e}");
        assert!(from_exact <= 3.0 * theirs, "{name}: {from_exact:e} from float32, sentence-transformers {theirs:e}");
    };
    check("all-MiniLM-L6-v2", real_model(), 1e-2);
    let family = |name: &str| golden_folder().join("families").join(name);
    for name in ["roberta", "mpnet", "deberta-v3", "modernbert", "qwen3", "t5", "gemma3_text"] {
        check(name, family(name), 0.02);
    }
}

fn spec(config: &ModelConfig) -> ModelSpec {
    embedmill::internal::encode::spec(config, &nowhere(), &()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn float16_is_refused_on_a_cpu() {
    let spec = Arc::new(spec(&config(golden_folder().join("tiny/mean"), Precision::Float16, 1)));
    let error = factory(&spec, &[Device::Cpu])(&Device::Cpu).err().map(|error| error.to_string());
    let message = "float16 is for GPUs: a CPU computes it slower than float32, and less exactly; expected float32 or bfloat16 for \
                   devices: [cpu]"
        .into();
    let expected = LoadError::Config { key: "model.precision", message }.to_string();
    assert_eq!(error, Some(expected));
}
