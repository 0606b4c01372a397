//! DeBERTa v2 and v3 (He et al. 2021, 2023) over packed sequences: BERT's layers with disentangled attention, and in some
//! models a convolution over neighbouring tokens beside the first layer. transformers' `DebertaV2Model`.

use serde_json::Value;
use tch::{Kind, TchError, Tensor};

use super::attention::Attention;
use super::block::{Block, Norms, Perceptron, Room, Shape};
use super::disentangled::{Disentangled, Sides, Span};
use super::embeddings::{Count, Embeddings, Places, Step, words_of_type_0};
use super::heads::Heads;
use super::layers::{Activation, Linear, Mix, Norm};
use super::names::Names;
use super::packed::Packed;
use super::weights::Weights;
use super::{Sizes, Transformer, keys};
use crate::model::LoadError;
use crate::model::config_file::{ConfigFile, shorten};

/// The keys of config.json that change the numbers.
struct DebertaConfig {
    hidden: i64,
    embedding: i64,
    layers: usize,
    heads: Heads,
    intermediate: i64,
    vocab_size: i64,
    places: i64,
    /// Whether places are also added to the embeddings.
    places_in_embeddings: bool,
    token_types: i64,
    activation: Activation,
    norm_eps: f64,
    /// Scores are divided by the root of this many times a head's width.
    terms: i64,
    distances: Option<Distances>,
    convolution: Option<ConvolutionConfig>,
}

/// How distances take part in the scores.
struct Distances {
    span: Span,
    of_queries: bool,
    of_keys: bool,
    /// The layers' own projections of words serve for distances as well.
    shared: bool,
    normed: bool,
}

#[derive(Clone, Copy)]
struct ConvolutionConfig {
    width: i64,
    groups: i64,
    activation: Activation,
}

impl DebertaConfig {
    fn read(file: &ConfigFile) -> Result<DebertaConfig, LoadError> {
        let hidden = keys::width(file, "hidden_size")?;
        let queries = keys::heads(file, "num_attention_heads")?;
        let head_dim = keys::head_dim(file, ("hidden_size", hidden), ("num_attention_heads", queries))?;
        keys::refuse_decoders(file)?;
        let places = keys::rows(file, "max_position_embeddings")?;
        let kinds = comparisons(file)?;
        let has = |kind: &str| kinds.iter().any(|name| name == kind);
        let terms = 1 + i64::from(has("c2p")) + i64::from(has("p2c"));
        let distances = match file.flag("relative_attention")? {
            false => None,
            true => Some(Distances {
                span: span(file, places)?,
                of_queries: has("c2p"),
                of_keys: has("p2c"),
                shared: file.flag("share_att_key")?,
                normed: is_normed(file)?,
            }),
        };
        Ok(DebertaConfig {
            hidden,
            embedding: keys::width_or(file, "embedding_size", hidden)?,
            layers: keys::layers(file, "num_hidden_layers")?,
            heads: Heads::equal(queries, keys::width_or(file, "attention_head_size", head_dim)?),
            intermediate: keys::width(file, "intermediate_size")?,
            vocab_size: keys::rows(file, "vocab_size")?,
            places,
            places_in_embeddings: keys::flag_or(file, "position_biased_input", true)?,
            token_types: file.count("type_vocab_size", 0..=keys::TYPES_MAX)?.unwrap_or(0) as i64,
            activation: keys::activation(file, "hidden_act", "gelu")?,
            norm_eps: keys::epsilon(file, "layer_norm_eps", 1e-7)?,
            terms,
            distances,
            convolution: convolution(file, hidden)?,
        })
    }

    fn norm(&self, names: &Names, weights: &mut Weights) -> Result<Norm, LoadError> {
        Norm::layer(names, self.hidden, self.norm_eps, true, weights)
    }
}

