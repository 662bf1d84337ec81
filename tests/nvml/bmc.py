"""A BMC on loopback: a real HTTP server that behaves as BMCs do, well and badly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

SYSTEM = "/redfish/v1/Systems/node-7"
TARGET = f"{SYSTEM}/Actions/ComputerSystem.Reset"
TOKEN = "s3cret-of-the-bmc"


class Bmc:
    """A BMC with one system. `answers` overrides the answer for a path: a status with a body, "hang" or "drop"."""

    def __init__(self) -> None:
        self.power = "On"
        self.allowed: list[str] | None = ["On", "ForceOff", "GracefulRestart", "ForceRestart"]
        self.target: str = TARGET
        self.answers: dict[str, tuple[int, Any] | str] = {}
        self.resets: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.url = ""

    def page(self, path: str) -> tuple[int, Any]:
        """What a GET gives."""
        if path == SYSTEM:
            action: dict[str, Any] = {"target": self.target}
            if self.allowed is None:
                action["@Redfish.ActionInfo"] = f"{SYSTEM}/ResetActionInfo"
            else:
                action["ResetType@Redfish.AllowableValues"] = self.allowed
            return 200, {"Id": "node-7", "PowerState": self.power, "Actions": {"#ComputerSystem.Reset": action}}
        if path == f"{SYSTEM}/ResetActionInfo":
            return 200, {"Parameters": [{"Name": "ResetType", "AllowableValues": ["ForceRestart"]}]}
        return 404, {"error": {"message": "no such resource"}}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request of one connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        method, path, _ = head.split(" ", 2)
        length = next((int(h.split(":")[1]) for h in head.lower().split("\r\n") if h.startswith("content-length:")), 0)
        body = await reader.readexactly(length)
        status, answer = 0, None
        if method == "POST" and path == TARGET:
            self.resets.append(json.loads(body))
            status, answer = 204, None
        elif method == "GET":
            status, answer = self.page(path)
        ordered = self.answers.get(f"{method} {path}")
        if ordered == "hang":
            await reader.read()  # until the client gives up
        elif ordered != "drop":
            status, answer = ordered if isinstance(ordered, tuple) else (status, answer)
            data = b"" if answer is None else json.dumps(answer).encode()
            writer.write(
                b"HTTP/1.1 %d X\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % (status, len(data)) + data
            )
            await writer.drain()
        writer.close()


@asynccontextmanager
async def bmc_running() -> AsyncIterator[Bmc]:
    """One on a free port of loopback."""
    bmc = Bmc()
    server = await asyncio.start_server(bmc.serve, "127.0.0.1", 0)
    bmc.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield bmc
