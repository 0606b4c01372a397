"""A Kubernetes API server of one's own, without nodes: it takes and refuses what a cluster would, and runs nothing.

In:    the tools that tools.py builds, and openssl.
Out:   a client for it, and a kubeconfig for helm.
Keeps: a temporary folder with etcd's data, gone at the end. It listens on loopback alone.
Fails: if either does not come up in time, with the end of its log.
"""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import tools

READY_MAX_S = 120


class Refused(Exception):
    """The API server's no, in its own words."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def free_ports(count: int) -> List[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


class Cluster:
    def __enter__(self) -> "Cluster":
        self.folder = tempfile.TemporaryDirectory(prefix="embedmill-cluster-")
        self.processes: List[Tuple[subprocess.Popen, Path]] = []
        self.token = secrets.token_hex(16)
        root = Path(self.folder.name)
        try:
            self.start(root)
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self, root: Path) -> None:
        client, peer, port = free_ports(3)
        self.url = f"https://127.0.0.1:{port}"
        key, tokens = root / "sa.key", root / "tokens.csv"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        tokens.write_text(f"{self.token},admin,1,system:masters\n")
        etcd_url, peer_url = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
        self.run(
            root,
            "etcd",
            f"--data-dir={root}/etcd",
            f"--listen-client-urls={etcd_url}",
            f"--advertise-client-urls={etcd_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
        )
        self.run(
            root,
            "kube-apiserver",
            f"--etcd-servers={etcd_url}",
            "--service-account-issuer=https://embedmill.test",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={root}/certs",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
        )
        self.tls = ssl.create_default_context()
        self.tls.check_hostname = False
        self.tls.verify_mode = ssl.CERT_NONE
        # None of it may go through a proxy that the environment names.
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.tls))
        self.opener = urllib.request.build_opener(*handlers)
        self.await_ready()
        self.kubeconfig = root / "kubeconfig"
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
                    "clusters": [{"name": "test", "cluster": {"server": self.url, "insecure-skip-tls-verify": True}}],
                    "users": [{"name": "admin", "user": {"token": self.token}}],
                }
            )
        )

    def start_controllers(self) -> None:
        """Kubernetes' own, those that make pods and take them away."""
        controllers = ("deployment", "replicaset", "statefulset", "job", "garbage-collector")
        self.run(
            Path(self.folder.name),
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--controllers={','.join(f'{name}-controller' for name in controllers)}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--secure-port=0",
        )

    def run(self, root: Path, name: str, *arguments: str) -> None:
        log = root / f"{name}.log"
        with open(log, "wb") as out:
            process = subprocess.Popen(
                [str(tools.ensure(name)), *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=root
            )
        self.processes.append((process, log))

    def await_ready(self) -> None:
        deadline = time.monotonic() + READY_MAX_S
        while True:
            for process, log in self.processes:
                if process.poll() is not None:
                    raise RuntimeError(f"{log.stem} ended:\n{log.read_text(errors='replace')[-3000:]}")
            try:
                self.call("GET", "/readyz")
                return
            except (OSError, Refused):
                if time.monotonic() > deadline:
                    logs = "\n".join(log.read_text(errors="replace")[-2000:] for _, log in self.processes)
                    raise RuntimeError(f"the API server is not ready after {READY_MAX_S} s:\n{logs}") from None
                time.sleep(0.2)

    def call(self, method: str, path: str, body: Optional[bytes] = None, kind: str = "application/json") -> Any:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind, "Accept": "application/json"}
        request = urllib.request.Request(self.url + path, data=body, method=method, headers=headers)
        try:
            with self.opener.open(request, timeout=30) as answer:
                self.warnings = answer.headers.get_all("Warning") or []
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                message = json.loads(text)["message"]
            except (ValueError, KeyError):
                message = text
            raise Refused(error.code, message) from None
        return json.loads(text) if text.startswith("{") else text

    def create(self, path: str, manifest: Dict[str, Any]) -> Any:
        return self.call("POST", path, json.dumps(manifest).encode())

    def items(self, path: str) -> List[Dict[str, Any]]:
        try:
            return self.call("GET", path)["items"]
        except Refused as refused:
            if refused.code == 404:
                return []
            raise

    def __exit__(self, *_: object) -> None:
        for process, _log in reversed(self.processes):
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.folder.cleanup()
