//! Token vectors against sentence-transformers' `output_value="token_embeddings"`. tests/golden/tokens.py made the arrays.

use std::sync::Arc;

use crate::models::golden_folder;
use embedmill::internal::batch::TokenBatch;
use embedmill::internal::columnar::Tokens;
use embedmill::internal::device::Device;
use embedmill::internal::encode::{factory, spec};
use embedmill::internal::model::tokenizer::Tokenizer;
use embedmill::internal::model::{ModelConfig, OutputValue};
use safetensors::SafeTensors;

use crate::golden::{difference, norm, nowhere, odd_texts};

fn config(name: &str) -> ModelConfig {
    let id = Some(golden_folder().join("tiny").join(name).display().to_string());
    ModelConfig { id, value: OutputValue::TokenEmbeddings, ..ModelConfig::default() }
}

#[test]
fn token_vectors_are_those_after_the_modules_on_tokens() {
    let texts: Vec<String> = odd_texts().into_iter().step_by(6).collect();
    let bytes = std::fs::read(golden_folder().join("tokens.safetensors")).expect("the golden file");
    let golden = SafeTensors::deserialize(&bytes).expect("a golden file");
    for name in ["poolings", "on-tokens", "prompted"] {
        let spec = Arc::new(spec(&config(name), &nowhere(), &()).unwrap_or_else(|error| panic!("{error}")));
        assert!(spec.describe().contains("token embeddings"), "{}", spec.describe());
        let provenance = spec.provenance();
        assert!(provenance.contains(&("output_value", "token_embeddings".into())), "{provenance:?}");
        assert!(!provenance.iter().any(|(key, _)| *key == "pooling"), "{provenance:?}");
        let four = |name: &str| -> Vec<[u8; 4]> {
            let tensor = golden.tensor(name).expect("it is there");
            tensor.data().chunks_exact(4).map(|four| four.try_into().expect("four")).collect()
        };
        let vectors: Vec<f32> = four(&format!("{name}.vectors")).into_iter().map(f32::from_le_bytes).collect();
        let lengths: Vec<usize> =
            four(&format!("{name}.lengths")).into_iter().map(|four| i32::from_le_bytes(four) as usize).collect();
        let tokenizer = Tokenizer::load(&spec).unwrap_or_else(|error| panic!("{error}"));
        let mut tokens = Tokens::default();
        texts.iter().for_each(|text| tokenizer.encode(text, &mut tokens).expect("it is tokenised"));
        let mut encoder = factory(&spec, &[Device::Cpu])(&Device::Cpu).unwrap_or_else(|error| panic!("{error}"));
        // All in one batch, in the order of the texts, which is not that of their lengths; then each alone.
        let together: TokenBatch = (0..texts.len()).map(|row| tokens.ids(row)).collect();
        let together = encoder.encode(&together).expect("it is encoded");
        assert_eq!((together.rows(), together.dim()), (lengths.iter().sum(), spec.dim), "{name}");
        let (mut first, mut largest) = (0, 0f32);
        for (row, &length) in lengths.iter().enumerate() {
            assert_eq!(tokens.ids(row).len(), length, "{name}: text {row}");
            let alone = encoder.encode(&[tokens.ids(row)].into_iter().collect()).expect("it is encoded");
            for token in 0..length {
                let expected = &vectors[(first + token) * spec.dim..][..spec.dim];
                let most = 1e-5 * norm(expected).max(1.0);
                let found = difference(together.row(first + token), expected);
                assert!(found <= most, "{name}: text {row}, token {token}: {found:e}");
                assert!(difference(alone.row(token), expected) <= most, "{name}: text {row} alone, token {token}");
                largest = largest.max(found);
            }
            first += length;
        }
        eprintln!("{name}: largest difference {largest:e} over {first} tokens");
    }
}

#[test]
fn what_is_about_a_texts_one_vector_is_refused() {
    let check = |config: ModelConfig, expected: &str| {
        let found = spec(&config, &nowhere(), &()).err().map(|error| error.to_string());
        assert_eq!(found.as_deref(), Some(expected));
    };
    let why = "applies to sentence embeddings only, but output.value is token_embeddings (leave it out)";
    check(ModelConfig { pooling: "max".parse().ok(), ..config("mean") }, &format!("model.pooling: {why}"));
    check(ModelConfig { truncate_dim: Some(3), ..config("mean") }, &format!("model.truncate_dim: {why}"));
    check(ModelConfig { normalize: Some(true), ..config("mean") }, &format!("model.normalize: {why}"));
    let script = Some(golden_folder().join("scripts/cls-text.pt"));
    let expected = "output.value: found token_embeddings; expected sentence_embedding, since model.script returns one vector per text";
    check(ModelConfig { script, ..config("cls") }, expected);
}
