//! How token embeddings become one vector: the pooling modes by sentence-transformers' names, from the pipeline file or from a
//! Pooling module's config.json.
//!
//! Fails on unknown, repeated or no modes.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::LoadError;
use super::config_file::ConfigFile;
use crate::enum_names::enum_names;

/// A way to make one vector of token embeddings, by sentence-transformers' name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolingMode {
    /// The first token's vector.
    Cls,
    /// The largest value of each dimension.
    Max,
    /// The average over all tokens, special tokens included.
    Mean,
    /// The sum over all tokens, divided by the square root of the number of tokens.
    MeanSqrtLenTokens,
    /// The average weighted by each token's position, counted from 1.
    #[serde(rename = "weightedmean")]
    WeightedMean,
    /// The last token's vector.
    #[serde(rename = "lasttoken")]
    LastToken,
}

enum_names!(
    PoolingMode,
    "pooling mode",
    Cls = "cls",
    Max = "max",
    Mean = "mean",
    MeanSqrtLenTokens = "mean_sqrt_len_tokens",
    WeightedMean = "weightedmean",
    LastToken = "lasttoken"
);

/// `model.pooling`: a mode, or several whose vectors are concatenated in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected one of cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken, or a list of them"
)]
pub enum Pooling {
    /// One mode.
    One(PoolingMode),
    /// Several modes.
    Several(Vec<PoolingMode>),
}

impl Pooling {
    /// The modes, in their order.
    pub fn modes(&self) -> &[PoolingMode] {
        match self {
            Pooling::One(mode) => std::slice::from_ref(mode),
            Pooling::Several(modes) => modes,
        }
    }
}

impl From<PoolingMode> for Pooling {
    fn from(mode: PoolingMode) -> Pooling {
        Pooling::One(mode)
    }
}

/// The names joined by `+`.
impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&join(self.modes()))
    }
}

/// Names joined by `+` or `,`, as in `cls+mean`.
impl FromStr for Pooling {
    type Err = String;

    fn from_str(names: &str) -> Result<Pooling, String> {
        let modes = names.split(['+', ',']).map(|name| name.trim().parse()).collect::<Result<Vec<_>, _>>()?;
        Ok(match modes.as_slice() {
            [one] => Pooling::One(*one),
            _ => Pooling::Several(modes),
        })
    }
}

/// The names of modes joined by `+`, as in `cls+mean`.
pub(crate) fn join(modes: &[PoolingMode]) -> String {
    modes.iter().map(|mode| mode.as_str()).collect::<Vec<_>>().join("+")
}

/// Refuses an empty list of modes, and one with a mode twice.
///
/// # Errors
/// What was found and what was expected.
pub(crate) fn check(modes: &[PoolingMode]) -> Result<(), String> {
    if modes.is_empty() {
        return Err("found no mode; expected at least one".into());
    }
    match (1..modes.len()).find(|&index| modes[..index].contains(&modes[index])) {
        Some(repeated) => Err(format!("found {} twice; expected each mode once", modes[repeated])),
        None => Ok(()),
    }
}

/// The keys of the older generation of files, in the order in which sentence-transformers concatenates the vectors.
const POOLING_FLAGS: [(&str, PoolingMode); 6] = [
    ("pooling_mode_cls_token", PoolingMode::Cls),
    ("pooling_mode_max_tokens", PoolingMode::Max),
    ("pooling_mode_mean_tokens", PoolingMode::Mean),
    ("pooling_mode_mean_sqrt_len_tokens", PoolingMode::MeanSqrtLenTokens),
    ("pooling_mode_weightedmean_tokens", PoolingMode::WeightedMean),
    ("pooling_mode_lasttoken", PoolingMode::LastToken),
];

/// The modes of a Pooling module: `pooling_mode` as a name or a list, or else one flag per mode, or else mean.
///
/// # Errors
/// If a mode is unknown or repeated, or a value has another type.
pub(crate) fn modes_of(file: &ConfigFile) -> Result<Vec<PoolingMode>, LoadError> {
    let mode = |name: &str| name.parse().map_err(|error| file.error(format!("\"pooling_mode\": {error}")));
    let modes = match file.get("pooling_mode") {
        Some(Value::String(name)) => vec![mode(name)?],
        Some(Value::Array(list)) => {
            let name = |name: &Value| match name.as_str() {
                Some(name) => mode(name),
                None => Err(file.unexpected("pooling_mode", name, "a name or a list of names")),
            };
            list.iter().map(name).collect::<Result<_, _>>()?
        }
        Some(other) => return Err(file.unexpected("pooling_mode", other, "a name or a list of names")),
        None => {
            let mut set = Vec::new();
            for (key, mode) in POOLING_FLAGS {
                if file.flag(key)? {
                    set.push(mode);
                }
            }
            if set.is_empty() { vec![PoolingMode::Mean] } else { set }
        }
    };
    check(&modes).map_err(|message| file.error(format!("\"pooling_mode\": {message}")))?;
    Ok(modes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_alone_and_together() {
        for mode in PoolingMode::ALL {
            assert_eq!(mode.as_str().parse(), Ok(mode));
            assert_eq!(serde_json::to_value(mode).ok(), Some(mode.as_str().into()));
        }
        let both = Pooling::Several(vec![PoolingMode::Cls, PoolingMode::LastToken]);
        assert_eq!("cls+lasttoken".parse(), Ok(both.clone()));
        assert_eq!("cls, lasttoken".parse(), Ok(both.clone()));
        assert_eq!((both.to_string().as_str(), "max".parse()), ("cls+lasttoken", Ok(Pooling::One(PoolingMode::Max))));
        let known = "expected one of cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken";
        assert_eq!("cls+first".parse::<Pooling>(), Err(format!("unknown pooling mode \"first\"; {known}")));
        let repeated = check(&[PoolingMode::Cls, PoolingMode::Max, PoolingMode::Cls]);
        assert_eq!(repeated, Err("found cls twice; expected each mode once".into()));
        let empty = Err("found no mode; expected at least one".into());
        assert_eq!((check(&[]), check(&[PoolingMode::Max])), (empty, Ok(())));
    }
}
