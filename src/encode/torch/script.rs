//! A TorchScript file or a package of AOTInductor as the transformer: padded batches in, token vectors or a vector a text out.
//!
//! A script wants rectangles, so sequences are filled up to the batch's longest and hidden by the attention mask; what it
//! gives for padding is cut off again, and the chain sees packed token vectors as from any family. The file is tried when it
//! is loaded: its signature, the shape of what it gives, that it is finite, and that a text's vectors do not depend on the
//! padding beside it.

use std::path::Path;
use std::sync::Arc;

use tch::{CModule, IValue, Kind, TchError, Tensor, jit};

use super::Transformer;
use super::device;
use super::layers::Mix;
use super::package::Package;
use super::packed::Packed;
use crate::batch::TokenBatch;
use crate::device::Device;
use crate::model::script::{self, Input, OutputKind, Script, ScriptOutput};
use crate::model::{LoadError, Precision};

/// The key that names the file.
const KEY: &str = "model.script";

/// How far a text's vectors alone may be from those beside a longer text, in shares of the largest value. Rounding is far
/// below it in any precision, and a mask that is not looked at far above.
const PADDING_EFFECT_MAX: f64 = 0.05;

pub struct Scripted {
    code: Code,
    inputs: Vec<Input>,
    pad_id: f64,
}

/// What a file holds, shared by the workers of a device.
#[derive(Clone)]
enum Code {
    Script(Arc<CModule>),
    /// Its vectors are the output of this number.
    Package(Arc<Package>, usize),
}

/// Loads the script on a device and tries it. It runs the file's code.
pub fn load(script: &Script, device: Device) -> Result<(Scripted, ScriptOutput), LoadError> {
    let refuse = |what: String| LoadError::Config { key: KEY, message: format!("{}: {what}", script.file.display()) };
    let scripted = Scripted::open(&script.file, script.pad_id, device).map_err(refuse)?;
    let given = scripted.try_out(&script.probe, device).map_err(refuse)?;
    Ok((scripted, given))
}

impl Scripted {
    fn open(file: &Path, pad_id: u32, device: Device) -> Result<Scripted, String> {
        match script::ScriptFormat::of(file) {
            script::ScriptFormat::TorchScript => Scripted::open_script(file, pad_id, device),
            script::ScriptFormat::Package => Scripted::open_package(file, pad_id, device),
        }
    }

    fn open_package(file: &Path, pad_id: u32, device: Device) -> Result<Scripted, String> {
        let package = Package::open(file, device, num_cpus::get()).map_err(|error| {
            let how = "expected what torch._inductor.aoti_compile_and_package writes; scripts/export_package.py makes such a file";
            format!("is no package that can be used: {}; {how}", error.lines().next().unwrap_or_default())
        })?;
        let [inputs, outputs] = package.call_spec()?;
        let (inputs, place) = (script::package_inputs(&inputs)?, script::package_output(&outputs)?);
        Ok(Scripted { code: Code::Package(Arc::new(package), place), inputs, pad_id: f64::from(pad_id) })
    }

    fn open_script(file: &Path, pad_id: u32, device: Device) -> Result<Scripted, String> {
        set_thread();
        let mut module = CModule::load_on_device(file, device::torch(device)).map_err(|error| {
            let how = "expected what torch.jit.save writes; scripts/export_torchscript.py makes such a file";
            format!("is no TorchScript file: {}; {how}", first_line(&error))
        })?;
        // One that was saved while it was trained would drop values at random.
        module.f_set_eval().map_err(|error| first_line(&error))?;
        let inputs = script::inputs(&declaration(&module)?)?;
        Ok(Scripted { code: Code::Script(Arc::new(module)), inputs, pad_id: f64::from(pad_id) })
    }

    fn try_out(&self, trial: &[Vec<u32>; 2], device: Device) -> Result<ScriptOutput, String> {
        let packed = |rows: &[Vec<u32>]| {
            let batch: TokenBatch = rows.iter().map(Vec::as_slice).collect();
            Packed::new(&batch, device::torch(device)).map_err(|error| first_line(&error))
        };
        let both = packed(trial)?;
        let found = self.run(&both)?;
        let given = given(&found, &both)?;
        let vectors = self.unpadded(found, &both).map_err(|error| first_line(&error))?;
        let alone = packed(&trial[1..])?;
        let single = self.run(&alone).and_then(|found| {
            let size = found.size();
            let same = size.len() == given.kind.rank() && size.last() == Some(&(given.width as i64));
            if same {
                Ok(found)
            } else {
                Err(format!("{}, where two texts gave {} of {} values", shape_of(&found), given.kind, given.width))
            }
        })?;
        let single = self.unpadded(single, &alone).map_err(|error| first_line(&error))?;
        let compared = || -> Result<(bool, f64), TchError> {
            let finite = vectors.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0;
            let rows = single.size()[0];
            let beside = vectors.f_narrow(0, vectors.size()[0] - rows, rows)?;
            let largest = beside.f_abs()?.f_max()?.f_double_value(&[])?;
            let apart = beside.f_sub(&single)?.f_abs()?.f_max()?.f_double_value(&[])?;
            Ok((finite, apart / largest.max(f64::MIN_POSITIVE)))
        };
        match compared().map_err(|error| first_line(&error))? {
            (false, _) => Err("gives values that are no finite numbers for a short text".into()),
            (true, apart) if apart > PADDING_EFFECT_MAX => Err(format!(
                "gives other vectors for a text when a longer one is beside it ({:.0} % apart); it has to leave out what \
                 attention_mask hides",
                apart * 100.0
            )),
            (true, _) => Ok(given),
        }
    }

