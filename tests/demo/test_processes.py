"""The process tree: ready or a clear error, ended in reverse order by pid, also when interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from worker.demo.processes import ChildFailed, ProcessTree, free_ports

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def _never() -> bool:
    return False


async def test_a_child_that_dies_early_is_named_with_the_tail_of_its_log(tmp_path: Path) -> None:
    """Who starts the demo sees what the child said, not only that it is gone."""
    with ProcessTree(tmp_path) as tree:
        child = tree.start("shortlived", [sys.executable, "-c", "print('no such flag --foo'); raise SystemExit(3)"])
        with pytest.raises(ChildFailed, match=r"(?s)shortlived ended with status 3.*no such flag --foo"):
            await tree.ready(child, _never)


async def test_a_child_that_ends_later_is_noticed_and_one_ended_on_purpose_is_not(tmp_path: Path) -> None:
    """A fault that the demo makes is no failure of the demo."""
    with ProcessTree(tmp_path) as tree:
        meant, other = tree.start("meant", SLEEPER), tree.start("other", SLEEPER)
        tree.kill(meant)
        tree.check()
        other.process.kill()
        other.process.wait()
        with pytest.raises(ChildFailed, match="other ended by SIGKILL"):
            tree.check()


def test_a_program_that_does_not_exist_is_a_clear_error(tmp_path: Path) -> None:
    """Not a traceback of subprocess."""
    with ProcessTree(tmp_path) as tree, pytest.raises(ChildFailed, match="engine cannot be started"):
        tree.start("engine", [str(tmp_path / "missing")])


def test_a_child_is_never_started_from_another_thread(tmp_path: Path) -> None:
    """Envoy would end with that thread."""
    with ProcessTree(tmp_path) as tree:
        caught: list[BaseException] = []

        def start() -> None:
            try:
                tree.start("envoy", SLEEPER)
            except RuntimeError as error:
                caught.append(error)

        thread = threading.Thread(target=start)
        thread.start()
        thread.join()

        assert "main thread" in str(caught[0])


def test_children_end_in_reverse_order_also_when_one_is_stopped_and_an_exception_flies(tmp_path: Path) -> None:
    """A stopped process gets SIGCONT first, or its SIGTERM would wait for ever."""
    order: list[str] = []

    class Watched(ProcessTree):
        def stop(self, child, grace_s: float = 5.0) -> None:  # type: ignore[no-untyped-def]
            super().stop(child, grace_s)
            order.append(child.name)

    pids: list[int] = []

    def fails_on_the_way() -> None:
        with Watched(tmp_path) as tree:
            pids.extend(tree.start(name, SLEEPER).pid for name in ("one", "two", "three"))
            os.kill(pids[1], signal.SIGSTOP)
            raise ValueError("on the way")

    began = time.monotonic()
    with pytest.raises(ValueError, match="on the way"):
        fails_on_the_way()

    assert order == ["three", "two", "one"]
    assert all(_gone(pid) for pid in pids)
    assert time.monotonic() - began < 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_whole_tree(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, and SIGTERM from a supervisor, leave no process behind."""
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from worker.demo.processes import ProcessTree, interruptible\n"
        "async def main():\n"
        "    with ProcessTree(Path(sys.argv[1])) as tree:\n"
        f"        tree.start('child', {SLEEPER!r})\n"
        "        print('up', flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "try:\n"
        "    asyncio.run(interruptible(main()))\n"
        "except KeyboardInterrupt as error:\n"
        "    print('ended by', error)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        assert demo.stdout is not None
        assert demo.stdout.readline() == "up\n"
        pid = int((tmp_path / "processes.txt").read_text().split("\t")[0])
        demo.send_signal(number)
        said, _ = demo.communicate(timeout=10)

    assert f"ended by {number.name}" in said
    assert _gone(pid)


def test_free_ports_are_all_different() -> None:
    """They are held together while they are picked."""
    assert len(set(free_ports(20))) == 20


async def test_a_child_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    """With the place of its log."""
    with ProcessTree(tmp_path) as tree:
        child = tree.start("slow", SLEEPER)
        with pytest.raises(ChildFailed, match=r"(?s)slow was not ready within 0 s.*slow\.log"):
            await tree.ready(child, _never, timeout_s=0.2)
    await asyncio.sleep(0)
