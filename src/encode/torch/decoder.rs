//! Llama's architecture (Touvron et al. 2023) over packed sequences, and the models that share it: Mistral, Qwen2, Qwen3 with
//! its norms of queries and keys, and EuroBERT, where every token sees every token. transformers' `LlamaModel`,
//! `MistralModel`, `Qwen2Model`, `Qwen3Model`, `EuroBertModel`.
//!
//! RMSNorm before each half of a layer, rotary places, heads of queries that share heads of keys, a gated perceptron. A
//! token sees itself and what came before it, unless `is_causal` is false.

use super::attention::{Alternating, DotProduct, Reach};
use super::block::{Block, HeadNorms, Norms, Perceptron, Shape};
use super::embeddings::Embeddings;
use super::encoder::Encoder;
use super::heads::Heads;
use super::layers::{Activation, Linear, Norm};
use super::names::Names;
use super::rotary::{Base, Frequencies, Rotary, layer_kinds};
use super::weights::Weights;
use super::{Sizes, Transformer, keys};
use crate::model::LoadError;
use crate::model::config_file::ConfigFile;

const BASE: Base = Base { key: "rope_theta", default: 10_000.0 };

/// The keys of config.json that change the numbers.
struct DecoderConfig {
    hidden: i64,
    layers: usize,
    heads: Heads,
    intermediate: i64,
    vocab_size: i64,
    places: i64,
    activation: Activation,
    norm_eps: f64,
    qkv_bias: bool,
    mixed_bias: bool,
    perceptron_bias: bool,
    head_norms: bool,
    causal: bool,
    /// Each layer's kind: 0 sees all, 1 has a window.
    kinds: Vec<usize>,
    window: Option<i64>,
    frequencies: Frequencies,
}

impl DecoderConfig {
    fn read(model_type: &str, file: &ConfigFile) -> Result<DecoderConfig, LoadError> {
        keys::refuse_flags(file, &["is_encoder_decoder", "add_cross_attention", "use_bidirectional_attention"])?;
        keys::refuse_values(file, &[])?;
        if let Some(parts) = file.count("pretraining_tp", 1..=keys::HEADS_MAX)?.filter(|parts| *parts != 1) {
            return Err(file.error(format!("`pretraining_tp` is {parts}, which this version does not support")));
        }
        let hidden = keys::width(file, "hidden_size")?;
        let layers = keys::layers(file, "num_hidden_layers")?;
        let heads = heads(model_type, file, hidden)?;
        let (window, kinds) = windows(model_type, file, layers)?;
        let (qkv_bias, mixed_bias) = match model_type {
            "qwen2" => (true, false),
            "mistral" => (false, false),
            _ => (file.flag("attention_bias")?, file.flag("attention_bias")?),
        };
        Ok(DecoderConfig {
            hidden,
            layers,
            heads,
            intermediate: keys::width(file, "intermediate_size")?,
            vocab_size: keys::rows(file, "vocab_size")?,
            places: keys::rows(file, "max_position_embeddings")?,
            activation: keys::activation(file, "hidden_act", "silu")?,
            norm_eps: keys::epsilon(file, "rms_norm_eps", if model_type == "eurobert" { 1e-5 } else { 1e-6 })?,
            qkv_bias,
            mixed_bias,
            perceptron_bias: matches!(model_type, "llama" | "eurobert") && file.flag("mlp_bias")?,
            head_norms: model_type == "qwen3",
            causal: keys::flag_or(file, "is_causal", model_type != "eurobert")?,
            kinds,
            window,
            frequencies: Frequencies::read(file, heads.dim, BASE)?,
        })
    }

    fn norm(&self, names: &Names, weights: &mut Weights) -> Result<Norm, LoadError> {
        Norm::rms(names, self.hidden, self.norm_eps, weights)
    }

    /// What a layer with a window sees. A causal window counts the token itself, one to both sides does not.
    fn reach_of_window(&self) -> Reach {
        let own = i64::from(self.causal);
        Reach { causal: self.causal, distance_max: self.window.map(|window| window - own) }
    }
}

fn heads(model_type: &str, file: &ConfigFile, hidden: i64) -> Result<Heads, LoadError> {
    let queries = keys::heads(file, "num_attention_heads")?;
    let are_equal = matches!(model_type, "llama" | "eurobert") || file.json.contains_key("num_key_value_heads");
    let keys = match file.count("num_key_value_heads", 1..=keys::HEADS_MAX)? {
        Some(keys) => keys as i64,
        // Absent means as many as queries, or for other families a number that depends on the version of transformers.
        None if are_equal => queries,
        None => return Err(file.error("`num_key_value_heads` is missing")),
    };
    keys::check_shared(file, queries, keys)?;
    let dim = match file.get("head_dim") {
        Some(_) => keys::width(file, "head_dim")?,
        None if model_type == "qwen3" => 128,
        None => keys::head_dim(file, ("hidden_size", hidden), ("num_attention_heads", queries))?,
    };
    Ok(Heads { queries, keys, dim })
}

