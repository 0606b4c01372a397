"""A stand-in for a node: it runs the embedmill container of each pod as a process, and tells the API server what became
of it, as a kubelet would.

In:    the API server's client, a namespace, the binary, and what to put in place of folders in the containers.
Out:   the pods' phases and exit codes, as Kubernetes' own controllers then see them.
Keeps: a folder a pod with its pipeline file; its log beside it.

A container's file system is not made: paths in arguments and in the pipeline file are replaced. Probes are not asked.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from cluster import Cluster, Refused

TICK_S = 0.1


class Node:
    def __init__(self, cluster: Cluster, namespace: str, binary: Path, replaced: Dict[str, str], root: Path) -> None:
        self.cluster, self.namespace, self.binary, self.replaced, self.root = cluster, namespace, binary, replaced, root
        self.pods = f"/api/v1/namespaces/{namespace}/pods"
        self.processes: Dict[str, subprocess.Popen] = {}
        # How every pod that ever ended did: its completion index, if any, and its exit code.
        self.ended: List[Dict[str, Any]] = []
        # Called with a pod that was just started, to do something to it.
        self.on_start: Callable[[Dict[str, Any], subprocess.Popen], None] = lambda _pod, _process: None
        self.stopping = threading.Event()
        self.failure: Optional[BaseException] = None

    def __enter__(self) -> "Node":
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join()
        for process in self.processes.values():
            process.kill()
            process.wait()

    def loop(self) -> None:
        try:
            while not self.stopping.wait(TICK_S):
                for pod in self.cluster.items(self.pods):
                    self.look(pod)
        except BaseException as error:  # Told by whoever waits for the pods; a thread's own would go unseen.
            self.failure = error

    def look(self, pod: Dict[str, Any]) -> None:
        uid, phase = pod["metadata"]["uid"], pod["status"]["phase"]
        process = self.processes.get(uid)
        try:
            if "deletionTimestamp" in pod["metadata"] and phase in ("Succeeded", "Failed"):
                self.cluster.call("DELETE", f"{self.pods}/{pod['metadata']['name']}?gracePeriodSeconds=0")
            elif phase in ("Succeeded", "Failed"):
                return
            elif process is None:
                self.start(pod)
            elif process.poll() is not None:
                self.end(pod, process)
            elif "deletionTimestamp" in pod["metadata"]:
                process.terminate()
        except Refused as refused:
            # It went, or was changed, since it was listed; the next look sees what is so.
            if refused.code not in (404, 409):
                raise

    def start(self, pod: Dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        target = {"apiVersion": "v1", "kind": "Node", "name": "stand-in"}
        if not pod["spec"].get("nodeName"):
            self.cluster.create(f"{self.pods}/{name}/binding", {"metadata": {"name": name}, "target": target})
        [container] = pod["spec"]["containers"]
        folder = self.root / pod["metadata"]["uid"]
        folder.mkdir()
        for volume in pod["spec"]["volumes"]:
            if "configMap" in volume:
                path = f"/api/v1/namespaces/{self.namespace}/configmaps/{volume['configMap']['name']}"
                for file, text in self.cluster.call("GET", path)["data"].items():
                    (folder / file).write_text(self.here(text), encoding="utf-8")
        environment = {one["name"]: self.value(one, pod) for one in container["env"]}
        # The address is the container's own, and there are several here.
        environment["EMBEDMILL__OBSERVE__LISTEN"] = "127.0.0.1:0"
        kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ}
        arguments = [one.replace("/etc/embedmill", str(folder)) for one in container["args"]]
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                [str(self.binary), *arguments],
                env={**kept, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
            )
        self.processes[pod["metadata"]["uid"]] = process
        self.tell(pod, "Running", {"running": {}})
        self.on_start(pod, process)

    def end(self, pod: Dict[str, Any], process: subprocess.Popen) -> None:
        # As a shell has it for a process that a signal ended.
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        log = (self.root / pod["metadata"]["uid"] / "log").read_text(errors="replace")
        index = pod["metadata"].get("annotations", {}).get("batch.kubernetes.io/job-completion-index")
        self.ended.append({"name": pod["metadata"]["name"], "index": index, "code": code, "log": log})
        self.tell(pod, "Failed" if code else "Succeeded", {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}})

    def tell(self, pod: Dict[str, Any], phase: str, state: Dict[str, Any]) -> None:
        container = pod["spec"]["containers"][0]
        status = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0}
        status.update(ready="running" in state, state=state)
        body = json.dumps({"status": {"phase": phase, "containerStatuses": [status]}}).encode()
        path = f"{self.pods}/{pod['metadata']['name']}/status"
        self.cluster.call("PATCH", path, body, kind="application/merge-patch+json")

    def value(self, variable: Dict[str, Any], pod: Dict[str, Any]) -> str:
        """What a kubelet would make of it: a value, or a field of the pod."""
        if "valueFrom" not in variable:
            return variable.get("value", "")
        path = variable["valueFrom"]["fieldRef"]["fieldPath"]
        mapped = re.fullmatch(r"metadata\.(annotations|labels)\['(.*)'\]", path)
        metadata = pod["metadata"]
        return metadata[mapped[1]][mapped[2]] if mapped else metadata[path.split(".")[1]]

    def here(self, text: str) -> str:
        for there, here in self.replaced.items():
            text = text.replace(there, here)
        return text

    def wait(self, what: str, until: Callable[[], Any], seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            if self.failure:
                raise self.failure
            found = until()
            if found:
                return found
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what} did not come in {seconds:.0f} s; pods that ended: {self.ended}")
            time.sleep(TICK_S)
