//! ModernBERT (Warner et al. 2024) over packed sequences: norms before, rotary places, a gated perceptron, and layers that see
//! a window between layers that see all. transformers' `ModernBertModel`.

use super::attention::{Alternating, DotProduct, Reach};
use super::block::{Block, Norms, Perceptron, Shape};
use super::embeddings::{Embeddings, Step};
use super::encoder::Encoder;
use super::heads::Heads;
use super::layers::{Activation, Linear, Norm};
use super::names::Names;
use super::rotary::{Base, Frequencies, LAYER_KINDS, Rotary, layer_kinds};
use super::weights::Weights;
use super::{Sizes, Transformer, keys};
use crate::model::LoadError;
use crate::model::config_file::ConfigFile;

/// Bases of the layers that see all and of those with a window, as [`LAYER_KINDS`].
const BASES: [Base; 2] =
    [Base { key: "global_rope_theta", default: 160_000.0 }, Base { key: "local_rope_theta", default: 10_000.0 }];

/// The keys of config.json that change the numbers.
struct ModernbertConfig {
    hidden: i64,
    layers: usize,
    heads: Heads,
    intermediate: i64,
    vocab_size: i64,
    places: i64,
    activation: Activation,
    norm_eps: f64,
    norm_bias: bool,
    attention_bias: bool,
    perceptron_bias: bool,
    kinds: Vec<usize>,
    frequencies: [Frequencies; 2],
    distance_max: i64,
}

impl ModernbertConfig {
    fn read(file: &ConfigFile) -> Result<ModernbertConfig, LoadError> {
        let hidden = keys::width(file, "hidden_size")?;
        let heads = keys::heads(file, "num_attention_heads")?;
        let head_dim = keys::head_dim(file, ("hidden_size", hidden), ("num_attention_heads", heads))?;
        keys::refuse_decoders(file)?;
        let layers = keys::layers(file, "num_hidden_layers")?;
        let every = file.count("global_attn_every_n_layers", 1..=keys::LAYERS_MAX)?.unwrap_or(3);
        let frequencies = |kind: usize| Frequencies::of_kind(file, LAYER_KINDS[kind], head_dim, BASES[kind], true);
        Ok(ModernbertConfig {
            hidden,
            layers,
            heads: Heads::equal(heads, head_dim),
            intermediate: keys::width(file, "intermediate_size")?,
            vocab_size: keys::rows(file, "vocab_size")?,
            places: keys::rows(file, "max_position_embeddings")?,
            activation: keys::activation(file, "hidden_activation", "gelu")?,
            norm_eps: keys::epsilon(file, "norm_eps", 1e-5)?,
            norm_bias: file.flag("norm_bias")?,
            attention_bias: file.flag("attention_bias")?,
            perceptron_bias: file.flag("mlp_bias")?,
            kinds: layer_kinds(file, layers, |layer| Ok(usize::from(!layer.is_multiple_of(every))))?,
            frequencies: [frequencies(0)?, frequencies(1)?],
            // The window is as wide as both of its sides together.
            distance_max: file.count("local_attention", 0..=keys::ROWS_MAX)?.unwrap_or(128) as i64 / 2,
        })
    }
}

pub fn check(_: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    let config = ModernbertConfig::read(file)?;
    Ok(Sizes::of((config.hidden, config.layers), config.vocab_size, Some(config.places)))
}

pub fn build(_: &str, file: &ConfigFile, weights: &mut Weights) -> Result<Box<dyn Transformer>, LoadError> {
    let config = ModernbertConfig::read(file)?;
    let names = Names::root(&["model"]);
    let words = names.at("embeddings.tok_embeddings.weight");
    let words = weights.take(words.as_slice(), &[config.vocab_size, config.hidden])?;
    let steps = vec![Step::Norm(config.norm(&names.at("embeddings.norm"), weights)?)];
    let blocks = (0..config.layers).map(|layer| block(&config, layer, &names.at(&format!("layers.{layer}")), weights));
    let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
    weights.none_left_under("layers.")?;
    let norm = config.norm(&names.at("final_norm"), weights)?;
    let kind = |index: usize, reach| -> Result<DotProduct, LoadError> {
        let rotary = Rotary::new(&config.frequencies[index], words.device()).map_err(|error| weights.failed(&error))?;
        Ok(DotProduct::plain(config.heads, &words).turned(rotary).reaching(reach))
    };
    let window = Reach { causal: false, distance_max: Some(config.distance_max) };
    let kinds = vec![kind(0, Reach::ALL)?, kind(1, window)?];
    let attention = Box::new(Alternating { kinds, of_layer: config.kinds.clone() });
    let shape = Shape { heads: config.heads, intermediate: config.intermediate, gated: true };
    let embeddings = Embeddings { words, places: None, steps };
    Ok(Box::new(Encoder::new(embeddings, blocks, Some(norm), attention, shape, weights)?))
}

impl ModernbertConfig {
    fn norm(&self, names: &Names, weights: &mut Weights) -> Result<Norm, LoadError> {
        Norm::layer(names, self.hidden, self.norm_eps, self.norm_bias, weights)
    }
}

fn block(config: &ModernbertConfig, layer: usize, names: &Names, weights: &mut Weights) -> Result<Block, LoadError> {
    let (hidden, wide) = (config.hidden, config.intermediate);
    let (attention_bias, bias) = (config.attention_bias, config.perceptron_bias);
    // The embeddings' norm is the first layer's.
    let attention_norms = match layer {
        0 => Norms::default(),
        _ => Norms::before_only(config.norm(&names.at("attn_norm"), weights)?),
    };
    let [active, factor] = Linear::halves(&names.at("mlp.Wi"), (hidden, wide), bias, weights)?;
    Ok(Block {
        qkv: Linear::load(&names.at("attn.Wqkv"), (hidden, 3 * hidden), attention_bias, weights)?,
        head_norms: None,
        mixed: Linear::load(&names.at("attn.Wo"), (hidden, hidden), attention_bias, weights)?,
        attention_norms,
        perceptron: Perceptron {
            active,
            factor: Some(factor),
            activation: config.activation,
            down: Linear::load(&names.at("mlp.Wo"), (wide, hidden), bias, weights)?,
        },
        perceptron_norms: Norms::before_only(config.norm(&names.at("mlp_norm"), weights)?),
    })
}
