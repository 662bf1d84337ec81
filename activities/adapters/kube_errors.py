"""What the API server's answers mean, in the error tree of the ports.

PortError
├── Retryable   Busy (429, 503 with a time to come back), Expired (410: list again)
├── Permanent   Forbidden (401, 403), NotFound (404)
├── Refused     Conflict (409: somebody has written since), Exists (409), OverBudget (429 by a disruption budget)
└── Ambiguous   no answer, or 5xx, to a write that was sent
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from activities.errors import Ambiguous, Permanent, PortError, Refused, Retryable

Json = dict[str, Any]
_PATH = re.compile(
    r"^/(?:api|apis/(?P<group>[^/]+))/[^/]+(?:/namespaces/(?P<ns>[^/]+)(?=/))?/(?P<kind>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?$"
)
_VERBS = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
WORDS = 300
"""Longest part of the server's message that is passed on, characters."""


class Busy(Retryable):
    """The server asks to come back later."""


class Expired(Retryable):
    """The resourceVersion is too old to go on from: list again."""


class Forbidden(Permanent):
    """The role for it is not bound, or the token is not good."""


class NotFound(Permanent):
    """There is no such object, or no such kind of object."""


class Conflict(Refused):
    """Compare-and-set lost: the object has been written since it was read. Nothing of this write was applied."""


class Exists(Refused):
    """An object of this name is there already."""


class OverBudget(Refused):
    """A PodDisruptionBudget does not allow this eviction now."""


@dataclass(frozen=True)
class Call:
    """One request, as the access rules see it. `role` is the manifest in docs/rbac that allows it."""

    method: str
    path: str
    role: str
    writes: bool
    watches: bool = False

    @property
    def what(self) -> str:
        """Verb and resource, e.g. "patch deployments.apps/scale llm in prod"."""
        found = _PATH.match(self.path)
        if found is None:
            return f"{self.method} {self.path}"
        verb = _VERBS.get(self.method, "watch" if self.watches else "get" if found["name"] else "list")
        kind = found["kind"] + (f".{found['group']}" if found["group"] else "")
        kind += f"/{found['sub']}" if found["sub"] else ""
        return " ".join(
            [verb, kind, *([found["name"]] if found["name"] else []), *([f"in {found['ns']}"] if found["ns"] else [])]
        )


def fault(call: Call, status: int, body: bytes, retry_after: str) -> PortError:
    """The error that an answer other than 2xx stands for."""
    told = _status(body)
    words = str(told.get("message") or body[:WORDS].decode(errors="replace"))[:WORDS]
    said = f"{call.what}: the API server answers {status}: {words}"
    match status:
        case 401:
            return Forbidden(f"{call.what}: the API server does not know this token or certificate (401)")
        case 403:
            return Forbidden(f"{call.what} is forbidden: bind the role of docs/rbac/{call.role} ({words})")
        case 404:
            return NotFound(said)
        case 409:
            return (Exists if told.get("reason") == "AlreadyExists" else Conflict)(said)
        case 410:
            return Expired(said)
        case 429:
            budget = [
                c for c in (told.get("details") or {}).get("causes") or [] if c.get("reason") == "DisruptionBudget"
            ]
            if budget:
                return OverBudget(f"{call.what}: {budget[0].get('message', words)}"[: 2 * WORDS])
            return Busy(f"{said}; come back in {retry_after or '?'} s")
        case 503 if retry_after or not call.writes:
            return Busy(f"{said}; come back in {retry_after or '?'} s")
        case 400 | 405 | 406 | 413 | 415 | 422:
            return Refused(said) if call.writes else Permanent(said)
        case _ if status >= 500:
            # 500 and 504 also come after the write has gone to the store: only reading back can tell.
            return Ambiguous(f"{said}; it may have been applied") if call.writes else Retryable(said)
        case _:
            return Permanent(said)


def _status(body: bytes) -> Json:
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
