"""The actuator of the benchmark, the same for everyone: an HTTP endpoint that stamps arrival with one monotonic clock.

    python -m tests.bench.sink --port P

POST /act {"key": …, "what": …}   stamped before anything else; answered after `slow_s`
POST /slow {"slow_s": 1.0}        how long an action takes from now on
GET  /acts/N                      all acts from the Nth on: [{"at": monotonic seconds, "key": …, "what": …}]

CLOCK_MONOTONIC is one clock for all processes of a machine, so the sender's stamp and this one can be subtracted.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import time
from typing import Any

from tests.bench.wire import serve


class Sink:
    """Keeps what came, in order."""

    def __init__(self) -> None:
        self.acts: list[dict[str, Any]] = []
        self.slow_s = 0.0

    async def handle(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """One request."""
        at = time.monotonic()
        if path == "/act":
            said = json.loads(body)
            self.acts.append({"at": at, "key": str(said["key"]), "what": str(said.get("what", ""))})
            if self.slow_s:
                await asyncio.sleep(self.slow_s)
            return 200, {"done": True}
        if path == "/slow":
            self.slow_s = float(json.loads(body)["slow_s"])
            return 200, {"slow_s": self.slow_s}
        if path.startswith("/acts/"):
            return 200, self.acts[int(path.rpartition("/")[2]) :]
        return 404, {"error": path}


async def _main(port: int) -> None:
    server = await serve(port, Sink().handle)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    gc.disable()  # a pause here would be somebody else's latency; it lives for minutes
    asyncio.run(_main(parser.parse_args().port))
