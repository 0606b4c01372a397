//! A TorchScript file or an AOTInductor package as the transformer: token vectors out, or one vector for each text.
//!
//! A script takes rectangles, so sequences are padded to the batch's longest one and the padding is hidden by the attention
//! mask. The vectors of padding are cut off again, and the modules after it see packed token vectors as from any family. The
//! file is run when it is loaded, to check its signature, the shape of what it returns, that the values are finite, and
//! that a text's vectors do not depend on the padding beside it.

use std::path::Path;
use std::sync::Arc;

use tch::{Kind, TchError, Tensor};

use super::layers::layer_sum::WeightedLayerSum;
use super::libtorch;
use super::package::Package;
use super::packed_batch::PackedBatch;
use super::torchscript::{self, TorchScript, cause, first_line};
use super::transformer::Transformer;
use crate::batch::TokenBatch;
use crate::device::Device;
use crate::model::script::{self, OutputKind, Script, ScriptInput, ScriptOutput};
use crate::model::{LoadError, Precision};

/// The key that names the file.
const KEY: &str = "model.script";

/// How far the vectors of a text alone may be from those of the same text beside a longer one, in shares of the largest
/// value. Rounding stays far below it in any precision, and a script that ignores the mask gets far above it.
const PADDING_EFFECT_MAX: f64 = 0.05;

/// A loaded script or package.
pub(super) struct ScriptTransformer {
    code: Code,
    inputs: Vec<ScriptInput>,
    pad_id: f64,
}

/// What a file holds, shared by the workers of a device.
#[derive(Clone)]
enum Code {
    TorchScript(Arc<TorchScript>),
    Package {
        package: Arc<Package>,
        /// Which of its outputs the vectors are.
        output: usize,
    },
}

/// Loads the script on a device and tries it on two short texts. This executes the file's code.
///
/// # Errors
/// If the file does not load, or what it returns are not vectors.
pub(super) fn load(script: &Script, device: Device) -> Result<(ScriptTransformer, ScriptOutput), LoadError> {
    let refuse = |what: String| LoadError::Config { key: KEY, message: format!("{}: {what}", script.file.display()) };
    let transformer = ScriptTransformer::open(&script.file, script.pad_id, device).map_err(refuse)?;
    let output = transformer.try_out(&script.probe, device).map_err(refuse)?;
    Ok((transformer, output))
}

impl ScriptTransformer {
    fn open(file: &Path, pad_id: u32, device: Device) -> Result<ScriptTransformer, String> {
        let pad_id = f64::from(pad_id);
        match script::ScriptFormat::of(file) {
            script::ScriptFormat::TorchScript => {
                let (script, inputs) = TorchScript::load(file, device)?;
                Ok(ScriptTransformer { code: Code::TorchScript(Arc::new(script)), inputs, pad_id })
            }
            script::ScriptFormat::Package => {
                let package = Package::open(file, device, num_cpus::get()).map_err(|error| {
                    let expected = "expected a file that torch._inductor.aoti_compile_and_package wrote \
                                    (scripts/export_package.py makes such a file)";
                    let error = error.lines().next().unwrap_or_default();
                    format!("cannot be used as a package: {error}; {expected}")
                })?;
                let [inputs, outputs] = package.call_spec()?;
                let (inputs, output) = (script::package_inputs(&inputs)?, script::package_output(&outputs)?);
                Ok(ScriptTransformer { code: Code::Package { package: Arc::new(package), output }, inputs, pad_id })
            }
        }
    }

    /// Runs the script on two texts, the longer one first, and on the second text alone; checks and compares the vectors.
    fn try_out(&self, trial: &[Vec<u32>; 2], device: Device) -> Result<ScriptOutput, String> {
        let packed = |rows: &[Vec<u32>]| {
            let batch: TokenBatch = rows.iter().map(Vec::as_slice).collect();
            PackedBatch::new(&batch, libtorch::device(device)).map_err(|error| first_line(&error))
        };
        let both = packed(trial)?;
        let returned = self.run(&both)?;
        let output = output_of(&returned, &both)?;
        let vectors = self.unpadded(returned, &both).map_err(|error| first_line(&error))?;
        let alone = packed(&trial[1..])?;
        let single = self.run(&alone).and_then(|returned| {
            let size = returned.size();
            if size.len() == rank(output.kind) && size.last() == Some(&(output.width as i64)) {
                Ok(returned)
            } else {
                let shape = shape_of(&returned);
                let ScriptOutput { kind, width, .. } = output;
                Err(format!("{shape} for one text; expected {kind} of {width} values, as for two texts"))
            }
        })?;
        let single = self.unpadded(single, &alone).map_err(|error| first_line(&error))?;
        match padding_effect(&vectors, &single).map_err(|error| first_line(&error))? {
            None => Err("returns NaN or infinity for a short text; expected finite values".into()),
            Some(effect) if effect > PADDING_EFFECT_MAX => Err(format!(
                "returns other vectors for a text when a longer one is beside it ({:.0} % apart); expected it to ignore what \
                 attention_mask hides",
                effect * 100.0
            )),
            Some(_) => Ok(output),
        }
    }

