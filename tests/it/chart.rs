//! The chart and the plain manifests, by their files alone: what they pass to a pod is planned as the pod would, and
//! what they repeat of the code is equal to it. `make test-chart` installs them on a real API server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::repository::{read, root};
use embedmill::internal::config::{Config, Layers};
use embedmill::internal::plan::{Plan, SourcePlan};
use serde_json::Value;

/// A YAML document as JSON.
fn yaml(text: &str) -> Value {
    let file = config::File::from_str(text, config::FileFormat::Yaml);
    let built = config::Config::builder().add_source(file).build().unwrap_or_else(|error| panic!("{error}: {text}"));
    built.try_deserialize().expect("YAML is more than JSON only where nobody writes it")
}

/// The objects of a file, by kind.
fn objects(text: &str) -> Vec<(String, Value)> {
    let documents = text.split("\n---\n").filter(|document| document.contains("kind:")).map(yaml);
    documents.map(|document| (document["kind"].as_str().unwrap_or_default().to_string(), document)).collect()
}

const CHART: &str = "deploy/helm/embedmill";

#[test]
fn alerts_and_dashboard_are_those_of_everybody() {
    assert_eq!(read(&format!("{CHART}/files/alerts.yaml")), read("deploy/prometheus/alerts.yaml"), "copy it");
    assert_eq!(read(&format!("{CHART}/files/dashboard.json")), read("deploy/grafana/embedmill.json"), "copy it");
}

#[test]
fn versions_are_that_of_the_package() {
    let chart = yaml(&read(&format!("{CHART}/Chart.yaml")));
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    for folder in ["stream", "stream-gpu", "files"] {
        let text = read(&format!("deploy/kubernetes/{folder}/kustomization.yaml"));
        assert!(text.contains(&format!("newTag: {}-c", env!("CARGO_PKG_VERSION"))), "{folder}: {text}");
    }
}

/// The seconds of a constant in a source file, such as `const FLUSH_MAX: Duration = Duration::from_secs(60);`.
fn seconds(path: &str, name: &str) -> u64 {
    let text = read(path);
    let (_, rest) = text.split_once(&format!("const {name}: Duration = Duration::from_secs(")).expect(name);
    rest.split(')').next().and_then(|digits| digits.parse().ok()).expect(name)
}

/// What a define of the chart's helpers gives.
fn helper(name: &str) -> u64 {
    let text = read(&format!("{CHART}/templates/_helpers.tpl"));
    let (_, rest) = text.split_once(&format!("define \"embedmill.{name}\" }}}}")).expect(name);
    rest.split("{{").next().and_then(|digits| digits.parse().ok()).expect(name)
}

#[test]
fn a_pod_has_the_time_that_the_code_takes() {
    let kafka = "src/kafka/librdkafka";
    let publish = seconds(&format!("{kafka}/publisher.rs"), "FLUSH_MAX")
        + seconds(&format!("{kafka}/limits.rs"), "TRANSACTION_CALL_MAX");
    let leave = seconds(&format!("{kafka}/group.rs"), "LEAVE_MAX") + seconds("src/pipeline/mod.rs", "DELIVERY_STOP_MAX");
    assert!(helper("publishSeconds") >= publish, "{publish}");
    assert!(helper("leaveSeconds") >= leave, "{leave}");
    let values = yaml(&read(&format!("{CHART}/values.yaml")));
    let value = |name: &str| values[name].as_u64().expect(name);
    assert!(value("drainSeconds") > value("longestWindowSeconds") + publish);
    assert!(value("drainSeconds") * 1_000 >= Config::default().drain_ms);
    for (kind, object) in manifests("stream").into_iter().chain(manifests("files")) {
        if let Some(spec) = object.pointer("/spec/template/spec").filter(|_| kind != "ScaledObject") {
            let grace = spec["terminationGracePeriodSeconds"].as_u64().expect("a grace period");
            assert!(grace >= value("drainSeconds") + leave, "{kind}: {grace}");
        }
    }
    // A group's member that is away is missed only after its session; a revocation must not wait longer than a poll may.
    let kafka = embedmill::internal::kafka::config::KafkaSourceConfig::default();
    assert!(kafka.revoke_drain_ms < value("drainSeconds") * 1_000);
    assert_eq!(values["observe"]["port"], 9464, "the port of the code's default and of the documentation");
}

fn manifests(folder: &str) -> Vec<(String, Value)> {
    objects(&read(&format!("deploy/kubernetes/{folder}/embedmill.yaml")))
}

