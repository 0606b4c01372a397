//! Rotary places (Su et al. 2021): each pair of a query's or key's numbers, the n-th of its first half with the n-th of its
//! second, is turned by an angle of the token's place times the pair's frequency.
//!
//! Frequencies come from config.json, in both generations of its keys, and by the rule that it names: `default`, `linear`
//! (Chen et al. 2023), `llama3`, `yarn` (Peng et al. 2023), and `dynamic`, which up to the model's own length is
//! `default`. They are computed by libtorch in single precision, in transformers' order (`modeling_rope_utils.py`): at place
//! 8,000 the last bit of a frequency is in the fourth digit of a vector.

use serde_json::{Map, Value};
use tch::{Device, Kind, TchError, Tensor};

use super::heads::Heads;
use super::memory;
use super::packed::Packed;
use crate::model::LoadError;
use crate::model::config_file::{ConfigFile, shorten};

/// Where a family keeps its frequencies' base, and what the base is where it keeps none.
#[derive(Debug, Clone, Copy)]
pub struct Base {
    pub key: &'static str,
    pub default: f64,
}

/// Frequencies as config.json has them, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Frequencies {
    /// Numbers of a head that are turned, an even count.
    dim: i64,
    base: f64,
    rule: Rule,
}

#[derive(Debug, Clone, PartialEq)]
enum Rule {
    Default,
    Linear { factor: f64 },
    Llama3 { factor: f64, low: f64, high: f64, trained: f64 },
    Yarn { factor: f64, first: f64, last: f64, scale: f64 },
}

impl Frequencies {
    /// Of a model whose layers all turn alike: `rope_parameters`, or `rope_scaling` and the base beside it.
    pub fn read(file: &ConfigFile, dim: i64, base: Base) -> Result<Frequencies, LoadError> {
        let old = object(file, "rope_scaling")?.filter(|map| !map.is_empty());
        let map = match old {
            Some(map) => map,
            None => object(file, "rope_parameters")?.unwrap_or_default(),
        };
        if let Some(kind) = LAYER_KINDS.iter().find(|kind| map.contains_key(**kind)) {
            let message = format!("`rope_parameters.{kind}`: this family has one rule for all layers");
            return Err(file.error(message));
        }
        Frequencies::from_map(file, map, dim, base)
    }

    /// By the one rule that the authors of GTE have in their own code, where there is one: the base is multiplied by the
    /// factor, and what is left of it is shared out among the frequencies.
    pub fn by_fixed_ntk(file: &ConfigFile, dim: i64, base: Base) -> Result<Frequencies, LoadError> {
        let Some(map) = object(file, "rope_scaling")?.filter(|map| !map.is_empty()) else {
            return Frequencies::from_map(file, Map::new(), dim, base);
        };
        let own = ConfigFile { path: file.path.clone(), json: map };
        let kind = own.text("type")?.unwrap_or_default();
        if kind != "ntk" || own.get("mixed_b").is_some() {
            let message =
                format!("`rope_scaling` of type {kind:?} is not supported; there is \"ntk\" without `mixed_b`");
            return Err(file.error(message));
        }
        let factor = positive(&own, "factor")?;
        let plain = Frequencies::from_map(file, Map::new(), dim, base)?;
        if factor <= 1.0 {
            return Ok(plain);
        }
        let rule = Rule::Linear { factor: factor.powf(2.0 / dim as f64) };
        Ok(Frequencies { base: plain.base * factor, rule, ..plain })
    }

    /// Of the layers of one kind, such as `sliding_attention`. `is_scaled` is whether an old file's `rope_scaling` is for
    /// them too.
    pub fn of_kind(
        file: &ConfigFile,
        kind: &str,
        dim: i64,
        base: Base,
        is_scaled: bool,
    ) -> Result<Frequencies, LoadError> {
        let all = object(file, "rope_parameters")?.unwrap_or_default();
        if !all.is_empty() && !LAYER_KINDS.iter().any(|kind| all.contains_key(*kind)) {
            return Err(file.error(format!("`rope_parameters` must have {}", LAYER_KINDS.join(" and "))));
        }
        let mut map = match all.get(kind) {
            Some(Value::Object(map)) => map.clone(),
            None | Some(Value::Null) => Map::new(),
            Some(other) => {
                return Err(file.error(format!("`rope_parameters.{kind}` must be an object, found {}", shorten(other))));
            }
        };
        if is_scaled && let Some(scaling) = object(file, "rope_scaling")? {
            map.extend(scaling);
        }
        Frequencies::from_map(file, map, dim, base)
    }

