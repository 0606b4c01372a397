#!/usr/bin/env python3
"""Renders the plain manifests of deploy/kubernetes from the chart, so that both say the same.

In:    helm, as tools.py builds it or as --helm names it, and each folder's values.yaml.
Out:   each folder's embedmill.yaml, written; with --check compared, and exit code 1 where one differs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
import tools  # noqa: E402

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy"
HEAD = "# Made from the chart with the values.yaml beside this, by `make manifests`; change those instead.\n"


def render(helm: str, folder: Path) -> str:
    command = [helm, "template", "embedmill", str(DEPLOY / "helm" / "embedmill"), "--skip-tests", "-n", "embedmill"]
    command += ["--kube-version", tools.KUBERNETES_VERSION, "-f", str(folder / "values.yaml")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise tools.ToolsError(f"helm template of {folder.name}: {done.stderr.strip()}")
    # Nobody's release: what says that Helm manages it is left out.
    of_helm = ("app.kubernetes.io/managed-by:", "helm.sh/chart:", "# Source:")
    return HEAD + "".join(line + "\n" for line in done.stdout.splitlines() if not line.strip().startswith(of_helm))


def main() -> int:
    parser = argparse.ArgumentParser(prog="render.py", description="Renders deploy/kubernetes from the chart.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("--helm", help="a helm of your own; left out, one is built")
    options = parser.parse_args()
    differ = 0
    try:
        for values in sorted((DEPLOY / "kubernetes").glob("*/values.yaml")):
            rendered, place = render(options.helm or str(tools.ensure("helm")), values.parent), values.parent / "embedmill.yaml"
            if not options.check:
                place.write_text(rendered, encoding="utf-8")
            elif not place.is_file() or place.read_text(encoding="utf-8") != rendered:
                tools.say(f"error: {place.relative_to(DEPLOY.parent)} is not what the chart renders; run `make manifests`")
                differ = 1
    except (tools.ToolsError, OSError) as error:
        tools.say(f"error: {error}")
        return 1
    return differ


if __name__ == "__main__":
    sys.exit(main())
