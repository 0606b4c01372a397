//! Weights out of safetensors files, checked: each tensor's name, shape, type and values.
//!
//! A header is read whole, bounded and validated. A tensor is then read from its position in the file, one at a time, so
//! memory never holds a file beside the model, and nothing is mapped: a file that changes underneath is a read error, not
//! a crash. Every type becomes f32, or the type that the model computes in. A missing tensor, another shape, or a value
//! that is not finite is an error with the tensor's name, what was found and what was expected.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use tch::{Kind, TchError, Tensor};

use super::libtorch::{self, first_line};
use super::tensor_names::TensorNames;
use crate::device::Device;
use crate::model::{LoadError, Precision};

/// A header has about a hundred bytes for each tensor; this has space for a few hundred thousand tensors.
const HEADER_BYTES_MAX: u64 = 32 << 20;

/// The open files of a model's weights.
pub(super) struct Weights {
    files: Vec<SafetensorsFile>,
    device: Device,
    /// The precision that tensors are converted to.
    precision: Precision,
    /// Names, as the files have them, of the tensors that were taken.
    taken: HashSet<String>,
}

struct SafetensorsFile {
    path: PathBuf,
    file: File,
    header: Metadata,
    /// Where the tensors' bytes begin.
    data_start: u64,
}

impl Weights {
    /// Opens files whose tensors become float32 on the device.
    ///
    /// # Errors
    /// If a file cannot be read, its header is not valid, or two files have a tensor of the same name.
    pub(super) fn open(paths: &[PathBuf], device: Device) -> Result<Weights, LoadError> {
        Weights::open_in_precision(paths, device, Precision::Float32)
    }

    /// The same in another precision.
    pub(super) fn open_in_precision(
        paths: &[PathBuf],
        device: Device,
        precision: Precision,
    ) -> Result<Weights, LoadError> {
        let files = paths.iter().map(|path| SafetensorsFile::open(path)).collect::<Result<Vec<_>, _>>()?;
        let mut seen = HashSet::new();
        for file in &files {
            if let Some(name) = file.header.offset_keys().into_iter().find(|name| !seen.insert(name.clone())) {
                let message = format!("tensor {name:?}: found in another file as well; expected each tensor once");
                return Err(LoadError::model(&file.path, message));
            }
        }
        Ok(Weights { files, device, precision, taken: HashSet::new() })
    }

    /// Reads the tensor that has one of `names` to the device.
    ///
    /// # Errors
    /// If no file has it, its shape is not `shape`, its type is not supported, or it has values that are not finite, in the
    /// file or in the model's precision.
    pub(super) fn take(&mut self, names: &TensorNames, shape: &[i64]) -> Result<Tensor, LoadError> {
        let Some((index, name)) = self.find(names) else {
            let first = names.as_slice().first().map(String::as_str).unwrap_or_default();
            let path = self.files.first().map(|file| file.path.clone()).unwrap_or_default();
            return Err(LoadError::model(path, format!("tensor {first:?}: missing; expected shape {shape:?}")));
        };
        let tensor = self.files[index].read(&name, shape)?;
        self.taken.insert(name);
        let device = libtorch::device(self.device);
        if self.precision == Precision::Float32 {
            return tensor.f_to_device(device).map_err(|error| self.load_error(&error));
        }
        let convert = || -> Result<(Tensor, bool), TchError> {
            let tensor = tensor.f_to_kind(libtorch::kind(self.precision))?;
            let finite = is_finite(&tensor)?;
            Ok((tensor.f_to_device(device)?, finite))
        };
        match convert() {
            Ok((tensor, true)) => Ok(tensor),
            Ok((_, false)) => {
                let message = format!("a weight is too large for {}; expected bfloat16 or float32", self.precision);
                Err(LoadError::Config { key: "model.precision", message })
            }
            Err(error) => Err(self.load_error(&error)),
        }
    }

    /// Whether the files have a tensor of one of these names.
    pub(super) fn has(&self, names: &TensorNames) -> bool {
        self.find(names).is_some()
    }

