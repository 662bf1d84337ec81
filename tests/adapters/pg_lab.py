"""A real PostgreSQL server as a child process, in a folder of its own on a free port; databases for tests on it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import psycopg

from tests.ports import free_port


def program(name: str) -> str:
    """On the path, or where Debian's package has it: the newest version."""
    found = shutil.which(name)
    if found is None:
        places = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
        found = max(map(str, places), key=lambda path: int(path.split("/")[4]), default=None)
    assert found is not None, f"{name} is missing: tests/install.sh brings it (Debian's package postgresql)"
    return found


def _as_user() -> dict[str, object]:
    """PostgreSQL refuses to run as root: then it is Debian's postgres, or nobody."""
    if os.getuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Postgres:
    """The server. Its superuser is `owner`, without a password: it listens on loopback only and lives for one session."""

    def __init__(self) -> None:
        self._user = _as_user()
        self.folder = Path(tempfile.mkdtemp(prefix="interlock-pg-"))  # pytest's own folders are closed to another user
        if self._user:
            os.chown(self.folder, self._user["user"], self._user["group"])  # type: ignore[arg-type]
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._run(program("initdb"), "-D", self.data, "-U", "owner", "-A", "trust", "-E", "UTF8", "--locale=C")

    @property
    def data(self) -> str:
        """Its data directory."""
        return str(self.folder / "data")

    def _run(self, *words: str) -> None:
        done = subprocess.run(words, cwd="/", capture_output=True, text=True, timeout=120, **self._user)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Returns when it answers. fsync stays on: the journal refuses a server without."""
        words = [program("postgres"), "-D", self.data, "-p", str(self.port), "-k", str(self.folder)]
        words += ["-c", "listen_addresses=127.0.0.1", "-c", "shared_buffers=16MB", "-c", "max_connections=60"]
        deadline = time.monotonic() + 60
        while True:
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(words, cwd="/", stdout=log, stderr=log, **self._user)  # type: ignore[call-overload]
            while self._process.poll() is None:
                try:
                    self.sql("SELECT 1")
                except psycopg.OperationalError:
                    assert time.monotonic() < deadline, (self.folder / "log").read_text()
                    time.sleep(0.05)
                else:
                    return
            # After a kill the last of its processes may still hold the shared memory.
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.1)

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL to it and to all of its own processes, at once."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (pid, *map(int, children)):
            try:
                os.kill(one, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it had ended
        self._process.wait()

    def stop(self) -> None:
        """Ends it, and removes its folder."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGINT)  # a fast shutdown
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.folder)

    def url(self, database: str, user: str = "owner") -> str:
        """As INTERLOCK_JOURNAL_URL has it."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def sql(self, statement: str, database: str = "postgres", user: str = "owner") -> list[tuple[object, ...]]:
        """Runs one statement, or several without results."""
        with psycopg.connect(self.url(database, user), autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def database(self) -> str:
        """A new and empty one."""
        name = f"j{uuid.uuid4().hex[:12]}"
        self.sql(f"CREATE DATABASE {name}")
        return name
