//! Reads the parameters of rotary position embeddings from config.json.
//!
//! There are two generations of keys: `rope_parameters`, and the older `rope_scaling` with the base (`rope_theta`) beside it.
//! The rule is named by `rope_type` or the older `type`: `default`, `linear`, `dynamic`, `llama3` or `yarn`. Anything else that
//! would change the vectors is refused by name.

use serde_json::{Map, Value};

use super::frequencies::{RopeFrequencies, RopeScaling};
use crate::encode::torch::config_keys::{flag_or, unsupported};
use crate::encode::torch::layer_types::LayerType;
use crate::model::LoadError;
use crate::model::config_file::{ConfigFile, shorten};

/// The key under which a family has the base of its frequencies, and the base where the key is absent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ThetaKey {
    pub key: &'static str,
    pub default: f64,
}

impl RopeFrequencies {
    /// For a family whose layers all have the same frequencies.
    pub(crate) fn read(file: &ConfigFile, head_dim: i64, theta: ThetaKey) -> Result<RopeFrequencies, LoadError> {
        let scaling = object(file, "rope_scaling")?.filter(|map| !map.is_empty());
        let map = match scaling {
            Some(map) => map,
            None => object(file, "rope_parameters")?.unwrap_or_default(),
        };
        let names = LayerType::ALL.map(LayerType::as_str);
        if let Some(name) = names.into_iter().find(|name| map.contains_key(*name)) {
            let key = format!("rope_parameters.{name}");
            return Err(unsupported(
                file,
                &key,
                "a layer type",
                "the same RoPE parameters for all layers of this family",
            ));
        }
        RopeFrequencies::from_map(file, map, head_dim, theta)
    }

    /// For GTE by its authors' own code, which has one rule (`NTKScalingRotaryEmbedding` in `modeling.py`, with a fixed
    /// factor): the base is multiplied by the factor, and all frequencies are divided by factor^(2 / head_dim).
    pub(crate) fn read_fixed_ntk(
        file: &ConfigFile,
        head_dim: i64,
        theta: ThetaKey,
    ) -> Result<RopeFrequencies, LoadError> {
        let unscaled = RopeFrequencies::from_map(file, Map::new(), head_dim, theta);
        let Some(map) = object(file, "rope_scaling")?.filter(|map| !map.is_empty()) else { return unscaled };
        let scaling = ConfigFile { path: file.path.clone(), json: map };
        let kind = scaling.text("type")?.unwrap_or_default();
        if kind != "ntk" {
            return Err(unsupported(file, "rope_scaling.type", &format!("{kind:?}"), "\"ntk\""));
        }
        if let Some(value) = scaling.get("mixed_b") {
            return Err(unsupported(file, "rope_scaling.mixed_b", &shorten(value), "null or no such key"));
        }
        let factor = positive(&scaling, "factor")?;
        let unscaled = unscaled?;
        if factor <= 1.0 {
            return Ok(unscaled);
        }
        let scaling = RopeScaling::Linear { factor: factor.powf(2.0 / head_dim as f64) };
        Ok(RopeFrequencies { theta: unscaled.theta * factor, scaling, ..unscaled })
    }

    /// For the layers of one type. `is_scaled` is whether the `rope_scaling` of an older file applies to them too.
    pub(crate) fn read_for_layer_type(
        file: &ConfigFile,
        layer_type: LayerType,
        head_dim: i64,
        theta: ThetaKey,
        is_scaled: bool,
    ) -> Result<RopeFrequencies, LoadError> {
        let all = object(file, "rope_parameters")?.unwrap_or_default();
        let names = LayerType::ALL.map(LayerType::as_str);
        if !all.is_empty() && !names.iter().any(|name| all.contains_key(*name)) {
            let found = shorten(&Value::Object(all));
            return Err(file.error(format!("\"rope_parameters\": found {found}; expected {}", names.join(" and "))));
        }
        let name = layer_type.as_str();
        let mut map = match all.get(name) {
            Some(Value::Object(map)) => map.clone(),
            None | Some(Value::Null) => Map::new(),
            Some(other) => {
                return Err(
                    file.error(format!("\"rope_parameters.{name}\": found {}; expected an object", shorten(other)))
                );
            }
        };
        if is_scaled && let Some(scaling) = object(file, "rope_scaling")? {
            map.extend(scaling);
        }
        RopeFrequencies::from_map(file, map, head_dim, theta)
    }

