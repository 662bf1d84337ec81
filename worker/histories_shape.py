"""One decision of a workflow in one shape, whether the code asks for it now or a history holds it."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import Payload, RetryPolicy
from temporalio.api.failure.v1 import Failure
from temporalio.api.sdk.v1 import UserMetadata

Fields = dict[str, Any]
"""What is compared, as JSON: arguments, time-outs in seconds, retry policy, summary, …"""


@dataclass(frozen=True)
class Decision:
    """`key` is the same on both sides. `event`: the event that holds it; of what is asked: the last event before it."""

    key: tuple[str, str]
    name: str
    event: int
    fields: Fields

    @property
    def what(self) -> str:
        """For people: `activity apply_traffic`, `timer 3`."""
        return f"{self.key[0].replace('_', ' ')} {self.name}".strip()


def value_of(payload: Payload) -> Any:
    """The JSON value of a payload; what is not JSON is shown by its encoding and its bytes."""
    encoding = payload.metadata.get("encoding", b"").decode()
    if encoding == "binary/null" or not payload.ByteSize():
        return None
    if encoding == "json/plain":
        with contextlib.suppress(ValueError, RecursionError):  # a hostile one: its bytes are compared
            return json.loads(payload.data)
    return {"encoding": encoding, "data": base64.b64encode(payload.data).decode()}


def values_of(payloads: Iterable[Payload]) -> list[Any]:
    """The same of several."""
    return [value_of(p) for p in payloads]


def map_of(payloads: Mapping[str, Payload]) -> dict[str, Any]:
    """The same of named ones: search attributes, a memo."""
    return {name: value_of(payload) for name, payload in payloads.items()}


def summary_of(told: UserMetadata) -> str:
    """The line that the Temporal UI shows beside it; empty when there is none."""
    return str(value_of(told.summary) or "") if told.HasField("summary") else ""


def seconds(duration: Duration) -> float:
    """0 when it is not set."""
    return float(duration.ToTimedelta() / timedelta(seconds=1))


def retry_of(policy: RetryPolicy) -> Fields:
    """With the server's defaults for what is not set: it writes them into the history (docs.temporal.io, retry policies)."""
    first = seconds(policy.initial_interval) or 1.0
    return {
        "initial_s": first,
        "coefficient": policy.backoff_coefficient or 2.0,
        "maximum_s": seconds(policy.maximum_interval) or 100 * first,
        "attempts": policy.maximum_attempts,
        "never_for": sorted(policy.non_retryable_error_types),
    }


def failure_of(failure: Failure) -> Fields:
    """Type and message: a stack trace names files of one machine."""
    return {"type": failure.application_failure_info.type, "message": failure.message}
