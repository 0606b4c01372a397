#!/usr/bin/env python3
"""Builds what the chart's test needs: Kubernetes' API server and controllers, etcd, helm, and the real definitions of custom resources.

In:    go 1.24 or newer, whose module proxy is used as it is set up, and Python's standard library.
Out:   kube-apiserver, kube-controller-manager, etcd, helm and kustomize, and the definitions of KEDA and the Prometheus operator as YAML files.
Keeps: ${XDG_CACHE_HOME:-~/.cache}/embedmill/kubernetes. A second run finds it there and builds nothing.
Fails: with what is missing and the command that installs it, or with the compiler's own words; exit code 1.

Each tool is built under a temporary name and renamed, so an interrupted run leaves nothing that looks complete. From
nothing it takes some ten minutes of two cores, most of it kube-apiserver.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Sequence

sys.dont_write_bytecode = True

KUBERNETES_VERSION = "1.34.1"
ETCD_VERSION = "3.5.21"
HELM_VERSION = "3.18.6"
KUSTOMIZE_VERSION = "5.7.1"
KEDA_VERSION = "2.17.2"
PROMETHEUS_OPERATOR_VERSION = "0.85.0"
GO_VERSION_MIN = (1, 24)

# Of the API server and of the controllers, which make pods of deployments and jobs.
KUBERNETES_MAIN = """package main

import (
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	"k8s.io/kubernetes/cmd/NAME/app"
)

