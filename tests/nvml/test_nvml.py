"""What NVML says of each GPU, and what it cannot say: on a stand-in of the library, built against NVIDIA's header."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes.util
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from activities.adapters.nvml import Nvml
from activities.adapters.nvml_quiet import Quiet
from activities.adapters.nvml_thread import in_thread
from activities.errors import Permanent, Refused, Retryable
from runbooks.facts import Known, Unknown
from runbooks.gpus import EventKind, GpuEvent, GpuHealth, Recovery, RemappedRows, clear, findings, recovered, worst
from tests.nvml.conftest import until
from tests.nvml.standin import SONAME, Node, build

NOT_SUPPORTED, NO_PERMISSION, RESET_REQUIRED, DRIVER_NOT_LOADED = 3, 4, 16, 9


def value(field: Known[object] | Unknown) -> object:
    """What is known; the test fails when it is not."""
    assert isinstance(field, Known), field.why
    return field.value


def test_every_field_of_a_gpu_is_read(node: Node) -> None:
    """Each from its own call of the library, none swapped with another."""
    node.set(
        1, recovery=4, rows_correctable=5, rows_uncorrectable=6, rows_pending=1, rows_failed=0, ecc_volatile=7,
        ecc_aggregate=8, clocks=0x40 | 0x4 | 0x800, link_failed=3, temperature=81, persistence=1,
        pids="4242,17",
    )  # fmt: skip

    well, gpu = Nvml(host_pids=True).health()

    assert (gpu.index, gpu.lost) == (1, False)
    assert value(gpu.uuid) == "GPU-5a4d0000-0000-0000-0000-000000000001"
    assert value(gpu.pci_bus_id) == "00000000:11:00.0"
    assert value(gpu.name) == "Stand-in GPU"
    assert value(gpu.recovery) is Recovery.DRAIN_AND_RESET
    assert value(gpu.rows) == RemappedRows(correctable=5, uncorrectable=6, pending=True, failed=False)
    assert (value(gpu.ecc_volatile), value(gpu.ecc_aggregate)) == (7, 8)
    assert value(gpu.throttle) == ("sw_power_cap", "hw_thermal_slowdown", "reason_0x800")
    assert value(gpu.nvlink_failed) == 3
    assert value(gpu.temperature_c) == 81
    assert (value(gpu.persistence), value(well.persistence)) == (True, False)
    assert value(gpu.processes) == (17, 4242)
    assert worst(well) is None
    assert recovered(well) == ""


@pytest.mark.parametrize("code", range(8))
def test_each_recovery_action_of_the_header_has_its_name(node: Node, code: int) -> None:
    """The order is nvml.h's."""
    node.set(0, recovery=code)

    assert value(Nvml(host_pids=True).health()[0].recovery) is list(Recovery)[code]


def test_a_wish_that_is_newer_than_we_are_is_a_finding_and_never_none(node: Node) -> None:
    """It pages: nobody knows what it asks for."""
    node.set(0, recovery=23)

    gpu = Nvml(host_pids=True).health()[0]
    found = worst(gpu)

    assert value(gpu.recovery) is Recovery.OTHER
    assert found is not None
    assert (found.failure_class, found.lever) == ("unknown", "page")


def test_what_a_gpu_does_not_support_is_unknown_with_the_reason_and_the_rest_is_read(node: Node) -> None:
    """No default stands in for a measurement."""
    node.set(
        0,
        rows_error=NOT_SUPPORTED,
        processes_error=NO_PERMISSION,
        recovery_error=NOT_SUPPORTED,
        link_error=NOT_SUPPORTED,
    )

    gpu = Nvml(host_pids=True).health()[0]

    assert gpu.rows == gpu.recovery == gpu.nvlink_failed == Unknown(why="this GPU does not support it")
    assert gpu.processes == Unknown(why="NVML refuses it to this user")
    assert value(gpu.temperature_c) == 40
    assert "does not say whether it wants a recovery" in recovered(gpu)


def test_a_gpu_that_is_lost_is_told_beside_the_others(node: Node) -> None:
    """Off the bus, every other call fails: nothing of it is known, and nothing of its sibling is doubted."""
    node.set(0, lost=1)

    lost, well = Nvml(host_pids=True).health()
    found = worst(lost)

    assert lost.lost
    assert lost.recovery == lost.uuid == Unknown(why="the GPU is off the bus")
    assert found is not None
    assert (found.alert, found.failure_class, found.lever) == ("GpuLost", "infra.node_down", "reboot_node")
    assert not well.lost


def test_a_gpu_that_is_lost_while_it_is_asked_is_lost(node: Node) -> None:
    """Half of a reading is no reading: no field of the time before is kept."""
    node.set(0, stall_ms=30)

    def lose() -> None:
        time.sleep(0.15)
        node.set(0, lost=1)

    thread = threading.Thread(target=lose)
    thread.start()
    gpu = Nvml(host_pids=True).health()[0]
    thread.join()

    assert gpu.lost
    assert isinstance(gpu.uuid, Unknown)


