//! BERT (Devlin et al. 2018) over packed sequences: embeddings, then layers of attention and a two-layer perceptron, each
//! with a residual and a LayerNorm after it.
//!
//! The numbers are those of transformers' `BertModel` in fp32; operations that only change rounding are kept in its order
//! where that is free. Query, key and value are one matrix product.

use std::sync::Arc;

use tch::{TchError, Tensor};

use super::Transformer;
use super::attention::{Attention, Plain};
use super::layers::{Activation, Buffer, LayerNorm, Linear};
use super::packed::Packed;
use super::weights::Weights;
use crate::encode::LoadError;
use crate::encode::folder::{ConfigFile, short};

/// The keys of config.json that change the numbers.
struct BertConfig {
    hidden: i64,
    layers: usize,
    heads: i64,
    intermediate: i64,
    vocab_size: i64,
    positions: i64,
    token_types: i64,
    activation: Activation,
    layer_norm_eps: f64,
}

/// More than any model has; what a config may claim before a tensor's shape is held against it.
const WIDTH_MAX: usize = 1 << 20;

impl BertConfig {
    fn read(file: &ConfigFile) -> Result<BertConfig, LoadError> {
        let size = |key, most| file.needed_count(key, 1..=most).map(|size| size as i64);
        let config = BertConfig {
            hidden: size("hidden_size", WIDTH_MAX)?,
            layers: file.needed_count("num_hidden_layers", 1..=1_024)?,
            heads: size("num_attention_heads", 4_096)?,
            intermediate: size("intermediate_size", WIDTH_MAX)?,
            vocab_size: size("vocab_size", 10_000_000)?,
            positions: size("max_position_embeddings", 10_000_000)?,
            token_types: file.count("type_vocab_size", 1..=1_024)?.unwrap_or(2) as i64,
            activation: activation(file)?,
            layer_norm_eps: file.number("layer_norm_eps")?.unwrap_or(1e-12),
        };
        if config.hidden % config.heads != 0 {
            let message =
                format!("`hidden_size` {} is not divisible by `num_attention_heads` {}", config.hidden, config.heads);
            return Err(file.error(message));
        }
        if !(config.layer_norm_eps > 0.0 && config.layer_norm_eps < 1.0) {
            return Err(
                file.error(format!("`layer_norm_eps` must be between 0 and 1, found {}", config.layer_norm_eps))
            );
        }
        refuse_switches(file)?;
        Ok(config)
    }

    fn norm(&self, name: &str, weights: &mut Weights) -> Result<LayerNorm, LoadError> {
        LayerNorm::load(|part| names(&format!("{name}.{part}")), self.hidden, self.layer_norm_eps, weights)
    }
}

fn activation(file: &ConfigFile) -> Result<Activation, LoadError> {
    let name = file.text("hidden_act")?.unwrap_or("gelu");
    Activation::named(name).ok_or_else(|| {
        file.error(format!("`hidden_act` {name:?} is not supported; there are gelu, gelu_new, relu, silu, tanh"))
    })
}

/// Switches that would change the numbers and are not implemented: refused, never ignored.
fn refuse_switches(file: &ConfigFile) -> Result<(), LoadError> {
    if let Some(kind) = file.text("position_embedding_type")?.filter(|kind| *kind != "absolute") {
        return Err(file.error(format!("`position_embedding_type` {kind:?} is not supported; there is \"absolute\"")));
    }
    for key in ["is_decoder", "add_cross_attention", "is_encoder_decoder"] {
        if file.flag(key)? {
            return Err(file.error(format!("`{key}` is true, which this version does not support")));
        }
    }
    for key in ["quantization_config", "pruned_heads"] {
        let empty = |value: &serde_json::Value| value.as_object().is_some_and(serde_json::Map::is_empty);
        if let Some(value) = file.get(key).filter(|value| !empty(value)) {
            return Err(file.error(format!("`{key}` is {}, which this version does not support", short(value))));
        }
    }
    Ok(())
}

pub fn check(file: &ConfigFile) -> Result<(), LoadError> {
    BertConfig::read(file).map(|_| ())
}

pub fn build(file: &ConfigFile, weights: &mut Weights) -> Result<Box<dyn Transformer>, LoadError> {
    let config = BertConfig::read(file)?;
    let attention = Arc::new(Plain { heads: config.heads as usize, head_dim: (config.hidden / config.heads) as usize });
    Ok(Box::new(Bert::load(&config, attention, weights)?))
}

struct Bert {
    /// Word and type-0 embeddings, added up. `[vocab, hidden]`
    words: Tensor,
    /// `[positions, hidden]`
    positions: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    attention: Arc<dyn Attention>,
    activation: Activation,
    buffers: Buffers,
}

/// Results within a layer; the next layer writes over them.
struct Buffers {
    /// `[tokens, 3 * hidden]`
    qkv: Buffer,
    /// `[tokens, hidden]`
    mixed: Buffer,
    /// `[tokens, intermediate]`
    wide: Buffer,
}