    /// The error of a failing operation on weights. Most likely the device's memory is full.
    pub(super) fn load_error(&self, error: &TchError) -> LoadError {
        LoadError::Load { device: self.device, message: first_line(error) }
    }

    /// Refuses tensors that nobody took and whose name contains `prefix`: a checkpoint with more layers than its config
    /// says is not the model that the config describes.
    pub(super) fn ensure_all_used(&self, prefix: &str) -> Result<(), LoadError> {
        for file in &self.files {
            let mut names = file.header.offset_keys();
            names.sort_unstable();
            if let Some(name) = names.iter().find(|name| self.is_unused(prefix, name)) {
                let message = format!("tensor {name:?}: unused; expected only the tensors that config.json describes");
                return Err(LoadError::model(&file.path, message));
            }
        }
        Ok(())
    }

    /// Old checkpoints contain the frequencies of rotary position embeddings, which are not weights: they follow from
    /// config.json.
    fn is_unused(&self, prefix: &str, name: &str) -> bool {
        name.contains(prefix) && !self.taken.contains(name) && !name.ends_with(".rotary_emb.inv_freq")
    }

    /// The file that has a tensor of one of these names, and the name.
    fn find(&self, names: &TensorNames) -> Option<(usize, String)> {
        names.as_slice().iter().find_map(|name| {
            let index = self.files.iter().position(|file| file.header.info(name).is_some())?;
            Some((index, name.clone()))
        })
    }
}

impl SafetensorsFile {
    /// Reads and checks the header.
    fn open(path: &Path) -> Result<SafetensorsFile, LoadError> {
        let refuse = |message: String| LoadError::model(path, message);
        let unreadable = |error: std::io::Error| refuse(format!("cannot be read: {error}"));
        let mut file = File::open(path).map_err(unreadable)?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        if bytes < 8 {
            return Err(refuse(format!("not a safetensors file: found {bytes} bytes; expected at least 8")));
        }
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(unreadable)?;
        let header_bytes = u64::from_le_bytes(length);
        let header_bytes_max = HEADER_BYTES_MAX.min(bytes - 8);
        if header_bytes > header_bytes_max {
            return Err(refuse(format!(
                "not a safetensors file: found a header of {header_bytes} bytes; expected at most {header_bytes_max}"
            )));
        }
        let mut header = Vec::new();
        file.by_ref().take(header_bytes).read_to_end(&mut header).map_err(unreadable)?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|error| refuse(format!("the safetensors header is not valid: {error}")))?;
        let data_start = 8 + header_bytes;
        // Deserialising the header checks that offsets are contiguous and fit their shapes. Only the end is left to compare.
        let expected = data_start.checked_add(header.data_len() as u64);
        if expected != Some(bytes) {
            let expected = expected.unwrap_or(u64::MAX);
            return Err(refuse(format!(
                "truncated or changed: found {bytes} bytes; expected {expected} bytes by its header"
            )));
        }
        Ok(SafetensorsFile { path: path.to_owned(), file, header, data_start })
    }

    /// Reads one tensor as f32 on the CPU.
    fn read(&mut self, name: &str, shape: &[i64]) -> Result<Tensor, LoadError> {
        let refuse = |message: String| LoadError::model(&self.path, format!("tensor {name:?}: {message}"));
        let Some(info) = self.header.info(name) else { return Err(refuse("missing".into())) };
        let found: Vec<i64> = info.shape.iter().map(|&size| size as i64).collect();
        if found != shape {
            return Err(refuse(format!("found shape {found:?}; expected {shape:?} by config.json")));
        }
        let kind = match info.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => {
                return Err(refuse(format!(
                    "found type {other:?}, which is not supported; expected one of F32, F16, BF16"
                )));
            }
        };
        // The offsets lie within the file, so this allocates no more than the file's size.
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        let read = self.file.seek(SeekFrom::Start(self.data_start + start as u64));
        read.and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|error| refuse(format!("cannot be read: {error}")))?;
        let convert = || -> Result<(Tensor, bool), TchError> {
            let tensor = Tensor::f_from_data_size(&bytes, shape, kind)?.f_to_kind(Kind::Float)?;
            let finite = is_finite(&tensor)?;
            Ok((tensor, finite))
        };
        match convert() {
            Ok((tensor, true)) => Ok(tensor),
            Ok((_, false)) => Err(refuse("found NaN or infinity; expected finite values".into())),
            Err(error) => Err(refuse(first_line(&error))),
        }
    }
}

