//! What DeBERTa's config.json says, checked.

use serde_json::Value;

use super::common::{CommonConfig, CommonKeys, NormEps};
use crate::encode::torch::attention::disentangled::Buckets;
use crate::encode::torch::config_keys as keys;
use crate::encode::torch::layers::Activation;
use crate::model::LoadError;
use crate::model::config_file::{ConfigFile, shorten};

const KEYS: CommonKeys =
    CommonKeys { norm_eps: NormEps::Keys { keys: &["layer_norm_eps"], default: 1e-7 }, ..CommonKeys::BERT };

/// The keys of config.json that change the vectors.
pub(super) struct DebertaConfig {
    pub common: CommonConfig,
    /// Width of the embeddings, before a projection.
    pub embedding_size: i64,
    /// Whether position embeddings are added to the token embeddings.
    pub position_biased_input: bool,
    pub token_types: i64,
    /// Scores are divided by √(head_dim * scale_factor): 1 plus the number of comparisons with positions.
    pub scale_factor: i64,
    pub relative_attention: Option<RelativeAttention>,
    pub convolution: Option<ConvolutionConfig>,
}

/// How relative positions take part in the scores.
pub(super) struct RelativeAttention {
    pub buckets: Buckets,
    /// Queries are compared with positions (c2p).
    pub content_to_position: bool,
    /// Keys are compared with positions (p2c).
    pub position_to_content: bool,
    /// `share_att_key`: the projections of queries and keys serve for positions as well.
    pub shares_projections: bool,
    /// `norm_rel_ebd`: a LayerNorm is applied to the embeddings of positions.
    pub normalized: bool,
}

/// The convolution beside the first layer.
#[derive(Clone, Copy)]
pub(super) struct ConvolutionConfig {
    pub kernel_size: i64,
    pub groups: i64,
    pub activation: Activation,
}

impl DebertaConfig {
    /// Reads and checks config.json.
    pub(super) fn read(file: &ConfigFile) -> Result<DebertaConfig, LoadError> {
        keys::refuse_decoders(file)?;
        let mut common = CommonConfig::read(file, &KEYS)?;
        common.heads.head_dim = keys::width_or(file, "attention_head_size", common.heads.head_dim)?;
        let comparisons = comparisons(file)?;
        let has = |name: &str| comparisons.iter().any(|comparison| comparison == name);
        let relative_attention = match file.flag("relative_attention")? {
            false => None,
            true => Some(RelativeAttention {
                buckets: buckets(file)?,
                content_to_position: has("c2p"),
                position_to_content: has("p2c"),
                shares_projections: file.flag("share_att_key")?,
                normalized: is_normalized(file)?,
            }),
        };
        Ok(DebertaConfig {
            embedding_size: keys::width_or(file, "embedding_size", common.hidden)?,
            position_biased_input: keys::flag_or(file, "position_biased_input", true)?,
            token_types: keys::token_types(file, 0, 0)?,
            scale_factor: 1 + i64::from(has("c2p")) + i64::from(has("p2c")),
            relative_attention,
            convolution: convolution(file, common.hidden)?,
            common,
        })
    }
}

/// `pos_att_type`: a list, or one string with bars between the names.
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
        keys::unsupported(file, "pos_att_type", &found, "\"c2p\", \"p2c\" or both")
    })
}

/// A count where -1 and 0 mean the same as an absent key.
fn positive_count(file: &ConfigFile, key: &str) -> Result<Option<i64>, LoadError> {
    if file.get(key).and_then(Value::as_i64).is_some_and(|count| count < 1) {
        return Ok(None);
    }
    Ok(file.count(key, 1..=keys::ROWS_MAX)?.map(|count| count as i64))
}

fn buckets(file: &ConfigFile) -> Result<Buckets, LoadError> {
    let max_distance = match positive_count(file, "max_relative_positions")? {
        Some(max_distance) => max_distance,
        None => keys::rows(file, "max_position_embeddings")?,
    };
    let Some(buckets) = positive_count(file, "position_buckets")? else {
        return Ok(Buckets { span: max_distance, max_log_distance: None });
    };
    if buckets < 4 || max_distance <= buckets / 2 + 1 {
        return Err(file.error(format!(
            "\"position_buckets\": found {buckets}; expected at least 4, and half of it to be less than the maximum distance \
             {max_distance} minus 1"
        )));
    }
    Ok(Buckets { span: buckets, max_log_distance: Some(max_distance) })
}

fn is_normalized(file: &ConfigFile) -> Result<bool, LoadError> {
    let kinds = file.text("norm_rel_ebd")?.unwrap_or("none").to_lowercase();
    let kinds: Vec<&str> = kinds.split('|').map(str::trim).collect();
    match kinds.iter().find(|kind| !matches!(**kind, "none" | "layer_norm" | "")) {
        Some(other) => {
            Err(keys::unsupported(file, "norm_rel_ebd", &format!("{other:?}"), "\"none\" or \"layer_norm\""))
        }
        None => Ok(kinds.contains(&"layer_norm")),
    }
}

fn convolution(file: &ConfigFile, hidden: i64) -> Result<Option<ConvolutionConfig>, LoadError> {
    let Some(kernel_size) = positive_count(file, "conv_kernel_size")? else { return Ok(None) };
    let groups = positive_count(file, "conv_groups")?.unwrap_or(1);
    if kernel_size % 2 == 0 {
        return Err(file.error(format!("\"conv_kernel_size\": found {kernel_size}; expected an odd number")));
    }
    if hidden % groups != 0 {
        let message =
            format!("\"conv_groups\": found {groups}; expected a divisor of \"hidden_size\", which is {hidden}");
        return Err(file.error(message));
    }
    Ok(Some(ConvolutionConfig { kernel_size, groups, activation: keys::activation(file, "conv_act", "tanh")? }))
}