func main() { os.Exit(cli.Run(app.COMMAND())) }
"""

ETCD_MAIN = """package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
"""

# The module, the folder in it, and the files that define the resources that the chart makes.
DEFINITIONS = {
    "keda": (f"github.com/kedacore/keda/v2@v{KEDA_VERSION}", "config/crd/bases", ("keda.sh_*.yaml",)),
    "prometheus-operator": (
        f"github.com/prometheus-operator/prometheus-operator@v{PROMETHEUS_OPERATOR_VERSION}",
        "example/prometheus-operator-crd",
        ("monitoring.coreos.com_servicemonitors.yaml", "monitoring.coreos.com_prometheusrules.yaml"),
    ),
}


KUBERNETES_COMMANDS = {
    "kube-apiserver": "NewAPIServerCommand",
    "kube-controller-manager": "NewControllerManagerCommand",
}


class ToolsError(Exception):
    """Something that the user must see and can act on."""


def folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "embedmill" / "kubernetes"


def say(message: str) -> None:
    print(f"chart: {message}", file=sys.stderr, flush=True)


def go(arguments: Sequence[str], cwd: Path, **environment: str) -> str:
    command = ["go", *arguments]
    env = {**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOWORK": "off", **environment}
    done = subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-4000:]
        raise ToolsError(f"`{' '.join(command)}` failed:\n{said}\n  - behind a proxy, or with a mirror:  export GOPROXY=...")
    return done.stdout


def check_go() -> None:
    wanted = ".".join(map(str, GO_VERSION_MIN))
    advice = f"go {wanted} or newer is needed: apt-get install -y golang-go   (Fedora: dnf install -y golang, macOS: brew install go)"
    if not shutil.which("go"):
        raise ToolsError(advice)
    match = re.search(r"go(\d+)\.(\d+)", go(["version"], Path.cwd()))
    if not match or (int(match[1]), int(match[2])) < GO_VERSION_MIN:
        raise ToolsError(f"{advice}; this is {match[0] if match else 'of an unknown version'}")


def module_folder(module: str) -> Path:
    with tempfile.TemporaryDirectory() as empty:
        return Path(json.loads(go(["mod", "download", "-json", module], Path(empty)))["Dir"])


def kubernetes_module() -> str:
    """go.mod of a program in Kubernetes: what its own go.mod takes from beside itself comes from the published copies."""
    module = module_folder(f"k8s.io/kubernetes@v{KUBERNETES_VERSION}")
    names = re.findall(r"^\s*(?:replace )?(k8s\.io/[\w.-]+) => \./staging/", (module / "go.mod").read_text(), re.M)
    published = "v0." + KUBERNETES_VERSION.split(".", 1)[1]
    lines = ["module kubernetes", "go 1.24.0", f"require k8s.io/kubernetes v{KUBERNETES_VERSION}"]
    lines += [f"replace {name} => {name} {published}" for name in names]
    return "\n".join(lines) + "\n"


def etcd_module() -> str:
    return f"module etcd\ngo 1.24.0\nrequire go.etcd.io/etcd/server/v3 v{ETCD_VERSION}\n"


def version_flags() -> str:
    """A server that is built without these says that it is version 0.0.0, which the chart refuses."""
    major, minor, _ = KUBERNETES_VERSION.split(".")
    values = {"gitVersion": f"v{KUBERNETES_VERSION}", "gitMajor": major, "gitMinor": minor}
    return " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in values.items())


def build(name: str, module: str, main: str, flags: str = "") -> None:
    with tempfile.TemporaryDirectory(prefix="embedmill-chart-") as work_name:
        work = Path(work_name)
        (work / "go.mod").write_text(module, encoding="utf-8")
        (work / "main.go").write_text(main, encoding="utf-8")
        built = folder() / f".{name}.tmp"
        go(["build", "-trimpath", f"-ldflags=-s -w {flags}", "-o", str(built), "."], work)
        built.rename(place(name))


def install(name: str, package: str, flags: str = "") -> None:
    with tempfile.TemporaryDirectory(prefix=".install-", dir=folder()) as work:
        go(["install", "-trimpath", f"-ldflags=-s -w {flags}", package], Path(work), GOBIN=work, GOFLAGS="")
        (Path(work) / name).rename(place(name))


VERSIONS: Dict[str, str] = {
    "etcd": ETCD_VERSION,
    "helm": HELM_VERSION,
    "kustomize": KUSTOMIZE_VERSION,
    "kube-apiserver": KUBERNETES_VERSION,
    "kube-controller-manager": KUBERNETES_VERSION,
}


def place(name: str) -> Path:
    """Where a tool is or will be; its version is in its name, so that another one is built anew."""
    return folder() / f"{name}-{VERSIONS[name]}"


def ensure(name: str) -> Path:
    if not place(name).is_file():
        check_go()
        folder().mkdir(parents=True, exist_ok=True)
        say(f"building {name} {VERSIONS[name]}")
        if name in KUBERNETES_COMMANDS:
            main = KUBERNETES_MAIN.replace("NAME", name).replace("COMMAND", KUBERNETES_COMMANDS[name])
            build(name, kubernetes_module(), main, version_flags())
        elif name == "etcd":
            build(name, etcd_module(), ETCD_MAIN)
        elif name == "helm":
            # A helm that is built without this takes every cluster that it does not ask for Kubernetes 1.20.
            major, minor, _ = KUBERNETES_VERSION.split(".")
            chartutil = "helm.sh/helm/v3/pkg/chartutil"
            flags = f"-X {chartutil}.k8sVersionMajor={major} -X {chartutil}.k8sVersionMinor={minor}"
            install(name, f"helm.sh/helm/v3/cmd/helm@v{HELM_VERSION}", flags)
        else:
            install(name, f"sigs.k8s.io/kustomize/kustomize/v5@v{KUSTOMIZE_VERSION}")
    return place(name)


def definitions() -> List[Path]:
    """The files that define KEDA's and the Prometheus operator's resources, as their makers publish them."""
    found: List[Path] = []
    for name, (module, inside, patterns) in DEFINITIONS.items():
        into = folder() / f"definitions-{name}-{module.rsplit('@v', 1)[1]}"
        if not into.is_dir():
            check_go()
            say(f"fetching the definitions of {name}")
            source = module_folder(module) / inside
            files = [path for pattern in patterns for path in sorted(source.glob(pattern))]
            if not files:
                raise ToolsError(f"{module} has no {', '.join(patterns)} in {inside}; has it moved?")
            with tempfile.TemporaryDirectory(prefix=".definitions-", dir=folder()) as work:
                whole = Path(work) / "whole"
                whole.mkdir()
                for path in files:
                    (whole / path.name).write_bytes(path.read_bytes())
                whole.rename(into)
        found += sorted(into.glob("*.yaml"))
    return found


def main() -> int:
    try:
        for name in VERSIONS:
            say(f"{name}: {ensure(name)}")
        for path in definitions():
            say(f"definition: {path}")
    except (ToolsError, OSError) as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