    /// From an object of RoPE parameters, with the keys of the whole file for what it leaves out.
    fn from_map(
        file: &ConfigFile,
        map: Map<String, Value>,
        head_dim: i64,
        theta_key: ThetaKey,
    ) -> Result<RopeFrequencies, LoadError> {
        let rope = ConfigFile { path: file.path.clone(), json: map };
        if let Some(part) = rope.number("partial_rotary_factor")?.or(file.number("partial_rotary_factor")?)
            && part != 1.0
        {
            return Err(unsupported(file, "partial_rotary_factor", &part.to_string(), "1"));
        }
        let theta = match rope.number("rope_theta")? {
            Some(theta) => theta,
            None => file.number(theta_key.key)?.unwrap_or(theta_key.default),
        };
        if head_dim < 2 || head_dim % 2 != 0 {
            return Err(file.error(format!(
                "head size: found {head_dim}; expected an even number, since rotary position embeddings rotate pairs"
            )));
        }
        if !(theta > 1.0 && theta.is_finite()) {
            return Err(file.error(format!("\"rope_theta\": found {theta}; expected a finite number greater than 1")));
        }
        let scaling = match rope.text("rope_type")?.or(rope.text("type")?).unwrap_or("default") {
            "default" | "dynamic" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: positive(&rope, "factor")? },
            "llama3" => RopeScaling::Llama3 {
                factor: positive(&rope, "factor")?,
                low_freq_factor: positive(&rope, "low_freq_factor")?,
                high_freq_factor: positive(&rope, "high_freq_factor")?,
                original_max_positions: original_max_positions(file, &rope)?,
            },
            "yarn" => yarn(file, &rope, head_dim, theta)?,
            other => {
                let known = "one of default, linear, dynamic, llama3, yarn";
                return Err(unsupported(file, "rope_type", &format!("{other:?}"), known));
            }
        };
        Ok(RopeFrequencies { head_dim, theta, scaling })
    }
}

fn object(file: &ConfigFile, key: &str) -> Result<Option<Map<String, Value>>, LoadError> {
    match file.get(key) {
        None => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map.clone())),
        Some(other) => Err(file.error(format!("{key:?}: found {}; expected an object", shorten(other)))),
    }
}

/// A required positive number among the RoPE parameters.
fn positive(rope: &ConfigFile, key: &str) -> Result<f64, LoadError> {
    let expected = "expected a positive number for rotary position embeddings";
    match rope.number(key)? {
        Some(number) if number > 0.0 && number.is_finite() => Ok(number),
        Some(number) => Err(rope.error(format!("{key:?}: found {number}; {expected}"))),
        None => Err(rope.error(format!("{key:?}: missing; {expected}"))),
    }
}

/// The maximum length, in tokens, of the sequences that the model was trained on before it was extended.
fn original_max_positions(file: &ConfigFile, rope: &ConfigFile) -> Result<f64, LoadError> {
    let key = "original_max_position_embeddings";
    for (object, key) in [(file, key), (rope, key), (file, "max_position_embeddings")] {
        if object.get(key).is_some() {
            return positive(object, key);
        }
    }
    positive(file, key)
}

