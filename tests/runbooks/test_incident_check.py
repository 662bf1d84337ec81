"""What only taxonomy, runbooks and policy can tell of an incident file, and what is hardly meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runbooks.incident_check import EXAMPLES, SETTINGS, check_incident
from runbooks.incident_read import read_incident
from runbooks.library import Library
from runbooks.policy import Policy
from tests.runbooks.incident_files import Data, Edit, write
from tests.runbooks.test_incident_read import ALERT, at, put

Findings = list[tuple[str, str, str]]
Find = Callable[[Edit], Findings]
PEOPLE, SETS = ("timeline", "answers", "people"), ("timeline", "faults")


@pytest.fixture
def findings(library: Library, policy: Policy, tmp_path: Path) -> Find:
    """Severity, field and sentence of each finding in the edited skeleton."""

    def found(edit: Edit) -> Findings:
        document, incident = read_incident(write(tmp_path, edit))
        lines = [f.line(document).removeprefix(f.severity) for f in check_incident(incident, library, policy)]
        kinds = [f.severity for f in check_incident(incident, library, policy)]
        return [(k, *line.split(": ", 3)[2:4]) for k, line in zip(kinds, lines, strict=True)]

    return found


def by_hand(**sets: object) -> Edit:
    """Somebody else sets what cannot be set."""
    keys = {k.replace("__", "/").replace("_", "-"): v for k, v in sets.items()}
    return lambda d: d["timeline"]["faults"].append({"fault": "by_hand", "at": "9m", "by": "a script", "sets": keys})


def two_alerts(data: Data) -> None:
    """The second is of a pool that is well."""
    data["fleet"]["clusters"].append({"name": "west", "nodes": 2})
    data["fleet"]["pools"].append({"name": "chat-west", "cluster": "west", "replicas": 6})
    data["fleet"]["routes"][0]["pools"].append("chat-west")
    data["timeline"]["alerts"].append({"at": "6m", "alert": "EngineLatency", "target": "west/service/chat-west"})


ERRORS: list[tuple[Edit, str, str]] = [
    (put("engine.hung", "truth", "failure_class"), "truth.failure_class", "did you mean engine.hang?"),
    (put("engine.hung", "truth", "second_label"), "truth.second_label", "did you mean engine.hang?"),
    (put(["engine.hang", "engine.cash"], "expect", "classes"), "expect.classes[1]", "did you mean engine.crash?"),
    (put("infra", "truth", "group"), "truth.group", "engine.hang is in the group engine, not infra"),
    (put(["isolate_endpoint", "reset_gpu"], "expect", "required"), "expect.required[1]", "have no reset_gpu"),
    (
        put([{"lever": "shed_load", "gate": "G3"}], "expect", "refused"),
        "expect.refused[0].lever",
        "have no shed_load, so nobody asks for it",
    ),
    (lambda d: d["expect"].update(required=[], outcome=["restored"]), "expect.outcome", "restored needs a lever"),
    (lambda d: d["expect"].update(paged=False, outcome=["paged"]), "expect.paged", "means that people are told"),
    (put([], "timeline", "alerts"), "timeline.alerts", "without an alert there is no case"),
    (put(["ana", "ana"], *PEOPLE), "timeline.answers.people", "nobody counts twice"),
    (
        put([{"at": "9m", "who": "ana", "says": "halt", "about": "east/service/chat-east"}], "timeline", "people"),
        "timeline.people[0].about",
        "halt is about a cluster",
    ),
    (put("09:30", *ALERT, "began"), "timeline.alerts[0].began", "09:30 is after the alert itself"),
    (put("7m", *ALERT, "measured"), "timeline.alerts[0].measured", "7m is after the alert itself"),
    (put("4m", *ALERT, "resolves"), "timeline.alerts[0].resolves", "taken back before it comes"),
    (put("09:15", "truth", "detected"), "truth.detected", "is after mitigated 10:42; a clock time is the next one"),
    (
        put({"freezes": [{"name": "f", "starts": "2025-01-31T00:00:00Z", "ends": "2025-02-01T00:00:00Z", "reason": "x",
                          "domains": ["easy"]}]}, "site"),
        "site.freezes[0].domains[0]",
        "did you mean east?",
    ),
    (put({"unattended": ["engine.hung"]}, "site"), "site.unattended[0]", "did you mean engine.hang?"),
    (put(["n1/gpu"], "fleet", "clusters", 0, "traffic_runs_on"), "fleet.clusters[0].traffic_runs_on[0]", "is no target id"),
    (by_hand(pod__chat_east__x="gone"), "timeline.faults[1].sets.pod/chat-east/x", "use the faults crash, node_down"),
    (by_hand(weigth__chat__chat_east=0), "timeline.faults[1].sets.weigth/chat/chat-east", "did you mean weight?"),
    (by_hand(weight__chat_east=0), "timeline.faults[1].sets.weight/chat-east", "as in weight/chat/chat-east: 0"),
    (by_hand(replicas__chat_west=0), "timeline.faults[1].sets.replicas/chat-west", "did you mean chat-east?"),
]  # fmt: skip
WARNINGS: list[tuple[Edit, str, str]] = [
    (
        lambda d: d["timeline"]["alerts"][0].update(alert="EngineHangs", evidence={}),
        "timeline.alerts[0].alert",
        "so it is `unknown` and people are told; did you mean EngineHang?",
    ),
    (
        put({"generation_failed": 3}, *ALERT, "evidence"),
        "timeline.alerts[0].evidence.generation_failed",
        "generations_failed?",
    ),
    (put(False, *ALERT, "automatic"), "timeline.alerts[0].automatic", "say who in `reported_by`"),
    (
        put(40, "fleet", "routes", 0, "requests_per_second"),
        "fleet.routes[0].requests_per_second",
        "asked for 8000 tokens/s",
    ),
    (put(2000, "fleet", "pools", 0, "kv_tokens"), "fleet.pools[0].kv_tokens", "tokens of KV cache, and it has 2000"),
    (
        put({"load": 120}, "fleet", "clusters", 0, "api"),
        "fleet.clusters[0].api",
        "a load of 121.2 on a capacity of 100",
    ),
    (put(4, "fleet", "clusters", 0, "quota_gpus"), "fleet.clusters[0].quota_gpus", "hold 12 GPUs in normal times"),
    (
        put([{"name": "db", "capacity": 1, "load": 2}], "fleet", "dependencies"),
        "fleet.dependencies[0].load",
        "db has a load of 2 on a capacity of 1",
    ),
    (put({"chat-east": 0}, "fleet", "routes", 0, "weights"), "fleet.routes[0].weights", "every weight is 0"),
    (two_alerts, "timeline.alerts[1].target", "no fault makes west/service/chat-west sick by then"),
    (put(["engine.crash"], "expect", "classes"), "expect.classes", "engine.hang, the true class, is not in it"),
    (
        put(["reroute_traffic"], "expect", "allowed"),
        "expect.allowed[0]",
        "have no reroute_traffic, so it is never done",
    ),
    (put(" ", "inferred"), "inferred", "nobody publishes the size of a fleet"),
    (
        lambda d: d["expect"].update(required=[], outcome=["paged"], mitigated_within="5m"),
        "expect.mitigated_within",
        "nothing is mitigated",
    ),
    (put({"residency": {"eu": ["us"]}}, "site"), "site.residency.eu", "no pool has the residency 'eu'"),
]


@pytest.mark.parametrize(("edit", "field", "words"), ERRORS, ids=[e[1] + ": " + e[2][:20] for e in ERRORS])
def test_what_cannot_be_meant_is_an_error(edit: Edit, field: str, words: str, findings: Find) -> None:
    """Each edit spoils the skeleton once; the finding is at the field and says what is wrong."""
    told = findings(edit)
    errors = [(f, text) for kind, f, text in told if kind == "error"]

    assert field in [f for f, _ in errors]
    assert words in next(text for f, text in errors if f == field)


@pytest.mark.parametrize(("edit", "field", "words"), WARNINGS, ids=[w[1] + ": " + w[2][:20] for w in WARNINGS])
def test_what_may_be_meant_is_a_warning(edit: Edit, field: str, words: str, findings: Find) -> None:
    """It is odd, but an author may want it: the finding is at the field and no error."""
    told = findings(edit)

    assert field in [f for kind, f, _ in told if kind == "warning"]
    assert words in next(text for _, f, text in told if f == field)


def test_the_skeleton_has_nothing_that_is_wrong_or_odd(findings: Find) -> None:
    """What authors start from must not begin with findings."""
    assert findings(lambda d: None) == []


def test_an_alert_of_any_name_counts_by_what_it_measured(findings: Find) -> None:
    """A site's own name for an alert is no warning while a rule knows its evidence."""

    def edit(data: Data) -> None:
        data["timeline"]["alerts"][0].update(alert="OursAlone", evidence={"stalled_s": 90})

    assert findings(edit) == []


