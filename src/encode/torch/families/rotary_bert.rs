//! BERT with rotary position embeddings in the attention instead of a table of positions: Nomic BERT (Nussbaum et al. 2024),
//! GTE (Zhang et al. 2024) and Jina embeddings v3 (Sturua et al. 2024) over packed sequences. They differ in their biases and
//! in whether the MLP has a gate. transformers' `NomicBertModel`, `GteModel`, `JinaEmbeddingsV3Model`; model type `new` is GTE
//! as it was first published.
//!
//! Checkpoints have the names of transformers 5 or those of their authors' own code, which transformers 5 also reads.

use super::common::{ActivationKey, CommonConfig, CommonKeys, HeadDim, NormEps};
use crate::encode::torch::attention::dot_product::DotProduct;
use crate::encode::torch::config_keys as keys;
use crate::encode::torch::layer_stack::LayerStack;
use crate::encode::torch::layers::{
    EmbeddingStep, Embeddings, HalfNorms, Linear, Mlp, TransformerLayer, token_embeddings_with_segment_0,
};
use crate::encode::torch::rotary::Rotary;
use crate::encode::torch::rotary::config::ThetaKey;
use crate::encode::torch::rotary::frequencies::RopeFrequencies;
use crate::encode::torch::tensor_names::TensorNames;
use crate::encode::torch::transformer::Transformer;
use crate::encode::torch::weights::Weights;
use crate::model::config_file::ConfigFile;
use crate::model::{LoadError, Sizes};

/// What is fixed for a model type.
struct Variant {
    prefixes: &'static [&'static str],
    theta: ThetaKey,
    /// Whether frequencies are scaled by the rule of GTE's own code instead of transformers' rules.
    fixed_ntk: bool,
    norm_eps: f64,
    token_types: usize,
    activation: &'static str,
    attention_bias: bool,
    gated: bool,
    /// Bias of the MLP's first layers.
    up_bias: bool,
    /// Bias of the MLP's last layer.
    down_bias: bool,
}

const NOMIC: Variant = Variant {
    prefixes: &["nomic_bert", "bert"],
    theta: ThetaKey { key: "rotary_emb_base", default: 1_000.0 },
    fixed_ntk: false,
    norm_eps: 1e-12,
    token_types: 2,
    activation: "silu",
    attention_bias: false,
    gated: true,
    up_bias: false,
    down_bias: false,
};

const GTE: Variant = Variant {
    prefixes: &["gte", "new"],
    theta: ThetaKey { key: "rope_theta", default: 160_000.0 },
    fixed_ntk: false,
    norm_eps: 1e-12,
    token_types: 1,
    activation: "gelu",
    attention_bias: true,
    gated: true,
    up_bias: false,
    down_bias: true,
};

const JINA: Variant = Variant {
    prefixes: &["roberta"],
    theta: ThetaKey { key: "rope_theta", default: 20_000.0 },
    fixed_ntk: false,
    norm_eps: 1e-5,
    token_types: 1,
    activation: "gelu",
    attention_bias: true,
    gated: false,
    up_bias: true,
    down_bias: true,
};

/// GTE by its authors' own code.
const NEW: Variant = Variant { theta: ThetaKey { key: "rope_theta", default: 10_000.0 }, fixed_ntk: true, ..GTE };

fn variant(model_type: &str) -> Variant {
    match model_type {
        "nomic_bert" => NOMIC,
        "gte" => GTE,
        "new" => NEW,
        _ => JINA,
    }
}

/// The keys of config.json that change the vectors.
struct RotaryBertConfig {
    common: CommonConfig,
    token_types: i64,
    frequencies: RopeFrequencies,
}

