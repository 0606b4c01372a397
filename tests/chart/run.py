#!/usr/bin/env python3
"""Installs the chart on a real Kubernetes API server with every switch in turn, upgrades it, and takes it away again.

In:    what tools.py builds, and openssl. `make test-chart` runs this.
Out:   a line a case on standard error; exit code 0 if all hold.
Keeps: nothing.
Fails: with the case, and what the API server or helm answered; exit code 1.

The server refuses what a cluster would: unknown fields, names, custom resources by their real definitions, and pods by
the Pod Security level `restricted`. There are no nodes; a job's pods are run as processes of the binary (job.py).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

sys.dont_write_bytecode = True
import cases  # noqa: E402
import job  # noqa: E402
import tools  # noqa: E402
from cluster import Cluster, Refused  # noqa: E402

REPOSITORY = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(REPOSITORY / "scripts"))
from setup.places import release_binary  # noqa: E402

CHART = REPOSITORY / "deploy" / "helm" / "embedmill"
NAMESPACE = "embeddings"
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}

# Where objects of a kind are, within a namespace.
PATHS: Dict[str, str] = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Service": "/api/v1/namespaces/{}/services",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "ScaledObject": "/apis/keda.sh/v1alpha1/namespaces/{}/scaledobjects",
    "ServiceMonitor": "/apis/monitoring.coreos.com/v1/namespaces/{}/servicemonitors",
    "PrometheusRule": "/apis/monitoring.coreos.com/v1/namespaces/{}/prometheusrules",
}
# Kubernetes 1.34 says so of a service that does not set it, for its default is not nothing.
OF_EVERY_HEADLESS_SERVICE = "spec.SessionAffinity is ignored for headless services"
WORKLOADS = {"deployment": "Deployment", "statefulset": "StatefulSet", "job": "Job"}


class Failed(Exception):
    pass


def hold(condition: object, message: str) -> None:
    if not condition:
        raise Failed(message)


class Helm:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.values = Path(cluster.folder.name) / "values.json"

    def run(self, *arguments: str, values: Any = None) -> "subprocess.CompletedProcess[str]":
        command = [str(tools.ensure("helm")), *arguments]
        if values is not None:
            self.values.write_text(json.dumps(values))
            command += ["-f", str(self.values)]
        command += ["--kubeconfig", str(self.cluster.kubeconfig), "-n", NAMESPACE]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    def must(self, *arguments: str, values: Any = None) -> str:
        done = self.run(*arguments, values=values)
        hold(done.returncode == 0, f"helm {arguments[0]}: {done.stderr.strip()}")
        # The server's warnings: of Pod Security, and of fields that it does not know.
        warnings = [line for line in done.stderr.splitlines() if "arning" in line or "W1" in line[:2]]
        warnings = [line for line in warnings if OF_EVERY_HEADLESS_SERVICE not in line]
        hold(not warnings, f"helm {arguments[0]}: {warnings}")
        return done.stdout


def prepare(cluster: Cluster) -> None:
    for path in tools.definitions():
        cluster.call(
            "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", path.read_bytes(), kind="application/yaml"
        )
    cluster.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE, "labels": RESTRICTED}})
    cluster.create("/apis/node.k8s.io/v1/runtimeclasses", {"metadata": {"name": "nvidia"}, "handler": "nvidia"})
    cluster.create("/apis/scheduling.k8s.io/v1/priorityclasses", {"metadata": {"name": "embeddings"}, "value": 1})
    cluster.create(PATHS["ServiceAccount"].format(NAMESPACE), {"metadata": {"name": "there"}})
    # Definitions are served a moment after they are taken.
    for kind in ("ScaledObject", "ServiceMonitor", "PrometheusRule"):
        for attempt in range(100):
            try:
                cluster.call("GET", PATHS[kind].format(NAMESPACE))
                break
            except Refused:
                hold(attempt < 99, f"{kind} is not served")
                subprocess.run(["sleep", "0.1"], check=True)


def objects(cluster: Cluster, release: str) -> Dict[str, List[Dict[str, Any]]]:
    """What there is of a release. A claim waits for a controller to let it go, and there is none."""

    def ours(item: Dict[str, Any]) -> bool:
        metadata = item["metadata"]
        return metadata.get("labels", {}).get("app.kubernetes.io/instance") == release and "deletionTimestamp" not in metadata

    found = {kind: [item for item in cluster.items(path.format(NAMESPACE)) if ours(item)] for kind, path in PATHS.items()}
    # A list's items do not say their kind.
    return {kind: [{**item, "kind": kind} for item in items] for kind, items in found.items() if items}


def expected_kinds(values: Dict[str, Any]) -> List[str]:
    mode = values.get("mode", "deployment")
    kinds = [WORKLOADS[mode], "ConfigMap", "Service"]
    switches = [
        ("ServiceAccount", not values.get("serviceAccount", {}).get("name")),
        ("PersistentVolumeClaim", values.get("modelCache", {}).get("kind") == "pvc"),
        ("PodDisruptionBudget", mode != "job" and values.get("podDisruptionBudget", {}).get("enabled", True)),
        ("NetworkPolicy", values.get("networkPolicy", {}).get("enabled")),
        ("ScaledObject", values.get("keda", {}).get("enabled")),
        ("ServiceMonitor", values.get("serviceMonitor", {}).get("enabled")),
        ("PrometheusRule", values.get("prometheusRule", {}).get("enabled")),
    ]
    return sorted(kinds + [kind for kind, switched in switches if switched])


def pod_of(cluster: Cluster, workload: Dict[str, Any]) -> Dict[str, Any]:
    """The pod that the workload would make, as the server's admission, Pod Security among it, takes it."""
    template = workload["spec"]["template"]
    pod = {"metadata": {**template["metadata"], "name": "dry"}, "spec": template["spec"]}
    made = cluster.create(f"/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All", pod)
    hold(not cluster.warnings, f"the pod: {cluster.warnings}")
    mounted = [volume for volume in made["spec"]["volumes"] if "projected" in volume]
    hold(not mounted, "the pod gets a service account's token")
    return made