    fn from_map(file: &ConfigFile, map: Map<String, Value>, dim: i64, base: Base) -> Result<Frequencies, LoadError> {
        let own = ConfigFile { path: file.path.clone(), json: map };
        if let Some(part) = own.number("partial_rotary_factor")?.or(file.number("partial_rotary_factor")?)
            && part != 1.0
        {
            return Err(file.error(format!("`partial_rotary_factor` is {part}, which this version does not support")));
        }
        let theta = match own.number("rope_theta")? {
            Some(theta) => theta,
            None => file.number(base.key)?.unwrap_or(base.default),
        };
        if dim < 2 || dim % 2 != 0 {
            return Err(
                file.error(format!("heads of {dim} numbers cannot be turned by their places: pairs are needed"))
            );
        }
        if !(theta > 1.0 && theta.is_finite()) {
            return Err(file.error(format!("`rope_theta` must be greater than 1, found {theta}")));
        }
        let name = own.text("rope_type")?.or(own.text("type")?).unwrap_or("default");
        let rule = match name {
            "default" | "dynamic" => Rule::Default,
            "linear" => Rule::Linear { factor: positive(&own, "factor")? },
            "llama3" => Rule::Llama3 {
                factor: positive(&own, "factor")?,
                low: positive(&own, "low_freq_factor")?,
                high: positive(&own, "high_freq_factor")?,
                trained: trained_length(file, &own)?,
            },
            "yarn" => yarn(file, &own, dim, theta)?,
            other => {
                let message =
                    format!("`rope_type` {other:?} is not supported; there are default, linear, dynamic, llama3, yarn");
                return Err(file.error(message));
            }
        };
        Ok(Frequencies { dim, base: theta, rule })
    }

    /// `[dim / 2]`
    fn compute(&self) -> Result<Tensor, TchError> {
        let options = (Kind::Float, Device::Cpu);
        let dim = self.dim as f64;
        let powers =
            Tensor::f_pow_scalar(self.base, &Tensor::f_arange_start_step(0.0, dim, 2.0, options)?.f_div_scalar(dim)?)?;
        let plain = powers.f_reciprocal()?;
        match self.rule {
            Rule::Default => Ok(plain),
            Rule::Linear { factor } => plain.f_div_scalar(factor),
            // Long waves are stretched by the factor, short ones are not, those between in part.
            Rule::Llama3 { factor, low, high, trained } => {
                let waves = plain.f_reciprocal()?.f_mul_scalar(2.0 * std::f64::consts::PI)?;
                let (long, short) = (waves.f_gt(trained / low)?, waves.f_lt(trained / high)?);
                let stretched = plain.f_div_scalar(factor)?;
                let smooth =
                    waves.f_reciprocal()?.f_mul_scalar(trained)?.f_sub_scalar(low)?.f_div_scalar(high - low)?;
                let rest = smooth.f_neg()?.f_add_scalar(1.0)?;
                let between = rest.f_mul(&plain)?.f_div_scalar(factor)?.f_add(&smooth.f_mul(&plain)?)?;
                stretched.f_where_self(&long, &plain.f_where_self(&short, &between)?)
            }
            Rule::Yarn { factor, first, last, .. } => {
                let stretched = powers.f_mul_scalar(factor)?.f_reciprocal()?;
                let ramp = Tensor::f_arange(self.dim / 2, options)?.f_sub_scalar(first)?.f_div_scalar(last - first)?;
                let kept = ramp.f_clamp(0.0, 1.0)?.f_neg()?.f_add_scalar(1.0)?;
                let rest = kept.f_neg()?.f_add_scalar(1.0)?;
                stretched.f_mul(&rest)?.f_add(&plain.f_mul(&kept)?)
            }
        }
    }
}

/// The kinds of layers that a config may tell apart.
pub const LAYER_KINDS: [&str; 2] = ["full_attention", "sliding_attention"];

/// Each layer's kind as an index into [`LAYER_KINDS`]: `layer_types`, or the family's own rule where it is absent.
pub fn layer_kinds(
    file: &ConfigFile,
    layers: usize,
    default: impl Fn(usize) -> Result<usize, LoadError>,
) -> Result<Vec<usize>, LoadError> {
    let Some(value) = file.get("layer_types") else { return (0..layers).map(default).collect() };
    let kind = |name: &Value| LAYER_KINDS.iter().position(|kind| name.as_str() == Some(*kind));
    let kinds = value.as_array().and_then(|names| names.iter().map(kind).collect::<Option<Vec<_>>>());
    kinds.filter(|kinds| kinds.len() == layers).ok_or_else(|| {
        let known = LAYER_KINDS.join(" or ");
        file.error(format!("`layer_types` must name {layers} layers, each {known}; found {}", shorten(value)))
    })
}

fn object(file: &ConfigFile, key: &str) -> Result<Option<Map<String, Value>>, LoadError> {
    match file.get(key) {
        None => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map.clone())),
        Some(other) => Err(file.error(format!("`{key}` must be an object, found {}", shorten(other)))),
    }
}

