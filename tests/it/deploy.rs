//! What is shipped to run embedmill elsewhere: versions that stand in several places are the same, and pipelines plan.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use embedmill::internal::config::{Config, Layers};
use embedmill::internal::plan::Plan;

use super::repository::read;
use super::walls::sources;

/// What stands behind `before` on its line, up to a quote or a space.
fn after<'a>(text: &'a str, before: &str) -> &'a str {
    after_line(text, before).split(['"', ' ']).next().unwrap_or_default()
}

/// What stands behind `before`, up to the end of its line.
fn after_line<'a>(text: &'a str, before: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("expected `{before}`, which is missing"));
    rest.lines().next().unwrap_or_default()
}

#[test]
fn versions_are_the_same_everywhere() {
    let (cargo, prerequisites) = (read("Cargo.toml"), read("scripts/setup/prerequisites.py"));
    let (libtorch, kafka) = (read("scripts/setup/libtorch.py"), read("scripts/kafka.py"));
    let (docker, compose) = (read("deploy/docker/Dockerfile"), read("deploy/docker/compose.yaml"));
    let rust = after(&cargo, "rust-version = \"");
    assert_eq!(after(&docker, "ARG RUST_VERSION="), rust);
    let minimum = rust.replace('.', ", ");
    assert_eq!(after_line(&prerequisites, "CARGO_VERSION_MIN = "), format!("({minimum})"));
    let torch = after(&libtorch, "TORCH_VERSION = \"");
    assert!(read("README.md").contains(&format!("({torch})")), "README.md names another libtorch than {torch}");
    let version = env!("CARGO_PKG_VERSION");
    for text in [&docker, &compose] {
        assert!(text.contains(&format!("embedmill:{version}-")), "an image of another version");
    }
    assert_eq!(after(&compose, "image: apache/kafka:"), after(&kafka, "KAFKA_VERSION = \""));
    for line in compose.lines().filter(|line| line.trim_start().starts_with("image: ")) {
        let tag = line.rsplit(':').next().unwrap_or_default();
        assert!(tag.contains(|c: char| c.is_ascii_digit()) || line.contains("VARIANT"), "not pinned: {line}");
    }
}

/// Makefile, image, documentation and error messages name scripts by their paths from the repository's root.
#[test]
fn scripts_that_are_named_exist() {
    let part_of_path = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = ["Makefile", "Cargo.toml", "README.md", "ARCHITECTURE.md", "deploy/README.md"];
    let mut files: Vec<PathBuf> =
        documents.iter().chain(&["deploy/docker/Dockerfile"]).map(|path| root.join(path)).collect();
    files.extend(sources());
    let mut found = 0;
    for path in &files {
        let text = fs::read_to_string(path).expect("it can be read");
        for (at, _) in text.match_indices("scripts/") {
            // In a longer path it is another folder, such as tests/golden/scripts/.
            if text[..at].ends_with(part_of_path) {
                continue;
            }
            let named = text[at..].split(|c| !part_of_path(c)).next().unwrap_or_default().trim_end_matches('.');
            assert!(root.join(named).exists(), "{} names {named}, which does not exist", path.display());
            found += 1;
        }
    }
    assert!(found > 10, "expected the scripts to be named, found {found} places");
}

#[test]
fn the_image_is_built_as_everybody_builds() {
    let (docker, makefile) = (read("deploy/docker/Dockerfile"), read("Makefile"));
    assert!(makefile.contains("cargo build --release --locked"));
    assert!(docker.contains("cargo build --release --locked"));
    assert!(docker.contains("scripts/setup --only libtorch"), "the image fetches libtorch in another way");
    assert!(docker.contains("\nUSER 65532:65532\n"), "not as root");
    let chart = read("deploy/helm/embedmill/values.yaml");
    assert!(chart.contains("runAsUser: 65532"), "the chart runs it as the user that it has");
    // What is copied into the build is there, and not kept out of it.
    let ignore = read("deploy/docker/Dockerfile.dockerignore");
    let copied =
        docker.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--from"));
    for line in copied {
        let words: Vec<&str> = line.split_whitespace().collect();
        for path in &words[..words.len() - 1] {
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{path} does not exist");
            assert!(ignore.lines().any(|kept| kept == format!("!{path}")), "{path} is kept out of the build");
        }
    }
}

#[test]
fn what_compose_runs_plans() {
    let environment = [("KAFKA_BROKERS", "kafka:9092")];
    let text = read("deploy/docker/pipeline.yaml");
    let plan = Plan::new(&Layers::from_texts(&[("pipeline.yaml", &text)], &environment, &[]).load().expect("valid"));
    let plan = plan.expect("consistent");
    assert_eq!(plan.observe.map(|address| address.port()), Some(9464));
    let (compose, grace) = (read("deploy/docker/compose.yaml"), "stop_grace_period: ");
    let seconds: u64 = after(&compose, grace).trim_end_matches('s').parse().expect("seconds");
    assert!(seconds * 1_000 > Config::default().drain_ms + 15_000, "it is killed while it drains");
    for mounted in ["pipeline.yaml", "prometheus.yaml", "grafana/datasource.yaml", "grafana/dashboards.yaml"] {
        assert!(compose.contains(&format!("./{mounted}:")), "{mounted} is not mounted");
        read(&format!("deploy/docker/{mounted}"));
    }
    assert!(compose.contains("../prometheus/alerts.yaml:") && compose.contains("../grafana/embedmill.json:"));
}

#[test]
fn the_unit_gives_a_drain_its_time_and_takes_what_is_not_needed() {
    let path = "deploy/systemd/embedmill@.service";
    let unit = read(path);
    let stop: u64 = after(&unit, "TimeoutStopSec=").parse().expect("seconds");
    assert!(stop * 1_000 > Config::default().drain_ms + 15_000, "it is killed while it drains");
    for line in ["DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "RestartPreventExitStatus=2"] {
        assert!(unit.lines().any(|found| found == line), "the unit has no {line}");
    }
    // As systemd itself reads it, but for the binary, which need not be installed here.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("embedmill@files.service");
    fs::write(&copy, unit.replace("/usr/bin/embedmill", "/bin/true")).expect("it can be written");
    match Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let about: Vec<&str> = said.lines().filter(|line| line.contains("embedmill@")).collect();
            assert!(about.is_empty(), "{about:?}");
        }
        Err(_) => eprintln!("skipped: there is no systemd-analyze here"),
    }
}
