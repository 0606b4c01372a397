//! Weights out of safetensors files, checked: each tensor's name, shape, type and values.
//!
//! A header is read whole, bounded and validated; a tensor is then read from its place in the file, one at a time, so
//! memory never holds a file beside the model, and nothing is mapped: a file that changes underneath is a read error, not
//! a crash. f16 and bf16 become f32, or what the model is to compute in. A missing tensor, a wrong shape, or a value that is not finite is an error with
//! the tensor's name, what was expected and what was found.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use tch::{Kind, TchError, Tensor};

use super::device;
use super::names::Names;
use crate::device::Device;
use crate::model::{LoadError, Precision};

/// A header has about a hundred bytes a tensor; this is room for a few hundred thousand.
const HEADER_BYTES_MAX: u64 = 32 << 20;

/// The open files of a model's weights.
pub struct Weights {
    files: Vec<Shard>,
    device: Device,
    /// What tensors become.
    kind: Kind,
    /// Names as the files have them, of tensors that were taken.
    taken: HashSet<String>,
}

struct Shard {
    path: PathBuf,
    file: File,
    header: Metadata,
    /// Where the tensors' bytes begin.
    data_start: u64,
}

impl Weights {
    pub fn open(paths: &[PathBuf], device: Device) -> Result<Weights, LoadError> {
        Weights::in_precision(paths, device, Precision::Float32)
    }

    pub fn in_precision(paths: &[PathBuf], device: Device, precision: Precision) -> Result<Weights, LoadError> {
        let files = paths.iter().map(|path| Shard::open(path)).collect::<Result<Vec<_>, _>>()?;
        let weights = Weights { files, device, kind: device::kind(precision), taken: HashSet::new() };
        let mut seen = HashSet::new();
        for shard in &weights.files {
            if let Some(name) = shard.header.offset_keys().into_iter().find(|name| !seen.insert(name.clone())) {
                return Err(LoadError::model(&shard.path, format!("tensor {name} is in another shard as well")));
            }
        }
        Ok(weights)
    }