def test_a_gpu_that_answers_nothing_before_a_reset_wants_a_reset(node: Node) -> None:
    """The refusal itself is the wish."""
    node.set(0, handle_error=RESET_REQUIRED)

    gpu = Nvml(host_pids=True).health()[0]

    assert value(gpu.recovery) is Recovery.GPU_RESET
    assert isinstance(gpu.processes, Unknown)
    assert not gpu.lost


def test_a_gpu_that_answers_nothing_is_neither_well_nor_lost(node: Node) -> None:
    """A wedged GPU often gives an unknown error and no more: that is a finding, and no proof of anything."""
    node.set(0, handle_error=999)

    gpu = Nvml(host_pids=True).health()[0]
    found = worst(gpu)

    assert found is not None
    assert (found.alert, found.failure_class, found.lever) == ("GpuUnreadable", "unknown", "page")
    assert found.readings > 1
    assert not clear(gpu, "GpuUnreadable")
    assert recovered(gpu) != ""


def test_a_driver_that_is_not_loaded_is_one_sentence_with_the_fix(node: Node) -> None:
    """It does not mend itself."""
    node.set(0, init_error=DRIVER_NOT_LOADED)

    with pytest.raises(Permanent, match=r"kernel driver is not loaded .* \(modprobe nvidia\)"):
        Nvml(host_pids=True).health()


ASK = """
import sys
from activities.adapters.nvml import Nvml
from activities.errors import PortError
try:
    for gpu in Nvml(host_pids=True).health():
        print(gpu.model_dump_json())
except PortError as error:
    print(type(error).__name__, error)
"""


def ask_in_a_child(**environment: str) -> list[str]:
    """The same reading in a process of its own, which loads the library as a user's does."""
    env = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, env=env, check=True, timeout=60)
    return done.stdout.splitlines()


@pytest.mark.parametrize("broken", [False, True])
def test_without_the_library_there_is_one_sentence_that_names_it_and_the_fix(tmp_path: Path, broken: bool) -> None:
    """None at all, or a file that is no library."""
    if not broken and ctypes.util.find_library("nvidia-ml"):
        pytest.skip("this machine has NVIDIA's driver: that it is missing cannot be tried here")
    if broken:
        (tmp_path / SONAME).touch()
    (said,) = ask_in_a_child(LD_LIBRARY_PATH=str(tmp_path))

    assert said.startswith("Permanent libnvidia-ml.so.1 (NVML, a part of NVIDIA's driver) is not on this machine:")
    assert "install the driver" in said


def test_functions_that_an_older_driver_lacks_are_unknown_and_the_rest_is_read(node: Node, tmp_path: Path) -> None:
    """A real library without these symbols, found by the loader's own path."""
    library = build(tmp_path, "-DOLD_DRIVER")
    node.set(0, ecc_volatile=2, temperature=55)

    said = ask_in_a_child(LD_LIBRARY_PATH=str(library.parent), NVML_STANDIN=str(node.folder))
    gpu = GpuHealth.model_validate_json(said[0])
    found = worst(gpu)

    missing = Unknown(why="the NVML of this driver has no such function")
    assert gpu.rows == gpu.recovery == gpu.throttle == gpu.nvlink_failed == missing
    assert value(gpu.temperature_c) == 55  # by the older function
    # No wish to go by: then the counter speaks.
    assert found is not None
    assert (found.alert, found.failure_class, found.lever) == ("GpuEccUncorrected", "infra.gpu_fault", "reset_gpu")


def test_findings_come_with_the_gravest_first_and_the_drivers_wish_over_all_counters(node: Node) -> None:
    """What decides is what the driver wants."""
    node.set(0, recovery=2, rows_pending=1, rows_failed=1, link_failed=1, clocks=0x8, ecc_volatile=9, temperature=93)

    found = findings(Nvml(host_pids=True).health()[0])

    assert [(f.alert, f.failure_class, f.lever) for f in found] == [
        ("GpuRecoveryWanted", "infra.node_down", "reboot_node"),
        ("GpuRowRemapFailure", "infra.gpu_fault", "rebalance_nodes"),
        ("GpuRowRemapPending", "infra.gpu_fault", "reset_gpu"),
        ("GpuNvlinkDown", "unknown", "page"),
        ("GpuThrottled", "unknown", "page"),
    ]
    assert found[0].evidence == {
        "uuid": "GPU-5a4d0000-0000-0000-0000-000000000000", "pci_bus_id": "00000000:10:00.0", "recovery_action": "node_reboot",
    }  # fmt: skip
    assert found[-1].evidence["temperature_c"] == 93
    assert found[-1].readings > 1