/// The plan of a pipeline with a container's environment. What only the cluster knows has a value of its kind.
fn plan(pipeline: &str, container: &Value) -> Plan {
    let variable = |variable: &Value| {
        let name = variable["name"].as_str().expect("a name").to_string();
        let from = variable.pointer("/valueFrom/fieldRef/fieldPath").and_then(Value::as_str).unwrap_or_default();
        let value = match variable.get("value") {
            Some(value) => value.as_str().expect("Kubernetes takes only strings").to_string(),
            None if from.contains("job-completion-index") => "2".into(),
            None => "embedmill-0".into(),
        };
        (name, value)
    };
    let variables: Vec<(String, String)> =
        container["env"].as_array().expect("variables").iter().map(variable).collect();
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let config = Layers::from_texts(&[("pipeline.yaml", pipeline)], &variables, &[]).load();
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    Plan::new(&config).unwrap_or_else(|error| panic!("{error}"))
}

fn object<'a>(objects: &'a [(String, Value)], kind: &str) -> &'a Value {
    &objects.iter().find(|(found, _)| found == kind).unwrap_or_else(|| panic!("no {kind}")).1
}

fn container(workload: &Value) -> &Value {
    workload.pointer("/spec/template/spec/containers/0").expect("a container")
}

#[test]
fn what_a_pod_is_given_plans() {
    let (stream, files) = (manifests("stream"), manifests("files"));
    let streaming = container(object(&stream, "Deployment"));
    let pipeline = |objects: &[(String, Value)]| {
        let text = &object(objects, "ConfigMap")["data"]["pipeline.yaml"];
        text.as_str().expect("a pipeline file").to_string()
    };
    let values = yaml(&read(&format!("{CHART}/values.yaml")));
    for text in [pipeline(&stream), values["pipeline"].as_str().expect("a pipeline").to_string()] {
        let plan = plan(&text, streaming);
        assert_eq!(plan.observe.map(|address| address.to_string()).as_deref(), Some("0.0.0.0:9464"));
        assert!(matches!(plan.source, SourcePlan::Kafka(kafka) if kafka.group == "embedmill"));
    }
    let fixed = plan(&read("tests/chart/pipelines/static.yaml"), streaming);
    let SourcePlan::Kafka(kafka) = fixed.source else { panic!("Kafka") };
    assert_eq!(kafka.properties.get("group.instance.id").map(String::as_str), Some("embedmill-0"));

    let job = object(&files, "Job");
    for text in [pipeline(&files), read("tests/chart/pipelines/files.yaml")] {
        let SourcePlan::Files(files) = plan(&text, container(job)).source else { panic!("files") };
        let shard = files.shard.expect("a shard");
        assert_eq!((Some(u64::from(shard.count)), shard.index), (job["spec"]["completions"].as_u64(), 2));
    }
}

#[test]
fn a_pod_may_do_nothing_that_it_need_not() {
    for (kind, object) in manifests("stream").into_iter().chain(manifests("files")) {
        let Some(spec) = object.pointer("/spec/template/spec") else { continue };
        let security = &container(&object)["securityContext"];
        assert_eq!(spec["automountServiceAccountToken"], false, "{kind}");
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true, "{kind}");
        assert_eq!(security["readOnlyRootFilesystem"], true, "{kind}");
        assert_eq!(security["allowPrivilegeEscalation"], false, "{kind}");
        assert_eq!(security["capabilities"]["drop"][0], "ALL", "{kind}");
    }
}

/// helm of this machine, or as `make test-chart` builds it.
fn helm() -> Option<PathBuf> {
    let runs = |helm: &Path| Command::new(helm).arg("version").output().is_ok_and(|output| output.status.success());
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")))?;
    let built =
        fs::read_dir(cache.join("embedmill/kubernetes")).into_iter().flatten().flatten().map(|entry| entry.path());
    let built = built.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("helm-")));
    built.chain([PathBuf::from("helm")]).find(|helm| runs(helm))
}

#[test]
fn the_manifests_are_what_the_chart_renders() {
    let Some(helm) = helm() else {
        eprintln!("skipped: there is no helm here; `make test-chart` builds one");
        return;
    };
    let script = root().join("tests/chart/render.py");
    let output = Command::new("python3").arg(script).args(["--check", "--helm"]).arg(&helm).output();
    let output = output.expect("python3 is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lint = Command::new(&helm).args(["lint", "--strict"]).arg(root().join(CHART)).output().expect("helm runs");
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
}
