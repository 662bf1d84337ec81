"""What Interlock wrote to the API server, by the server's own audit log, held against what its lever may write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from tests.kube.audit import Write
from tests.kube.control_plane import ControlPlane

CORDON, MOVE, PROOF, UNCORDON = "cordon", "move a replica", "a replica that proves the node under load", "uncordon"
NODE_PATHS = {"/metadata/resourceVersion", "/metadata/annotations", "/spec/unschedulable"}
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
        checks = [w.name for w in self.acts if (w.verb, w.resource, w.subresource) == ("create", "pods", "")]
        wanted = [
            (f"patch nodes {node}", CORDON),
            *sorted((f"create pods/eviction {pod}", MOVE) for pod in evicted),
            *((f"{verb} pods {name}", PROOF) for name in checks for verb in ("create", "delete")),
            (f"patch nodes {node}", UNCORDON),
        ]
        found = [(words(w), meaning(w)) for w in self.acts]
        moves = slice(1, 1 + len(evicted))
        found[moves] = sorted(found[moves])
        return found == wanted and len(checks) == 1 and not self.refused


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


def meaning(write: Write) -> str:
    """What it was for. A write to a node that touches more than its scheduling and our marks is named as that."""
    if write.resource != "nodes":
        return MOVE if write.subresource == "eviction" else PROOF
    patch = {str(op["path"]): op.get("value") for op in write.body} if isinstance(write.body, list) else {}
    if not patch or set(patch) - NODE_PATHS:
        return f"MORE THAN SCHEDULING: {sorted(patch) or write.body}"
    return CORDON if patch.get("/spec/unschedulable") is True else UNCORDON
