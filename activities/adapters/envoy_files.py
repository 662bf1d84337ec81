"""The folder of xDS files: one lock, atomic durable writes, and the fence."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import RootModel, ValidationError

from activities.adapters.envoy_document import Document, Writer, mangled, parse
from activities.errors import Permanent, Retryable

FENCE_FILE = "fence.json"
LOCK_FILE = ".lock"


class Fence(Writer):
    """The permit that was last about to write; `refusals` is how many updates Envoy had refused until then."""

    refusals: int


Fences = RootModel[dict[str, Fence]]


class EdgeFolder:
    """All file work. Blocking, for a worker thread, but for `lock`, which is for the loop."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @asynccontextmanager
    async def lock(self, wait_s: float, given_up: Callable[[], bool]) -> AsyncIterator[None]:
        """Hold the folder's lock; it ends with the process too.

        Retryable when it is not free within `wait_s`, or when the caller has given up meanwhile.
        """
        try:
            # flock, not lockf: it belongs to the open file, so two tasks of one process exclude each other too.
            fd = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Permanent(f"the edge folder {self.path} cannot be locked: {error}") from error
        try:
            # Tried without blocking and waited for on the loop. Waiting in worker threads would use them up, and the
            # holder, which needs one to write, would wait for those who wait for it.
            deadline = time.monotonic() + wait_s
            while not _locked(fd):
                if time.monotonic() >= deadline or given_up():
                    raise Retryable(f"another change held the edge folder for {wait_s} s, or the caller gave up")
                await asyncio.sleep(0.002)
            yield
        finally:
            os.close(fd)

    def load(self, name: str) -> Document:
        """Read one file. Permanent when it is missing or mangled."""
        try:
            raw = (self.path / name).read_bytes()
        except OSError as error:
            raise mangled(name, str(error.strerror)) from error
        return parse(name, raw)

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
