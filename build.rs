//! Tells the linker where libtorch lies, so that the binary and the tests find it without LD_LIBRARY_PATH.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Set by torch-sys for its direct dependents; absent without the `torch` feature.
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    if let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        let folder = std::fs::canonicalize(&folder).unwrap_or_else(|_| folder.into());
        println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/lib:$ORIGIN/../lib:{}", folder.display());
    }
}
