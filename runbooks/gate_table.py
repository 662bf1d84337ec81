"""The README's table of gates, made from the gates themselves: what each wants, why, and what an Unknown does in it."""

from __future__ import annotations

import inspect
from typing import get_args

from runbooks.gates.question import Gate
from runbooks.policy import Policy
from runbooks.safety import GATES

BEGIN, END = "<!-- gates: made by `python -m tests.write_readme` -->", "<!-- gates: end -->"
ASKABLE: tuple[str, ...] = tuple(
    g for literal in get_args(Policy.model_fields["ask_on_unknown"].annotation) for g in get_args(literal)
)
"""Gates in which policy may turn an Unknown into a question: by the type of the policy itself."""
NO_FACT = {
    "G6": "needs no fact: without an approval it asks",
    "G7": "needs no fact: without an approval it asks",
    "G12": "needs no fact: what is not declared denies",
}


def gate_id(gate: Gate) -> str:
    """`G1`, by the name of its function."""
    return gate.__name__.partition("_")[0].upper()


def told(gate: Gate) -> tuple[str, str]:
    """What it wants (the first sentence of its docstring) and why (the rest)."""
    text = " ".join((inspect.getdoc(gate) or "").split())
    wants, _, why = text.partition(". ")
    return wants, why.rstrip(".")


def unknown_does(gate: Gate) -> str:
    """In the words of the table."""
    name = gate_id(gate)
    return NO_FACT.get(name) or ("denies, or asks where policy lists it" if name in ASKABLE else "denies, always")


def table() -> str:
    """Markdown, one row a gate, in their order."""
    rows = ["| gate | allows only when | because | an Unknown fact |", "|---|---|---|---|"]
    rows += [f"| {gate_id(g)} | {' | '.join((*told(g), unknown_does(g)))} |" for g in GATES]
    return "\n".join(rows)


def with_table(text: str) -> str:
    """The text, its table replaced. ValueError: it has no place for one."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the text has no lines {BEGIN} and {END}")
    return f"{head}{BEGIN}\n\n{table()}\n\n{END}{tail}"
