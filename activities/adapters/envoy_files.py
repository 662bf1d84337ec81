"""The folder of xDS files: one lock, atomic durable writes, the fence, and who wrote each file last.

A file is a DiscoveryResponse in JSON. Its `version_info` says who wrote it, as `DOMAIN=EPOCH/PERMIT` for each domain
that ever did, the last writer first; Envoy shows the same text back. It is per domain because several domains may share
a file: a permit must find its own act again even after another domain has written its own settings beside it.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import RootModel, ValidationError

from activities.adapters import envoy_xds
from activities.adapters.envoy_keys import Key
from activities.errors import Permanent, Retryable
from runbooks.base import Model
from runbooks.facts import Settings

FENCE_FILE = "fence.json"
LOCK_FILE = ".lock"
FIRST = "first"
"""`version_info` of a file that no permit has written yet."""


class Writer(Model):
    """A permit, as it stands in the fence (it was about to write) or in a file (it wrote)."""

    epoch: int
    permit_id: str

    def same(self, other: Writer) -> bool:
        """True when both are one permit."""
        return (self.epoch, self.permit_id) == (other.epoch, other.permit_id)


class Fence(Writer):
    """The permit that was last about to write; `refusals` is how many updates Envoy had refused until then."""

    refusals: int


Fences = RootModel[dict[str, Fence]]


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


class EdgeFolder:
    """All file work. Blocking, for a worker thread, but for `acquire` and `release`, which are for the loop."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def acquire(self, wait_s: float, given_up: Callable[[], bool]) -> int:
        """Take the folder's lock and give the descriptor to release.

        Retryable when it is not free within `wait_s`, or when the caller has given up meanwhile.
        """
        try:
            # flock, not lockf: it belongs to the open file, so two tasks of one process exclude each other too.
            fd = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Permanent(f"the edge folder {self.path} cannot be locked: {error}") from error
        # Tried without blocking and waited for on the loop. Waiting in worker threads would use them up, and the holder,
        # which needs one to write, would wait for those who wait for it.
        deadline = time.monotonic() + wait_s
        while not _locked(fd):
            if time.monotonic() >= deadline or given_up():
                os.close(fd)
                raise Retryable(f"another change held the edge folder for {wait_s} s, or the caller gave up")
            await asyncio.sleep(0.002)
        return fd

    def release(self, fd: int) -> None:
        """Give the lock back."""
        os.close(fd)

    def load(self, name: str) -> Document:
        """Read one file. Permanent when it is missing or mangled."""
        try:
            raw = (self.path / name).read_bytes()
            body = envoy_xds.dict_of(json.loads(raw))
            resources, text = body["resources"], body.get("version_info", "")
            if not isinstance(resources, list) or not isinstance(text, str):
                raise envoy_xds.Mangled("resources must be a list and version_info a string")
            return Document(name, raw, resources, _writers(text))
        except OSError as error:
            raise mangled(name, str(error.strerror)) from error
        except (ValueError, KeyError) as error:
            raise mangled(name, f"{type(error).__name__}: {error}") from error

    def fences(self) -> dict[str, Fence]:
        """The fence of each domain. Empty before the first write."""
        try:
            return Fences.model_validate_json((self.path / FENCE_FILE).read_bytes()).root
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            # Not "no fence": that would let every late attempt through.
            how = '{DOMAIN: {"epoch": HIGHEST, "permit_id": ANY, "refusals": 0}}'
            why = f"{type(error).__name__} in {self.path}"
            raise Permanent(f"{FENCE_FILE} is not usable ({why}): write {how} into it, for each domain") from error

    def raise_fence(self, domain: str, fence: Fence) -> None:
        """Make it durable that this permit is about to write, before it does."""
        fences = {**self.fences(), domain: fence}
        self.replace(FENCE_FILE, Fences(fences).model_dump_json(indent=1).encode())

    def keep_old(self, name: str) -> None:
        """Keep the present file as `.NAME.old`, to be put back if Envoy refuses what comes next."""
        old = self.path / f".{name}.old"
        old.unlink(missing_ok=True)
        os.link(self.path / name, old)

    def replace(self, name: str, raw: bytes) -> None:
        """Write by rename, so that Envoy and we see the old file or the new one; on the disk when this returns."""
        self.stage(name, raw)
        self.commit(name)

    def stage(self, name: str, raw: bytes) -> None:
        """Put the new content on the disk, beside the file."""
        fresh = self.path / f".{name}.new"
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        with os.fdopen(fd, "wb") as out:
            out.write(raw)
            out.flush()
            os.fsync(out.fileno())

    def commit(self, name: str) -> None:
        """Move what is staged into place: the act itself."""
        (self.path / f".{name}.new").rename(self.path / name)
        folder = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def put_back(self, name: str, ours: bytes) -> bool:
        """The old file in place of ours. False, and nothing done, when somebody has replaced ours since."""
        if (self.path / name).read_bytes() != ours:
            return False
        self.replace(name, (self.path / f".{name}.old").read_bytes())
        return True


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _writers(text: str) -> dict[str, Writer]:
    found: dict[str, Writer] = {}
    for word in text.split(" ") if text not in ("", FIRST) else []:
        who, _, permit = word.partition("/")
        domain, _, epoch = who.rpartition("=")
        if not (domain and epoch.isdigit() and permit):
            raise envoy_xds.Mangled(f"version_info {text!r} is not DOMAIN=EPOCH/PERMIT")
        found[domain] = Writer(epoch=int(epoch), permit_id=permit)
    return found