/// `pos_att_type`: a list, or one string with bars between.
fn comparisons(file: &ConfigFile) -> Result<Vec<String>, LoadError> {
    let names: Option<Vec<String>> = match file.get("pos_att_type") {
        None => Some(Vec::new()),
        Some(Value::String(names)) => {
            Some(names.to_lowercase().split('|').map(|name| name.trim().to_owned()).collect())
        }
        Some(Value::Array(names)) => names.iter().map(|name| name.as_str().map(str::to_owned)).collect(),
        Some(_) => None,
    };
    let known = |names: &Vec<String>| names.iter().all(|name| matches!(name.as_str(), "c2p" | "p2c" | "" | "none"));
    names.filter(known).ok_or_else(|| {
        let found = file.get("pos_att_type").map(shorten).unwrap_or_default();
        file.error(format!("`pos_att_type` {found} is not supported; there are \"c2p\" and \"p2c\""))
    })
}

/// A count where -1 and 0 mean that there is none.
fn count(file: &ConfigFile, key: &str) -> Result<Option<i64>, LoadError> {
    if file.get(key).and_then(Value::as_i64).is_some_and(|count| count < 1) {
        return Ok(None);
    }
    Ok(file.count(key, 1..=keys::ROWS_MAX)?.map(|count| count as i64))
}

fn span(file: &ConfigFile, places: i64) -> Result<Span, LoadError> {
    let most = count(file, "max_relative_positions")?.unwrap_or(places);
    let Some(buckets) = count(file, "position_buckets")? else {
        return Ok(Span { rows: most, logarithmic_to: None });
    };
    if buckets < 4 || most <= buckets / 2 + 1 {
        let message = format!("`position_buckets` {buckets} does not fit distances of at most {most}");
        return Err(file.error(message));
    }
    Ok(Span { rows: buckets, logarithmic_to: Some(most) })
}

fn is_normed(file: &ConfigFile) -> Result<bool, LoadError> {
    let kinds = file.text("norm_rel_ebd")?.unwrap_or("none").to_lowercase();
    let kinds: Vec<&str> = kinds.split('|').map(str::trim).collect();
    match kinds.iter().find(|kind| !matches!(**kind, "none" | "layer_norm" | "")) {
        Some(other) => Err(file.error(format!("`norm_rel_ebd` {other:?} is not supported; there is \"layer_norm\""))),
        None => Ok(kinds.contains(&"layer_norm")),
    }
}

fn convolution(file: &ConfigFile, hidden: i64) -> Result<Option<ConvolutionConfig>, LoadError> {
    let Some(width) = count(file, "conv_kernel_size")? else { return Ok(None) };
    let groups = count(file, "conv_groups")?.unwrap_or(1);
    if width % 2 == 0 || hidden % groups != 0 {
        let message = format!("`conv_kernel_size` {width} must be odd, and `conv_groups` {groups} divide {hidden}");
        return Err(file.error(message));
    }
    Ok(Some(ConvolutionConfig { width, groups, activation: keys::activation(file, "conv_act", "tanh")? }))
}

pub fn check(_: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    let config = DebertaConfig::read(file)?;
    Ok(Sizes::of((config.hidden, config.layers), config.vocab_size, Some(config.places)))
}

