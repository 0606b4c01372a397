//! A TorchScript file: loaded by libtorch's interpreter, called with padded batches.

use std::path::Path;

use tch::{CModule, IValue, TchError, Tensor, jit};

use super::libtorch;
use crate::device::Device;
use crate::model::script::{self, ScriptInput};

/// The loaded code of a TorchScript file.
pub(super) struct TorchScript(CModule);

impl TorchScript {
    /// Loads the file, and reads from its declaration which inputs it takes.
    ///
    /// # Errors
    /// What is wrong with the file, after its path.
    pub(super) fn load(file: &Path, device: Device) -> Result<(TorchScript, Vec<ScriptInput>), String> {
        prepare_thread();
        let mut module = CModule::load_on_device(file, libtorch::device(device)).map_err(|error| {
            let expected =
                "expected a file that torch.jit.save wrote (scripts/export_torchscript.py makes such a file)";
            format!("not a TorchScript file: {}; {expected}", first_line(&error))
        })?;
        // A module that was saved in training mode would drop values at random.
        module.f_set_eval().map_err(|error| first_line(&error))?;
        let inputs = script::inputs(&declaration(&module)?)?;
        Ok((TorchScript(module), inputs))
    }

    /// What the script returns for ids and mask, each `[rows, length]`, as one tensor.
    ///
    /// # Errors
    /// In the script's words, or that it does not return a tensor.
    pub(super) fn run(&self, inputs: &[ScriptInput], ids: &Tensor, mask: &Tensor) -> Result<Tensor, String> {
        let call = || -> Result<IValue, TchError> {
            let value = |input: &ScriptInput| {
                Ok(match input {
                    ScriptInput::Ids => IValue::Tensor(ids.shallow_clone()),
                    ScriptInput::Mask => IValue::Tensor(mask.shallow_clone()),
                    ScriptInput::TokenTypes => IValue::Tensor(mask.f_zeros_like()?),
                    ScriptInput::None => IValue::None,
                })
            };
            let values = inputs.iter().map(value).collect::<Result<Vec<_>, TchError>>()?;
            self.0.forward_is(&values)
        };
        vectors_in(call().map_err(|error| format!("failed: {}", cause(&error)))?)
    }
}

/// Turns the graph optimiser off for the calling thread, so that scripts run as they are written. The optimiser compiles
/// anew for each new shape, of which a stream has no end, and what it fuses after some runs rounds differently from before.
pub(super) fn prepare_thread() {
    // This sets a value of the thread; no input makes it fail.
    drop(jit::f_set_graph_executor_optimize(false));
}

/// The declaration of `forward`. libtorch prints it only in its error about missing arguments, so this calls `forward`
/// without any.
fn declaration(module: &CModule) -> Result<String, String> {
    let no_arguments: [IValue; 0] = [];
    let message = match module.forward_is(&no_arguments) {
        Ok(_) => "forward(self)".to_owned(),
        Err(error) => message(&error),
    };
    let declared = message.split_once("Declaration: ").map(|(_, rest)| rest.lines().next().unwrap_or_default());
    match declared.or_else(|| message.starts_with("forward(").then_some(message.as_str())) {
        Some(declared) => Ok(declared.trim().to_owned()),
        // Either all its arguments have defaults and the call failed, or it has no `forward`.
        None => Err(format!("cannot be called: {}; {}", message.lines().next().unwrap_or_default(), script::EXPECTED)),
    }
}

/// The vectors in a script's output: the tensor itself, the first of a tuple or list, or one of a dictionary by its name.
fn vectors_in(output: IValue) -> Result<Tensor, String> {
    let refuse = |what: &str| {
        Err(format!(
            "returns {what}; expected a tensor, a tuple or list that begins with one, or a dictionary with one of {}",
            script::VECTORS.join(", ")
        ))
    };
    match output {
        IValue::Tensor(tensor) => Ok(tensor),
        IValue::Tuple(parts) | IValue::GenericList(parts) => match parts.into_iter().next() {
            Some(IValue::Tensor(first)) => Ok(first),
            Some(_) => refuse("a tuple that does not begin with a tensor"),
            None => refuse("an empty tuple"),
        },
        IValue::TensorList(tensors) => tensors.into_iter().next().map_or_else(|| refuse("an empty list"), Ok),
        IValue::GenericDict(mut pairs) => {
            let position =
                |name: &&str| pairs.iter().position(|(key, _)| matches!(key, IValue::String(key) if key == *name));
            match script::VECTORS.iter().find_map(position).map(|index| pairs.swap_remove(index).1) {
                Some(IValue::Tensor(tensor)) => Ok(tensor),
                Some(_) => refuse("a dictionary whose vectors are not a tensor"),
                None => {
                    let keys = pairs.iter().map(|(key, _)| match key {
                        IValue::String(key) => key.clone(),
                        other => format!("{other:?}"),
                    });
                    refuse(&format!("a dictionary of {}", keys.collect::<Vec<_>>().join(", ")))
                }
            }
        }
        IValue::None => refuse("None"),
        _ => refuse("a value of another type"),
    }
}

/// libtorch's message, without tch's words around it.
fn message(error: &TchError) -> String {
    match error {
        TchError::Torch(message) => message.clone(),
        other => other.to_string(),
    }
}

/// The first line of libtorch's message that is not empty.
pub(super) fn first_line(error: &TchError) -> String {
    let text = message(error);
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

/// The line of the interpreter's message that says what went wrong: the script's own stack comes before it.
pub(super) fn cause(error: &TchError) -> String {
    let text = message(error);
    let line = text
        .lines()
        .find(|line| line.contains("Error: "))
        .or_else(|| text.lines().map(str::trim).find(|line| !line.is_empty()));
    line.unwrap_or_default().trim().to_owned()
}
