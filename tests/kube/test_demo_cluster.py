"""`make demo-cluster`: what it may call its own, its picture, and Ctrl-C. The story it shows is tested in tests/kube/stories."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.kube.audit import Write
from tests.kube.control_plane import ControlPlane
from tests.kube.demo.picture import draw
from tests.kube.demo.writes import Audit, meaning, words
from worker.demo.load import Request
from worker.demo.picture import Mark

READY_S = 90.0


def write(what: str, body: Any = None, status: int = 200) -> Write:
    """A write of Interlock: verb, resource with its subresource, name."""
    verb, resource, name = what.split()
    kind, _, sub = resource.partition("/")
    return Write(datetime.now(UTC), "interlock", verb, "/", "inference", kind, sub, name, status, False, body)


def scheduling(off: bool, *more: str) -> Write:
    """A JSON patch of gpu-1, of these paths too."""
    paths = {"/metadata/resourceVersion": "1", "/spec/unschedulable": off, **dict.fromkeys(more, "x")}
    return write("patch nodes gpu-1", [{"op": "add", "path": p, "value": v} for p, v in paths.items()])


OWN = (
    scheduling(True),
    write("create pods/eviction chat-b-1"),
    write("create pods/eviction chat-a-1"),
    write("create pods check"),
    write("delete pods check"),
    scheduling(False),
)


def audit(*acts: Write, refused: tuple[Write, ...] = ()) -> Audit:
    """An audit log with these acts."""
    return Audit(acts, fence=4, dry_runs=2, refused=refused)


def test_cordon_evictions_check_and_uncordon_are_the_levers_own_writes() -> None:
    """In whatever order the replicas went."""
    assert audit(*OWN).only_of("gpu-1", ["chat-a-1", "chat-b-1"])
    assert [meaning(w) for w in OWN][:2] == ["cordon", "move a replica"]


@pytest.mark.parametrize(
    "acts",
    [
        pytest.param((*OWN, write("delete pods chat-a-2")), id="one more write"),
        pytest.param(OWN[:-1], id="never uncordoned"),
        pytest.param((scheduling(False), *OWN[1:]), id="not cordoned first"),
        pytest.param((scheduling(True, "/metadata/labels"), *OWN[1:]), id="more than scheduling"),
        pytest.param((OWN[0], OWN[1], OWN[1], *OWN[3:]), id="one evicted twice and one never"),
    ],
)
def test_any_other_write_is_told(acts: tuple[Write, ...]) -> None:
    """The demo then fails."""
    assert not audit(*acts).only_of("gpu-1", ["chat-a-1", "chat-b-1"]), [words(w) for w in acts]


def test_a_write_that_the_roles_forbid_is_told() -> None:
    """Under the shipped roles there is none."""
    refused = (write("delete nodes gpu-1", status=403),)

    assert not audit(*OWN, refused=refused).only_of("gpu-1", ["chat-a-1", "chat-b-1"])


def test_the_picture_has_a_curve_of_the_replicas_that_serve(tmp_path: Path) -> None:
    """Drawn from a record of requests, with what happened above."""
    requests = [Request(100.0 + n, n != 3, 0.1, 200, "chat-a", "", "batch", "") for n in range(10)]
    curves = {"chat-a": [(99.0, 3), (103.0, 2), (106.0, 3)], "chat-b": [(99.0, 3)]}

    path = draw(requests, [Mark(103.0, "fault", "gpu-1 fails")], curves, 2, tmp_path / "timeline.png", "a title")

    assert path.read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_ends_every_process_that_the_demo_has_started(control_plane: ControlPlane, tmp_path: Path) -> None:
    """SIGINT to the front process alone, as from a terminal, once engines run: status 130, and nothing is left.

    The session's control plane is asked for only because the demo needs the same programs.
    """
    folder, log = tmp_path / "demo", tmp_path / "said.txt"
    argv = [sys.executable, "-m", "tests.kube.demo", "--state", str(folder)]
    with log.open("wb") as out:
        front = subprocess.Popen(argv, stdout=out, stderr=out, cwd=Path(__file__).parents[2])
    try:
        end = time.monotonic() + READY_S
        while "Interlock may do what" not in log.read_text():
            assert front.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        begun = started(front.pid, folder)
        front.send_signal(signal.SIGINT)

        assert front.wait(60) == 130, log.read_text()
    finally:
        if front.poll() is None:
            front.kill()
            front.wait(10)

    # The demo itself, five of the control plane, six engines, Temporal, Envoy.
    assert len(begun) >= 14, begun
    assert [pid for pid in begun if Path(f"/proc/{pid}").exists()] == []


def started(front: int, folder: Path) -> set[int]:
    """The demo's process, all of its session, and those that it has put into sessions of their own."""
    demo = next(pid for pid in running() if parent(pid) == front)
    own = {int(line.split("\t")[0]) for line in (folder / "processes.txt").read_text().splitlines()}
    return own | {pid for pid in running() if session(pid) == demo}


def running() -> list[int]:
    """All process ids."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def parent(pid: int) -> int:
    """Of a process; 0 when it has just ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def session(pid: int) -> int:
    """The same for its session."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0