    /// What the script gives for a batch, as one tensor, with padding. `[rows, length, width]` or `[rows, width]`
    fn run(&self, batch: &Packed) -> Result<Tensor, String> {
        match &self.code {
            Code::Script(module) => self.run_script(module, batch),
            Code::Package(package, place) => self.run_package(package, *place, batch),
        }
    }

    fn run_package(&self, package: &Package, place: usize, batch: &Packed) -> Result<Tensor, String> {
        let padded = || -> Result<(Tensor, Tensor, Tensor), TchError> {
            let (ids, mask) = self.padded(batch)?;
            let types = mask.f_zeros_like()?;
            Ok((ids, mask, types))
        };
        let (ids, mask, types) = padded().map_err(|error| format!("failed: {}", last_line(&error)))?;
        let given = self.inputs.iter().map(|input| match input {
            Input::Ids => &ids,
            Input::Mask => &mask,
            // A package has no input that could be left out.
            Input::TokenTypes | Input::None => &types,
        });
        let found = package.run(&given.collect::<Vec<_>>(), place + 1);
        let found = found.map_err(|error| format!("failed: {}", error.lines().next().unwrap_or_default()))?;
        found.into_iter().nth(place).ok_or_else(|| "gives fewer tensors than its specification has".into())
    }

    fn run_script(&self, module: &CModule, batch: &Packed) -> Result<Tensor, String> {
        let called = || -> Result<IValue, TchError> {
            let (ids, mask) = self.padded(batch)?;
            let input = |input: &Input| {
                Ok(match input {
                    Input::Ids => IValue::Tensor(ids.shallow_clone()),
                    Input::Mask => IValue::Tensor(mask.shallow_clone()),
                    Input::TokenTypes => IValue::Tensor(mask.f_zeros_like()?),
                    Input::None => IValue::None,
                })
            };
            let inputs = self.inputs.iter().map(input).collect::<Result<Vec<_>, TchError>>()?;
            module.forward_is(&inputs)
        };
        let given = called().map_err(|error| format!("failed: {}", last_line(&error)))?;
        vectors_per_row(given)
    }

    /// Ids and mask. `[rows, longest]` each, of 64 bits
    fn padded(&self, batch: &Packed) -> Result<(Tensor, Tensor), TchError> {
        // Groups come longest first.
        let longest = batch.groups.first().map_or(0, |group| group.length);
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        for &group in &batch.groups {
            let part = batch.ids.f_narrow(0, group.start, group.rows * group.length)?.f_to_kind(Kind::Int64)?;
            let part = part.f_view([group.rows, group.length])?;
            let missing = [0, longest - group.length];
            mask.push(part.f_ones_like()?.f_pad(missing, "constant", 0.0)?);
            ids.push(part.f_pad(missing, "constant", self.pad_id)?);
        }
        Ok((Tensor::f_cat(&ids, 0)?, Tensor::f_cat(&mask, 0)?))
    }

    /// What a script gave, without its padding. `[tokens, width]`, or `[rows, width]` as it is
    fn unpadded(&self, given: Tensor, batch: &Packed) -> Result<Tensor, TchError> {
        let given = given.f_to_kind(Kind::Float)?;
        if given.size().len() == OutputKind::TextVectors.rank() {
            return Ok(given);
        }
        let (mut row, mut parts) = (0, Vec::new());
        for group in &batch.groups {
            parts.push(given.f_narrow(0, row, group.rows)?.f_narrow(1, 0, group.length)?.f_flatten(0, 1)?);
            row += group.rows;
        }
        Tensor::f_cat(&parts, 0)
    }
}

impl OutputKind {
    fn rank(self) -> usize {
        match self {
            OutputKind::TokenVectors => 3,
            OutputKind::TextVectors => 2,
        }
    }
}

impl Transformer for Scripted {
    /// Token vectors; of a script that gives a vector a text, these: `[rows, width]`. It has no layers to be weighed.
    fn forward(&mut self, batch: &Packed, _: Mix) -> Result<Tensor, TchError> {
        let found = self.run(batch).map_err(TchError::Torch)?;
        given(&found, batch).map_err(TchError::Torch)?;
        self.unpadded(found, batch)
    }

