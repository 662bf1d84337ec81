"""A way to PostgreSQL that can be cut at a COMMIT: a TCP proxy on loopback, one thread per direction."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class Cut:
    """Listens on `port`. After `at_commit` the next COMMIT is its connection's last word, and the answer never comes."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._armed: bool | None = None
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def at_commit(self, arrives: bool) -> None:
        """Cuts once: after the server has answered the COMMIT, or before it has it."""
        self._armed = arrives

    def __enter__(self) -> Cut:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                deaf = threading.Event()
                for way in ((client, server, deaf, True), (server, client, deaf, False)):
                    self._threads.append(threading.Thread(target=self._pump, args=way, daemon=True))
                    self._threads[-1].start()

    def _pump(self, source: socket.socket, sink: socket.socket, deaf: threading.Event, to_server: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if to_server and b"COMMIT" in data and self._armed is not None:
                    arrives, self._armed = self._armed, None
                    deaf.set()
                    if not arrives:
                        break
                elif not to_server and deaf.is_set():
                    break  # the server has answered: it has committed
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