pub fn build(_: &str, file: &ConfigFile, weights: &mut Weights) -> Result<Box<dyn Transformer>, LoadError> {
    let config = DebertaConfig::read(file)?;
    let names = Names::root(&["deberta"]);
    let embeddings = embeddings(&config, &names.at("embeddings"), weights)?;
    let encoder = names.at("encoder");
    let distances = distances(&config, &encoder, weights)?;
    let (mut blocks, mut sides) = (Vec::new(), Vec::new());
    for layer in 0..config.layers {
        let names = encoder.at(&format!("layer.{layer}"));
        blocks.push(block(&config, &names, weights)?);
        sides.push(layer_sides(&config, distances.as_ref(), &names.at("attention.self"), weights)?);
    }
    weights.none_left_under("encoder.layer.")?;
    let convolution = config.convolution.map(|own| Convolution::load(&config, own, &encoder.at("conv"), weights));
    let device = embeddings.words.device();
    let shape = Shape { heads: config.heads, intermediate: config.intermediate, gated: false };
    let rows = Tensor::f_zeros([0, 0], (Kind::Int64, device)).map_err(|error| weights.failed(&error))?;
    let room = Room::new(shape, &embeddings.words).map_err(|error| weights.failed(&error))?;
    let span = config.distances.as_ref().map_or(Span { rows: 1, logarithmic_to: None }, |distances| distances.span);
    let attention = Disentangled { heads: config.heads, span, terms: config.terms, layers: sides, rows };
    Ok(Box::new(Deberta {
        embeddings,
        blocks,
        convolution: convolution.transpose()?,
        attention: Box::new(attention),
        room,
    }))
}

fn embeddings(config: &DebertaConfig, names: &Names, weights: &mut Weights) -> Result<Embeddings, LoadError> {
    let width = config.embedding;
    let words = words_of_type_0(names, (config.vocab_size, width), config.token_types, weights)?;
    let places = match config.places_in_embeddings {
        true => Some(Places::load(names, (config.places, width), Count::FromZero, weights)?),
        false => None,
    };
    let mut steps = Vec::new();
    if width != config.hidden {
        steps.push(Step::Project(Linear::load(&names.at("embed_proj"), (width, config.hidden), false, weights)?));
    }
    steps.push(Step::Norm(config.norm(&names.at("LayerNorm"), weights)?));
    Ok(Embeddings { words, places, steps })
}

/// A vector for each distance. `[2 * span, hidden]`
fn distances(config: &DebertaConfig, encoder: &Names, weights: &mut Weights) -> Result<Option<Tensor>, LoadError> {
    let Some(distances) = &config.distances else { return Ok(None) };
    let table = encoder.at("rel_embeddings.weight");
    let table = weights.take(table.as_slice(), &[2 * distances.span.rows, config.hidden])?;
    if !distances.normed {
        return Ok(Some(table));
    }
    let norm = config.norm(&encoder.at("LayerNorm"), weights)?;
    norm.forward(&table).map(Some).map_err(|error| weights.failed(&error))
}

fn layer_sides(
    config: &DebertaConfig,
    table: Option<&Tensor>,
    names: &Names,
    weights: &mut Weights,
) -> Result<Sides, LoadError> {
    let (Some(table), Some(distances)) = (table, &config.distances) else {
        return Ok(Sides { keys: None, queries: None });
    };
    let Heads { queries: heads, dim, .. } = config.heads;
    let mut side = |wanted: bool, shared: &str, own: &str| -> Result<Option<Tensor>, LoadError> {
        if !wanted {
            return Ok(None);
        }
        let names = names.at(if distances.shared { shared } else { own });
        let projection = Linear::load(&names, (config.hidden, config.heads.mixed_width()), true, weights)?;
        // [2 * span, heads, dim] → [heads, dim, 2 * span]
        let project = || projection.forward(table)?.f_view([-1, heads, dim])?.f_permute([1, 2, 0])?.f_contiguous();
        project().map(Some).map_err(|error| weights.failed(&error))
    };
    Ok(Sides {
        keys: side(distances.of_queries, "key_proj", "pos_key_proj")?,
        queries: side(distances.of_keys, "query_proj", "pos_query_proj")?,
    })
}

