"""One xDS file as a document: what it declares, and who wrote it last.

A file is a DiscoveryResponse in JSON. Its `version_info` says who wrote it, as `DOMAIN=EPOCH/PERMIT` for each domain
that ever did, the last writer first; Envoy shows the same text back. It is per domain because several domains may share
a file: a permit must find its own act again even after another domain has written its own settings beside it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from activities.adapters import envoy_xds
from activities.adapters.envoy_keys import Key
from activities.errors import Permanent
from runbooks.base import Model
from runbooks.facts import Settings

FIRST = "first"
"""`version_info` of a file that no permit has written yet."""


class Writer(Model):
    """A permit, as it stands in the fence (it was about to write) or in a file (it wrote)."""

    epoch: int
    permit_id: str

    def same(self, other: Writer) -> bool:
        """True when both are one permit."""
        return (self.epoch, self.permit_id) == (other.epoch, other.permit_id)


@dataclass(frozen=True)
class Document:
    """One xDS file as read: its bytes, its resources, and the last writer of each domain."""

    name: str
    raw: bytes
    resources: list[Any]
    writers: dict[str, Writer]

    def settings(self, keys: list[Key]) -> Settings:
        """The settings that it declares under these keys. Permanent when one cannot be read."""
        try:
            return {key.text: envoy_xds.get(self.resources, key) for key in keys}
        except envoy_xds.Mangled as error:
            raise mangled(self.name, str(error)) from error

    def written(self, keys: list[Key], after: Settings, domain: str, writer: Writer) -> Document:
        """The same file with the settings changed and `writer` put first."""
        resources: list[Any] = json.loads(self.raw)["resources"]
        for key in keys:
            envoy_xds.put(resources, key, after[key.text])
        others = {name: w for name, w in self.writers.items() if name != domain}
        writers = {domain: writer, **others}
        return replace(self, raw=render(resources, version(writers)), resources=resources, writers=writers)


def version(writers: dict[str, Writer]) -> str:
    """The `version_info` of a file."""
    return " ".join(f"{domain}={w.epoch}/{w.permit_id}" for domain, w in writers.items()) or FIRST


def render(resources: list[dict[str, Any]], version_info: str = FIRST) -> bytes:
    """The bytes of an xDS file."""
    return (json.dumps({"version_info": version_info, "resources": resources}, indent=1) + "\n").encode()


def mangled(name: str, why: str) -> Permanent:
    """The error for a file that nobody should guess about."""
    return Permanent(
        f"{name} is not usable: {why}; put it right (the file before the last write is .{name}.old) and retry"
    )


def parse(name: str, raw: bytes) -> Document:
    """The document in these bytes. Permanent, naming the file, when they are no DiscoveryResponse of ours."""
    try:
        body = envoy_xds.dict_of(json.loads(raw))
        resources, text = body["resources"], body.get("version_info", "")
        if not isinstance(resources, list) or not isinstance(text, str):
            raise envoy_xds.Mangled("resources must be a list and version_info a string")
        return Document(name, raw, resources, _writers(text))
    except (ValueError, KeyError) as error:
        raise mangled(name, f"{type(error).__name__}: {error}") from error


def _writers(text: str) -> dict[str, Writer]:
    found: dict[str, Writer] = {}
    for word in text.split(" ") if text not in ("", FIRST) else []:
        who, _, permit = word.partition("/")
        domain, _, epoch = who.rpartition("=")
        if not (domain and epoch.isdigit() and permit):
            raise envoy_xds.Mangled(f"version_info {text!r} is not DOMAIN=EPOCH/PERMIT")
        found[domain] = Writer(epoch=int(epoch), permit_id=permit)
    return found