/// Whether no value is NaN or infinite.
fn is_finite(tensor: &Tensor) -> Result<bool, TchError> {
    Ok(tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0)
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
            let tensor = weights.take(&TensorNames::root(&["bert"]).at("w"), &[2, 2])?;
            weights.ensure_all_used("layer.")?;
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
        check(vec![], "s0: not a safetensors file: found 0 bytes; expected ");
        check(
            u64::MAX.to_le_bytes().to_vec(),
            "s0: not a safetensors file: found a header of 18446744073709551615 bytes; expected at most 0",
        );
        check(bytes(&json!([1]), &[]), "s0: the safetensors header is not valid: ");
        check([3u64.to_le_bytes().as_slice(), b"{\"a"].concat(), "s0: the safetensors header is not valid: ");
        let check_length = |content: Vec<u8>, expected: &str| {
            let found = content.len();
            check(content, &format!("s0: truncated or changed: found {found} bytes; expected {expected}"));
        };
        let whole = bytes(&good, &floats(&ONE)).len().to_string();
        check_length(bytes(&good, &floats(&ONE[..3])), &whole);
        check_length(bytes(&good, &floats(&[0.0; 5])), &whole);
        let overlap = json!({"w": tensor("F32", &[2, 2], 0, 16), "v": tensor("F32", &[2, 2], 8, 24)});
        check(bytes(&overlap, &[0; 24]), "s0: the safetensors header is not valid: ");
        let huge = json!({"w": tensor("F32", &[usize::MAX, usize::MAX], 0, 16)});
        check(bytes(&huge, &[0; 16]), "s0: the safetensors header is not valid: ");
        let lying = json!({"w": tensor("F32", &[1 << 40, 1 << 10], 0, 1 << 52)});
        check_length(bytes(&lying, &[0; 16]), "4503599627");
        let shape = json!({"w": tensor("F32", &[4], 0, 16)});
        check(bytes(&shape, &[0; 16]), "s0: tensor \"w\": found shape [4]; expected [2, 2] by config.json");
        let kind = json!({"w": tensor("I32", &[2, 2], 0, 16)});
        check(
            bytes(&kind, &[0; 16]),
            "s0: tensor \"w\": found type I32, which is not supported; expected one of F32, F16, BF16",
        );
        check(
            bytes(&json!({"v": tensor("F32", &[1], 0, 4)}), &[0; 4]),
            "s0: tensor \"w\": missing; expected shape [2, 2]",
        );
        check(
            bytes(&good, &floats(&[1.0, f32::NAN, 0.0, 0.0])),
            "s0: tensor \"w\": found NaN or infinity; expected finite values",
        );
        check(
            bytes(&good, &floats(&[1.0, f32::INFINITY, 0.0, 0.0])),
            "s0: tensor \"w\": found NaN or infinity; expected finite values",
        );
        let more = json!({"w": tensor("F32", &[2, 2], 0, 16), "bert.layer.9.x": tensor("F32", &[1], 16, 20)});
        check(
            bytes(&more, &[0; 20]),
            "s0: tensor \"bert.layer.9.x\": unused; expected only the tensors that config.json describes",
        );
    }

    #[test]
    fn a_tensor_in_two_shards_is_refused() {
        let file = bytes(&json!({"w": tensor("F32", &[2, 2], 0, 16)}), &floats(&ONE));
        assert_eq!(
            take(&[file.clone(), file]),
            Err("s1: tensor \"w\": found in another file as well; expected each tensor once".into())
        );
    }
}
