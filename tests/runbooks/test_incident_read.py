"""An incident file that cannot be meant is refused: every mistake at once, by line and field, with the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbooks.incident_read import read_incident
from runbooks.loader import CatalogError
from tests.runbooks.incident_files import Data, Edit, mistakes
from worker.incidents_skeleton import SKELETON


def at(data: Data, *path: str | int) -> Data:
    """The mapping there."""
    here = data
    for part in path:
        here = here[part]
    return here


def put(value: object, *path: str | int) -> Edit:
    """An edit that sets one field."""

    def edit(data: Data) -> None:
        at(data, *path[:-1])[path[-1]] = value

    return edit


FAULT, ALERT = ("timeline", "faults", 0), ("timeline", "alerts", 0)
WRONG: list[tuple[Edit, str, str]] = [
    (put("two words", "incident"), "incident", "a name holds no space"),
    (put("2025-01-31T10:00:00", "starts"), "starts", "the time zone is missing; for UTC write Z"),
    (put("31 January", "starts"), "starts", "write a time such as 2024-04-10T18:00:00Z"),
    (put(60, "lasts"), "lasts", "write a duration such as 90s, 12m, 2h43m"),
    (put("pst", "kind"), "kind", "did you mean past?"),
    (put("X", "sources", 0, "mark"), "sources[0].mark", "there are R, S, D, I"),
    (put([], "sources"), "sources", "give at least one"),
    (put({}, "fleet", "routes"), "fleet.routes", "a list is wanted here"),
    (
        put(3, "fleet", "pools", 0, "token_per_second"),
        "fleet.pools[0].token_per_second",
        "did you mean tokens_per_second?",
    ),
    (put("many", "fleet", "pools", 0, "replicas"), "fleet.pools[0].replicas", "a whole number is wanted here"),
    (
        put("15", "fleet", "routes", 0, "requests_per_second"),
        "fleet.routes[0].requests_per_second",
        "a number is wanted",
    ),
    (put(80, "fleet", "routes", 0, "target_utilisation"), "fleet.routes[0].target_utilisation", "25 % is 0.25"),
    (put({"a": 0.5}, "fleet", "routes", 0, "tiers"), "fleet.routes[0].tiers", "the shares add up to 0.5"),
    (put("hung", *FAULT, "fault"), "timeline.faults[0].fault", "there is no fault 'hung'; did you mean hang?"),
    (put("chat-west", *FAULT, "pool"), "timeline.faults[0].pool", "no 'chat-west'; did you mean chat-east?"),
    (put(4, *FAULT, "at"), "timeline.faults[0].at", "write when as 25m (after `starts`)"),
    (put("12:00", *FAULT, "at"), "timeline.faults[0].at", "make `lasts` longer"),
    (put("3m", *FAULT, "ends"), "timeline.faults[0].ends", "it ends before it begins"),
    (put(0, *FAULT, "replicas"), "timeline.faults[0].replicas", "greater than or equal to 1"),
    (put("bad", *ALERT, "severity"), "timeline.alerts[0].severity", "there are info, warning, critical"),
    (put("nevr", *ALERT, "resolves"), "timeline.alerts[0].resolves", "did you mean never?; or write when"),
    (put("chat-east", *ALERT, "target"), "timeline.alerts[0].target", "the fleet of this file has no 'chat-east'"),
    (put("east/chat-east", *ALERT, "target"), "timeline.alerts[0].target", "is no target id; write CLUSTER,"),
    (
        put("east/service/chat-east/endpoint/chat-east-0:9", *ALERT, "target"),
        "timeline.alerts[0].target",
        "did you mean chat-east-0:8000?",
    ),
    (
        put("east/node/east-n1/gpu/8", *ALERT, "target"),
        "timeline.alerts[0].target",
        "the fleet of this file has no '8'",
    ),
    (put([{"at": "1m", "who": "zoe", "says": "halt"}], "timeline", "people"), "timeline.people[0].who", "site.group"),
    (put(["zoe"], "timeline", "answers", "people"), "timeline.answers.people[0]", "'zoe' is not in site.group"),
    (put("engines", "truth", "group"), "truth.group", "did you mean engine?"),
    (put("engine.hang", "expect", "classes"), "expect.classes", "a list is wanted here"),
    (put(["restart"], "expect", "allowed"), "expect.allowed[0]", "there is no 'restart' here; did you mean"),
    (
        put([{"lever": "isolate_endpoint", "gate": "G2"}], "expect", "refused"),
        "expect.refused[0].lever",
        "isolate_endpoint is allowed as well",
    ),
]


@pytest.mark.parametrize(("edit", "field", "words"), WRONG, ids=[w[1] + ": " + w[2][:20] for w in WRONG])
def test_a_mistake_is_one_sentence_with_its_place_and_the_fix(
    edit: Edit, field: str, words: str, tmp_path: Path
) -> None:
    """File, line, and field, then what to do; one mistake gives one line."""
    (line,) = mistakes(tmp_path, edit)
    name, number, rest = line.split(":", 2)

    assert name == "mine.yaml"
    assert int(number) > 0
    assert rest.strip().startswith(f"{field}: ")
    assert words in rest


def test_the_line_is_that_of_the_field(tmp_path: Path) -> None:
    """Even deep in a list, it is the line that an editor has to go to."""
    path = tmp_path / "mine.yaml"
    path.write_text(SKELETON.replace("nodes: 2", "nodes: two"), encoding="utf-8")
    wanted = 1 + SKELETON[: SKELETON.index("nodes: 2")].count("\n")

    with pytest.raises(CatalogError, match=rf"mine.yaml:{wanted}: fleet.clusters\[0\].nodes: "):
        read_incident(path)


def test_what_is_missing_says_what_it_is_for(tmp_path: Path) -> None:
    """The author learns the meaning of the field without the guide."""
    found = mistakes(tmp_path, lambda d: d.pop("lasts"))

    assert found == ["mine.yaml:1: lasts: this field is missing; add it (How long is played, from `starts`)"]


def test_all_mistakes_between_the_parts_are_told_at_once(tmp_path: Path) -> None:
    """Nobody should have to mend four mistakes in four runs."""

    def edit(data: Data) -> None:
        data["timeline"]["faults"].append({"fault": "demand", "at": "9h", "route": "chatt", "factor": 2})
        data["timeline"]["alerts"][0]["target"] = "west"
        data["sources"][0]["mark"] = "I"

    fields = [line.split(": ")[1] for line in mistakes(tmp_path, edit)]

    assert fields == ["sources", "timeline.faults[1].at", "timeline.faults[1].route", "timeline.alerts[0].target"]


def test_a_mistake_about_a_pool_by_name_is_at_that_pool(tmp_path: Path) -> None:
    """The finding is at the pool's own field, and it lists the names that exist."""
    (line,) = mistakes(tmp_path, put("west", "fleet", "pools", 0, "cluster"))

    assert "fleet.pools[0].cluster: there is no cluster 'west'; there are east" in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title: one: two\n", "text that holds `: ` must be in quotes"),
        ("title: a\n\tkind: past\n", "use spaces and no tabs"),
        ("title: a\n  kind: past\n", "must be in quotes"),
        ("title: a\ntitle: b\n", "given twice, first on line 1"),
        ("", "the file is empty"),
    ],
)
def test_what_is_no_yaml_says_how_to_mend_it(text: str, words: str, tmp_path: Path) -> None:
    """The parser's own words do not help; the usual causes have a sentence each."""
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(CatalogError, match=words):
        read_incident(path)


def test_a_lever_refused_on_one_target_may_be_allowed_on_others(tmp_path: Path) -> None:
    """It is no contradiction while the refusal names a target."""
    refusal = {"lever": "isolate_endpoint", "gate": "G2", "target": "east/service/chat-east/endpoint/chat-east-1:8000"}

    assert mistakes(tmp_path, put([refusal], "expect", "refused")) == []
