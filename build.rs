//! Tells the linker where libtorch lies, so that the binary and the tests find it without LD_LIBRARY_PATH, and compiles what
//! libtorch has no binding for.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Set by torch-sys for its direct dependents; absent without the `torch` feature.
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    if let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        let folder = std::fs::canonicalize(&folder).unwrap_or_else(|_| folder.into());
        println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/lib:$ORIGIN/../lib:{}", folder.display());
        // The path counts for what is loaded later, too: the code in an AOTInductor package asks for libtorch.so by name.
        if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
            println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags");
        }
        // For the tests that compile against it.
        println!("cargo:rustc-env=EMBEDMILL_LIBTORCH={}", folder.display());
        compile_package(&folder);
    }
}

/// The side of `encode/torch/package` that is C++, against the headers beside the libraries.
fn compile_package(libraries: &Path) {
    const SOURCE: &str = "src/encode/torch/package/package.cpp";
    println!("cargo:rerun-if-changed={SOURCE}");
    // As torch-sys decides it.
    println!("cargo:rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .warnings(false)
        .include(libraries.join("../include"))
        .include(libraries.join("../include/torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .file(SOURCE)
        .compile("embedmill_package");
}
