"""One HTTPRoute as the API server gives it: its weights, who wrote them, and the JSON patch that changes them. Pure.

A fleet route is an HTTPRoute, a pool is a backendRef. Every rule that lists exactly the route's pools carries the split
(an operator may have one rule per path or per tier): they must agree, and they are written together. A rule that lists
anything else (a pinned tenant, a mirror) is nobody's lever and stays as it is.

The fence stands in two annotations, each `DOMAIN=EPOCH/PERMIT` per domain, since the epochs of two domains do not compare:
`interlock.dev/epoch` is the highest permit that was about to write anywhere in the domain, `interlock.dev/permit` the one
that wrote these weights last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from activities.adapters.envoy_document import Writer
from activities.errors import Permanent
from runbooks.change import weight_key
from runbooks.facts import Settings

API = "/apis/gateway.networking.k8s.io/v1"
EPOCH, PERMIT = "interlock.dev/epoch", "interlock.dev/permit"
MAX_WEIGHT = 1_000_000
"""What the Gateway API allows."""

Patch = list[dict[str, Any]]
"""A JSON patch (RFC 6902)."""


@dataclass(frozen=True)
class Place:
    """Where a fleet route stands: `backends` maps each of its pools to the name of its backendRef."""

    route: str
    namespace: str
    name: str
    backends: Mapping[str, str]

    @property
    def path(self) -> str:
        """Path of the object on the API server."""
        return f"{API}/namespaces/{self.namespace}/httproutes/{self.name}"

    def __str__(self) -> str:
        return f"HTTPRoute {self.namespace}/{self.name}"

    def mangled(self, why: str) -> Permanent:
        """The error for an object that nobody should guess about."""
        return Permanent(f"{self} is not usable: {why}")


@dataclass(frozen=True)
class Ref:
    """A backendRef of a rule that carries the split, by its place in the object."""

    rule: int
    index: int
    pool: str

    @property
    def pointer(self) -> str:
        """JSON pointer of the backendRef."""
        return f"/spec/rules/{self.rule}/backendRefs/{self.index}"


@dataclass(frozen=True)
class RouteObject:
    """One HTTPRoute as read. `version` is its resourceVersion, `generation` counts changes of its spec."""

    place: Place
    body: dict[str, Any]
    version: str
    generation: int
    refs: tuple[Ref, ...]
    settings: Settings
    fences: dict[str, Writer]
    writers: dict[str, Writer]

    def untouched(self) -> Patch:
        """The op that lets a patch pass only while the object is exactly as read, its status too."""
        return [{"op": "test", "path": "/metadata/resourceVersion", "value": self.version}]

    def weighted(self, after: Settings) -> Patch:
        """Ops that set weights, each after a test that the same backend with the weight as read stands there."""
        ops: Patch = []
        for ref in self.refs:
            key = weight_key(self.place.route, ref.pool)
            if key in after:
                ops += [
                    {"op": "test", "path": f"{ref.pointer}/name", "value": self.place.backends[ref.pool]},
                    {"op": "test", "path": f"{ref.pointer}/weight", "value": self.settings[key]},
                    {"op": "replace", "path": f"{ref.pointer}/weight", "value": after[key]},
                ]
        return ops

    def marked(self, annotations: dict[str, dict[str, Writer]]) -> Patch:
        """Ops that set annotations of the fence."""
        texts = {name: _text(writers) for name, writers in annotations.items()}
        if not self.body["metadata"].get("annotations"):
            return [{"op": "add", "path": "/metadata/annotations", "value": texts}]
        return [
            {"op": "add", "path": f"/metadata/annotations/{name.replace('/', '~1')}", "value": text}
            for name, text in texts.items()
        ]


def parse(place: Place, body: dict[str, Any]) -> RouteObject:
    """The object in this answer. Permanent, naming it, when it does not carry the route's split."""
    try:
        refs, settings = _split(place, body["spec"].get("rules", []))
        meta = body["metadata"]
        notes = meta.get("annotations") or {}
        return RouteObject(
            place=place,
            body=body,
            version=meta["resourceVersion"],
            generation=meta["generation"],
            refs=refs,
            settings=settings,
            fences=_writers(place, EPOCH, notes),
            writers=_writers(place, PERMIT, notes),
        )
    except (LookupError, TypeError, AttributeError) as error:
        raise place.mangled(f"{type(error).__name__}: {error}") from error


def _split(place: Place, rules: list[dict[str, Any]]) -> tuple[tuple[Ref, ...], Settings]:
    pools = {backend: pool for pool, backend in place.backends.items()}
    refs: list[Ref] = []
    settings = Settings()
    for number, rule in enumerate(rules):
        listed = rule.get("backendRefs", [])
        if sorted(b["name"] for b in listed) != sorted(pools):
            continue
        for index, backend in enumerate(listed):
            ref = Ref(number, index, pools[backend["name"]])
            weight, key = backend["weight"], weight_key(place.route, ref.pool)
            if settings.setdefault(key, weight) != weight:
                raise place.mangled(
                    f"its rules split {place.route} differently: backendRef {backend['name']} has weight {settings[key]} "
                    f"in an earlier rule and {weight} in rule {number}; make them equal"
                )
            refs.append(ref)
    if not refs:
        raise place.mangled(f"no rule lists exactly the backendRefs {', '.join(sorted(pools))}")
    return tuple(refs), settings


def _text(writers: dict[str, Writer]) -> str:
    return " ".join(f"{domain}={w.epoch}/{w.permit_id}" for domain, w in sorted(writers.items()))


def _writers(place: Place, name: str, annotations: dict[str, str]) -> dict[str, Writer]:
    found: dict[str, Writer] = {}
    for word in annotations.get(name, "").split():
        who, _, permit = word.partition("/")
        domain, _, epoch = who.rpartition("=")
        if not (domain and epoch.isdigit() and permit):
            # Not "no fence": that would let every late attempt through.
            raise place.mangled(
                f"annotation {name} is {annotations[name]!r} and not DOMAIN=EPOCH/PERMIT; write the highest epoch into it"
            )
        found[domain] = Writer(epoch=int(epoch), permit_id=permit)
    return found