def check_pod(values: Dict[str, Any], pod: Dict[str, Any]) -> None:
    spec = pod["spec"]
    [container] = spec["containers"]
    names = [one["name"] for one in container["env"]]
    hold(len(names) == len(set(names)), f"a variable is set twice: {names}")
    environment = {one["name"]: one for one in container["env"]}
    grace, drain = spec["terminationGracePeriodSeconds"], int(environment["EMBEDMILL__DRAIN_MS"]["value"])
    hold(grace * 1000 > drain, f"killed after {grace} s, in a drain of {drain} ms")
    hold(container["securityContext"]["readOnlyRootFilesystem"], "the root file system can be written")
    hold(("EMBEDMILL__SOURCE__FILES__SHARD__INDEX" in environment) == (values.get("mode") == "job"), "the shard's number")
    gpus = values.get("gpu", {}).get("count", 0)
    hold(container["resources"]["limits"].get("nvidia.com/gpu") == (str(gpus) if gpus else None), "the GPUs")
    tolerated = [one.get("key") for one in spec.get("tolerations", [])]
    hold(("nvidia.com/gpu" in tolerated) == bool(gpus), f"the GPUs' toleration: {tolerated}")


def check_case(cluster: Cluster, helm: Helm, name: str, values: Dict[str, Any]) -> None:
    release = f"r-{name}"
    helm.must("install", release, str(CHART), values=values)
    found = objects(cluster, release)
    hold(sorted(found) == expected_kinds(values), f"made {sorted(found)}, expected {expected_kinds(values)}")
    kind = WORKLOADS[values.get("mode", "deployment")]
    [workload] = found[kind]
    pod = pod_of(cluster, workload)
    check_pod(values, pod)
    check_scaling(values, found, workload)
    hook = helm.must("get", "hooks", release)
    path = f"/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All&fieldValidation=Strict"
    cluster.call("POST", path, hook.encode(), kind="application/yaml")

    helm.must("upgrade", release, str(CHART), values=cases.changed(values))
    [upgraded] = objects(cluster, release)[kind]
    image = upgraded["spec"]["template"]["spec"]["containers"][0]["image"]
    hold(image.endswith(":next"), f"the image after the upgrade: {image}")
    hold((upgraded["metadata"]["name"] != workload["metadata"]["name"]) == (kind == "Job"), "a job is made anew, others stay")
    pipeline = values.get("pipeline", cases.FILES_PIPELINE if kind == "Job" else "")
    if pipeline:
        helm.must("upgrade", release, str(CHART), values={**values, "pipeline": pipeline + "output: { text: false }\n"})
        [upgraded] = objects(cluster, release)[kind]
        before, after = (one["spec"]["template"]["metadata"]["annotations"]["checksum/config"] for one in (workload, upgraded))
        hold(before != after, "another pipeline starts no pods anew")
    helm.must("rollback", release, "1")
    [back] = objects(cluster, release)[kind]
    hold(back["metadata"]["name"] == workload["metadata"]["name"], "the rollback makes what there was")
    helm.must("uninstall", release)
    left = objects(cluster, release)
    hold(not left, f"left behind: {sorted(left)}")


