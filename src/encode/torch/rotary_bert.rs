//! BERT with rotary places in the attention instead of a table of places: Nomic BERT (Nussbaum et al. 2024), GTE (Zhang et
//! al. 2024) and Jina embeddings v3 (Sturua et al. 2024) over packed sequences. They differ in their biases and in whether
//! the perceptron has a gate. transformers' `NomicBertModel`, `GteModel`, `JinaEmbeddingsV3Model`; model type `new` is GTE as published first.
//!
//! Checkpoints have the names of transformers 5 or those of their authors' own code, which transformers 5 also reads.

use super::attention::DotProduct;
use super::block::{Block, Norms, Perceptron, Shape};
use super::embeddings::{Embeddings, Step, words_of_type_0};
use super::encoder::Encoder;
use super::heads::Heads;
use super::layers::{Activation, Linear, Norm};
use super::names::Names;
use super::rotary::{Base, Frequencies, Rotary};
use super::weights::Weights;
use super::{Sizes, Transformer, keys};
use crate::model::LoadError;
use crate::model::config_file::ConfigFile;

/// What is fixed for a model type.
struct Variant {
    prefixes: &'static [&'static str],
    base: Base,
    /// Whether frequencies are scaled by that code's rule instead of transformers'.
    fixed_ntk: bool,
    norm_eps: f64,
    token_types: usize,
    activation: &'static str,
    attention_bias: bool,
    gated: bool,
    /// Bias of the perceptron's first layers, and of its last.
    perceptron_bias: (bool, bool),
}

const NOMIC: Variant = Variant {
    prefixes: &["nomic_bert", "bert"],
    base: Base { key: "rotary_emb_base", default: 1_000.0 },
    fixed_ntk: false,
    norm_eps: 1e-12,
    token_types: 2,
    activation: "silu",
    attention_bias: false,
    gated: true,
    perceptron_bias: (false, false),
};

const GTE: Variant = Variant {
    prefixes: &["gte", "new"],
    base: Base { key: "rope_theta", default: 160_000.0 },
    fixed_ntk: false,
    norm_eps: 1e-12,
    token_types: 1,
    activation: "gelu",
    attention_bias: true,
    gated: true,
    perceptron_bias: (false, true),
};

const JINA: Variant = Variant {
    prefixes: &["roberta"],
    base: Base { key: "rope_theta", default: 20_000.0 },
    fixed_ntk: false,
    norm_eps: 1e-5,
    token_types: 1,
    activation: "gelu",
    attention_bias: true,
    gated: false,
    perceptron_bias: (true, true),
};

/// GTE as its authors' own code has it.
const NEW: Variant = Variant { base: Base { key: "rope_theta", default: 10_000.0 }, fixed_ntk: true, ..GTE };

fn variant(model_type: &str) -> Variant {
    match model_type {
        "nomic_bert" => NOMIC,
        "gte" => GTE,
        "new" => NEW,
        _ => JINA,
    }
}

/// The keys of config.json that change the numbers.
struct Config {
    hidden: i64,
    layers: usize,
    heads: Heads,
    intermediate: i64,
    vocab_size: i64,
    places: i64,
    token_types: i64,
    activation: Activation,
    norm_eps: f64,
    frequencies: Frequencies,
}

/// Switches of the authors' own code that would change the numbers.
const FLAGS: [&str; 13] = [
    "is_decoder",
    "add_cross_attention",
    "is_encoder_decoder",
    "causal",
    "prenorm",
    "parallel_block",
    "use_rms_norm",
    "qkv_proj_bias",
    "mlp_fc1_bias",
    "mlp_fc2_bias",
    "rotary_emb_interleaved",
    "scale_attn_by_inverse_layer_idx",
    "logn_attention_scale",
];
const VALUES: [&str; 5] =
    ["rotary_emb_scale_base", "rotary_scaling_factor", "moe_every_n_layers", "num_experts", "lora_adaptations"];
const OTHERS: [(&str, &str); 3] =
    [("position_embedding_type", "rope"), ("layer_norm_type", "layer_norm"), ("activation_function", "swiglu")];

/// The first of a key's names that is there, else the newest.
fn either<'a>(file: &ConfigFile, names: &[&'a str]) -> &'a str {
    names.iter().find(|name| file.get(name).is_some()).unwrap_or(&names[0])
}