fn block(config: &DebertaConfig, names: &Names, weights: &mut Weights) -> Result<Block, LoadError> {
    let (hidden, wide, mixed) = (config.hidden, config.intermediate, config.heads.mixed_width());
    let part = |name: &str| (names.at("attention.self").at(name), mixed);
    let perceptron = (&names.at("intermediate.dense"), &names.at("output.dense"));
    Ok(Block {
        qkv: Linear::fused(&["query_proj", "key_proj", "value_proj"].map(part), hidden, true, weights)?,
        head_norms: None,
        mixed: Linear::load(&names.at("attention.output.dense"), (mixed, hidden), true, weights)?,
        attention_norms: Norms::after(config.norm(&names.at("attention.output.LayerNorm"), weights)?),
        perceptron: Perceptron::plain(perceptron, (hidden, wide), config.activation, true, weights)?,
        perceptron_norms: Norms::after(config.norm(&names.at("output.LayerNorm"), weights)?),
    })
}

struct Deberta {
    embeddings: Embeddings,
    blocks: Vec<Block>,
    convolution: Option<Convolution>,
    attention: Box<dyn Attention>,
    room: Room,
}

impl Transformer for Deberta {
    fn forward(&mut self, batch: &Packed, mut mix: Mix) -> Result<Tensor, TchError> {
        self.attention.prepare(batch)?;
        let mut rows = self.room.rows(batch.tokens)?;
        let mut flat = self.embeddings.forward(batch)?;
        // Layers write over their input.
        let embedded = if self.convolution.is_some() { Some(flat.f_detach_copy()?) } else { None };
        for (layer, block) in self.blocks.iter().enumerate() {
            mix.add(layer, &flat)?;
            flat = block.forward(layer, flat, self.attention.as_ref(), batch, &mut rows)?;
            if let (0, Some(convolution), Some(embedded)) = (layer, &self.convolution, &embedded) {
                flat = convolution.forward(embedded, flat, batch)?;
            }
        }
        mix.finish(flat)
    }

    fn share(&self) -> Result<Box<dyn Transformer>, TchError> {
        Ok(Box::new(Deberta {
            embeddings: self.embeddings.share(),
            blocks: self.blocks.iter().map(Block::share).collect(),
            convolution: self.convolution.as_ref().map(Convolution::share),
            attention: self.attention.share(),
            room: self.room.another()?,
        }))
    }
}

/// norm(layer + activation(convolution(embeddings))), a sequence at a time with zeros around it.
struct Convolution {
    /// `[hidden, hidden / groups, width]`
    weight: Tensor,
    /// `[hidden]`
    bias: Tensor,
    config: ConvolutionConfig,
    norm: Norm,
}

impl Convolution {
    fn load(
        config: &DebertaConfig,
        own: ConvolutionConfig,
        names: &Names,
        weights: &mut Weights,
    ) -> Result<Convolution, LoadError> {
        let hidden = config.hidden;
        Ok(Convolution {
            weight: weights.take(names.at("conv.weight").as_slice(), &[hidden, hidden / own.groups, own.width])?,
            bias: weights.take(names.at("conv.bias").as_slice(), &[hidden])?,
            config: own,
            norm: config.norm(&names.at("LayerNorm"), weights)?,
        })
    }

    /// `[tokens, hidden]`
    fn forward(&self, embedded: &Tensor, mut flat: Tensor, batch: &Packed) -> Result<Tensor, TchError> {
        let ConvolutionConfig { width, groups, activation } = self.config;
        for &group in &batch.groups {
            let x = batch.view(embedded, group)?.f_transpose(1, 2)?; // [rows, hidden, length]
            let x = x.f_conv1d(&self.weight, Some(&self.bias), [1], [(width - 1) / 2], [1], groups)?;
            let mut x = x.f_transpose(1, 2)?.f_contiguous()?;
            activation.add_bias_and_apply(&mut x, None)?;
            drop(batch.view(&flat, group)?.f_add_(&x)?);
        }
        flat = self.norm.forward(&flat)?;
        Ok(flat)
    }

    fn share(&self) -> Convolution {
        Convolution {
            weight: self.weight.shallow_clone(),
            bias: self.bias.shallow_clone(),
            config: self.config,
            norm: self.norm.share(),
        }
    }
}