def check_scaling(values: Dict[str, Any], found: Dict[str, Any], workload: Dict[str, Any]) -> None:
    if "ScaledObject" not in found:
        return
    [scaled] = found["ScaledObject"]
    target = scaled["spec"]["scaleTargetRef"]
    hold((target["kind"], target["name"]) == (workload["kind"], workload["metadata"]["name"]), f"it scales {target}")
    [trigger] = scaled["spec"]["triggers"]
    environment = {one["name"]: one.get("value") for one in workload["spec"]["template"]["spec"]["containers"][0]["env"]}
    for name, variable in (("bootstrapServers", "KAFKA_BROKERS"), ("consumerGroup", "KAFKA_GROUP"), ("topic", "KAFKA_TOPIC")):
        hold(trigger["metadata"][name] == environment[variable], f"KEDA's {name} is not the pod's {variable}")
    hold(re.fullmatch(r"\d+", trigger["metadata"]["lagThreshold"]), f"lagThreshold {trigger['metadata']['lagThreshold']}")


def check_cases(cluster: Cluster, helm: Helm) -> int:
    for number, (name, values) in enumerate(cases.CASES, 1):
        try:
            check_case(cluster, helm, name, values)
        except (Failed, Refused) as failed:
            raise Failed(f"{name}: {failed}") from None
        tools.say(f"{number}/{len(cases.CASES)} {name}: installed, upgraded, rolled back, removed")
    helm.must("install", "all", str(CHART))
    every = set(cases.leaves(json.loads(helm.must("get", "values", "all", "--all", "-o", "json"))))
    helm.must("uninstall", "all")
    switched = {leaf for _, values in cases.CASES for leaf in cases.leaves(values)}
    # A map of the user's own keys counts where any of them is set.
    never = [leaf for leaf in every if leaf not in switched and not any(one.startswith(f"{leaf}.") for one in switched)]
    never = [leaf for leaf in never if not leaf.startswith(("podSecurityContext.", "securityContext."))]
    hold(not never, f"no case sets {sorted(never)}")
    return len(cases.CASES)


def check_refused(helm: Helm) -> int:
    for values, part in cases.REFUSED:
        done = helm.run("install", "refused", str(CHART), "--dry-run=client", values=values)
        hold(done.returncode != 0, f"taken, and should not be: {values}")
        hold(part in done.stderr, f"{values}: expected {part!r} in {done.stderr.strip()}")
    tools.say(f"{len(cases.REFUSED)} contradictions refused")
    return len(cases.REFUSED)


def documents(text: str) -> List[str]:
    return [one for one in re.split(r"^---$", text, flags=re.M) if re.search(r"^kind:", one, re.M)]


def check_manifests(cluster: Cluster) -> int:
    """The plain manifests: each overlay of kustomize's is taken as it is."""
    count = 0
    cluster.create("/api/v1/namespaces", {"metadata": {"name": "embedmill", "labels": RESTRICTED}})
    for overlay in sorted((REPOSITORY / "deploy" / "kubernetes").glob("**/kustomization.yaml")):
        build = [str(tools.ensure("kustomize")), "build", str(overlay.parent)]
        done = subprocess.run(build, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        hold(done.returncode == 0 and not done.stderr, f"{overlay.parent.name}: {done.stderr.strip()}")
        for manifest in documents(done.stdout):
            kind = re.search(r"^kind: (\w+)$", manifest, re.M)[1]
            namespace = re.search(r"^  namespace: (\S+)$", manifest, re.M)
            hold(namespace, f"{overlay.parent.name}: a {kind} without a namespace")
            path = PATHS[kind].format(namespace[1]) + "?dryRun=All&fieldValidation=Strict"
            cluster.call("POST", path, manifest.encode(), kind="application/yaml")
            warnings = [one for one in cluster.warnings if OF_EVERY_HEADLESS_SERVICE not in one]
            hold(not warnings, f"{overlay.parent.name}: {kind}: {warnings}")
            count += 1
        tools.say(f"kustomize {overlay.parent.name}: {len(documents(done.stdout))} objects taken")
    return count


def check_job(cluster: Cluster, helm: Helm) -> int:
    """Last, for the controllers that it needs would make pods of every case before."""
    binary = Path(os.environ.get("EMBEDMILL_BINARY") or release_binary())
    if not binary.is_file():
        tools.say(f"skipped: no job was run, for there is no {binary}; `make build` makes it")
        return 0
    cluster.start_controllers()
    return job.check(cluster, helm, CHART, NAMESPACE, binary, tools.say)


def main() -> int:
    try:
        for name in tools.VERSIONS:
            tools.ensure(name)
        with Cluster() as cluster:
            prepare(cluster)
            helm = Helm(cluster)
            lint = helm.run("lint", "--strict", str(CHART))
            hold(lint.returncode == 0, lint.stdout + lint.stderr)
            passed = check_cases(cluster, helm) + check_refused(helm) + check_manifests(cluster)
            passed += check_job(cluster, helm)
    except (Failed, Refused, tools.ToolsError, RuntimeError, OSError) as error:
        tools.say(f"error: {error}")
        return 1
    tools.say(f"{passed} checks passed on Kubernetes {tools.KUBERNETES_VERSION}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