    /// Reads the tensor that goes by one of `names`, which must have this shape, on the device.
    pub fn take(&mut self, names: &[String], shape: &[i64]) -> Result<Tensor, LoadError> {
        let Some((index, name)) = self.find(names) else {
            let first = names.first().map(String::as_str).unwrap_or_default();
            let place = self.files.first().map(|shard| shard.path.clone()).unwrap_or_default();
            return Err(LoadError::model(place, format!("tensor {first} {shape:?} is missing")));
        };
        let tensor = self.files[index].read(&name, shape)?;
        self.taken.insert(name);
        if self.kind == Kind::Float {
            return tensor.f_to_device(device::torch(self.device)).map_err(|error| self.failed(&error));
        }
        let converted = || -> Result<(Tensor, bool), TchError> {
            let tensor = tensor.f_to_kind(self.kind)?;
            let finite = tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0;
            Ok((tensor.f_to_device(device::torch(self.device))?, finite))
        };
        match converted() {
            Ok((tensor, true)) => Ok(tensor),
            Ok((_, false)) => {
                let message =
                    format!("cannot be {:?}: a weight is too large for it; use bfloat16 or float32", self.kind);
                Err(LoadError::Config { key: "model.precision", message })
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Whether there is a tensor that goes by one of these names.
    pub fn has(&self, names: &Names) -> bool {
        self.find(names.as_slice()).is_some()
    }

    /// What a failing operation on weights means: most likely that the device is full.
    pub fn failed(&self, error: &TchError) -> LoadError {
        LoadError::Load { device: self.device, message: first_line(error) }
    }

    /// Refuses tensors under `prefix` that nobody took: a checkpoint with more layers than its config says is not the
    /// model that the config describes.
    pub fn none_left_under(&self, prefix: &str) -> Result<(), LoadError> {
        for shard in &self.files {
            let mut names = shard.header.offset_keys();
            names.sort_unstable();
            if let Some(name) = names.iter().find(|name| self.is_left_under(prefix, name)) {
                let message = format!("tensor {name} has no place in the model that config.json describes");
                return Err(LoadError::model(&shard.path, message));
            }
        }
        Ok(())
    }

    /// Frequencies of rotary places are not weights: they follow from config.json, and old checkpoints have them all the same.
    fn is_left_under(&self, prefix: &str, name: &str) -> bool {
        name.contains(prefix) && !self.taken.contains(name) && !name.ends_with(".rotary_emb.inv_freq")
    }

    fn find(&self, names: &[String]) -> Option<(usize, String)> {
        names.iter().find_map(|name| {
            let index = self.files.iter().position(|shard| shard.header.info(name).is_some())?;
            Some((index, name.clone()))
        })
    }
}

impl Shard {
    fn open(path: &Path) -> Result<Shard, LoadError> {
        let refuse = |message: String| LoadError::model(path, message);
        let unreadable = |error: std::io::Error| refuse(format!("cannot be read: {error}"));
        let mut file = File::open(path).map_err(unreadable)?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        if bytes < 8 {
            return Err(refuse(format!("is no safetensors file: it has {bytes} bytes, a header needs 8")));
        }
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(unreadable)?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > HEADER_BYTES_MAX.min(bytes - 8) {
            let most = HEADER_BYTES_MAX.min(bytes - 8);
            return Err(refuse(format!(
                "is no safetensors file: its header claims {header_bytes} bytes, at most {most} fit"
            )));
        }
        let mut header = Vec::new();
        file.by_ref().take(header_bytes).read_to_end(&mut header).map_err(unreadable)?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|error| refuse(format!("has a broken safetensors header: {error}")))?;
        let data_start = 8 + header_bytes;
        // Offsets are contiguous and fit their shapes: the header's own check. Here only the end is left to compare.
        let expected = data_start.checked_add(header.data_len() as u64);
        if expected != Some(bytes) {
            let expected = expected.unwrap_or(u64::MAX);
            return Err(refuse(format!(
                "is cut off or has been changed: its header describes {expected} bytes, found {bytes}"
            )));
        }
        Ok(Shard { path: path.to_owned(), file, header, data_start })
    }

    /// Reads one tensor as f32 on the CPU.
    fn read(&mut self, name: &str, shape: &[i64]) -> Result<Tensor, LoadError> {
        let refuse = |message: String| LoadError::model(&self.path, format!("tensor {name}: {message}"));
        let Some(info) = self.header.info(name) else { return Err(refuse("is missing".into())) };
        let found: Vec<i64> = info.shape.iter().map(|&size| size as i64).collect();
        if found != shape {
            return Err(refuse(format!("config.json makes its shape {shape:?}, found {found:?}")));
        }
        let kind = match info.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => return Err(refuse(format!("its type is {other:?}; there are F32, F16 and BF16"))),
        };
        // The offsets lie within the file, so this allocates no more than the file has.
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        let read = self.file.seek(SeekFrom::Start(self.data_start + start as u64));
        read.and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|error| refuse(format!("cannot be read: {error}")))?;
        let convert = || -> Result<(Tensor, bool), TchError> {
            let tensor = Tensor::f_from_data_size(&bytes, shape, kind)?.f_to_kind(Kind::Float)?;
            let finite = tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0;
            Ok((tensor, finite))
        };
        match convert() {
            Ok((tensor, true)) => Ok(tensor),
            Ok((_, false)) => Err(refuse("has values that are not finite (NaN or infinity)".into())),
            Err(error) => Err(refuse(first_line(&error))),
        }
    }
}

