//! A loaded model, and how the workers on the CPU share one.

use std::sync::Mutex;

use tch::TchError;

use super::families;
use super::modules::LoadedModules;
use super::script_transformer;
use super::transformer::Transformer;
use super::weights::Weights;
use crate::device::Device;
use crate::model::LoadError;
use crate::model::spec::ModelSpec;

/// The transformer and the modules after it.
pub(crate) struct LoadedModel {
    pub transformer: Box<dyn Transformer>,
    pub modules: LoadedModules,
}

impl LoadedModel {
    /// Reads the model's weights to the device.
    pub(crate) fn load(spec: &ModelSpec, device: Device) -> Result<LoadedModel, LoadError> {
        // The modules are small: what is wrong with them shows before the large file is read.
        let modules = LoadedModules::load(&spec.chain, spec.prompt_tokens, device)?;
        Ok(LoadedModel { transformer: load_transformer(spec, device)?, modules })
    }

    /// The same model for another worker on the same device: the weights are shared.
    fn share(&self) -> Result<LoadedModel, TchError> {
        Ok(LoadedModel { transformer: self.transformer.share()?, modules: self.modules.share() })
    }
}

fn load_transformer(spec: &ModelSpec, device: Device) -> Result<Box<dyn Transformer>, LoadError> {
    if let Some(script) = &spec.script {
        return Ok(Box::new(script_transformer::load(script, device)?.0));
    }
    let missing = || LoadError::Load { device, message: "the model has no config.json".into() };
    let file = spec.config.as_ref().ok_or_else(missing)?;
    let mut weights = Weights::open_in_precision(&spec.weights, device, spec.precision)?;
    families::build(&spec.family, file, &mut weights)
}

/// The model of the workers on the CPU. The first worker loads it and leaves it here, and every worker takes a share of
/// it, so that memory and caches hold the weights once, however many workers there are.
#[derive(Default)]
pub(crate) struct SharedModel(Mutex<Option<LoadedModel>>);

impl SharedModel {
    /// A share of the model, which `load` loads unless another worker did.
    pub(crate) fn share_or_load(
        &self,
        load: impl FnOnce() -> Result<LoadedModel, LoadError>,
    ) -> Result<LoadedModel, LoadError> {
        let failed = |message: String| LoadError::Load { device: Device::Cpu, message };
        let mut loaded = self.0.lock().map_err(|_| failed("loading panicked in another worker".into()))?;
        let model = match loaded.take() {
            Some(model) => model,
            None => load()?,
        };
        loaded.insert(model).share().map_err(|error| failed(error.to_string()))
    }
}
