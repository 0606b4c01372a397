//! The encoder of T5 (Raffel et al. 2020), mT5 and umT5 (Chung et al. 2023) over packed sequences: RMSNorm before each half of
//! a layer, scores that are not scaled, and a bias by distance that all layers share. transformers' `T5EncoderModel`,
//! `MT5EncoderModel`, `UMT5EncoderModel`. A checkpoint with a decoder loads; the decoder is not read.

use super::attention::{Alternating, DotProduct};
use super::block::{Block, Norms, Perceptron, Shape};
use super::embeddings::Embeddings;
use super::encoder::Encoder;
use super::heads::Heads;
use super::layers::{Activation, Linear, Norm};
use super::names::Names;
use super::relative::RelativeBias;
use super::weights::Weights;
use super::{Sizes, Transformer, keys};
use crate::model::LoadError;
use crate::model::config_file::ConfigFile;

/// The keys of config.json that change the numbers.
struct T5Config {
    hidden: i64,
    layers: usize,
    heads: Heads,
    intermediate: i64,
    vocab_size: i64,
    activation: Activation,
    gated: bool,
    norm_eps: f64,
    buckets: i64,
    distance_max: i64,
}

impl T5Config {
    fn read(model_type: &str, file: &ConfigFile) -> Result<T5Config, LoadError> {
        keys::refuse_flags(file, &["is_decoder"])?;
        keys::refuse_values(file, &[])?;
        let queries = keys::heads(file, "num_heads")?;
        let (gated, activation) = perceptron(model_type, file)?;
        let buckets = file.count("relative_attention_num_buckets", 4..=keys::ROWS_MAX)?.unwrap_or(32) as i64;
        // Half of the buckets are for either direction, half of those for distances of their own.
        let exact = buckets / 4;
        let least = exact as usize + 1;
        let most = file.count("relative_attention_max_distance", least..=keys::ROWS_MAX)?.unwrap_or(128);
        Ok(T5Config {
            hidden: keys::width(file, "d_model")?,
            layers: keys::layers(file, "num_layers")?,
            heads: Heads::equal(queries, keys::width_or(file, "d_kv", 64)?),
            intermediate: keys::width(file, "d_ff")?,
            vocab_size: keys::rows(file, "vocab_size")?,
            activation,
            gated,
            norm_eps: keys::epsilon(file, "layer_norm_epsilon", 1e-6)?,
            buckets,
            distance_max: most as i64,
        })
    }
}

/// `feed_forward_proj`: an activation, or `gated-` and one.
fn perceptron(model_type: &str, file: &ConfigFile) -> Result<(bool, Activation), LoadError> {
    let default = if model_type == "t5" { "relu" } else { "gated-gelu" };
    let kind = file.text("feed_forward_proj")?.unwrap_or(default);
    let (gated, name) = match kind.strip_prefix("gated-") {
        // The name that T5 1.1 had before transformers knew this GELU by one of its own.
        Some("gelu") => (true, "gelu_new"),
        Some(name) => (true, name),
        None => (false, kind),
    };
    let unknown =
        || file.error(format!("`feed_forward_proj` {kind:?} is not supported; there are {}", Activation::KNOWN));
    let activation = Activation::named(name).ok_or_else(unknown)?;
    // What newer files add says the same, or it is not known which one is meant.
    let other = |key: &str| file.error(format!("`{key}` contradicts `feed_forward_proj` {kind:?}"));
    if file.text("dense_act_fn")?.is_some_and(|name| Activation::named(name) != Some(activation)) {
        return Err(other("dense_act_fn"));
    }
    if keys::flag_or(file, "is_gated_act", gated)? != gated {
        return Err(other("is_gated_act"));
    }
    Ok((gated, activation))
}

pub fn check(model_type: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    let config = T5Config::read(model_type, file)?;
    // A bias by distance has no end.
    Ok(Sizes::of((config.hidden, config.layers), config.vocab_size, None))
}

pub fn build(model_type: &str, file: &ConfigFile, weights: &mut Weights) -> Result<Box<dyn Transformer>, LoadError> {
    let config = T5Config::read(model_type, file)?;
    let names = Names::root(&["transformer"]);
    let words = names.either(&["shared.weight", "encoder.embed_tokens.weight"]);
    let words = weights.take(words.as_slice(), &[config.vocab_size, config.hidden])?;
    let encoder = names.at("encoder");
    let blocks = (0..config.layers).map(|layer| block(&config, &encoder.at(&format!("block.{layer}.layer")), weights));
    let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
    let norm = Norm::rms(&encoder.at("final_layer_norm"), config.hidden, config.norm_eps, weights)?;
    // All layers share the first one's bias, but for umT5's, which have one each.
    let layers = if model_type == "umt5" { config.layers } else { 1 };
    let mut kinds = Vec::with_capacity(layers);
    for layer in 0..layers {
        let relative = relative(&config, &encoder.at(&format!("block.{layer}.layer")), weights)?;
        kinds.push(DotProduct::plain(config.heads, &words).scaled(1.0).biased(relative));
    }
    weights.none_left_under("encoder.block.")?;
    let of_layer = (0..config.layers).map(|layer| layer.min(layers - 1)).collect();
    let attention = Box::new(Alternating { kinds, of_layer });
    let shape = Shape { heads: config.heads, intermediate: config.intermediate, gated: config.gated };
    let embeddings = Embeddings { words, places: None, steps: Vec::new() };
    Ok(Box::new(Encoder::new(embeddings, blocks, Some(norm), attention, shape, weights)?))
}

fn relative(config: &T5Config, names: &Names, weights: &mut Weights) -> Result<RelativeBias, LoadError> {
    let table = names.at("0.SelfAttention.relative_attention_bias.weight");
    let table = weights.take(table.as_slice(), &[config.buckets, config.heads.queries])?;
    Ok(RelativeBias { table, buckets: config.buckets, distance_max: config.distance_max })
}

fn block(config: &T5Config, names: &Names, weights: &mut Weights) -> Result<Block, LoadError> {
    let (hidden, mixed) = (config.hidden, config.heads.mixed_width());
    let attention = names.at("0.SelfAttention");
    let part = |name: &str| (attention.at(name), mixed);
    let norm = |name: &str, weights: &mut Weights| Norm::rms(&names.at(name), hidden, config.norm_eps, weights);
    Ok(Block {
        qkv: Linear::fused(&["q", "k", "v"].map(part), hidden, false, weights)?,
        head_norms: None,
        mixed: Linear::load(&attention.at("o"), (mixed, hidden), false, weights)?,
        attention_norms: Norms::before_only(norm("0.layer_norm", weights)?),
        perceptron: layer_perceptron(config, &names.at("1.DenseReluDense"), weights)?,
        perceptron_norms: Norms::before_only(norm("1.layer_norm", weights)?),
    })
}

fn layer_perceptron(config: &T5Config, names: &Names, weights: &mut Weights) -> Result<Perceptron, LoadError> {
    let widths @ (hidden, wide) = (config.hidden, config.intermediate);
    if !config.gated {
        return Perceptron::plain((&names.at("wi"), &names.at("wo")), widths, config.activation, false, weights);
    }
    Ok(Perceptron {
        active: Linear::load(&names.at("wi_0"), widths, false, weights)?,
        factor: Some(Linear::load(&names.at("wi_1"), widths, false, weights)?),
        activation: config.activation,
        down: Linear::load(&names.at("wo"), (wide, hidden), false, weights)?,
    })
}