/// Switches of the authors' own code that would change the vectors and are not implemented.
const REFUSED_FLAGS: [&str; 13] = [
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
/// Keys of the authors' own code that are refused whenever they have a value.
const REFUSED_VALUES: [&str; 5] =
    ["rotary_emb_scale_base", "rotary_scaling_factor", "moe_every_n_layers", "num_experts", "lora_adaptations"];
/// Keys of the authors' own code with the one value that is implemented.
const ONLY_VALUES: [(&str, &str); 3] =
    [("position_embedding_type", "rope"), ("layer_norm_type", "layer_norm"), ("activation_function", "swiglu")];

impl RotaryBertConfig {
    fn read(variant: &Variant, file: &ConfigFile) -> Result<RotaryBertConfig, LoadError> {
        keys::refuse_flags(file, &REFUSED_FLAGS)?;
        keys::refuse_values(file, &REFUSED_VALUES)?;
        keys::refuse_others(file, &ONLY_VALUES)?;
        keys::refuse_other_than_1(file, "rotary_emb_fraction")?;
        let common_keys = CommonKeys {
            hidden_size: &["hidden_size", "n_embd"],
            layers: &["num_hidden_layers", "n_layer"],
            heads: &["num_attention_heads", "n_head"],
            head_dim: HeadDim::KeyOrSplit("head_dim"),
            intermediate_size: &["intermediate_size", "n_inner"],
            max_positions: Some(&["max_position_embeddings", "n_positions"]),
            activation: ActivationKey::Key { key: "hidden_act", default: variant.activation },
            norm_eps: NormEps::Keys { keys: &["layer_norm_eps", "layer_norm_epsilon"], default: variant.norm_eps },
        };
        let common = CommonConfig::read(file, &common_keys)?;
        Ok(RotaryBertConfig {
            token_types: keys::token_types(file, 0, variant.token_types)?,
            frequencies: match variant.fixed_ntk {
                true => RopeFrequencies::read_fixed_ntk(file, common.heads.head_dim, variant.theta)?,
                false => RopeFrequencies::read(file, common.heads.head_dim, variant.theta)?,
            },
            common,
        })
    }
}

pub(super) fn check(model_type: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    Ok(RotaryBertConfig::read(&variant(model_type), file)?.common.sizes())
}

pub(super) fn build(
    model_type: &str,
    file: &ConfigFile,
    weights: &mut Weights,
) -> Result<Box<dyn Transformer>, LoadError> {
    let variant = variant(model_type);
    let RotaryBertConfig { common, token_types, frequencies } = RotaryBertConfig::read(&variant, file)?;
    let names = TensorNames::root(variant.prefixes);
    let tables = names.at("embeddings");
    let tokens = token_embeddings_with_segment_0(&tables, common.vocab_size, common.hidden, token_types, weights)?;
    let norm = names.either(&["embeddings.LayerNorm", "emb_ln"]);
    let steps = vec![EmbeddingStep::Norm(common.layer_norm(&norm, weights)?)];
    let layer_names = names.either(&["layers", "encoder.layers", "encoder.layer"]);
    let layers = (0..common.layers).map(|index| layer(&variant, &common, &layer_names.index(index), weights));
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    weights.ensure_all_used("layers.")?;
    weights.ensure_all_used("encoder.layer.")?;
    let rotary = Rotary::new(&frequencies, tokens.device()).map_err(|error| weights.load_error(&error))?;
    let attention = Box::new(DotProduct::plain(common.heads, &tokens).with_rotary(rotary));
    let embeddings = Embeddings { steps, ..Embeddings::of_tokens(tokens) };
    let shape = common.layer_shape(variant.gated);
    Ok(Box::new(LayerStack::new(embeddings, layers, None, attention, shape, weights)?))
}

fn layer(
    variant: &Variant,
    config: &CommonConfig,
    names: &TensorNames,
    weights: &mut Weights,
) -> Result<TransformerLayer, LoadError> {
    let (hidden, heads, bias) = (config.hidden, config.heads, variant.attention_bias);
    let attention = names.either(&["self_attn", "attention"]);
    let fused = names.either(&["attn.Wqkv", "mixer.Wqkv", "attention.qkv_proj"]);
    let qkv_proj = if weights.has(&fused.at("weight")) {
        Linear::load(&fused, hidden, heads.qkv_width(), bias, weights)?
    } else {
        let qkv = ["q_proj", "k_proj", "v_proj"].map(|name| (attention.at(name), heads.attention_width()));
        Linear::load_fused(&qkv, hidden, bias, weights)?
    };
    let out_proj = names.either(&["self_attn.o_proj", "attn.out_proj", "mixer.out_proj", "attention.o_proj"]);
    let attention_norm = names.either(&["post_attention_layernorm", "norm1", "attn_ln"]);
    let mlp_norm = names.either(&["post_mlp_layernorm", "norm2", "mlp_ln"]);
    Ok(TransformerLayer {
        qkv_proj,
        head_norms: None,
        out_proj: Linear::load(&out_proj, heads.attention_width(), hidden, bias, weights)?,
        attention_norms: HalfNorms::post(config.layer_norm(&attention_norm, weights)?),
        mlp: mlp(variant, config, &names.at("mlp"), weights)?,
        mlp_norms: HalfNorms::post(config.layer_norm(&mlp_norm, weights)?),
    })
}

fn mlp(variant: &Variant, config: &CommonConfig, names: &TensorNames, weights: &mut Weights) -> Result<Mlp, LoadError> {
    let CommonConfig { hidden, intermediate, activation, .. } = *config;
    let bias = variant.up_bias;
    if !variant.gated {
        let (up, down) = (names.at("fc1"), names.at("fc2"));
        return Mlp::load_plain(&up, &down, hidden, intermediate, activation, bias, weights);
    }
    let fused = names.at("up_gate_proj");
    let (gate_proj, up_proj) = if weights.has(&fused.at("weight")) {
        let [up_proj, gate_proj] = Linear::load_halves(&fused, hidden, intermediate, bias, weights)?;
        (gate_proj, up_proj)
    } else {
        let (gate, up) = (names.either(&["gate_proj", "fc12"]), names.either(&["up_proj", "fc11"]));
        let gate_proj = Linear::load(&gate, hidden, intermediate, bias, weights)?;
        (gate_proj, Linear::load(&up, hidden, intermediate, bias, weights)?)
    };
    let down = names.either(&["down_proj", "fc2"]);
    let down_proj = Linear::load(&down, intermediate, hidden, variant.down_bias, weights)?;
    Ok(Mlp { gate_proj: Some(gate_proj), up_proj, activation, down_proj })
}
