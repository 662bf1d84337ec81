"""The alert rules that are shipped: judged by the real promtool, and each of their tests spoilt once to see that it bites."""

from __future__ import annotations

import copy
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.telemetry import WATCHED

PROMTOOL = "/usr/bin/promtool"  # of the Debian package prometheus (tests/install.sh)
ALERTS = Path(__file__).parents[2] / "docs" / "alerts"
RULES: dict[str, Any] = yaml.safe_load((ALERTS / "interlock.rules.yaml").read_text())
CASES: dict[str, Any] = yaml.safe_load((ALERTS / "interlock.rules.test.yaml").read_text())
NAMES = [r["alert"] for g in RULES["groups"] for r in g["rules"]]
NEVER, ALWAYS = "vector(0) > 1", "vector(1)"


def promtool(*words: str, cwd: Path = ALERTS) -> subprocess.CompletedProcess[str]:
    """Runs promtool."""
    return subprocess.run([PROMTOOL, *words], cwd=cwd, capture_output=True, text=True, timeout=60)


def rule_of(rules: dict[str, Any], name: str) -> dict[str, Any]:
    """The rule of an alert."""
    found: dict[str, Any] = next(r for g in rules["groups"] for r in g["rules"] if r["alert"] == name)
    return found


def verdict(folder: Path, name: str, only: list[dict[str, Any]], **instead: str) -> bool:
    """Whether the tests of one alert, `only` these, pass with something else in its rule."""
    spoilt = copy.deepcopy(RULES)
    rule_of(spoilt, name).update(instead)
    (folder / "interlock.rules.yaml").write_text(yaml.safe_dump(spoilt))
    (folder / "t.yaml").write_text(yaml.safe_dump({**CASES, "tests": only}))
    return promtool("test", "rules", "t.yaml", cwd=folder).returncode == 0


def cases_of(name: str, firing: bool) -> list[dict[str, Any]]:
    """Those tests of the file in which this alert fires, or in which it stays silent."""
    out = []
    for case in CASES["tests"]:
        wanted = [t for t in case["alert_rule_test"] if t["alertname"] == name and bool(t["exp_alerts"]) == firing]
        if wanted:
            out.append({**case, "alert_rule_test": wanted})
    return out


def test_the_rules_are_valid_and_their_tests_pass() -> None:
    """By promtool's own word."""
    checked = promtool("check", "rules", "--lint=all", "--lint-fatal", "interlock.rules.yaml")
    tested = promtool("test", "rules", "interlock.rules.test.yaml")

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("name", NAMES)
def test_each_alert_is_tested_where_it_fires_and_where_it_is_silent_and_both_bite(name: str, tmp_path: Path) -> None:
    """A rule that never fires fails the first kind, a rule that always fires the second."""
    fires, silent = cases_of(name, True), cases_of(name, False)

    assert fires
    assert silent
    assert not verdict(tmp_path, name, fires, expr=NEVER)
    assert not verdict(tmp_path, name, silent, expr=ALWAYS)


def spoilt_rules() -> list[tuple[str, str, str]]:
    """(alert, field, what to write there): each `for` dropped and made an hour, each bound doubled and halved."""
    out = []
    for name in NAMES:
        rule = rule_of(RULES, name)
        out += [(name, "for", wrong) for wrong in ("0s", "1h") if "for" in rule]
        for bound in re.finditer(r"(?<=[<>] )\d+", rule["expr"]):
            n = int(bound.group())
            for wrong in (n * 2 + 1, n // 2 - 1):
                out.append((name, "expr", rule["expr"][: bound.start()] + str(wrong) + rule["expr"][bound.end() :]))
    return out


@pytest.mark.parametrize(("name", "field", "wrong"), spoilt_rules())
def test_a_wrong_bound_or_patience_is_noticed(name: str, field: str, wrong: str, tmp_path: Path) -> None:
    """Thresholds are tested from both sides."""
    assert not verdict(tmp_path, name, cases_of(name, True) + cases_of(name, False), **{field: wrong})


@pytest.mark.parametrize("name", NAMES)
def test_each_alert_says_what_to_do(name: str) -> None:
    """A severity, two sentences, and a section of the README with a first command."""
    rule = rule_of(RULES, name)
    section = (ALERTS / "README.md").read_text().partition(f"### {name}\n")[2].partition("\n### ")[0]

    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "description"}
    assert "`" in section, f"README.md of docs/alerts has no command under {name}"


def test_the_readme_names_no_alert_that_is_not_there() -> None:
    """A renamed rule takes its section along."""
    assert re.findall(r"^### (\S+)$", (ALERTS / "README.md").read_text(), re.M) == NAMES


def test_every_metric_of_a_rule_is_one_that_is_exported() -> None:
    """A misspelt name would be a rule that is silent for ever."""
    text = " ".join(r["expr"] for g in RULES["groups"] for r in g["rules"])
    used = set(re.findall(r"\b(interlock_\w+)", text))

    assert used
    assert used <= set(WATCHED)


def test_every_gauge_is_there_for_a_rule_or_is_named_here() -> None:
    """What nobody alerts on is for graphs, and is few."""
    used = set(re.findall(r"\b(interlock_\w+)", (ALERTS / "interlock.rules.yaml").read_text()))

    assert set(WATCHED) - used == {
        "interlock_guard_halted",  # halted_seconds has the alert
        "interlock_cases_open",
        "interlock_watch_rounds_total",
        "interlock_watch_rounds_failed_total",  # the last good round has the alert
    }
