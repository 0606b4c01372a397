//! BERT (Devlin et al. 2018) over packed sequences, and the models that differ from it in their embeddings alone: RoBERTa
//! (Liu et al. 2019), XLM-RoBERTa, CamemBERT, and ELECTRA (Clark et al. 2020).
//!
//! Embeddings, then layers of attention and a two-layer perceptron, each with a residual and a LayerNorm after it. The
//! numbers are those of transformers' `BertModel` in fp32; operations that only change rounding are kept in its order where
//! that is free. Query, key and value are one matrix product.

use super::attention::DotProduct;
use super::block::{Block, Norms, Perceptron, Shape};
use super::embeddings::{Count, Embeddings, Places, Step, words_of_type_0};
use super::encoder::Encoder;
use super::heads::Heads;
use super::layers::{Activation, Linear, Norm};
use super::names::Names;
use super::weights::Weights;
use super::{Sizes, Transformer, keys};
use crate::model::LoadError;
use crate::model::config_file::ConfigFile;

/// The keys of config.json that change the numbers.
struct BertConfig {
    hidden: i64,
    /// Width of the embeddings, before ELECTRA's projection.
    embedding: i64,
    layers: usize,
    heads: Heads,
    intermediate: i64,
    vocab_size: i64,
    places: i64,
    count: Count,
    token_types: i64,
    activation: Activation,
    norm_eps: f64,
}

impl BertConfig {
    fn read(model_type: &str, file: &ConfigFile) -> Result<BertConfig, LoadError> {
        let hidden = keys::width(file, "hidden_size")?;
        let heads = keys::heads(file, "num_attention_heads")?;
        let head_dim = keys::head_dim(file, ("hidden_size", hidden), ("num_attention_heads", heads))?;
        let electra = model_type == "electra";
        keys::refuse_others(file, &[("position_embedding_type", "absolute")])?;
        keys::refuse_decoders(file)?;
        Ok(BertConfig {
            hidden,
            embedding: if electra { keys::width_or(file, "embedding_size", 128)? } else { hidden },
            layers: keys::layers(file, "num_hidden_layers")?,
            heads: Heads::equal(heads, head_dim),
            intermediate: keys::width(file, "intermediate_size")?,
            vocab_size: keys::rows(file, "vocab_size")?,
            places: keys::rows(file, "max_position_embeddings")?,
            count: match model_type {
                "bert" | "electra" => Count::FromZero,
                _ => Count::After(padding_id(file)?),
            },
            token_types: file.count("type_vocab_size", 1..=keys::TYPES_MAX)?.unwrap_or(2) as i64,
            activation: keys::activation(file, "hidden_act", "gelu")?,
            norm_eps: keys::epsilon(file, "layer_norm_eps", 1e-12)?,
        })
    }
}

/// Where RoBERTa's places begin; the id that its configuration has where the file has none is 1.
fn padding_id(file: &ConfigFile) -> Result<i64, LoadError> {
    let most = file.required_count("max_position_embeddings", 1..=keys::ROWS_MAX)?.saturating_sub(2);
    Ok(file.count("pad_token_id", 0..=most)?.unwrap_or(1) as i64)
}

pub fn check(model_type: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    let config = BertConfig::read(model_type, file)?;
    Ok(Sizes::of((config.hidden, config.layers), config.vocab_size, Some(config.count.room(config.places).max(1))))
}

pub fn build(model_type: &str, file: &ConfigFile, weights: &mut Weights) -> Result<Box<dyn Transformer>, LoadError> {
    let config = BertConfig::read(model_type, file)?;
    let names = Names::root(&[match model_type {
        "bert" => "bert",
        "electra" => "electra",
        _ => "roberta",
    }]);
    let embeddings = embeddings(&config, &names, weights)?;
    let layers = names.at("encoder.layer");
    let blocks = (0..config.layers).map(|layer| block(&config, &layers.at(&layer.to_string()), weights));
    let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
    weights.none_left_under("encoder.layer.")?;
    let attention = Box::new(DotProduct::plain(config.heads, &embeddings.words));
    let shape = Shape { heads: config.heads, intermediate: config.intermediate, gated: false };
    Ok(Box::new(Encoder::new(embeddings, blocks, None, attention, shape, weights)?))
}

fn embeddings(config: &BertConfig, names: &Names, weights: &mut Weights) -> Result<Embeddings, LoadError> {
    let tables = names.at("embeddings");
    let width = config.embedding;
    let words = words_of_type_0(&tables, (config.vocab_size, width), config.token_types, weights)?;
    let places = Some(Places::load(&tables, (config.places, width), config.count, weights)?);
    let mut steps = vec![Step::Norm(Norm::layer(&tables.at("LayerNorm"), width, config.norm_eps, true, weights)?)];
    if width != config.hidden {
        let names = names.at("embeddings_project");
        steps.push(Step::Project(Linear::load(&names, (width, config.hidden), true, weights)?));
    }
    Ok(Embeddings { words, places, steps })
}

fn block(config: &BertConfig, names: &Names, weights: &mut Weights) -> Result<Block, LoadError> {
    let (hidden, wide) = (config.hidden, config.intermediate);
    let part = |name: &str| (names.at("attention.self").at(name), hidden);
    let norm = |name: &str, weights: &mut Weights| {
        Norm::layer(&names.at(name).at("LayerNorm"), hidden, config.norm_eps, true, weights)
    };
    let perceptron = (&names.at("intermediate.dense"), &names.at("output.dense"));
    Ok(Block {
        qkv: Linear::fused(&["query", "key", "value"].map(part), hidden, true, weights)?,
        head_norms: None,
        mixed: Linear::load(&names.at("attention.output.dense"), (hidden, hidden), true, weights)?,
        attention_norms: Norms::after(norm("attention.output", weights)?),
        perceptron: Perceptron::plain(perceptron, (hidden, wide), config.activation, true, weights)?,
        perceptron_norms: Norms::after(norm("output", weights)?),
    })
}
