"""What Interlock wrote to the API server, by the server's own audit log, held against what its lever may write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from tests.kube.audit import Write
from tests.kube.control_plane import ControlPlane

ACCOUNT = "system:serviceaccount:interlock:interlock"


@dataclass(frozen=True)
class Audit:
    """`acts` changed something, `fence` moved an epoch, `dry_runs` asked only, `refused` were forbidden by the roles."""

    acts: tuple[Write, ...]
    fence: int
    dry_runs: int
    refused: tuple[Write, ...]

    def only_of(self, node: str, evicted: Sequence[str]) -> bool:
        """Exactly the lever's own: cordon, each of these pods evicted once, a check replica made and removed, uncordon."""
        found = [words(w) for w in self.acts]
        made = [w.name for w in self.acts if (w.verb, w.resource, w.subresource) == ("create", "pods", "")]
        wanted = [
            f"patch nodes {node}",
            *(f"create pods/eviction {pod}" for pod in evicted),
            *(f"{verb} pods {name}" for name in made[:1] for verb in ("create", "delete")),
            f"patch nodes {node}",
        ]
        return len(made) == 1 and sorted(found) == sorted(wanted) and not self.refused


def audited(plane: ControlPlane) -> Audit:
    """All that Interlock's service account has written up to now."""
    mine = plane.writes(user=ACCOUNT)
    return Audit(
        acts=tuple(w for w in mine if w.applied and w.resource != "configmaps"),
        fence=sum(1 for w in mine if w.applied and w.resource == "configmaps"),
        dry_runs=sum(1 for w in mine if w.dry_run),
        refused=tuple(w for w in mine if w.status == httpx.codes.FORBIDDEN),
    )


def words(write: Write) -> str:
    """Verb, resource, name."""
    what = write.resource + (f"/{write.subresource}" if write.subresource else "")
    return f"{write.verb} {what} {write.name}"