    fn share(&self) -> Result<Box<dyn Transformer>, TchError> {
        set_thread();
        Ok(Box::new(Scripted { code: self.code.clone(), inputs: self.inputs.clone(), pad_id: self.pad_id }))
    }
}

/// Scripts run as they are written: the optimiser compiles anew for each new shape, of which a stream has no end, and what it
/// fuses after some runs is rounded otherwise than before.
fn set_thread() {
    // A setting of the calling thread, which cannot fail for want of anything.
    drop(jit::f_set_graph_executor_optimize(false));
}

/// `forward` as libtorch declares it, which it does in its complaint about missing arguments.
fn declaration(module: &CModule) -> Result<String, String> {
    let nothing: [IValue; 0] = [];
    let message = match module.forward_is(&nothing) {
        Ok(_) => "forward(self)".to_owned(),
        Err(error) => said(&error),
    };
    let declared = message.split_once("Declaration: ").map(|(_, rest)| rest.lines().next().unwrap_or_default());
    match declared.or_else(|| message.starts_with("forward(").then_some(message.as_str())) {
        Some(declared) => Ok(declared.trim().to_owned()),
        // All its arguments have defaults, and then it failed; or it has no forward.
        None => Err(format!("cannot be called: {}; {}", message.lines().next().unwrap_or_default(), script::EXPECTED)),
    }
}

/// The one tensor of a script's output: itself, the first of a tuple or list, or one of a dictionary by its name.
fn vectors_per_row(given: IValue) -> Result<Tensor, String> {
    let refuse = |what: &str| {
        Err(format!(
            "gives {what}; expected a tensor, a tuple or list that begins with one, or a dictionary with one of {}",
            script::VECTORS.join(", ")
        ))
    };
    match given {
        IValue::Tensor(tensor) => Ok(tensor),
        IValue::Tuple(parts) | IValue::GenericList(parts) => match parts.into_iter().next() {
            Some(IValue::Tensor(first)) => Ok(first),
            Some(_) => refuse("a tuple that begins with no tensor"),
            None => refuse("an empty tuple"),
        },
        IValue::TensorList(tensors) => tensors.into_iter().next().map_or_else(|| refuse("an empty list"), Ok),
        IValue::GenericDict(mut pairs) => {
            let named =
                |name: &&str| pairs.iter().position(|(key, _)| matches!(key, IValue::String(key) if key == *name));
            match script::VECTORS.iter().find_map(named).map(|index| pairs.swap_remove(index).1) {
                Some(IValue::Tensor(tensor)) => Ok(tensor),
                Some(_) => refuse("a dictionary whose vectors are no tensor"),
                None => {
                    let keys = pairs.iter().map(|(key, _)| match key {
                        IValue::String(key) => key.clone(),
                        other => format!("{other:?}"),
                    });
                    refuse(&format!("a dictionary of {}", keys.collect::<Vec<_>>().join(", ")))
                }
            }
        }
        IValue::None => refuse("nothing"),
        _ => refuse("something else"),
    }
}

/// What the tensor is for a batch, by its shape.
fn given(found: &Tensor, batch: &Packed) -> Result<ScriptOutput, String> {
    let rows: i64 = batch.groups.iter().map(|group| group.rows).sum();
    let longest = batch.groups.first().map_or(0, |group| group.length);
    let (kind, width) = match found.size()[..] {
        [a, b, width] if (a, b) == (rows, longest) && width > 0 => (OutputKind::TokenVectors, width),
        [a, width] if a == rows && width > 0 => (OutputKind::TextVectors, width),
        _ => {
            return Err(format!(
                "{}; for {rows} texts of up to {longest} tokens, expected token vectors [{rows}, {longest}, width] or text \
                 vectors [{rows}, width]",
                shape_of(found)
            ));
        }
    };
    let precision = match found.kind() {
        Kind::Float => Precision::Float32,
        Kind::Half => Precision::Float16,
        Kind::BFloat16 => Precision::Bfloat16,
        other => return Err(format!("gives numbers of type {other:?}; expected Float, Half or BFloat16")),
    };
    Ok(ScriptOutput { kind, width: width as usize, precision })
}

fn shape_of(found: &Tensor) -> String {
    format!("gives a tensor of shape {:?}", found.size())
}

/// What libtorch says, without tch's words around it.
fn said(error: &TchError) -> String {
    match error {
        TchError::Torch(message) => message.clone(),
        other => other.to_string(),
    }
}

fn first_line(error: &TchError) -> String {
    let text = said(error);
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

/// The interpreter's errors begin with the script's own stack; what went wrong stands below it.
fn last_line(error: &TchError) -> String {
    let text = said(error);
    let said = text
        .lines()
        .find(|line| line.contains("Error: "))
        .or_else(|| text.lines().map(str::trim).find(|line| !line.is_empty()));
    said.unwrap_or_default().trim().to_owned()
}
