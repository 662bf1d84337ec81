"""The kubelet of all nodes of the lab: every pod that is bound to a node gets a real process there.

It watches pods, whoever bound them, and cordons do not concern it. It runs on a loop in its own thread.
"""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from activities.adapters.kube_try import POOL
from tests.kube.addresses import Range
from tests.kube.control_plane import ControlPlane
from tests.kube.engine_probe import EngineProbe
from tests.kube.loop import LoopThread
from tests.kube.manifests import NOT_READY
from tests.kube.pod_run import Host, PodRun, Probing
from tests.kube.watching import Event, watch


@dataclass(frozen=True)
class Note:
    """One thing that the kubelet did or saw. `at` is seconds since the epoch."""

    at: float
    what: str
    pod: str
    pool: str
    node: str
    text: str


class Kubelet:
    """Runs the pods of one namespace. `record` keeps every event; log files of engines lie in `folder`."""

    def __init__(
        self,
        control_plane: ControlPlane,
        namespace: str,
        addresses: Range,
        folder: Path,
        probing: Probing | None = None,
    ) -> None:
        self.control_plane = control_plane
        self.namespace = namespace
        self.addresses = addresses
        self.folder = folder
        self.probing = probing or Probing()
        self.record: list[Note] = []
        self.runs: dict[str, PodRun] = {}
        self.proxy: str | None = None
        """Admin URL of the Envoy in front of the pods, when there is one."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._down: set[str] = set()
        self._mute: set[str] = set()

    def start(self) -> None:
        """Returns when it has seen what there is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.loop = LoopThread("kubelet")
        self.loop.call(self._open())

    def stop(self) -> None:
        """Ends all processes. Raises what went wrong in the background."""
        self.loop.stop(self._close())

    def pods(self, pool: str | None = None, node: str | None = None) -> list[PodRun]:
        """The pods that it runs now, by name."""
        found = [r for r in tuple(self.runs.values()) if pool in (None, r.pool) and node in (None, r.node)]
        return sorted(found, key=lambda r: r.name)

    def pod(self, name: str) -> PodRun:
        """One of them. KeyError."""
        for run in self.pods():
            if run.name == name:
                return run
        raise KeyError(name)

    def hang(self, name: str) -> None:
        """SIGSTOP to a pod's process: it accepts and gives no token."""
        self.pod(name).signal(signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        """SIGCONT."""
        self.pod(name).signal(signal.SIGCONT)

    def kill(self, name: str) -> None:
        """SIGKILL to a pod's process: the container restarts."""
        self.pod(name).signal(signal.SIGKILL)

    def fault(self, name: str, fault: dict[str, Any]) -> None:
        """Switch a fault of the simulated engine on, `{}` heals."""
        self.loop.call(self._probe.fault(self.pod(name).address, fault))

    def fail_node(self, name: str, reason: str = "KubeletNotReady", message: str = "", silent: bool = False) -> None:
        """Its processes freeze and it becomes NotReady with this reason. Returns when the label is written.

        `silent`: its kubelet is away as well, so its pods are never confirmed as gone and stay Terminating until it is
        healed. Without, the kubelet of a sick node still removes what is deleted.
        """
        self._down.add(name)
        if silent:
            self._mute.add(name)
        for run in self.pods(node=name):
            run.signal(signal.SIGSTOP)
            self.loop.submit(run.froze())
        said = {f"{NOT_READY}/reason": reason, f"{NOT_READY}/message": message or "the lab failed this node"}
        self._mark(name, "true", said)
        self._say("node failed", name, reason)

    def heal_node(self, name: str) -> None:
        """The node is Ready again, its processes go on, and its kubelet says what is true."""
        for run in self.pods(node=name):
            run.signal(signal.SIGCONT)
        self._down.discard(name)
        self._mute.discard(name)
        self._mark(name, None, {f"{NOT_READY}/reason": None, f"{NOT_READY}/message": None})
        for run in self.pods(node=name):
            self.loop.submit(run.post())
        self._say("node healed", name, "")

    def reboot_node(self, name: str, down_s: float = 0.5) -> str:
        """All processes end, NotReady for `down_s`, then Ready with the new boot id that is returned; pods start anew."""
        self.fail_node(name, reason="NodeShutdown", message="rebooting")
        for run in self.pods(node=name):
            run.signal(signal.SIGKILL)
        time.sleep(down_s)
        boot_id = str(uuid.uuid4())
        self.control_plane.api.merge(f"/api/v1/nodes/{name}/status", {"status": {"nodeInfo": {"bootID": boot_id}}})
        self.heal_node(name)
        self._say("node rebooted", name, boot_id)
        return boot_id

    def _mark(self, name: str, value: str | None, annotations: dict[str, Any]) -> None:
        metadata = {"labels": {NOT_READY: value}, "annotations": annotations}
        self.control_plane.api.merge(f"/api/v1/nodes/{name}", {"metadata": metadata})

    async def _open(self) -> None:
        self._client = self.control_plane.async_client(self.control_plane.files.tokens["lab:kubelet"])
        self._probe = EngineProbe(self.probing.timeout_s)
        self._host = Host(
            client=self._client,
            probe=self._probe,
            probing=self.probing,
            folder=self.folder,
            down=self._down.__contains__,
            mute=self._mute.__contains__,
            note=lambda run, what, text: self._say(what, run.node, text, run),
            fronted=self._fronted,
        )
        synced = asyncio.Event()
        self.loop.spawn(self._follow(synced))
        await asyncio.wait_for(synced.wait(), 30)

    async def _fronted(self, address: str) -> bool:
        return self.proxy is not None and await self._probe.fronted(self.proxy, address)

    async def _close(self) -> None:
        for run in self.runs.values():
            run.kill()
        await self._probe.close()
        await self._client.aclose()

    async def _follow(self, synced: asyncio.Event) -> None:
        async with aclosing(watch(self._client, f"/api/v1/namespaces/{self.namespace}/pods")) as events:
            async for event in events:
                if event.kind == "SYNCED":
                    synced.set()
                else:
                    await self._saw(event)

    async def _saw(self, event: Event) -> None:
        uid, spec = event.thing["metadata"]["uid"], event.thing["spec"]
        run = self.runs.get(uid)
        if event.kind == "DELETED":
            if run is not None:
                await self._forget(uid, run)
            return
        if run is None:
            if not spec.get("nodeName"):
                return
            run = self.runs[uid] = PodRun(event.thing, self.addresses.take(pool_name(event)), self._host)
            self._say("bound", run.node, run.address, run)
            self._tasks[uid] = self.loop.spawn(run.live())
        if event.thing["metadata"].get("deletionTimestamp") and not run.ending:
            run.thing, run.ending = event.thing, True
            self._tasks[uid].cancel()
            grace = event.thing["metadata"].get("deletionGracePeriodSeconds") or 0
            self._tasks[uid] = self.loop.spawn(run.end(float(grace)))
        elif not run.ending:
            # Not awaited here: a slow server must not keep the kubelet from hearing of the next pod.
            self.loop.spawn(run.observed(event.thing))

    async def _forget(self, uid: str, run: PodRun) -> None:
        self._tasks.pop(uid).cancel()
        run.kill()
        del self.runs[uid]
        self.addresses.give(run.state.ip)
        self._say("gone", run.node, run.address, run)

    def _say(self, what: str, node: str, text: str, run: PodRun | None = None) -> None:
        pod, pool = (run.name, run.pool) if run is not None else ("", "")
        self.record.append(Note(time.time(), what, pod, pool, node, text))


def pool_name(event: Event) -> str:
    """The label `app`, else the pool that a check replica is one of, else the pod's own name."""
    labels = event.thing["metadata"].get("labels", {})
    return str(labels.get("app") or labels.get(POOL) or event.thing["metadata"]["name"])