/// transformers' `_compute_yarn_parameters`, up to what depends on config.json alone.
fn yarn(file: &ConfigFile, rope: &ConfigFile, head_dim: i64, theta: f64) -> Result<RopeScaling, LoadError> {
    let factor = positive(rope, "factor")?;
    let original_max_positions = original_max_positions(file, rope)?;
    // transformers treats zero as absent.
    let given = |key| rope.number(key).map(|number| number.filter(|number| *number != 0.0));
    let (beta_fast, beta_slow) = (given("beta_fast")?.unwrap_or(32.0), given("beta_slow")?.unwrap_or(1.0));
    for (key, beta) in [("beta_fast", beta_fast), ("beta_slow", beta_slow)] {
        if beta.is_nan() || beta <= 0.0 {
            return Err(
                rope.error(format!("{key:?}: found {beta}; expected a positive number for rotary position embeddings"))
            );
        }
    }
    // The pair that rotates so often within the original length (`find_correction_dim`).
    let pair = |rotations: f64| {
        head_dim as f64 * (original_max_positions / (rotations * 2.0 * std::f64::consts::PI)).ln() / (2.0 * theta.ln())
    };
    let (mut first, mut last) = (pair(beta_fast), pair(beta_slow));
    if flag_or(rope, "truncate", true)? {
        (first, last) = (first.floor(), last.ceil());
    }
    (first, last) = (first.max(0.0), last.min(head_dim as f64 - 1.0));
    if first == last {
        last += 0.001;
    }
    // `get_mscale`
    let mscale = |scale: f64, mscale: f64| if scale <= 1.0 { 1.0 } else { 0.1 * mscale * scale.ln() + 1.0 };
    let attention_factor = match (rope.number("attention_factor")?, given("mscale")?, given("mscale_all_dim")?) {
        (Some(attention_factor), _, _) => attention_factor,
        (None, Some(part), Some(all)) => mscale(factor, part) / mscale(factor, all),
        (None, ..) => mscale(factor, 1.0),
    };
    Ok(RopeScaling::Yarn { factor, first, last, attention_factor })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const THETA: ThetaKey = ThetaKey { key: "rope_theta", default: 10_000.0 };

    fn read(value: Value) -> Result<Vec<f32>, String> {
        let Value::Object(json) = value else { return Err("not an object".into()) };
        let file = ConfigFile { path: "config.json".into(), json };
        let frequencies = RopeFrequencies::read(&file, 8, THETA).map_err(|error| error.to_string())?;
        Ok(Vec::try_from(frequencies.compute().expect("it is computed")).expect("floats"))
    }

    /// Expected values are transformers', `ROPE_INIT_FUNCTIONS` for heads of 8.
    #[test]
    fn each_rule_in_both_generations_of_keys() {
        let check = |value: Value, expected: [f32; 4]| {
            let found = read(value.clone()).expect("it is read");
            for (found, expected) in found.iter().zip(expected) {
                assert!((found / expected - 1.0).abs() < 2e-7, "{value}: {found}, not {expected}");
            }
        };
        check(json!({}), [1.0, 0.1, 0.01, 0.001]);
        check(json!({"rope_theta": 16.0}), [1.0, 0.5, 0.25, 0.125]);
        check(json!({"rope_parameters": {"rope_theta": 16.0, "rope_type": "default"}}), [1.0, 0.5, 0.25, 0.125]);
        check(json!({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 16}), [0.5, 0.25, 0.125, 0.0625]);
        check(json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}, "rope_theta": 16}), [1.0, 0.5, 0.25, 0.125]);
        let llama = json!({"rope_type": "llama3", "rope_theta": 500, "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
            "original_max_position_embeddings": 32});
        check(json!({"rope_parameters": llama}), [1.0, 0.031_185_458, 0.005_590_17, 0.001_182_177]);
        let yarn = json!({"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 16});
        check(json!({"rope_scaling": yarn, "rope_theta": 500}), [1.0, 0.052_868_56, 0.011_180_34, 0.002_364_354]);
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        let check = |value: Value, expected: &str| {
            let found = read(value).expect_err("it is refused");
            assert_eq!(found, format!("config.json: {expected}"));
        };
        check(
            json!({"rope_scaling": {"rope_type": "longrope"}}),
            "\"rope_type\": found \"longrope\", which is not supported; expected one of default, linear, dynamic, llama3, yarn",
        );
        check(
            json!({"rope_scaling": {"rope_type": "linear"}}),
            "\"factor\": missing; expected a positive number for rotary position embeddings",
        );
        check(
            json!({"partial_rotary_factor": 0.5}),
            "\"partial_rotary_factor\": found 0.5, which is not supported; expected 1",
        );
        check(json!({"rope_theta": 1}), "\"rope_theta\": found 1; expected a finite number greater than 1");
        check(json!({"rope_scaling": 3}), "\"rope_scaling\": found 3; expected an object");
    }
}
