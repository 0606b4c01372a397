//! Packages of AOTInductor in place of the transformer. One is compiled here, of tests/golden/package.cpp, whose vectors are
//! easy to know; those that PyTorch makes of real models are tried by `make test-packages`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::models::golden_folder;
use embedmill::internal::encode::spec;
use embedmill::internal::model::spec::ModelSpec;
use embedmill::internal::model::{LoadError, ModelConfig};

use crate::golden::{Model, check_model, check_order, difference, nowhere, odd_texts};

fn config(model: &str, package: &Path) -> ModelConfig {
    let id = Some(golden_folder().join(model).display().to_string());
    ModelConfig { id, script: Some(package.to_owned()), ..ModelConfig::default() }
}

fn read(config: &ModelConfig) -> Result<ModelSpec, LoadError> {
    spec(config, &nowhere(), &())
}

/// The package's code, compiled once for all tests. `CXX` names another compiler than `c++`.
fn code() -> &'static Path {
    static CODE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = CODE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("model.wrapper.so");
        let libtorch = Path::new(env!("EMBEDMILL_LIBTORCH"));
        let mut compiler = Command::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()));
        compiler.args(["-shared", "-fPIC", "-std=c++20", "-O1", "-w", "-o"]).arg(&path);
        compiler.arg(golden_folder().join("package.cpp")).arg("-I").arg(libtorch.join("../include"));
        compiler.arg("-L").arg(libtorch).args(["-ltorch", "-ltorch_cpu", "-lc10"]);
        assert!(compiler.status().expect("a C++ compiler").success(), "the package's code is not compiled");
        (folder, path)
    });
    path
}

/// A package as torch puts it together: metadata on what it was compiled for, and its code.
fn package(folder: &Path, metadata: &str) -> PathBuf {
    let path = folder.join("model.pt2");
    let write = "import sys, zipfile\n\
                 with zipfile.ZipFile(sys.argv[1], 'w') as package:\n    \
                     package.writestr('model/data/aotinductor/model/model.wrapper_metadata.json', sys.argv[2])\n    \
                     package.write(sys.argv[3], 'model/data/aotinductor/model/model.wrapper.so')";
    let written = Command::new("python3").args(["-c", write]).arg(&path).arg(metadata).arg(code()).status();
    assert!(written.expect("python3 runs").success());
    path
}

const FOR_THIS: &str = r#"{"AOTI_DEVICE_KEY": "cpu", "AOTI_CPU_ISA": "INVALID_VEC_ISA"}"#;

#[test]
fn a_package_takes_and_gives_by_name_in_every_worker() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plain = config("tiny/plain", &package(folder.path(), FOR_THIS));
    let spec = read(&plain).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((spec.dim, spec.hidden, spec.family.as_str()), (3, 3, "aotinductor"));
    let model = Model::start(spec);
    let mut texts = odd_texts();
    texts.retain(|text| text.len() < 400);
    let tokens = model.tokenize(&texts);
    for (row, vector) in model.encode_all(&tokens).into_iter().enumerate() {
        let ids = tokens.ids(row);
        let mean = ids.iter().map(|id| *id as f32).sum::<f32>() / ids.len() as f32;
        let found = difference(&vector, &[mean, 2.0 * mean, -0.25 * mean]);
        assert!(found <= 2e-4, "row {row}: {vector:?}, ids {ids:?}");
    }
    check_order(&model, "a package");
}

#[test]
fn unusable_packages_are_refused_before_their_code_is_loaded() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let check = |path: &Path, expected: &str| {
        let found = read(&config("tiny/plain", path)).err().map(|error| error.to_string()).unwrap_or_default();
        let message = format!("{}: cannot be used as a package: {expected}", path.display());
        let expected = LoadError::Config { key: "model.script", message }.to_string();
        assert!(found.starts_with(&expected), "   found {found}\nexpected {expected}");
        assert!(found.ends_with("(scripts/export_package.py makes such a file)"), "{found}");
    };
    let compiled_for = |metadata: &str| package(folder.path(), metadata);
    check(
        &compiled_for(r#"{"AOTI_DEVICE_KEY": "cuda"}"#),
        "compiled for \"cuda\", not for \"cpu\" (compile it for that device: --device)",
    );
    check(
        &compiled_for(r#"{"AOTI_DEVICE_KEY": "cpu", "AOTI_MACHINE": "s390x"}"#),
        "compiled on \"s390x\", but this machine is ",
    );
    let text = folder.path().join("text.pt2");
    std::fs::write(&text, "the river").expect("a file");
    check(&text, "Failed to initialize zip archive");
    let missing = folder.path().join("nothing.pt2");
    let found = read(&config("tiny/plain", &missing)).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(found.contains("cannot be read: No such file"), "{found}");
}

#[test]
fn an_error_in_a_package_is_the_batchs_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // The limit lies beyond what the package's code takes.
    let spec = read(&config("tiny/plain", &package(folder.path(), FOR_THIS))).unwrap_or_else(|error| panic!("{error}"));
    let spec = ModelSpec { max_seq_length: 1_000, ..spec };
    let devices = [embedmill::internal::device::Device::Cpu];
    let spec = std::sync::Arc::new(spec);
    let mut encoder =
        embedmill::internal::encode::factory(&spec, &devices)(&devices[0]).unwrap_or_else(|error| panic!("{error}"));
    let long = vec![5i32 as u32; 400];
    let found = encoder.encode(&[long.as_slice()].into_iter().collect()).err().map(|error| error.to_string());
    assert!(found.as_ref().is_some_and(|error| error.contains("400 tokens")), "{found:?}");
    let short = encoder.encode(&[&long[..20]].into_iter().collect());
    assert!(short.is_ok(), "it goes on");
}

/// The folder has what scripts/export_package.py makes of these models.
#[test]
#[ignore = "needs PyTorch to compile models: make test-packages"]
fn compiled_models_compute_what_sentence_transformers_does() {
    let folder = std::env::var_os("EMBEDMILL_TEST_PACKAGES").map(PathBuf::from).expect("make test-packages sets it");
    let texts = odd_texts();
    let check = |model: &str, name: &str, golden: &str| {
        let spec = read(&config(model, &folder.join(format!("{name}.pt2")))).unwrap_or_else(|error| panic!("{error}"));
        let model = Model::start(spec);
        check_model(&model, name, &texts, &format!("{golden}.safetensors"), 1e-5);
        check_order(&model, name);
    };
    check("tiny/mean", "mean", "mean");
    check("families/roberta", "roberta", "families/roberta");
    check("families/eurobert", "eurobert", "families/eurobert");
    check("tiny/cls", "cls-text", "cls");
}
