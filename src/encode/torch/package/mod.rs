//! A package of AOTInductor (`.pt2`): a model compiled ahead of time, loaded by libtorch and run on tensors.
//!
//! package.cpp is libtorch's side of it. A package is machine code for one kind of device and processor: what it was compiled
//! for is compared with what is here before it is loaded. One is shared by all workers of a device.
#![allow(unsafe_code, reason = "libtorch's loader of packages has no binding; package.cpp is one")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::Path;
use std::ptr::{self, NonNull};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::device::Device;

/// This kind of machine, by Python's name for it, which packages have.
const MACHINE: &str = match (cfg!(target_arch = "x86_64"), cfg!(target_os = "macos")) {
    (true, _) => "x86_64",
    (false, true) => "arm64",
    (false, false) => "aarch64",
};

/// libtorch's loader, which is only ever a pointer here.
#[repr(C)]
struct Loader {
    _opaque: [u8; 0],
}

#[allow(improper_ctypes, reason = "C_tensor is only ever behind a pointer")]
unsafe extern "C" {
    fn embedmill_package_says(path: *const c_char, key: *const c_char, error: *mut *mut c_char) -> *mut c_char;
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

pub struct Package {
    loader: NonNull<Loader>,
}

// SAFETY: libtorch's loader keeps its runners behind a lock and may be called, and freed, from any thread.
unsafe impl Send for Package {}
// SAFETY: as above; `run` of several threads at once is what its runners are for.
unsafe impl Sync for Package {}

impl Package {
    /// Loads the code in the file. `runners` may run it at once; others wait.
    ///
    /// # Errors
    /// In libtorch's words, or why the package is not for this device or processor.
    pub fn open(file: &Path, device: Device, runners: usize) -> Result<Package, String> {
        let path =
            file.to_str().and_then(|path| CString::new(path).ok()).ok_or("has a name that libtorch cannot take")?;
        check_made_for(&path, device)?;
        let index = match device {
            Device::Cpu => -1,
            Device::Cuda(index) => c_int::try_from(index).map_err(|_| "is for no such device")?,
        };
        // SAFETY: the path is a text that ends in NUL and lives through the call.
        let loader = checked(|error| unsafe { embedmill_package_open(path.as_ptr(), index, runners, error) })?;
        NonNull::new(loader).map(|loader| Package { loader }).ok_or_else(|| "gives nothing".to_owned())
    }

    /// How its inputs and its outputs are nested: torch's tree specifications, in JSON.
    pub fn call_spec(&self) -> Result<[String; 2], String> {
        let spec = |which| {
            // SAFETY: the loader lives as long as `self`.
            text(|error| unsafe { embedmill_package_spec(self.loader.as_ptr(), which, error) })
        };
        Ok([spec(0)?, spec(1)?])
    }

    /// The first `wanted` of its outputs, or all if there are fewer.
    pub fn run(&self, inputs: &[&Tensor], wanted: usize) -> Result<Vec<Tensor>, String> {
        let inputs: Vec<*const C_tensor> = inputs.iter().map(|tensor| tensor.as_ptr()).collect();
        let mut outputs = vec![ptr::null_mut(); wanted];
        // SAFETY: the loader lives as long as `self`; the inputs are tensors that the caller holds through the call; there is
        // room for `wanted` outputs.
        let count = checked(|error| unsafe {
            let (given, places) = (inputs.as_ptr(), outputs.as_mut_ptr());
            embedmill_package_run(self.loader.as_ptr(), given, inputs.len(), places, wanted, error)
        })?;
        outputs.truncate(count);
        let owned = outputs.into_iter().filter(|output| !output.is_null());
        // SAFETY: each is a tensor of its own on the heap, which nobody else has.
        Ok(owned.map(|output| unsafe { Tensor::from_ptr(output) }).collect())
    }
}

impl Drop for Package {
    fn drop(&mut self) {
        // SAFETY: the loader came from `embedmill_package_open`, and nothing uses it after this.
        unsafe { embedmill_package_free(self.loader.as_ptr()) }
    }
}

/// Machine code for another processor would end the process, and for another device would not load.
fn check_made_for(path: &CStr, device: Device) -> Result<(), String> {
    let says = |key: &CStr| {
        // SAFETY: both are texts that end in NUL and live through the call.
        text(|error| unsafe { embedmill_package_says(path.as_ptr(), key.as_ptr(), error) })
    };
    let kind = says(c"AOTI_DEVICE_KEY")?;
    let wanted = match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
    };
    if kind != wanted {
        return Err(format!("was compiled for {kind:?}, and is to run on {wanted:?}; compile it there (--device)"));
    }
    let machine = says(c"AOTI_MACHINE")?;
    if !machine.is_empty() && machine != MACHINE {
        return Err(format!("was compiled on {machine}, this machine is {MACHINE}; compile it here"));
    }
    match says(c"AOTI_CPU_ISA")?.split(' ').find(|name| !has(name)) {
        Some(name) => Err(format!("was compiled for processors with {name}, which this one has not; compile it here")),
        None => Ok(()),
    }
}

/// Whether the processor has a set of instructions, by torch's name for it; of names that are not known here, yes.
#[cfg(target_arch = "x86_64")]
fn has(name: &str) -> bool {
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
fn has(_: &str) -> bool {
    true
}

/// Calls the other side with a place for its error.
fn checked<T>(call: impl FnOnce(*mut *mut c_char) -> T) -> Result<T, String> {
    let mut error = ptr::null_mut();
    let found = call(&mut error);
    if error.is_null() { Ok(found) } else { Err(taken(error)) }
}

fn text(call: impl FnOnce(*mut *mut c_char) -> *mut c_char) -> Result<String, String> {
    let found = checked(call)?;
    if found.is_null() { Ok(String::new()) } else { Ok(taken(found)) }
}

/// A text that the other side made, freed.
fn taken(text: *mut c_char) -> String {
    // SAFETY: package.cpp makes its texts by strdup, so this one ends in NUL, and this side owns it; it is freed once, here.
    unsafe {
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        embedmill_text_free(text);
        copy
    }
}