fn positive(own: &ConfigFile, key: &str) -> Result<f64, LoadError> {
    match own.number(key)? {
        Some(number) if number > 0.0 && number.is_finite() => Ok(number),
        Some(number) => Err(own.error(format!("`{key}` of the rotary places must be positive, found {number}"))),
        None => Err(own.error(format!("`{key}` of the rotary places is missing"))),
    }
}

/// How long sequences were before they were stretched.
fn trained_length(file: &ConfigFile, own: &ConfigFile) -> Result<f64, LoadError> {
    let key = "original_max_position_embeddings";
    for (place, key) in [(file, key), (own, key), (file, "max_position_embeddings")] {
        if place.get(key).is_some() {
            return positive(place, key);
        }
    }
    Err(file.error(format!("`{key}` is missing")))
}

fn yarn(file: &ConfigFile, own: &ConfigFile, dim: i64, base: f64) -> Result<Rule, LoadError> {
    let factor = positive(own, "factor")?;
    let trained = trained_length(file, own)?;
    // Zero counts as absent in transformers.
    let given = |key| own.number(key).map(|number| number.filter(|number| *number != 0.0));
    let (fast, slow) = (given("beta_fast")?.unwrap_or(32.0), given("beta_slow")?.unwrap_or(1.0));
    if !(fast > 0.0 && slow > 0.0) {
        return Err(own.error("`beta_fast` and `beta_slow` of the rotary places must be positive"));
    }
    // The pair that turns so often within the trained length.
    let pair = |turns: f64| dim as f64 * (trained / (turns * 2.0 * std::f64::consts::PI)).ln() / (2.0 * base.ln());
    let (mut first, mut last) = (pair(fast), pair(slow));
    if super::keys::flag_or(own, "truncate", true)? {
        (first, last) = (first.floor(), last.ceil());
    }
    (first, last) = (first.max(0.0), last.min(dim as f64 - 1.0));
    if first == last {
        last += 0.001;
    }
    let growth = |scale: f64, times: f64| if scale <= 1.0 { 1.0 } else { 0.1 * times * scale.ln() + 1.0 };
    let scale = match (own.number("attention_factor")?, given("mscale")?, given("mscale_all_dim")?) {
        (Some(scale), _, _) => scale,
        (None, Some(part), Some(all)) => growth(factor, part) / growth(factor, all),
        (None, ..) => growth(factor, 1.0),
    };
    Ok(Rule::Yarn { factor, first, last, scale })
}

/// Turns queries and keys by their places.
pub struct Rotary {
    /// `[dim / 2]`
    frequencies: Tensor,
    scale: f64,
    /// Of the places so far: as many as the longest sequence had. `[places, dim / 2]`
    cosines: Tensor,
    sines: Tensor,
}

impl Rotary {
    pub fn new(frequencies: &Frequencies, device: Device) -> Result<Rotary, TchError> {
        let scale = match frequencies.rule {
            Rule::Yarn { scale, .. } => scale,
            _ => 1.0,
        };
        let none = Tensor::f_zeros([0, frequencies.dim / 2], (Kind::Float, device))?;
        Ok(Rotary {
            frequencies: frequencies.compute()?.f_to_device(device)?,
            scale,
            cosines: none.shallow_clone(),
            sines: none,
        })
    }

    pub fn share(&self) -> Rotary {
        Rotary {
            frequencies: self.frequencies.shallow_clone(),
            scale: self.scale,
            cosines: self.cosines.shallow_clone(),
            sines: self.sines.shallow_clone(),
        }
    }

    /// Has cosines and sines for sequences of this length.
    pub fn prepare(&mut self, length: i64) -> Result<(), TchError> {
        if self.cosines.size()[0] < length {
            let places = Tensor::f_arange(length, (Kind::Float, self.frequencies.device()))?;
            let angles = places.f_unsqueeze(1)?.f_mul(&self.frequencies.f_unsqueeze(0)?)?;
            self.cosines = angles.f_cos()?.f_mul_scalar(self.scale)?;
            self.sines = angles.f_sin()?.f_mul_scalar(self.scale)?;
        }
        Ok(())
    }

    /// Turns the queries and keys in `qkv`, `[tokens, qkv_width]`, in place.
    pub fn turn(&self, qkv: &mut Tensor, heads: Heads, batch: &Packed) -> Result<(), TchError> {
        if let (Some(cosines), Some(sines), Some(numbers)) =
            (memory::floats(&self.cosines), memory::floats(&self.sines), memory::floats_mut(qkv))
        {
            turn_floats(numbers, heads, batch, cosines, sines);
            return Ok(());
        }
        self.turn_tensor(qkv, heads, batch)
    }

