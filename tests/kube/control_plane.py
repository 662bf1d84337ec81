"""A real Kubernetes control plane on loopback: etcd, API server, controllers, scheduler, and kwok for the nodes.

No root, no containers. The programs come from tests/kube/build.py. Start it from the main thread: each child asks the
kernel to be killed when the thread that started it ends, so a session that is killed leaves nothing running.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx

from tests.kube import audit, components, manifests
from tests.kube.api import Api, trust
from tests.kube.audit import Write
from tests.kube.build import built
from tests.kube.children import Children
from tests.kube.components import Timing

Component = Literal["etcd", "apiserver", "controller-manager", "scheduler", "kwok"]
ATTEMPTS = 3


class ControlPlane:
    """Use as a context manager, or `start` and `stop`. `folder` holds keys, logs and etcd's data.

    `start` raises MissingGo or NotBuilt when the programs are not there, RuntimeError with the log's end when one of
    them does not come up.
    """

    def __init__(self, folder: Path, timing: Timing | None = None) -> None:
        self.folder = folder
        self.timing = timing or Timing()
        self.binaries = Path()
        self._children = Children()

    def __enter__(self) -> ControlPlane:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all; returns when the API server is ready and the controllers answer."""
        self.binaries = built()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._start()
                return
            except (RuntimeError, httpx.HTTPError):
                # A port that was free when it was picked may be taken when it is bound; a server may be too busy to answer.
                self.stop()
                if attempt == ATTEMPTS:
                    raise

    def stop(self) -> None:
        """SIGKILL: etcd and the API server take seconds to end by themselves, and nothing here need be kept."""
        self._children.kill_all()
        if hasattr(self, "api"):
            self.api.close()
            del self.api

    @property
    def processes(self) -> dict[str, subprocess.Popen[bytes]]:
        """The children by component."""
        return self._children.processes

    @property
    def url(self) -> str:
        """https://127.0.0.1:PORT"""
        return self.files.url

    @property
    def ca_file(self) -> Path:
        """PEM of the API server's own certificate."""
        return self.files.ca_file

    @property
    def admin_token(self) -> str:
        """Bearer token of user `admin`, group system:masters."""
        return self.files.tokens["admin"]

    @property
    def kubeconfig(self) -> Path:
        """Of the admin."""
        return self.files.kubeconfig("admin", self.admin_token)

    @property
    def audit_log(self) -> Path:
        """JSON lines of audit.k8s.io/v1."""
        return self.files.audit_log

    def client(self, token: str | None = None) -> httpx.Client:
        """A client of the API server, the admin's unless a token is given. The caller closes it."""
        return httpx.Client(**self._http(token))

    def async_client(self, token: str | None = None) -> httpx.AsyncClient:
        """The same for a loop."""
        return httpx.AsyncClient(**self._http(token))

    def apply(self, manifest: dict[str, Any] | str) -> list[dict[str, Any]]:
        """Server-side apply as field manager `lab`."""
        return self.api.apply(manifest)

    def writes(self, **filters: Any) -> list[Write]:
        """The audit log's writes; filters are fields of `Write`, e.g. user="admin", verb="patch", resource="nodes"."""
        return audit.writes(self.audit_log, **filters)

    def service_account_token(self, namespace: str, name: str, seconds: int = 3600) -> str:
        """A token of a ServiceAccount that exists, by TokenRequest (600 s at least)."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        return str(self.api.request("POST", path, body)["status"]["token"])

    def kubeconfig_of(self, user: str, token: str) -> Path:
        """A kubeconfig file with this token; `user` names the file."""
        return self.files.kubeconfig(user, token)

    def add_node(self, name: str, gpus: int = 8, labels: dict[str, str] | None = None, deadline_s: float = 30) -> None:
        """A node with `nvidia.com/gpu`, returned when it is Ready and free of taints."""
        self.api.request("POST", "/api/v1/nodes", manifests.node(name, gpus, labels or {}))
        end = time.monotonic() + deadline_s
        while not manifests.node_ready(self.api.get(f"/api/v1/nodes/{name}")):
            if time.monotonic() > end:
                raise RuntimeError(f"node {name} is not Ready after {deadline_s} s\n{self._children.log('kwok')}")
            time.sleep(0.05)

    def install_gateway_api(self, deadline_s: float = 30) -> None:
        """The Gateway API's CRDs (GatewayClass, Gateway, HTTPRoute, ReferenceGrant), returned when they are served."""
        names = [
            self.apply(path.read_text())[0]["metadata"]["name"]
            for path in sorted((self.binaries / "crds").glob("*.yaml"))
        ]
        end = time.monotonic() + deadline_s
        for name in names:
            path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
            while not self._established(path):
                if time.monotonic() > end:
                    raise RuntimeError(f"{name} is not established after {deadline_s} s")
                time.sleep(0.05)

    def _established(self, path: str) -> bool:
        with contextlib.suppress(httpx.HTTPError):  # busy: asked again until the deadline
            return bool(manifests.condition(self.api.get(path), "Established"))
        return False

    def pause_component(self, name: Component) -> None:
        """SIGSTOP: it keeps its connections and answers nothing."""
        self._children.pause(name)

    def resume_component(self, name: Component) -> None:
        """SIGCONT."""
        self._children.resume(name)

    def resume_all(self) -> None:
        """Whatever a test has paused goes on."""
        self._children.resume_all()

    def _start(self) -> None:
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.files = components.write_files(self.folder)
        self._children.folder = self.folder
        program, kwok = self.binaries / "controlplane", self.binaries / "kwok"
        self._children.start("etcd", components.etcd(program, self.files))
        self._children.start("apiserver", components.apiserver(program, self.files, self.timing))
        self._children.until("apiserver", self.ca_file.exists)
        self.api = Api(self.url, self.ca_file, self.admin_token)
        self._children.until("apiserver", lambda: self._says_ok(f"{self.url}/readyz"))
        self._children.start("controller-manager", components.controller_manager(program, self.files, self.timing))
        self._children.start("scheduler", components.scheduler(program, self.files))
        self._children.start("kwok", components.kwok(kwok, self.files, self.timing))
        for name in ("controller-manager", "scheduler"):
            self._children.until(name, partial(self._healthy, name))
        # The API server admits a pod only when its namespace has the default account, which a controller makes.
        path = "/api/v1/namespaces/default/serviceaccounts"
        self._children.until("controller-manager", lambda: bool(self.api.get(path)["items"]))

    def _says_ok(self, url: str) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return self.api.http.get(url, timeout=2).text == "ok"
        return False

    def _healthy(self, name: str) -> bool:
        # Its serving certificate is its own too, made in memory: this asks only whether it runs.
        with contextlib.suppress(httpx.HTTPError):
            url = f"https://127.0.0.1:{self.files.ports[name]}/healthz"
            return httpx.get(url, verify=False, timeout=2, trust_env=False).text == "ok"
        return False

    def _http(self, token: str | None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token or self.admin_token}"}
        return {
            "base_url": self.url,
            "verify": trust(self.ca_file),
            "headers": headers,
            "timeout": 10,
            "trust_env": False,
        }