/// How wide windows are, and which layers have one.
fn windows(model_type: &str, file: &ConfigFile, layers: usize) -> Result<(Option<i64>, Vec<usize>), LoadError> {
    let width = |default| -> Result<Option<i64>, LoadError> {
        match file.json.get("sliding_window") {
            None => Ok(Some(default)),
            Some(_) => Ok(file.count("sliding_window", 1..=keys::ROWS_MAX)?.map(|width| width as i64)),
        }
    };
    match model_type {
        "mistral" => {
            if file.get("layer_types").is_some() {
                return Err(file.error("`layer_types` is not supported for `model_type` \"mistral\""));
            }
            let window = width(4_096)?;
            Ok((window, vec![usize::from(window.is_some()); layers]))
        }
        "qwen2" | "qwen3" => {
            let window = if file.flag("use_sliding_window")? { width(4_096)? } else { None };
            let first = file.count("max_window_layers", 0..=keys::LAYERS_MAX)?.unwrap_or(28);
            let kinds = layer_kinds(file, layers, |layer| Ok(usize::from(window.is_some() && layer >= first)))?;
            if window.is_none() && kinds.contains(&1) {
                return Err(file.error("`layer_types` has sliding_attention, but there is no `sliding_window` in use"));
            }
            Ok((window, kinds))
        }
        _ => Ok((None, vec![0; layers])),
    }
}

pub fn check(model_type: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    let config = DecoderConfig::read(model_type, file)?;
    Ok(Sizes::of((config.hidden, config.layers), config.vocab_size, Some(config.places)))
}

pub fn build(model_type: &str, file: &ConfigFile, weights: &mut Weights) -> Result<Box<dyn Transformer>, LoadError> {
    let config = DecoderConfig::read(model_type, file)?;
    let names = Names::root(&["model"]);
    let words = weights.take(names.at("embed_tokens.weight").as_slice(), &[config.vocab_size, config.hidden])?;
    let blocks = (0..config.layers).map(|layer| block(&config, &names.at(&format!("layers.{layer}")), weights));
    let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
    weights.none_left_under("layers.")?;
    let norm = config.norm(&names.at("norm"), weights)?;
    let kind = |reach| -> Result<DotProduct, LoadError> {
        let rotary = Rotary::new(&config.frequencies, words.device()).map_err(|error| weights.failed(&error))?;
        Ok(DotProduct::plain(config.heads, &words).turned(rotary).reaching(reach))
    };
    let all = Reach { causal: config.causal, distance_max: None };
    let kinds = vec![kind(all)?, kind(config.reach_of_window())?];
    let attention = Box::new(Alternating { kinds, of_layer: config.kinds.clone() });
    let shape = Shape { heads: config.heads, intermediate: config.intermediate, gated: true };
    let embeddings = Embeddings { words, places: None, steps: Vec::new() };
    Ok(Box::new(Encoder::new(embeddings, blocks, Some(norm), attention, shape, weights)?))
}

fn block(config: &DecoderConfig, names: &Names, weights: &mut Weights) -> Result<Block, LoadError> {
    let (hidden, heads) = (config.hidden, config.heads);
    let attention = names.at("self_attn");
    let (queries, keys) = (heads.queries * heads.dim, heads.keys * heads.dim);
    let parts = [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)];
    let parts = parts.map(|(name, width)| (attention.at(name), width));
    let head_norm = |name, weights: &mut Weights| Norm::rms(&attention.at(name), heads.dim, config.norm_eps, weights);
    let head_norms = match config.head_norms {
        true => Some(HeadNorms { heads, queries: head_norm("q_norm", weights)?, keys: head_norm("k_norm", weights)? }),
        false => None,
    };
    let widths = (hidden, config.intermediate);
    let mlp = names.at("mlp");
    Ok(Block {
        qkv: Linear::fused(&parts, hidden, config.qkv_bias, weights)?,
        head_norms,
        mixed: Linear::load(&attention.at("o_proj"), (queries, hidden), config.mixed_bias, weights)?,
        attention_norms: Norms::before_only(config.norm(&names.at("input_layernorm"), weights)?),
        perceptron: Perceptron::gated(&mlp, widths, config.activation, config.perceptron_bias, weights)?,
        perceptron_norms: Norms::before_only(config.norm(&names.at("post_attention_layernorm"), weights)?),
    })
}
