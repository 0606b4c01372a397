//! DistilBERT (Sanh et al. 2019) over packed sequences: BERT's layers under other names, without token types. transformers'
//! `DistilBertModel`.

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

/// The one that the architecture has; there is no key for it.
const NORM_EPS: f64 = 1e-12;

/// The keys of config.json that change the numbers. `sinusoidal_pos_embds` does not: the table is in the checkpoint.
struct DistilbertConfig {
    hidden: i64,
    layers: usize,
    heads: Heads,
    intermediate: i64,
    vocab_size: i64,
    places: i64,
    activation: Activation,
}

impl DistilbertConfig {
    fn read(file: &ConfigFile) -> Result<DistilbertConfig, LoadError> {
        let hidden = keys::width(file, "dim")?;
        let heads = keys::heads(file, "n_heads")?;
        let head_dim = keys::head_dim(file, ("dim", hidden), ("n_heads", heads))?;
        keys::refuse_decoders(file)?;
        Ok(DistilbertConfig {
            hidden,
            layers: keys::layers(file, "n_layers")?,
            heads: Heads::equal(heads, head_dim),
            intermediate: keys::width(file, "hidden_dim")?,
            vocab_size: keys::rows(file, "vocab_size")?,
            places: keys::rows(file, "max_position_embeddings")?,
            activation: keys::activation(file, "activation", "gelu")?,
        })
    }
}

pub fn check(_: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    let config = DistilbertConfig::read(file)?;
    Ok(Sizes::of((config.hidden, config.layers), config.vocab_size, Some(config.places)))
}

pub fn build(_: &str, file: &ConfigFile, weights: &mut Weights) -> Result<Box<dyn Transformer>, LoadError> {
    let config = DistilbertConfig::read(file)?;
    let hidden = config.hidden;
    let names = Names::root(&["distilbert"]);
    let tables = names.at("embeddings");
    let words = words_of_type_0(&tables, (config.vocab_size, hidden), 0, weights)?;
    let places = Some(Places::load(&tables, (config.places, hidden), Count::FromZero, weights)?);
    let steps = vec![Step::Norm(Norm::layer(&tables.at("LayerNorm"), hidden, NORM_EPS, true, weights)?)];
    let layers = names.at("transformer.layer");
    let blocks = (0..config.layers).map(|layer| block(&config, &layers.at(&layer.to_string()), weights));
    let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
    weights.none_left_under("transformer.layer.")?;
    let attention = Box::new(DotProduct::plain(config.heads, &words));
    let shape = Shape { heads: config.heads, intermediate: config.intermediate, gated: false };
    let embeddings = Embeddings { words, places, steps };
    Ok(Box::new(Encoder::new(embeddings, blocks, None, attention, shape, weights)?))
}

fn block(config: &DistilbertConfig, names: &Names, weights: &mut Weights) -> Result<Block, LoadError> {
    let (hidden, wide) = (config.hidden, config.intermediate);
    let part = |name: &str| (names.at("attention").at(name), hidden);
    let norm = |name: &str, weights: &mut Weights| Norm::layer(&names.at(name), hidden, NORM_EPS, true, weights);
    let perceptron = (&names.at("ffn.lin1"), &names.at("ffn.lin2"));
    Ok(Block {
        qkv: Linear::fused(&["q_lin", "k_lin", "v_lin"].map(part), hidden, true, weights)?,
        head_norms: None,
        mixed: Linear::load(&names.at("attention.out_lin"), (hidden, hidden), true, weights)?,
        attention_norms: Norms::after(norm("sa_layer_norm", weights)?),
        perceptron: Perceptron::plain(perceptron, (hidden, wide), config.activation, true, weights)?,
        perceptron_norms: Norms::after(norm("output_layer_norm", weights)?),
    })
}
