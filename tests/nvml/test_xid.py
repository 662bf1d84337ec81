"""The XID table: NVIDIA's facts, our inference, and a loader that refuses what does not fit."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runbooks.detection import Detection, Target
from runbooks.library import SHIPPED, load_library
from runbooks.linting import check
from runbooks.loader import CatalogError
from runbooks.taxonomy import classify
from runbooks.xid import xid_of, xid_table


def test_the_table_has_nvidias_codes_and_our_levers() -> None:
    """Samples of each kind."""
    table = xid_table()

    assert len(table) == 172
    assert {code: (table[code].action, table[code].failure_class, table[code].lever) for code in (13, 48, 79, 95, 63, 74)} == {
        13: ("RESTART_APP", "infra.gpu_app_fault", "restart_engine"),
        48: ("WORKFLOW_XID_48", "infra.gpu_fault", "reset_gpu"),
        79: ("RESTART_BM", "infra.node_down", "reboot_node"),
        95: ("RESET_GPU", "infra.gpu_fault", "reset_gpu"),
        63: ("IGNORE", "unknown", "page"),
        74: ("WORKFLOW_NVLINK_ERR", "unknown", "page"),
    }  # fmt: skip
    assert [code for code in (43, 63, 79, 154) if table[code].quiet] == [43, 63, 154]


def test_an_xid_that_nobody_knows_only_pages() -> None:
    """NVML itself says 999 when the driver gives no code."""
    assert (xid_of(xid_table(), 999).failure_class, xid_of(xid_table(), 999).lever) == ("unknown", "page")


def test_every_code_is_of_the_class_that_triage_gives_it() -> None:
    """Two files say it: the table and the taxonomy's rules. They agree."""
    taxonomy, now = load_library().taxonomy, datetime.now(UTC)
    target = Target(cluster="west", node="node-7", gpu="0")

    for xid in xid_table().values():
        detection = Detection(
            alert="GpuXid", target=target, evidence={"xid": xid.code}, started_at=now, observed_at=now
        )
        assert classify([detection], taxonomy).failure_class == xid.failure_class, xid


def test_the_table_is_no_runbook_and_the_catalogue_stays_whole() -> None:
    """`interlock runbook check` passes it by."""
    assert check() == []
    assert "xid.yaml" not in load_library().runbooks


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            ("class: infra.gpu_fault", "class: infra.gpu_folt"),
            "actions.RESET_GPU: there is no failure class 'infra.gpu_folt'",
        ),
        (("lever: reset_gpu", "lever: hit_it"), "actions.RESET_GPU.lever: "),
        (("{code: 2,", "{code: 1,"), "code 1 is given twice; keep one"),
        (
            ("action: RESTART_BM}", "action: RESTART_BMM}"),
            "code 79 names the action RESTART_BMM, which is not in `actions`",
        ),
        (("licence:", "license:"), "there is no such field here"),
        (("{code: 79,", "{code: off,"), ".code: "),
    ],
)
def test_a_table_that_does_not_fit_is_refused_by_file_and_field(
    tmp_path: Path, change: tuple[str, str], problem: str
) -> None:
    """Strict, as all of the catalogue."""
    shutil.copy(SHIPPED / "taxonomy.yaml", tmp_path)
    text = (SHIPPED / "xid.yaml").read_text()
    assert change[0] in text
    (tmp_path / "xid.yaml").write_text(text.replace(*change, 1))

    with pytest.raises(CatalogError) as caught:
        xid_table(tmp_path)

    assert any(problem in line for line in caught.value.problems), caught.value.problems
    assert all(line.startswith(str(tmp_path / "xid.yaml")) for line in caught.value.problems)
