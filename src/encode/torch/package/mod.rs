//! An AOTInductor package (`.pt2`): a model compiled ahead of time, loaded by libtorch and run on tensors.
//!
//! package.cpp wraps libtorch's loader in C functions. A package is machine code for one kind of device and processor, so what
//! it was compiled for is compared with this machine before it is loaded. The workers of a device share one package.
#![allow(unsafe_code, reason = "libtorch's loader of packages is C++; package.cpp gives it a C interface")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::Path;
use std::ptr::{self, NonNull};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::device::Device;

/// This machine's architecture by Python's `platform.machine()`, which packages record.
const MACHINE: &str = match (cfg!(target_arch = "x86_64"), cfg!(target_os = "macos")) {
    (true, _) => "x86_64",
    (false, true) => "arm64",
    (false, false) => "aarch64",
};

/// libtorch's loader, an opaque type that is used only behind a pointer.
#[repr(C)]
struct Loader {
    _opaque: [u8; 0],
}

#[allow(improper_ctypes, reason = "C_tensor is used only behind a pointer")]
unsafe extern "C" {
    fn embedmill_package_metadata(path: *const c_char, key: *const c_char, error: *mut *mut c_char) -> *mut c_char;
    fn embedmill_package_open(
        path: *const c_char,
        device: c_int,
        runners: usize,
        error: *mut *mut c_char,
    ) -> *mut Loader;
    fn embedmill_package_free(package: *mut Loader);
    fn embedmill_package_spec(package: *mut Loader, which: usize, error: *mut *mut c_char) -> *mut c_char;
    fn embedmill_package_run(
        package: *mut Loader,
        inputs: *const *const C_tensor,
        count: usize,
        outputs: *mut *mut C_tensor,
        wanted: usize,
        error: *mut *mut c_char,
    ) -> usize;
    fn embedmill_text_free(text: *mut c_char);
}

/// A loaded package.
pub(super) struct Package {
    loader: NonNull<Loader>,
}

// SAFETY: libtorch's loader keeps its runners behind a lock and may be called, and freed, from any thread.
unsafe impl Send for Package {}
// SAFETY: as above; the loader has several runners so that several threads may call `run` at once.
unsafe impl Sync for Package {}

impl Package {
    /// Loads the code in the file. `runners` threads may run it at once; others wait.
    ///
    /// # Errors
    /// If the package was compiled for another device or processor, or, in libtorch's words, if it does not load.
    pub(super) fn open(file: &Path, device: Device, runners: usize) -> Result<Package, String> {
        let path = file.to_str().and_then(|path| CString::new(path).ok());
        let path = path.ok_or("its path is not UTF-8 or contains a NUL byte")?;
        check_compiled_for(&path, device)?;
        let index = match device {
            Device::Cpu => -1,
            Device::Cuda(index) => c_int::try_from(index).map_err(|_| "the device's index is too large")?,
        };
        // SAFETY: the path is a C string that lives through the call.
        let loader = checked(|error| unsafe { embedmill_package_open(path.as_ptr(), index, runners, error) })?;
        NonNull::new(loader).map(|loader| Package { loader }).ok_or_else(|| "libtorch returned no loader".to_owned())
    }

    /// torch's tree specifications of its inputs and its outputs, in JSON: how the tensors are nested.
    ///
    /// # Errors
    /// In libtorch's words.
    pub(super) fn call_spec(&self) -> Result<[String; 2], String> {
        let spec = |which| {
            // SAFETY: the loader lives as long as `self`.
            text(|error| unsafe { embedmill_package_spec(self.loader.as_ptr(), which, error) })
        };
        Ok([spec(0)?, spec(1)?])
    }

    /// Runs the code. Returns the first `wanted` of its outputs, or all if it has fewer.
    ///
    /// # Errors
    /// In libtorch's words.
    pub(super) fn run(&self, inputs: &[&Tensor], wanted: usize) -> Result<Vec<Tensor>, String> {
        let inputs: Vec<*const C_tensor> = inputs.iter().map(|tensor| tensor.as_ptr()).collect();
        let mut outputs = vec![ptr::null_mut(); wanted];
        // SAFETY: the loader lives as long as `self`; the inputs are tensors that the caller holds through the call; `outputs`
        // has room for `wanted` pointers.
        let count = checked(|error| unsafe {
            let (arguments, results) = (inputs.as_ptr(), outputs.as_mut_ptr());
            embedmill_package_run(self.loader.as_ptr(), arguments, inputs.len(), results, wanted, error)
        })?;
        outputs.truncate(count);
        let owned = outputs.into_iter().filter(|output| !output.is_null());
        // SAFETY: package.cpp allocates each tensor on the heap and hands it over, so this side is its only owner.
        Ok(owned.map(|output| unsafe { Tensor::from_ptr(output) }).collect())
    }
}

impl Drop for Package {
    fn drop(&mut self) {
        // SAFETY: the loader came from `embedmill_package_open`, and nothing uses it after this.
        unsafe { embedmill_package_free(self.loader.as_ptr()) }
    }
}

/// Refuses machine code for another processor, which would end the process, and for another device, which would not load.
fn check_compiled_for(path: &CStr, device: Device) -> Result<(), String> {
    let metadata = |key: &CStr| {
        // SAFETY: both are C strings that live through the call.
        text(|error| unsafe { embedmill_package_metadata(path.as_ptr(), key.as_ptr(), error) })
    };
    let compiled_for = metadata(c"AOTI_DEVICE_KEY")?;
    let wanted = match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
    };
    if compiled_for != wanted {
        return Err(format!(
            "compiled for {compiled_for:?}, not for {wanted:?} (compile it for that device: --device)"
        ));
    }
    let machine = metadata(c"AOTI_MACHINE")?;
    if !machine.is_empty() && machine != MACHINE {
        return Err(format!("compiled on {machine:?}, but this machine is {MACHINE:?} (compile it on such a machine)"));
    }
    match metadata(c"AOTI_CPU_ISA")?.split(' ').find(|name| !has_instructions(name)) {
        Some(name) => {
            Err(format!("compiled for processors with {name}, which this one lacks (compile it on this one)"))
        }
        None => Ok(()),
    }
}

/// Whether this processor has a set of instructions, by torch's name for it. Unknown names are accepted.
#[cfg(target_arch = "x86_64")]
fn has_instructions(name: &str) -> bool {
    match name {
        "AVX2" => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        "AVX512" => {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw")
        }
        "AVX512_VNNI" => is_x86_feature_detected!("avx512vnni"),
        _ => true,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn has_instructions(_: &str) -> bool {
    true
}

/// Calls a function of package.cpp with a pointer for its error.
fn checked<T>(call: impl FnOnce(*mut *mut c_char) -> T) -> Result<T, String> {
    let mut error = ptr::null_mut();
    let result = call(&mut error);
    if error.is_null() { Ok(result) } else { Err(take_text(error)) }
}

/// The same for a function that returns a text; null counts as an empty one.
fn text(call: impl FnOnce(*mut *mut c_char) -> *mut c_char) -> Result<String, String> {
    let text = checked(call)?;
    if text.is_null() { Ok(String::new()) } else { Ok(take_text(text)) }
}

/// Copies a text that package.cpp allocated, and frees it.
fn take_text(text: *mut c_char) -> String {
    // SAFETY: package.cpp allocates its texts with strdup, so this is a C string, and this side owns it and frees it once, here.
    unsafe {
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        embedmill_text_free(text);
        copy
    }
}