impl Config {
    fn read(variant: &Variant, file: &ConfigFile) -> Result<Config, LoadError> {
        keys::refuse_flags(file, &FLAGS)?;
        keys::refuse_values(file, &VALUES)?;
        keys::refuse_others(file, &OTHERS)?;
        if let Some(part) = file.number("rotary_emb_fraction")?.filter(|part| *part != 1.0) {
            return Err(file.error(format!("`rotary_emb_fraction` is {part}, which this version does not support")));
        }
        let hidden = keys::width(file, either(file, &["hidden_size", "n_embd"]))?;
        let heads = keys::heads(file, either(file, &["num_attention_heads", "n_head"]))?;
        let head_dim = match file.get("head_dim") {
            Some(_) => keys::width(file, "head_dim")?,
            None => keys::head_dim(file, ("hidden_size", hidden), ("num_attention_heads", heads))?,
        };
        let places = either(file, &["max_position_embeddings", "n_positions"]);
        let types = file.count("type_vocab_size", 0..=keys::TYPES_MAX)?.unwrap_or(variant.token_types);
        Ok(Config {
            hidden,
            layers: keys::layers(file, either(file, &["num_hidden_layers", "n_layer"]))?,
            heads: Heads::equal(heads, head_dim),
            intermediate: keys::width(file, either(file, &["intermediate_size", "n_inner"]))?,
            vocab_size: keys::rows(file, "vocab_size")?,
            places: keys::rows(file, places)?,
            token_types: types as i64,
            activation: keys::activation(file, "hidden_act", variant.activation)?,
            norm_eps: keys::epsilon(file, either(file, &["layer_norm_eps", "layer_norm_epsilon"]), variant.norm_eps)?,
            frequencies: match variant.fixed_ntk {
                true => Frequencies::by_fixed_ntk(file, head_dim, variant.base)?,
                false => Frequencies::read(file, head_dim, variant.base)?,
            },
        })
    }
}

pub fn check(model_type: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    let config = Config::read(&variant(model_type), file)?;
    Ok(Sizes::of((config.hidden, config.layers), config.vocab_size, Some(config.places)))
}

pub fn build(model_type: &str, file: &ConfigFile, weights: &mut Weights) -> Result<Box<dyn Transformer>, LoadError> {
    let variant = variant(model_type);
    let config = Config::read(&variant, file)?;
    let names = Names::root(variant.prefixes);
    let size = (config.vocab_size, config.hidden);
    let words = words_of_type_0(&names.at("embeddings"), size, config.token_types, weights)?;
    let norm = names.either(&["embeddings.LayerNorm", "emb_ln"]);
    let steps = vec![Step::Norm(Norm::layer(&norm, config.hidden, config.norm_eps, true, weights)?)];
    let layers = names.either(&["layers", "encoder.layers", "encoder.layer"]);
    let blocks = (0..config.layers).map(|layer| block(&variant, &config, &layers.at(&layer.to_string()), weights));
    let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
    weights.none_left_under("layers.")?;
    weights.none_left_under("encoder.layer.")?;
    let rotary = Rotary::new(&config.frequencies, words.device()).map_err(|error| weights.failed(&error))?;
    let attention = Box::new(DotProduct::plain(config.heads, &words).turned(rotary));
    let shape = Shape { heads: config.heads, intermediate: config.intermediate, gated: variant.gated };
    let embeddings = Embeddings { words, places: None, steps };
    Ok(Box::new(Encoder::new(embeddings, blocks, None, attention, shape, weights)?))
}

fn block(variant: &Variant, config: &Config, names: &Names, weights: &mut Weights) -> Result<Block, LoadError> {
    let (hidden, heads) = (config.hidden, config.heads);
    let attention = names.either(&["self_attn", "attention"]);
    let fused = names.either(&["attn.Wqkv", "mixer.Wqkv", "attention.qkv_proj"]);
    let qkv = if weights.has(&fused.at("weight")) {
        Linear::load(&fused, (hidden, heads.qkv_width()), variant.attention_bias, weights)?
    } else {
        let part = |name: &str| (attention.at(name), heads.mixed_width());
        Linear::fused(&["q_proj", "k_proj", "v_proj"].map(part), hidden, variant.attention_bias, weights)?
    };
    let mixed = names.either(&["self_attn.o_proj", "attn.out_proj", "mixer.out_proj", "attention.o_proj"]);
    let norm = |names: &Names, weights: &mut Weights| Norm::layer(names, hidden, config.norm_eps, true, weights);
    Ok(Block {
        qkv,
        head_norms: None,
        mixed: Linear::load(&mixed, (heads.mixed_width(), hidden), variant.attention_bias, weights)?,
        attention_norms: Norms::after(norm(&names.either(&["post_attention_layernorm", "norm1", "attn_ln"]), weights)?),
        perceptron: perceptron(variant, config, &names.at("mlp"), weights)?,
        perceptron_norms: Norms::after(norm(&names.either(&["post_mlp_layernorm", "norm2", "mlp_ln"]), weights)?),
    })
}

fn perceptron(
    variant: &Variant,
    config: &Config,
    names: &Names,
    weights: &mut Weights,
) -> Result<Perceptron, LoadError> {
    let widths @ (hidden, wide) = (config.hidden, config.intermediate);
    let (bias, down_bias) = variant.perceptron_bias;
    if !variant.gated {
        return Perceptron::plain((&names.at("fc1"), &names.at("fc2")), widths, config.activation, bias, weights);
    }
    let both = names.at("up_gate_proj");
    let (active, factor) = if weights.has(&both.at("weight")) {
        let [factor, active] = Linear::halves(&both, widths, bias, weights)?;
        (active, factor)
    } else {
        let active = Linear::load(&names.either(&["gate_proj", "fc12"]), widths, bias, weights)?;
        (active, Linear::load(&names.either(&["up_proj", "fc11"]), widths, bias, weights)?)
    };
    let down = Linear::load(&names.either(&["down_proj", "fc2"]), (wide, hidden), down_bias, weights)?;
    Ok(Perceptron { active, factor: Some(factor), activation: config.activation, down })
}
