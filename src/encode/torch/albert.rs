//! ALBERT (Lan et al. 2020) over packed sequences: narrow embeddings with a projection, and few layers that are gone through
//! again and again. transformers' `AlbertModel`.

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
struct AlbertConfig {
    hidden: i64,
    embedding: i64,
    /// How often layers are gone through.
    passes: usize,
    /// Groups of layers with weights of their own; passes are shared out among them in order.
    groups: usize,
    /// Layers of a group, all of them in each pass.
    group_layers: usize,
    heads: Heads,
    intermediate: i64,
    vocab_size: i64,
    places: i64,
    token_types: i64,
    activation: Activation,
    norm_eps: f64,
}

impl AlbertConfig {
    fn read(file: &ConfigFile) -> Result<AlbertConfig, LoadError> {
        let hidden = keys::width(file, "hidden_size")?;
        let heads = keys::heads(file, "num_attention_heads")?;
        let head_dim = keys::head_dim(file, ("hidden_size", hidden), ("num_attention_heads", heads))?;
        keys::refuse_others(file, &[("position_embedding_type", "absolute")])?;
        keys::refuse_decoders(file)?;
        let passes = keys::layers(file, "num_hidden_layers")?;
        Ok(AlbertConfig {
            hidden,
            embedding: keys::width_or(file, "embedding_size", 128)?,
            passes,
            groups: file.count("num_hidden_groups", 1..=passes)?.unwrap_or(1),
            group_layers: file.count("inner_group_num", 1..=keys::LAYERS_MAX)?.unwrap_or(1),
            heads: Heads::equal(heads, head_dim),
            intermediate: keys::width(file, "intermediate_size")?,
            vocab_size: keys::rows(file, "vocab_size")?,
            places: keys::rows(file, "max_position_embeddings")?,
            token_types: file.count("type_vocab_size", 1..=keys::TYPES_MAX)?.unwrap_or(2) as i64,
            activation: keys::activation(file, "hidden_act", "gelu_new")?,
            norm_eps: keys::epsilon(file, "layer_norm_eps", 1e-12)?,
        })
    }
}

pub fn check(_: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    let config = AlbertConfig::read(file)?;
    Ok(Sizes {
        hidden: config.hidden as usize,
        layers: config.passes * config.group_layers,
        vocab_size: config.vocab_size as usize,
        positions: Some(config.places as usize),
    })
}

pub fn build(_: &str, file: &ConfigFile, weights: &mut Weights) -> Result<Box<dyn Transformer>, LoadError> {
    let config = AlbertConfig::read(file)?;
    let names = Names::root(&["albert"]);
    let embeddings = embeddings(&config, &names, weights)?;
    let mut groups = Vec::with_capacity(config.groups);
    for group in 0..config.groups {
        let names = names.at(&format!("encoder.albert_layer_groups.{group}.albert_layers"));
        let blocks = (0..config.group_layers).map(|layer| block(&config, &names.at(&layer.to_string()), weights));
        groups.push(blocks.collect::<Result<Vec<_>, _>>()?);
    }
    weights.none_left_under("albert_layer_groups.")?;
    // Which group a pass goes through, with transformers' rounding.
    let group = |pass: usize| (pass as f64 / (config.passes as f64 / config.groups as f64)) as usize;
    let passes = (0..config.passes).flat_map(|pass| &groups[group(pass).min(config.groups - 1)]);
    let blocks = passes.map(Block::share).collect();
    let attention = Box::new(DotProduct::plain(config.heads, &embeddings.words));
    let shape = Shape { heads: config.heads, intermediate: config.intermediate, gated: false };
    Ok(Box::new(Encoder::new(embeddings, blocks, None, attention, shape, weights)?))
}

fn embeddings(config: &AlbertConfig, names: &Names, weights: &mut Weights) -> Result<Embeddings, LoadError> {
    let tables = names.at("embeddings");
    let width = config.embedding;
    let words = words_of_type_0(&tables, (config.vocab_size, width), config.token_types, weights)?;
    let places = Some(Places::load(&tables, (config.places, width), Count::FromZero, weights)?);
    let norm = Norm::layer(&tables.at("LayerNorm"), width, config.norm_eps, true, weights)?;
    let projection = names.at("encoder.embedding_hidden_mapping_in");
    let projection = Linear::load(&projection, (width, config.hidden), true, weights)?;
    Ok(Embeddings { words, places, steps: vec![Step::Norm(norm), Step::Project(projection)] })
}

fn block(config: &AlbertConfig, names: &Names, weights: &mut Weights) -> Result<Block, LoadError> {
    let (hidden, wide) = (config.hidden, config.intermediate);
    let attention = names.at("attention");
    let part = |name: &str| (attention.at(name), hidden);
    let norm = |names: &Names, weights: &mut Weights| Norm::layer(names, hidden, config.norm_eps, true, weights);
    let perceptron = (&names.at("ffn"), &names.at("ffn_output"));
    Ok(Block {
        qkv: Linear::fused(&["query", "key", "value"].map(part), hidden, true, weights)?,
        head_norms: None,
        mixed: Linear::load(&attention.at("dense"), (hidden, hidden), true, weights)?,
        attention_norms: Norms::after(norm(&attention.at("LayerNorm"), weights)?),
        perceptron: Perceptron::plain(perceptron, (hidden, wide), config.activation, true, weights)?,
        perceptron_norms: Norms::after(norm(&names.at("full_layer_layer_norm"), weights)?),
    })
}