    /// What the script returns for a batch, as one tensor, with padding. `[rows, length, width]` or `[rows, width]`
    fn run(&self, batch: &PackedBatch) -> Result<Tensor, String> {
        let failed = |error: TchError| format!("failed: {}", cause(&error));
        let (ids, mask) = self.padded(batch).map_err(failed)?;
        match &self.code {
            Code::TorchScript(script) => script.run(&self.inputs, &ids, &mask),
            Code::Package { package, output } => {
                let token_types = mask.f_zeros_like().map_err(failed)?;
                let inputs = self.inputs.iter().map(|input| match input {
                    ScriptInput::Ids => &ids,
                    ScriptInput::Mask => &mask,
                    // Every input of a package is required.
                    ScriptInput::TokenTypes | ScriptInput::None => &token_types,
                });
                let outputs = package.run(&inputs.collect::<Vec<_>>(), output + 1);
                let outputs =
                    outputs.map_err(|error| format!("failed: {}", error.lines().next().unwrap_or_default()))?;
                let missing = || "returns fewer tensors than its call specification has".into();
                outputs.into_iter().nth(*output).ok_or_else(missing)
            }
        }
    }

    /// Ids and mask as rectangles. Two of `[rows, longest]`, 64 bits
    fn padded(&self, batch: &PackedBatch) -> Result<(Tensor, Tensor), TchError> {
        let longest = batch.longest();
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        for &group in &batch.groups {
            let part = batch.ids.f_narrow(0, group.start, group.tokens())?.f_to_kind(Kind::Int64)?;
            let part = part.f_view([group.rows, group.length])?;
            let padding = [0, longest - group.length];
            mask.push(part.f_ones_like()?.f_pad(padding, "constant", 0.0)?);
            ids.push(part.f_pad(padding, "constant", self.pad_id)?);
        }
        Ok((Tensor::f_cat(&ids, 0)?, Tensor::f_cat(&mask, 0)?))
    }

    /// What a script returned, without its padding. `[rows, length, width]` → `[tokens, width]`; `[rows, width]` stays
    fn unpadded(&self, returned: Tensor, batch: &PackedBatch) -> Result<Tensor, TchError> {
        let returned = returned.f_to_kind(Kind::Float)?;
        if returned.size().len() == rank(OutputKind::TextVectors) {
            return Ok(returned);
        }
        let (mut row, mut parts) = (0, Vec::new());
        for group in &batch.groups {
            parts.push(returned.f_narrow(0, row, group.rows)?.f_narrow(1, 0, group.length)?.f_flatten(0, 1)?);
            row += group.rows;
        }
        Tensor::f_cat(&parts, 0)
    }
}

impl Transformer for ScriptTransformer {
    /// Token vectors, `[tokens, width]`, or from a script that returns one vector for each text these, `[rows, width]`. A
    /// script does not show its layers, so `layer_sum` is not used.
    fn forward(&mut self, batch: &PackedBatch, _layer_sum: WeightedLayerSum<'_>) -> Result<Tensor, TchError> {
        let returned = self.run(batch).map_err(TchError::Torch)?;
        output_of(&returned, batch).map_err(TchError::Torch)?;
        self.unpadded(returned, batch)
    }

    fn share(&self) -> Result<Box<dyn Transformer>, TchError> {
        torchscript::prepare_thread();
        Ok(Box::new(ScriptTransformer { code: self.code.clone(), inputs: self.inputs.clone(), pad_id: self.pad_id }))
    }
}

/// The number of axes of a script's output.
fn rank(kind: OutputKind) -> usize {
    match kind {
        OutputKind::TokenVectors => 3,
        OutputKind::TextVectors => 2,
    }
}

/// How far the vectors of one text alone, `single`, are from its vectors beside a longer text, the last of `vectors`: the
/// largest difference in shares of the largest value. `None` if `vectors` has values that are not finite.
fn padding_effect(vectors: &Tensor, single: &Tensor) -> Result<Option<f64>, TchError> {
    let finite = vectors.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0;
    let rows = single.size()[0];
    let beside = vectors.f_narrow(0, vectors.size()[0] - rows, rows)?;
    let largest = beside.f_abs()?.f_max()?.f_double_value(&[])?;
    let difference = beside.f_sub(single)?.f_abs()?.f_max()?.f_double_value(&[])?;
    Ok(finite.then_some(difference / largest.max(f64::MIN_POSITIVE)))
}

/// What a script's output for a batch is, by its shape and type.
fn output_of(returned: &Tensor, batch: &PackedBatch) -> Result<ScriptOutput, String> {
    let rows: i64 = batch.groups.iter().map(|group| group.rows).sum();
    let longest = batch.longest();
    let (kind, width) = match returned.size()[..] {
        [a, b, width] if (a, b) == (rows, longest) && width > 0 => (OutputKind::TokenVectors, width),
        [a, width] if a == rows && width > 0 => (OutputKind::TextVectors, width),
        _ => {
            return Err(format!(
                "{} for {rows} texts of up to {longest} tokens; expected token vectors [{rows}, {longest}, width] or text \
                 vectors [{rows}, width]",
                shape_of(returned)
            ));
        }
    };
    let precision = match returned.kind() {
        Kind::Float => Precision::Float32,
        Kind::Half => Precision::Float16,
        Kind::BFloat16 => Precision::Bfloat16,
        other => return Err(format!("returns values of type {other:?}; expected one of Float, Half, BFloat16")),
    };
    Ok(ScriptOutput { kind, width: width as usize, precision })
}

fn shape_of(returned: &Tensor) -> String {
    format!("returns a tensor of shape {:?}", returned.size())
}
