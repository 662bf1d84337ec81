"""The peers: each in its own environment, made once by the bench, with one rule that calls the sink for one alert name.

Robusta runner (PyPI robusta-api 0.53.0) and ansible-rulebook (PyPI 1.3.2, which needs a JVM).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import httpx
import yaml

from tests.bench.alerts import ALERT, Alert
from tests.bench.contestant import CannotRun, Target, cache, kill_all
from tests.bench.sender import Door, Sent
from tests.kube.control_plane import ControlPlane
from worker.demo.processes import Child, ChildFailed, ProcessTree, free_ports


class Peer:
    """What the peers share: every accepted alert makes one act due, known by its fingerprint; nothing is kept by them."""

    name: str
    version: str
    packages: ClassVar[tuple[str, ...]]
    settings: tuple[str, ...]
    door: Door

    def __init__(self, tree: ProcessTree) -> None:
        self.tree = tree
        self.child: Child | None = None

    @property
    def python(self) -> Path:
        """Of its own environment."""
        return cache() / self.name.split(" ")[0].lower() / "bin" / "python"

    def make(self) -> None:
        """Its environment, once. CannotRun when the packages cannot be had."""
        done = self.python.parents[1] / "bench-packages"
        if done.exists() and done.read_text() == "\n".join(self.packages):
            return
        uv, folder = os.environ.get("UV") or shutil.which("uv"), str(self.python.parents[1])
        if uv:
            first = [uv, "venv", "-q", "--clear", folder]
            second = [uv, "pip", "install", "-q", "--python", str(self.python), *self.packages]
        else:
            first = [sys.executable, "-m", "venv", "--clear", folder]
            second = [str(self.python), "-m", "pip", "install", "-q", *self.packages]
        for argv in (first, second):
            try:
                subprocess.run(argv, check=True, capture_output=True, text=True, timeout=600)
            except (OSError, subprocess.SubprocessError) as error:
                said = getattr(error, "stderr", "") or str(error)
                raise CannotRun(
                    f"its environment could not be made: {str(said).strip().splitlines()[-1][:200]}"
                ) from error
        done.write_text("\n".join(self.packages))

    async def start(self, sink: int) -> None:
        """Environment, configuration, process."""
        raise NotImplementedError

    async def again(self) -> None:
        """The process, as before."""
        raise NotImplementedError

    async def next(self) -> Target:
        """Peers look at nothing: there is always one."""
        return Target("c0", "p0", "127.0.0.1:1")

    async def over(self, target: Target, alert: Alert) -> None:
        """Nothing to heal."""

    def act_of(self, alert: Alert) -> str:
        """The fingerprint."""
        return alert.fingerprint

    def storm(self, count: int) -> list[Alert]:
        """Distinct alerts."""
        return [Target(f"c{n % 8}", f"p{n % 8}", f"127.0.0.1:{1 + n % 24}").alert() for n in range(count)]

    async def due(self, accepted: Sequence[Sent]) -> dict[str, str]:
        """One act each: it judges nothing."""
        return {s.alert.fingerprint: s.alert.endpoint for s in accepted}

    def stop(self) -> None:
        """With what it started: Robusta's runner makes a process group of its own."""
        if self.child is not None:
            kill_all(self.child, self.tree)

    async def kept(self, accepted: Sequence[Sent]) -> tuple[int, str]:
        """In memory only."""
        return -1, "keeps alerts in memory only"

    def kill(self) -> None:
        """The process and what it started."""
        assert self.child is not None
        kill_all(self.child, self.tree)

    async def open_port(self, port: int, timeout_s: float) -> None:
        """Waits until something answers HTTP there. CannotRun with the end of its log."""
        assert self.child is not None

        async def answers() -> bool:
            async with httpx.AsyncClient(trust_env=False, timeout=2) as http:
                try:
                    await http.get(f"http://127.0.0.1:{port}/healthz")
                except httpx.HTTPError:
                    return False
                return True

        try:
            await self.tree.ready(self.child, answers, timeout_s)
        except ChildFailed as error:
            raise CannotRun(str(error).strip().splitlines()[-1].strip()[:300]) from error