fn first_line(error: &TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A safetensors file: its header's length, the header, the data.
    fn bytes(header: &Value, data: &[u8]) -> Vec<u8> {
        let header = header.to_string();
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn tensor(dtype: &str, shape: &[usize], start: usize, end: usize) -> Value {
        json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]})
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// Opens files and takes the tensor `w` of shape [2, 2] from them.
    fn take(files: &[Vec<u8>]) -> Result<Vec<f32>, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let paths: Vec<PathBuf> = (0..files.len()).map(|index| folder.path().join(format!("s{index}"))).collect();
        for (path, content) in paths.iter().zip(files) {
            std::fs::write(path, content).expect("a file");
        }
        let result = Weights::open(&paths, Device::Cpu).and_then(|mut weights| {
            let tensor = weights.take(&["w".into(), "bert.w".into()], &[2, 2])?;
            weights.none_left_under("layer.")?;
            Ok(tensor)
        });
        let flat = result.map(|tensor| Vec::<f32>::try_from(tensor.flatten(0, 1)).expect("they are floats"));
        flat.map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    const ONE: [f32; 4] = [1.0, -2.0, 0.5, 0.0];

    #[test]
    fn each_type_and_name_is_read_from_any_shard() {
        let check = |files: &[Vec<u8>]| assert_eq!(take(files).expect("it is read"), ONE);
        check(&[bytes(&json!({"w": tensor("F32", &[2, 2], 0, 16)}), &floats(&ONE))]);
        check(&[bytes(&json!({"bert.w": tensor("F32", &[2, 2], 0, 16), "__metadata__": {"a": "b"}}), &floats(&ONE))]);
        let half: Vec<u8> = [0x3c00u16, 0xc000, 0x3800, 0].iter().flat_map(|bits| bits.to_le_bytes()).collect();
        check(&[bytes(&json!({"w": tensor("F16", &[2, 2], 0, 8)}), &half)]);
        let brain: Vec<u8> = [0x3f80u16, 0xc000, 0x3f00, 0].iter().flat_map(|bits| bits.to_le_bytes()).collect();
        check(&[bytes(&json!({"w": tensor("BF16", &[2, 2], 0, 8)}), &brain)]);
        let first = bytes(&json!({"pooler.x": tensor("I64", &[1], 0, 8)}), &[0; 8]);
        let second = json!({"a": tensor("F32", &[1], 0, 4), "w": tensor("F32", &[2, 2], 4, 20)});
        check(&[first, bytes(&second, &floats(&[9.0, 1.0, -2.0, 0.5, 0.0]))]);
    }

    #[test]
    fn broken_and_hostile_files_are_refused() {
        let check = |content: Vec<u8>, expected: &str| {
            let found = take(std::slice::from_ref(&content)).err().unwrap_or_else(|| "it was read".into());
            assert!(found.starts_with(expected), "   found {found}\nexpected {expected}");
        };
        let good = json!({"w": tensor("F32", &[2, 2], 0, 16)});
        check(vec![], "s0: is no safetensors file: it has 0 bytes");
        check(
            u64::MAX.to_le_bytes().to_vec(),
            "s0: is no safetensors file: its header claims 18446744073709551615 bytes, at most 0",
        );
        check(bytes(&json!([1]), &[]), "s0: has a broken safetensors header: ");
        check([3u64.to_le_bytes().as_slice(), b"{\"a"].concat(), "s0: has a broken safetensors header: ");
        check(bytes(&good, &floats(&ONE[..3])), "s0: is cut off or has been changed: its header describes ");
        check(bytes(&good, &floats(&[0.0; 5])), "s0: is cut off or has been changed: its header describes ");
        let overlap = json!({"w": tensor("F32", &[2, 2], 0, 16), "v": tensor("F32", &[2, 2], 8, 24)});
        check(bytes(&overlap, &[0; 24]), "s0: has a broken safetensors header: ");
        let huge = json!({"w": tensor("F32", &[usize::MAX, usize::MAX], 0, 16)});
        check(bytes(&huge, &[0; 16]), "s0: has a broken safetensors header: ");
        let lying = json!({"w": tensor("F32", &[1 << 40, 1 << 10], 0, 1 << 52)});
        check(bytes(&lying, &[0; 16]), "s0: is cut off or has been changed: its header describes 4503599627");
        let shape = json!({"w": tensor("F32", &[4], 0, 16)});
        check(bytes(&shape, &[0; 16]), "s0: tensor w: config.json makes its shape [2, 2], found [4]");
        let kind = json!({"w": tensor("I32", &[2, 2], 0, 16)});
        check(bytes(&kind, &[0; 16]), "s0: tensor w: its type is I32; there are F32, F16 and BF16");
        check(bytes(&json!({"v": tensor("F32", &[1], 0, 4)}), &[0; 4]), "s0: tensor w [2, 2] is missing");
        check(bytes(&good, &floats(&[1.0, f32::NAN, 0.0, 0.0])), "s0: tensor w: has values that are not finite");
        check(bytes(&good, &floats(&[1.0, f32::INFINITY, 0.0, 0.0])), "s0: tensor w: has values that are not finite");
        let more = json!({"w": tensor("F32", &[2, 2], 0, 16), "bert.layer.9.x": tensor("F32", &[1], 16, 20)});
        check(bytes(&more, &[0; 20]), "s0: tensor bert.layer.9.x has no place in the model that config.json describes");
    }

    #[test]
    fn a_tensor_in_two_shards_is_refused() {
        let file = bytes(&json!({"w": tensor("F32", &[2, 2], 0, 16)}), &floats(&ONE));
        assert_eq!(take(&[file.clone(), file]), Err("s1: tensor w is in another shard as well".into()));
    }
}
