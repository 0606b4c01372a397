//! Gemma 3 (Gemma Team 2025) and EmbeddingGemma over packed sequences: scaled embeddings, RMSNorm before and within each half
//! of a layer, norms of queries and keys, a gated perceptron, and layers with a window between layers that see all, each
//! kind with rotary places of its own. transformers' `Gemma3TextModel`.

use super::attention::{Alternating, DotProduct, Reach};
use super::block::{Block, HeadNorms, Norms, Perceptron, Shape};
use super::embeddings::Embeddings;
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
    [Base { key: "rope_theta", default: 1_000_000.0 }, Base { key: "rope_local_base_freq", default: 10_000.0 }];

/// The keys of config.json that change the numbers.
struct GemmaConfig {
    hidden: i64,
    layers: usize,
    heads: Heads,
    intermediate: i64,
    vocab_size: i64,
    places: i64,
    activation: Activation,
    norm_eps: f64,
    attention_bias: bool,
    scale: f64,
    kinds: Vec<usize>,
    frequencies: [Frequencies; 2],
    /// What layers of each kind see.
    reaches: [Reach; 2],
}

impl GemmaConfig {
    fn read(file: &ConfigFile) -> Result<GemmaConfig, LoadError> {
        keys::refuse_flags(file, &["is_encoder_decoder", "add_cross_attention"])?;
        keys::refuse_values(file, &["attn_logit_softcapping"])?;
        if !keys::flag_or(file, "is_causal", true)? {
            return Err(file.error("`is_causal` is false, which this version does not support for Gemma"));
        }
        let layers = keys::layers(file, "num_hidden_layers")?;
        let heads = heads(file)?;
        let pattern = match file.get("sliding_window_pattern") {
            Some(_) => "sliding_window_pattern",
            None => "_sliding_window_pattern",
        };
        let pattern = file.count(pattern, 1..=keys::LAYERS_MAX)?.unwrap_or(6);
        let frequencies =
            |kind: usize| Frequencies::of_kind(file, LAYER_KINDS[kind], heads.dim, BASES[kind], kind == 0);
        let scalar = file.number("query_pre_attn_scalar")?.unwrap_or(256.0);
        if !(scalar > 0.0 && scalar.is_finite()) {
            return Err(file.error(format!("`query_pre_attn_scalar` must be positive, found {scalar}")));
        }
        Ok(GemmaConfig {
            hidden: keys::width(file, "hidden_size")?,
            layers,
            heads,
            intermediate: keys::width(file, "intermediate_size")?,
            vocab_size: keys::rows(file, "vocab_size")?,
            places: keys::rows(file, "max_position_embeddings")?,
            activation: keys::activation(file, "hidden_activation", "gelu_pytorch_tanh")?,
            norm_eps: keys::epsilon(file, "rms_norm_eps", 1e-6)?,
            attention_bias: file.flag("attention_bias")?,
            scale: 1.0 / scalar.sqrt(),
            kinds: layer_kinds(file, layers, |layer| Ok(usize::from(!(layer + 1).is_multiple_of(pattern))))?,
            frequencies: [frequencies(0)?, frequencies(1)?],
            reaches: reaches(file)?,
        })
    }

    /// Checkpoints hold each weight's distance from 1.
    fn norm(&self, names: &Names, width: i64, weights: &mut Weights) -> Result<Norm, LoadError> {
        let norm = Norm::rms(names, width, self.norm_eps, weights)?;
        norm.plus_one().map_err(|error| weights.failed(&error))
    }
}

fn heads(file: &ConfigFile) -> Result<Heads, LoadError> {
    let queries = keys::heads(file, "num_attention_heads")?;
    let keys = keys::heads(file, "num_key_value_heads")?;
    keys::check_shared(file, queries, keys)?;
    Ok(Heads { queries, keys, dim: keys::width_or(file, "head_dim", 256)? })
}

fn reaches(file: &ConfigFile) -> Result<[Reach; 2], LoadError> {
    let window = file.count("sliding_window", 1..=keys::ROWS_MAX)?.unwrap_or(4_096) as i64;
    Ok(if file.flag("use_bidirectional_attention")? {
        // The window is as wide as both of its sides together.
        [Reach::ALL, Reach { causal: false, distance_max: Some(window / 2) }]
    } else {
        // The window counts the token itself.
        [Reach { causal: true, distance_max: None }, Reach { causal: true, distance_max: Some(window - 1) }]
    })
}

pub fn check(_: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    let config = GemmaConfig::read(file)?;
    Ok(Sizes::of((config.hidden, config.layers), config.vocab_size, Some(config.places)))
}

pub fn build(_: &str, file: &ConfigFile, weights: &mut Weights) -> Result<Box<dyn Transformer>, LoadError> {
    let config = GemmaConfig::read(file)?;
    let names = Names::root(&["model"]);
    let mut words = weights.take(names.at("embed_tokens.weight").as_slice(), &[config.vocab_size, config.hidden])?;
    let scaled = words.f_mul_scalar_((config.hidden as f64).sqrt()).map(drop);
    scaled.map_err(|error| weights.failed(&error))?;
    let blocks = (0..config.layers).map(|layer| block(&config, &names.at(&format!("layers.{layer}")), weights));
    let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
    weights.none_left_under("layers.")?;
    let norm = config.norm(&names.at("norm"), config.hidden, weights)?;
    let kind = |index: usize| -> Result<DotProduct, LoadError> {
        let rotary = Rotary::new(&config.frequencies[index], words.device()).map_err(|error| weights.failed(&error))?;
        let plain = DotProduct::plain(config.heads, &words).scaled(config.scale);
        Ok(plain.turned(rotary).reaching(config.reaches[index]))
    };
    let attention = Box::new(Alternating { kinds: vec![kind(0)?, kind(1)?], of_layer: config.kinds.clone() });
    let shape = Shape { heads: config.heads, intermediate: config.intermediate, gated: true };
    let embeddings = Embeddings { words, places: None, steps: Vec::new() };
    Ok(Box::new(Encoder::new(embeddings, blocks, Some(norm), attention, shape, weights)?))
}

fn block(config: &GemmaConfig, names: &Names, weights: &mut Weights) -> Result<Block, LoadError> {
    let (hidden, heads) = (config.hidden, config.heads);
    let attention = names.at("self_attn");
    let (queries, keys) = (heads.queries * heads.dim, heads.keys * heads.dim);
    let parts = [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)];
    let parts = parts.map(|(name, width)| (attention.at(name), width));
    let bias = config.attention_bias;
    let norms = |before: &str, within: &str, weights: &mut Weights| -> Result<Norms, LoadError> {
        let before = Some(config.norm(&names.at(before), hidden, weights)?);
        let within = Some(config.norm(&names.at(within), hidden, weights)?);
        Ok(Norms { before, within, after: None })
    };
    let mlp = names.at("mlp");
    Ok(Block {
        qkv: Linear::fused(&parts, hidden, bias, weights)?,
        head_norms: Some(HeadNorms {
            heads,
            queries: config.norm(&attention.at("q_norm"), heads.dim, weights)?,
            keys: config.norm(&attention.at("k_norm"), heads.dim, weights)?,
        }),
        mixed: Linear::load(&attention.at("o_proj"), (queries, hidden), bias, weights)?,
        attention_norms: norms("input_layernorm", "post_attention_layernorm", weights)?,
        perceptron: Perceptron::gated(&mlp, (hidden, config.intermediate), config.activation, false, weights)?,
        perceptron_norms: norms("pre_feedforward_layernorm", "post_feedforward_layernorm", weights)?,
    })
}