class Robusta(Peer):
    """The runner on a real Kubernetes API server, which it asks for its state; 20 threads take alerts from a queue of 500."""

    name, version, packages = "Robusta runner", "robusta-api 0.53.0", ("robusta-api[all]==0.53.0",)
    settings: tuple[str, ...] = (
        "one playbook: on_prometheus_alert → an action of ours that POSTs to the sink by requests",
        "Kubernetes API: our test control plane; telemetry and discovery off (no network); else defaults (20 threads, queue of 500)",
        "its default playbook package is not on PyPI: DEFAULT_PLAYBOOKS_ROOT names ours",
    )

    async def start(self, sink: int) -> None:
        """Kubernetes, then the runner."""
        self.make()
        self.plane = ControlPlane(self.tree.folder / "kube")
        try:
            self.plane.start()
        except Exception as error:
            raise CannotRun(f"the Kubernetes API server that it needs does not start here: {error}"[:300]) from error
        self.plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "robusta"}})
        folder = self.tree.folder
        package = folder / "src" / "bench_playbooks"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "act.py").write_text(_ACTION)
        defaults = folder / "playbooks" / "defaults"
        defaults.mkdir(parents=True)
        (defaults / "pyproject.toml").write_text('[tool.poetry]\nname = "bench_playbooks"\n')
        rule = {
            "triggers": [{"on_prometheus_alert": {"alert_name": ALERT}}],
            "actions": [{"act_on_sink": {"url": f"http://127.0.0.1:{sink}/act"}}],
        }
        config = {
            "global_config": {"cluster_name": "bench"},
            "sinks_config": [],
            "playbook_repos": {},
            "active_playbooks": [rule],
        }
        (folder / "active.yaml").write_text(yaml.safe_dump(config))
        self.port = free_ports(1)[0]
        self.door = Door(self.port, "/api/alerts")
        self.env = {
            "PYTHONPATH": str(folder / "src"), "PORT": str(self.port), "RUNNER_BIND_ADDR": "127.0.0.1",
            "PLAYBOOKS_ROOT": str(folder / "playbooks"), "PLAYBOOKS_CONFIG_FILE_PATH": str(folder / "active.yaml"),
            "KUBECONFIG": str(self.plane.kubeconfig), "ENABLE_TELEMETRY": "false", "DISABLE_DISCOVERY": "true",
        }  # fmt: skip
        await self.again()

    async def again(self) -> None:
        """The runner."""
        self.child = self.tree.start("robusta", [str(self.python), "-m", "robusta.runner.main"], env=self.env)
        await self.open_port(self.port, 90)

    def stop(self) -> None:
        """And its Kubernetes."""
        super().stop()
        if hasattr(self, "plane"):
            self.plane.stop()


_ACTION = """import requests
from robusta.api import ActionParams, PrometheusKubernetesAlert, action


class SinkParams(ActionParams):
    url: str


@action
def act_on_sink(event: PrometheusKubernetesAlert, params: SinkParams):
    alert = event.alert
    requests.post(params.url, json={"key": alert.fingerprint, "what": alert.labels["endpoint"]}, timeout=60)
"""


class Rulebook(Peer):
    """ansible-rulebook with its builtin webhook source; the action runs one Ansible module, which is how it acts by itself."""

    name, version = "ansible-rulebook", "ansible-rulebook 1.3.2"
    packages = ("ansible-rulebook==1.3.2", "ansible-core", "ansible-runner")
    settings: tuple[str, ...] = (
        "source eda.builtin.webhook; one rule; action run_module ansible.builtin.uri to the sink on localhost",
        "defaults: execution strategy sequential; JVM found by JAVA_HOME",
    )

    async def start(self, sink: int) -> None:
        """Rulebook, inventory, process."""
        if shutil.which("java") is None:
            raise CannotRun("there is no JVM on this machine, and its rule engine (Drools) needs one")
        self.make()
        self.port, folder = free_ports(1)[0], self.tree.folder
        self.door = Door(self.port, "/endpoint")
        labels = "{{ event.payload.alerts[0].labels.endpoint }}"
        module = {
            "name": "ansible.builtin.uri",
            "module_args": {
                "url": f"http://127.0.0.1:{sink}/act",
                "method": "POST",
                "body_format": "json",
                "body": {"key": "{{ event.payload.alerts[0].fingerprint }}", "what": labels},
            },
        }
        rule = {
            "name": "act",
            "condition": f'event.payload.commonLabels.alertname == "{ALERT}"',
            "action": {"run_module": module},
        }
        source = {"eda.builtin.webhook": {"host": "127.0.0.1", "port": self.port}}
        book = [{"name": "bench", "hosts": "localhost", "sources": [source], "rules": [rule]}]
        (folder / "rulebook.yml").write_text(yaml.safe_dump(book, sort_keys=False))
        host = {"ansible_connection": "local", "ansible_python_interpreter": str(self.python)}
        (folder / "inventory.yml").write_text(yaml.safe_dump({"all": {"hosts": {"localhost": host}}}))
        await self.again()

    async def again(self) -> None:
        """The process, with its JVM inside."""
        program, folder = self.python.parent / "ansible-rulebook", self.tree.folder
        argv = [str(program), "--rulebook", str(folder / "rulebook.yml"), "-i", str(folder / "inventory.yml")]
        path = f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"
        env = {"PATH": path, "JAVA_HOME": _java_home(), "HOME": str(folder)}
        self.child = self.tree.start("ansible-rulebook", argv, env=env)
        await self.open_port(self.port, 90)


def _java_home() -> str:
    found = shutil.which("java")
    return os.environ.get("JAVA_HOME") or str(Path(found or "").resolve().parents[1])
