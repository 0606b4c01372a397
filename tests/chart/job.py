"""An Indexed Job as Kubernetes' own controllers run it, its pods as processes of the real binary: all files once, whatever
happens to a pod.

In:    a cluster with controllers, helm, and a built binary.
Fails: with the pods that ended, and what they said.
"""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List

from cluster import Cluster
from node import Node

FILES = 11
SHARDS = 4
RECORDS = 4_000

PIPELINE = """\
source: { files: { paths: ["/data/in/*.jsonl"] } }
record: { id: id, keep: [number] }
model: { backend: hash }
window: { records: 64 }
devices: [cpu]
sink: { arrow: { path: /data/out/, file_rows: 500 } }
dead_letter: { path: /data/rejected.jsonl }
"""


def write_inputs(folder: Path) -> List[str]:
    (folder / "in").mkdir()
    ids = []
    for file in range(FILES):
        names = [f"{file}-{number}" for number in range(RECORDS)]
        lines = [json.dumps({"id": name, "text": f"text {name} " + "word " * 40, "number": 1}) for name in names]
        (folder / "in" / f"{file:02}.jsonl").write_text("\n".join(lines) + "\n")
        ids += names
    return ids


def read_ids(binary: Path, out: Path) -> List[str]:
    """The ids in all files, read by embedmill itself."""
    command = [str(binary), "encode", str(out), "--format", "arrow", "--id", "id", "--backend", "hash", "-o", "-", "--no-text"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the output cannot be read: {done.stderr}")
    return [json.loads(line)["id"] for line in done.stdout.splitlines()]


def check(cluster: Cluster, helm: Any, chart: Path, namespace: str, binary: Path, say: Any) -> int:
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"

    def finished() -> Dict[str, str]:
        [job] = cluster.items(jobs)
        return {one["type"]: one.get("reason", "") for one in job["status"].get("conditions", []) if one["status"] == "True"}

    with tempfile.TemporaryDirectory(prefix="embedmill-job-") as name:
        data = Path(name) / "data"
        data.mkdir()
        ids = write_inputs(data)
        killed: List[str] = []

        def kill_one(pod: Dict[str, Any], process: subprocess.Popen) -> None:
            # Once, in the middle: after its first file appeared.
            if pod["metadata"].get("annotations", {}).get("batch.kubernetes.io/job-completion-index") == "1" and not killed:
                killed.append(pod["metadata"]["name"])
                while process.poll() is None and not list((data / "out").glob("000001-*.arrow")):
                    pass
                process.send_signal(signal.SIGKILL)

        with Node(cluster, namespace, binary, {"/data": str(data)}, Path(name)) as node:
            node.on_start = kill_one
            values = {"mode": "job", "pipeline": PIPELINE, "job": {"completions": SHARDS, "parallelism": 2}}
            values["data"] = [{"name": "data", "claim": "data", "mountPath": "/data"}]
            helm.must("install", "files", str(chart), values=values)
            conditions = node.wait("the job's end", lambda: {"Complete", "Failed"} & set(finished()) and finished(), 180)
            if "Complete" not in conditions:
                raise RuntimeError(f"the job: {conditions}; {node.ended}")
            codes = Counter(pod["code"] for pod in node.ended)
            if codes != {0: SHARDS, 128 + signal.SIGKILL: 1}:
                raise RuntimeError(f"expected {SHARDS} pods that end well and one that is killed: {node.ended}")
            found = read_ids(binary, data / "out")
            if sorted(found) != sorted(ids):
                raise RuntimeError(f"{len(found)} rows of {len(set(found))} records for {len(ids)} records")
            say(f"job: {SHARDS} shards of {FILES} files, one killed and tried again: {len(found)} rows, each record once")
            helm.must("test", "files")
            say("job: helm test passed, by a process of the real binary")

            # Wrong usage is not tried again: a pod a shard, and the job has failed.
            node.ended.clear()
            wrong = {**values, "pipeline": PIPELINE.replace("/data/in/*.jsonl", "/data/nowhere/*.jsonl")}
            helm.must("upgrade", "files", str(chart), values=wrong)
            node.wait("the failed job", lambda: len(cluster.items(jobs)) == 1 and "Failed" in finished(), 60)
            codes = Counter(pod["code"] for pod in node.ended)
            if codes != {2: SHARDS}:
                raise RuntimeError(f"expected one refusal a shard: {node.ended}")
            say("job: a pipeline that is refused fails each shard once")
            helm.must("uninstall", "files")
            node.wait("the pods' end", lambda: not cluster.items(node.pods), 60)
    return 3
