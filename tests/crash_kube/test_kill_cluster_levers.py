"""SIGKILL at every point inside apply of every lever on a cluster or a node, and inside close, on a real control plane.

Acts are counted in the API server's audit log, and at the stand-ins of nvidia-smi and of the reboot.
"""

from __future__ import annotations

import pytest

from tests.crash_kube import tally
from tests.crash_kube.cases import STORIES
from tests.crash_kube.play import Ending

APPLY = ("after_before_read", "after_write", "before_read_back", "before_receipt", "before_return")
CLOSE = ("close_begin", "close_written")
"""The same code for every lever: one is enough."""
PAIRS = [(story.lever, point) for point in APPLY for story in STORIES] + [("freeze_changes", p) for p in CLOSE]
OPEN = {"intended", "standing"}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("lever", "point"), PAIRS)
def test_a_worker_killed_anywhere_in_apply_or_close_acts_once_and_closes(
    endings: dict[tuple[str, str], Ending], lever: str, point: str
) -> None:
    """Killed once, gone on by another worker: each act reached the control plane once, and the world is as it should be."""
    ending = endings[lever, point]
    story = ending.role.story
    assert not ending.why, ending.why
    assert ending.deaths == 1, ending.timeline
    assert (ending.result["outcome"], ending.result["lever"]) == (story.outcome, lever), ending.timeline
    assert tally.said(ending.writes) == tuple(sorted(story.writes)), ending.timeline
    evicted = tally.evicted(ending.writes)
    assert len(set(evicted)) == len(evicted)
    assert tally.epochs(ending.writes, ending.role.name) == ""
    assert ending.resets == (["0"] if lever == "reset_gpu" else [])
    assert ending.reboots == (1 if lever == "reboot_node" else 0)
    assert not OPEN & set(ending.journal), ending.journal
    # Killed between two objects: the permit of the first ends, and the others have a receipt of their own.
    parts = story.objects > 1 and point == "after_write"
    assert len([s for s in ending.journal if s != "not_standing"]) == story.receipts + parts, ending.journal
    assert (ending.holder, ending.standing) == (None, 0)
    assert ending.after == {**ending.before, **story.stays}