    fn turn_tensor(&self, qkv: &Tensor, heads: Heads, batch: &Packed) -> Result<(), TchError> {
        let turned = heads.queries + heads.keys; // they lie side by side
        for &group in &batch.groups {
            let part = batch.view(qkv, group)?.f_narrow(2, 0, turned * heads.dim)?;
            let halves = part.f_view([group.rows, group.length, turned, 2, heads.dim / 2])?;
            let (mut first, mut second) = (halves.f_select(3, 0)?, halves.f_select(3, 1)?);
            let cosines = self.cosines.f_narrow(0, 0, group.length)?.f_unsqueeze(1)?; // [length, 1, dim / 2]
            let sines = self.sines.f_narrow(0, 0, group.length)?.f_unsqueeze(1)?;
            let new_first = first.f_mul(&cosines)?.f_sub(&second.f_mul(&sines)?)?;
            let new_second = second.f_mul(&cosines)?.f_add(&first.f_mul(&sines)?)?;
            first.f_copy_(&new_first)?;
            second.f_copy_(&new_second)?;
        }
        Ok(())
    }
}

/// One pass where libtorch's operations take six.
fn turn_floats(qkv: &mut [f32], heads: Heads, batch: &Packed, cosines: &[f32], sines: &[f32]) {
    let (width, dim) = (heads.qkv_width() as usize, heads.dim as usize);
    let turned = (heads.queries + heads.keys) as usize * dim;
    let half = dim / 2;
    for group in &batch.groups {
        let tokens = &mut qkv[group.start as usize * width..][..(group.rows * group.length) as usize * width];
        for (index, token) in tokens.chunks_exact_mut(width).enumerate() {
            let place = index % group.length as usize;
            let (cosines, sines) = (&cosines[place * half..][..half], &sines[place * half..][..half]);
            for head in token[..turned].chunks_exact_mut(dim) {
                let (first, second) = head.split_at_mut(half);
                for ((first, second), (cosine, sine)) in first.iter_mut().zip(second).zip(cosines.iter().zip(sines)) {
                    let (x, y) = (*first, *second);
                    *first = x * cosine - y * sine;
                    *second = y * cosine + x * sine;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::batch::TokenBatch;

    const BASE: Base = Base { key: "rope_theta", default: 10_000.0 };

    fn read(value: Value) -> Result<Vec<f32>, String> {
        let Value::Object(json) = value else { return Err("no object".into()) };
        let file = ConfigFile { path: "config.json".into(), json };
        let frequencies = Frequencies::read(&file, 8, BASE).map_err(|error| error.to_string())?;
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
    fn what_is_not_known_is_refused() {
        let check = |value: Value, expected: &str| {
            let found = read(value).expect_err("it is refused");
            assert_eq!(found, format!("config.json: {expected}"));
        };
        check(
            json!({"rope_scaling": {"rope_type": "longrope"}}),
            "`rope_type` \"longrope\" is not supported; there are default, linear, dynamic, llama3, yarn",
        );
        check(json!({"rope_scaling": {"rope_type": "linear"}}), "`factor` of the rotary places is missing");
        check(
            json!({"partial_rotary_factor": 0.5}),
            "`partial_rotary_factor` is 0.5, which this version does not support",
        );
        check(json!({"rope_theta": 1}), "`rope_theta` must be greater than 1, found 1");
        check(json!({"rope_scaling": 3}), "`rope_scaling` must be an object, found 3");
    }

    #[test]
    fn the_loop_does_what_libtorch_does() {
        tch::set_num_threads(1);
        let rows: [&[u32]; 4] = [&[0; 5], &[0; 5], &[0; 3], &[0; 1]];
        let batch = Packed::new(&rows.into_iter().collect::<TokenBatch>(), Device::Cpu).expect("14 tokens");
        let heads = Heads { queries: 4, keys: 2, dim: 6 };
        let frequencies = Frequencies { dim: 6, base: 100.0, rule: Rule::Default };
        let mut rotary = Rotary::new(&frequencies, Device::Cpu).expect("it is computed");
        rotary.prepare(5).expect("five places");
        let qkv = Tensor::rand([14, heads.qkv_width()], (Kind::Float, Device::Cpu));
        let (mut ours, theirs) = (qkv.copy(), qkv.copy());
        rotary.turn(&mut ours, heads, &batch).expect("shapes fit");
        rotary.turn_tensor(&theirs, heads, &batch).expect("shapes fit");
        assert!((&ours - &theirs).abs().max().double_value(&[]) < 1e-6);
        assert!((&ours - &qkv).abs().max().double_value(&[]) > 0.1);
        let values = heads.mixed_width() + heads.keys * heads.dim;
        assert!(ours.narrow(1, values, 12).equal(&qkv.narrow(1, values, 12)));
    }
}
