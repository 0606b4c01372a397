//! MPNet (Song et al. 2020) over packed sequences: BERT's layers, places counted as RoBERTa does, and a bias by distance that
//! all layers share. transformers' `MPNetModel`.

use super::attention::DotProduct;
use super::block::{Block, Norms, Perceptron, Shape};
use super::embeddings::{Count, Embeddings, Places, Step, words_of_type_0};
use super::encoder::Encoder;
use super::heads::Heads;
use super::layers::{Activation, Linear, Norm};
use super::names::Names;
use super::relative::RelativeBias;
use super::weights::Weights;
use super::{Sizes, Transformer, keys};
use crate::model::LoadError;
use crate::model::config_file::ConfigFile;

/// The id that places are counted from, whatever `pad_token_id` says.
const COUNT: Count = Count::After(1);
/// Distances are told apart by this many buckets, whatever `relative_attention_num_buckets` says: it is only how many rows
/// the table has.
const BUCKETS: i64 = 32;
const DISTANCE_MAX: i64 = 128;

/// The keys of config.json that change the numbers.
struct MpnetConfig {
    hidden: i64,
    layers: usize,
    heads: Heads,
    intermediate: i64,
    vocab_size: i64,
    places: i64,
    buckets: i64,
    activation: Activation,
    norm_eps: f64,
}

impl MpnetConfig {
    fn read(file: &ConfigFile) -> Result<MpnetConfig, LoadError> {
        let hidden = keys::width(file, "hidden_size")?;
        let heads = keys::heads(file, "num_attention_heads")?;
        let head_dim = keys::head_dim(file, ("hidden_size", hidden), ("num_attention_heads", heads))?;
        keys::refuse_decoders(file)?;
        let least = BUCKETS as usize;
        let buckets = file.count("relative_attention_num_buckets", least..=keys::ROWS_MAX)?.unwrap_or(least) as i64;
        let places = file.required_count("max_position_embeddings", 3..=keys::ROWS_MAX)? as i64;
        Ok(MpnetConfig {
            hidden,
            layers: keys::layers(file, "num_hidden_layers")?,
            heads: Heads::equal(heads, head_dim),
            intermediate: keys::width(file, "intermediate_size")?,
            vocab_size: keys::rows(file, "vocab_size")?,
            places,
            buckets,
            activation: keys::activation(file, "hidden_act", "gelu")?,
            norm_eps: keys::epsilon(file, "layer_norm_eps", 1e-12)?,
        })
    }
}

pub fn check(_: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    let config = MpnetConfig::read(file)?;
    Ok(Sizes::of((config.hidden, config.layers), config.vocab_size, Some(COUNT.room(config.places))))
}

pub fn build(_: &str, file: &ConfigFile, weights: &mut Weights) -> Result<Box<dyn Transformer>, LoadError> {
    let config = MpnetConfig::read(file)?;
    let (hidden, eps) = (config.hidden, config.norm_eps);
    let names = Names::root(&["mpnet"]);
    let tables = names.at("embeddings");
    let words = words_of_type_0(&tables, (config.vocab_size, hidden), 0, weights)?;
    let places = Some(Places::load(&tables, (config.places, hidden), COUNT, weights)?);
    let steps = vec![Step::Norm(Norm::layer(&tables.at("LayerNorm"), hidden, eps, true, weights)?)];
    let encoder = names.at("encoder");
    let bias = encoder.at("relative_attention_bias.weight");
    let table = weights.take(bias.as_slice(), &[config.buckets, config.heads.queries])?;
    let relative = RelativeBias { table, buckets: BUCKETS, distance_max: DISTANCE_MAX };
    let blocks = (0..config.layers).map(|layer| block(&config, &encoder.at("layer").at(&layer.to_string()), weights));
    let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
    weights.none_left_under("encoder.layer.")?;
    let attention = Box::new(DotProduct::plain(config.heads, &words).biased(relative));
    let shape = Shape { heads: config.heads, intermediate: config.intermediate, gated: false };
    let embeddings = Embeddings { words, places, steps };
    Ok(Box::new(Encoder::new(embeddings, blocks, None, attention, shape, weights)?))
}

fn block(config: &MpnetConfig, names: &Names, weights: &mut Weights) -> Result<Block, LoadError> {
    let (hidden, wide) = (config.hidden, config.intermediate);
    let attention = names.at("attention");
    let part = |name: &str| (attention.at("attn").at(name), hidden);
    let norm = |names: &Names, weights: &mut Weights| {
        Norm::layer(&names.at("LayerNorm"), hidden, config.norm_eps, true, weights)
    };
    let perceptron = (&names.at("intermediate.dense"), &names.at("output.dense"));
    Ok(Block {
        qkv: Linear::fused(&["q", "k", "v"].map(part), hidden, true, weights)?,
        head_norms: None,
        mixed: Linear::load(&attention.at("attn.o"), (hidden, hidden), true, weights)?,
        attention_norms: Norms::after(norm(&attention, weights)?),
        perceptron: Perceptron::plain(perceptron, (hidden, wide), config.activation, true, weights)?,
        perceptron_norms: Norms::after(norm(&names.at("output"), weights)?),
    })
}
