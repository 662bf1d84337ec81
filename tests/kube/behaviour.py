"""What a container does: its image's tag picks a row of one table; its args and its variable FAULT change it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

Readiness = Literal["token", "health"]


@dataclass(frozen=True)
class Behaviour:
    """How the simulated engine is started, and what the kubelet asks of it."""

    args: tuple[str, ...] = ("--tokens-per-second", "200", "--slots", "4")
    fault: dict[str, Any] = field(default_factory=dict)
    """Body of POST /admin/fault, sent once the first token was given: the container does become Ready."""
    readiness: Readiness = "token"
    """What keeps it Ready after its first token: a real generation, or only /health, as a weak readiness probe does."""
    exit_code: int | None = None
    """Ends at once with this status instead of serving."""


GOOD = Behaviour()
TAGS: dict[str, Behaviour] = {
    **{f"v{n}": GOOD for n in range(1, 10)},
    "slow": Behaviour(args=("--tokens-per-second", "8", "--slots", "4"), fault={"ttft_s": 0.5}),
    # Ready, and answers errors: what a ring of a rollout has to find out by asking.
    "broken": Behaviour(fault={"error_rate": 1.0}, readiness="health"),
    "flaky": Behaviour(fault={"error_rate": 0.5}, readiness="health"),
    "mute": Behaviour(fault={"empty": True}, readiness="health"),
    "hung": Behaviour(fault={"hang": True}, readiness="health"),
    # Ready once, and then its own readiness probe sees the errors.
    "failing": Behaviour(fault={"error_rate": 1.0}),
    "never": Behaviour(args=("--startup-s", "100000")),
    "crash": Behaviour(exit_code=3),
}
"""Tag to behaviour. Another tag is an image that cannot be pulled."""


def behaviour_of(container: dict[str, Any]) -> Behaviour | None:
    """The row of the container's image, with its args appended (the last of a repeated option counts) and the fault
    replaced by the JSON of its variable FAULT. None: no such image."""
    row = TAGS.get(str(container["image"]).rpartition(":")[2])
    if row is None:
        return None
    variables = {v["name"]: v.get("value", "") for v in container.get("env", [])}
    fault = json.loads(variables["FAULT"]) if variables.get("FAULT") else row.fault
    readiness: Readiness = "health" if variables.get("FAULT") else row.readiness
    return Behaviour((*row.args, *container.get("args", [])), fault, readiness, row.exit_code)
