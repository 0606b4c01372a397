//! How token vectors become one vector: the modes by sentence-transformers' names, alone or side by side, as the pipeline
//! file gives them and as a model's own files do.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::LoadError;
use super::config_file::{ConfigFile, short};
use crate::enum_names::enum_names;

/// One way to make a vector of token vectors, by sentence-transformers' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolingMode {
    /// The first token's vector.
    Cls,
    /// The largest value of each column.
    Max,
    /// The average over all tokens, special tokens included.
    Mean,
    /// The sum over all tokens, divided by the square root of their number.
    MeanSqrtLenTokens,
    /// The average in which a token weighs as much as its place, counted from 1.
    #[serde(rename = "weightedmean")]
    WeightedMean,
    /// The last token's vector.
    #[serde(rename = "lasttoken")]
    LastToken,
}

enum_names!(
    PoolingMode,
    "pooling",
    Cls = "cls",
    Max = "max",
    Mean = "mean",
    MeanSqrtLenTokens = "mean_sqrt_len_tokens",
    WeightedMean = "weightedmean",
    LastToken = "lasttoken"
);

/// `model.pooling`: a mode, or several whose vectors are put side by side in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected one of cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken, or a list of them"
)]
pub enum Pooling {
    One(PoolingMode),
    Several(Vec<PoolingMode>),
}

impl Pooling {
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
        f.write_str(&joined(self.modes()))
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

/// Modes as they are written in one word, as in `cls+mean`.
pub fn joined(modes: &[PoolingMode]) -> String {
    modes.iter().map(|mode| mode.as_str()).collect::<Vec<_>>().join("+")
}

/// What is wrong with a list of modes, if anything.
pub fn fault(modes: &[PoolingMode]) -> Option<String> {
    if modes.is_empty() {
        return Some("names no mode".into());
    }
    let twice = (1..modes.len()).find(|&index| modes[..index].contains(&modes[index]))?;
    Some(format!("names {} twice", modes[twice]))
}

/// The keys of the older generation, in the order in which sentence-transformers puts the vectors side by side.
const POOLING_FLAGS: [(&str, PoolingMode); 6] = [
    ("pooling_mode_cls_token", PoolingMode::Cls),
    ("pooling_mode_max_tokens", PoolingMode::Max),
    ("pooling_mode_mean_tokens", PoolingMode::Mean),
    ("pooling_mode_mean_sqrt_len_tokens", PoolingMode::MeanSqrtLenTokens),
    ("pooling_mode_weightedmean_tokens", PoolingMode::WeightedMean),
    ("pooling_mode_lasttoken", PoolingMode::LastToken),
];

/// The modes of a Pooling module: `pooling_mode` as a name or a list, else one flag a mode; none set means mean.
pub fn declared(file: &ConfigFile) -> Result<Vec<PoolingMode>, LoadError> {
    let mode = |name: &str| name.parse().map_err(|what| file.error(format!("`pooling_mode`: {what}")));
    let modes = match file.get("pooling_mode") {
        Some(Value::String(name)) => vec![mode(name)?],
        Some(Value::Array(list)) => {
            let name = |name: &Value| match name.as_str() {
                Some(name) => mode(name),
                None => Err(file.error(format!("`pooling_mode` must be a list of names, found {}", short(name)))),
            };
            list.iter().map(name).collect::<Result<_, _>>()?
        }
        Some(other) => {
            return Err(file.error(format!("`pooling_mode` must be a name or a list of names, found {}", short(other))));
        }
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
    match fault(&modes) {
        Some(fault) => Err(file.error(format!("`pooling_mode` {fault}"))),
        None => Ok(modes),
    }
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
        let known = "there are cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken";
        assert_eq!("cls+first".parse::<Pooling>(), Err(format!("`first` is no pooling; {known}")));
        assert_eq!(fault(&[PoolingMode::Cls, PoolingMode::Max, PoolingMode::Cls]), Some("names cls twice".into()));
        assert_eq!((fault(&[]), fault(&[PoolingMode::Max])), (Some("names no mode".into()), None));
    }
}