def test_an_alert_is_over_only_when_a_reading_proves_it(node: Node) -> None:
    """Unknown proves nothing, neither does a lost GPU."""
    node.set(0, rows_error=NOT_SUPPORTED)
    node.set(1, lost=1)
    unread, lost = Nvml(host_pids=True).health()
    node.set(0)
    well = Nvml(host_pids=True).health()[0]

    assert not clear(unread, "GpuRowRemapPending")
    assert clear(unread, "GpuRecoveryWanted")
    assert not clear(lost, "GpuRecoveryWanted")
    assert clear(well, "GpuRowRemapPending")
    assert clear(well, "GpuXid")


@contextlib.asynccontextmanager
async def hearing(nvml: Nvml) -> object:
    """The events of a node, as they come, and the task that hears them."""
    heard: list[GpuEvent] = []

    async def listen() -> None:
        async with contextlib.aclosing(nvml.events(wait_s=0.05)) as events:
            async for event in events:
                heard.append(event)

    task = asyncio.create_task(listen())
    try:
        yield heard
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _threads() -> int:
    return sum(1 for t in threading.enumerate() if t.name == "nvml-events")


async def test_an_xid_is_heard_at_once_with_its_gpu_and_code_and_the_thread_ends_with_the_listener(node: Node) -> None:
    """Nothing is left behind."""
    async with hearing(Nvml(host_pids=True)) as heard:
        await until(lambda: node.registered == ["0", "1"], 30, "listening")
        node.event(0, 1, 0)  # a single-bit error: corrected, and not asked for
        node.xid(1, 79)
        await until(lambda: heard, 30, "the XID")
        node.event(0, 0x8000)
        await until(lambda: len(heard) == 2, 30, "the change of the recovery action")

    assert [(e.kind, e.gpu, e.data) for e in heard] == [(EventKind.XID, 1, 79), (EventKind.RECOVERY_ACTION, 0, 0)]
    await until(lambda: _threads() == 0, 30, "the thread's end")  # it says that it ends just before it does


async def test_after_a_gpu_is_lost_the_others_are_still_heard(node: Node) -> None:
    """The wait fails for the lost one; it is told, and the rest is registered anew."""
    async with hearing(Nvml(host_pids=True)) as heard:
        await until(lambda: node.registered == ["0", "1"], 30, "listening")
        node.set(0, lost=1)
        await until(lambda: heard, 30, "the loss")
        assert heard[0].kind is EventKind.LOST
        await until(lambda: node.registered[2:] == ["1"], 30, "listening anew")
        node.xid(1, 31)
        await until(lambda: len(heard) > 1, 30, "the other GPU's XID")

    assert (heard[1].kind, heard[1].gpu, heard[1].data) == (EventKind.XID, 1, 31)


async def test_a_node_whose_gpus_report_no_events_says_so(node: Node) -> None:
    """Not a silence that looks like health."""
    node.set(0, events_error=NOT_SUPPORTED)
    node.set(1, events_error=NOT_SUPPORTED)

    with pytest.raises(Permanent, match="no GPU of this node reports events"):
        async for _ in Nvml(host_pids=True).events():
            pass


async def test_a_driver_that_never_answers_holds_neither_us_nor_our_end(node: Node) -> None:
    """The reading is given up at its deadline."""
    node.set(0, stall_ms=3000)

    with pytest.raises(Retryable, match=r"NVML does not answer within 0\.2 s"):
        await in_thread(Nvml(host_pids=True).health, 0.2, "NVML")


async def test_who_resets_waits_for_our_readers_and_no_reader_begins_meanwhile(node: Node, tmp_path: Path) -> None:
    """A reset needs the GPUs unused, by monitors too."""
    quiet = Quiet(tmp_path / "locks" / "nvml")
    nvml = Nvml(quiet, host_pids=True)
    with quiet.using(), pytest.raises(Refused, match=r"not let go within 0\.2 s"):
        async with quiet.alone(within_s=0.2):
            pass
    assert len(nvml.health()) == 2

    async with quiet.alone():
        assert quiet.wanted()
        with pytest.raises(Retryable, match="being reset"):
            nvml.health()
    assert not quiet.wanted()
    assert len(nvml.health()) == 2


async def test_who_listens_for_events_lets_go_for_a_reset_and_comes_back(node: Node, tmp_path: Path) -> None:
    """Else the detector of a node would forbid its own cure."""
    quiet = Quiet(tmp_path / "nvml")
    async with hearing(Nvml(quiet, host_pids=True)) as heard:
        await until(lambda: node.registered == ["0", "1"], 30, "listening")
        async with quiet.alone(within_s=2):
            node.xid(0, 1)  # not seen: nobody listens
        await until(lambda: len(node.registered) == 4, 30, "listening anew")
        node.xid(0, 79)
        await until(lambda: heard, 30, "an event after the reset")

    assert [e.data for e in heard] == [79]