def test_a_lever_of_another_case_than_the_main_one_may_be_refused(findings: Find) -> None:
    """Classes are of the main case; the rules read the alerts of the others."""

    def edit(data: Data) -> None:
        two_alerts(data)
        data["expect"]["refused"] = [{"lever": "reroute_traffic", "gate": "G16", "target": "west/service/chat-west"}]

    assert [kind for kind, _, _ in findings(edit)] == ["warning"]


def test_every_setting_has_an_example_of_its_length() -> None:
    """An example with too few or too many parts would teach the mistake that it should mend."""
    assert {f: len(EXAMPLES[f].split(": ")[0].split("/")) for f in EXAMPLES} == SETTINGS


def test_the_published_incidents_have_no_error(library: Library, policy: Policy) -> None:
    """All of them, so that a stricter check cannot leave one behind."""
    paths = sorted((Path(__file__).parents[1] / "incidents" / "past").glob("*.yaml"))
    wrong: list[str] = []
    for path in paths:
        document, incident = read_incident(path)
        wrong += [f.line(document) for f in check_incident(incident, library, policy) if f.severity == "error"]

    assert len(paths) >= 20
    assert wrong == []


def test_an_edit_reaches_what_it_names() -> None:
    """Of the tests' own helper."""
    data: Data = {"a": [{"b": 1}]}
    put(2, "a", 0, "b")(data)

    assert at(data, "a", 0) == {"b": 2}