struct Layer {
    qkv: Linear,
    attention_out: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    out_norm: LayerNorm,
}

impl Bert {
    fn load(config: &BertConfig, attention: Arc<dyn Attention>, weights: &mut Weights) -> Result<Bert, LoadError> {
        let hidden = config.hidden;
        let mut table =
            |name: &str, rows| weights.take(&names(&format!("embeddings.{name}_embeddings.weight")), &[rows, hidden]);
        let mut words = table("word", config.vocab_size)?;
        let positions = table("position", config.positions)?;
        let types = table("token_type", config.token_types)?;
        // One text is one segment, so every token has type 0: added here once, with the rounding of adding it each time.
        let added = types.f_narrow(0, 0, 1).and_then(|first| words.f_add_(&first)).map(drop);
        added.map_err(|error| weights.failed(&error))?;
        let norm = config.norm("embeddings.LayerNorm", weights)?;
        let layers = (0..config.layers).map(|layer| Layer::load(config, layer, weights)).collect::<Result<_, _>>()?;
        weights.none_left_under("encoder.layer.")?;
        let buffer = |width| Buffer::new(width, words.device()).map_err(|error| weights.failed(&error));
        let buffers = Buffers { qkv: buffer(3 * hidden)?, mixed: buffer(hidden)?, wide: buffer(config.intermediate)? };
        Ok(Bert { words, positions, norm, layers, attention, activation: config.activation, buffers })
    }

    /// `[tokens, hidden]`
    fn embed(&self, batch: &Packed) -> Result<Tensor, TchError> {
        let flat = self.words.f_index_select(0, &batch.ids)?;
        for &group in &batch.groups {
            let positions = self.positions.f_narrow(0, 0, group.length)?;
            drop(batch.view(&flat, group)?.f_add_(&positions)?);
        }
        self.norm.forward(&flat)
    }
}

impl Transformer for Bert {
    fn forward(&mut self, batch: &Packed) -> Result<Tensor, TchError> {
        let mut qkv = self.buffers.qkv.rows(batch.tokens)?;
        let mut mixed = self.buffers.mixed.rows(batch.tokens)?;
        let mut wide = self.buffers.wide.rows(batch.tokens)?;
        let mut flat = self.embed(batch)?;
        for layer in &self.layers {
            layer.qkv.product(&flat, &mut qkv)?;
            self.attention.attend(&mut qkv, layer.qkv.bias(), batch, &mut mixed)?;
            layer.attention_out.add_to(&mixed, &mut flat)?;
            flat = layer.attention_norm.forward(&flat)?;
            layer.up.product(&flat, &mut wide)?;
            self.activation.add_bias_and_apply(&mut wide, layer.up.bias())?;
            layer.down.add_to(&wide, &mut flat)?;
            flat = layer.out_norm.forward(&flat)?;
        }
        Ok(flat)
    }

    fn share(&self) -> Result<Box<dyn Transformer>, TchError> {
        let Buffers { qkv, mixed, wide } = &self.buffers;
        Ok(Box::new(Bert {
            words: self.words.shallow_clone(),
            positions: self.positions.shallow_clone(),
            norm: self.norm.share(),
            layers: self.layers.iter().map(Layer::share).collect(),
            attention: self.attention.clone(),
            activation: self.activation,
            buffers: Buffers { qkv: qkv.another()?, mixed: mixed.another()?, wide: wide.another()? },
        }))
    }
}

impl Layer {
    fn share(&self) -> Layer {
        Layer {
            qkv: self.qkv.share(),
            attention_out: self.attention_out.share(),
            attention_norm: self.attention_norm.share(),
            up: self.up.share(),
            down: self.down.share(),
            out_norm: self.out_norm.share(),
        }
    }

    fn load(config: &BertConfig, layer: usize, weights: &mut Weights) -> Result<Layer, LoadError> {
        let (hidden, wide) = (config.hidden, config.intermediate);
        let at = |part: &'static str| move |name: &str| names(&format!("encoder.layer.{layer}.{part}.{name}"));
        let norm = |part: &str| format!("encoder.layer.{layer}.{part}.LayerNorm");
        let qkv = ["attention.self.query", "attention.self.key", "attention.self.value"].map(at);
        Ok(Layer {
            qkv: Linear::fused(&qkv, (hidden, hidden), weights)?,
            attention_out: Linear::load(at("attention.output.dense"), (hidden, hidden), weights)?,
            attention_norm: config.norm(&norm("attention.output"), weights)?,
            up: Linear::load(at("intermediate.dense"), (hidden, wide), weights)?,
            down: Linear::load(at("output.dense"), (wide, hidden), weights)?,
            out_norm: config.norm(&norm("output"), weights)?,
        })
    }
}

/// A tensor's names: as the bare model saves it, and as a model with a head on top does.
fn names(name: &str) -> Vec<String> {
    vec![name.to_owned(), format!("bert.{name}")]
}
