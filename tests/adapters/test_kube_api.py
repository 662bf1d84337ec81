"""The client of the Kubernetes API: each answer is taken for what it means. The server is a small real one that misbehaves."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_config import KubeAccess, Token, TokenFile, from_kubeconfig, in_cluster
from activities.adapters.kube_errors import (
    Busy,
    Conflict,
    Exists,
    Expired,
    Forbidden,
    NotFound,
    OverBudget,
)
from activities.errors import Ambiguous, Permanent, PortError, Refused, Retryable

POD, PATCH = "/api/v1/namespaces/prod/pods/p", [{"op": "add", "path": "/spec/x", "value": 1}]


@dataclass(frozen=True)
class Asked:
    """One request as the server saw it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """Answers each request with the next of `answers`, a status with headers and body, or does what a callable does."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)

    def says(self, status: int, body: object = None, **headers: str) -> None:
        """The next answer."""
        self.answers.append((status, {k.replace("_", "-"): v for k, v in headers.items()}, body))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split(" ")
                headers = {}
                while (raw := await reader.readline()).strip():
                    key, _, value = raw.decode().partition(":")
                    headers[key.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.asked.append(Asked(method, target, headers, body))
                answer = self.answers.pop(0)
                if callable(answer):
                    await answer(writer)
                    return
                status, more, thing = answer
                text = thing if isinstance(thing, bytes) else json.dumps(thing if thing is not None else {}).encode()
                lines = [
                    f"HTTP/1.1 {status} X",
                    f"content-length: {len(text)}",
                    *(f"{k}: {v}" for k, v in more.items()),
                ]
                writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + text)
                await writer.drain()
        except ConnectionError:
            return  # the client has had enough
        finally:
            writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """On a free port of this machine."""
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """One for each test."""
    async with serving() as one:
        yield one


@pytest.fixture
async def api(server: Server) -> AsyncIterator[KubeApi]:
    """A client of it that waits half a second."""
    async with KubeApi(
        KubeAccess(f"http://127.0.0.1:{server.port}", Token(None)), timeout_s=0.5, largest_body=100_000
    ) as one:
        yield one


def status(reason: str, message: str = "words", causes: list[dict[str, str]] | None = None) -> dict[str, Any]:
    """A Status object."""
    return {"kind": "Status", "reason": reason, "message": message, "details": {"causes": causes or []}}


BUDGET = [
    {"reason": "DisruptionBudget", "message": "The disruption budget llm needs 4 healthy pods and has 4 currently"}
]
Ask = Callable[[KubeApi], Awaitable[object]]


def read(api: KubeApi) -> Awaitable[object]:
    """A GET."""
    return api.get(POD)


def write(api: KubeApi) -> Awaitable[object]:
    """A PATCH."""
    return api.patch(POD, PATCH, role="evict.yaml")


def evict(api: KubeApi) -> Awaitable[object]:
    """For real."""
    return api.evict("prod", "p", "uid", role="evict.yaml", dry_run=False)


def try_evict(api: KubeApi) -> Awaitable[object]:
    """As a question."""
    return api.evict("prod", "p", "uid", role="evict.yaml", dry_run=True)


@pytest.mark.parametrize(
    ("ask", "code", "body", "kind", "words"),
    [
        (write, 409, status("Conflict"), Conflict, "409"),
        (write, 409, status("AlreadyExists"), Exists, "409"),
        (evict, 429, status("TooManyRequests", causes=BUDGET), OverBudget, "budget llm needs 4"),
        (try_evict, 429, status("TooManyRequests", causes=BUDGET), OverBudget, "budget llm needs 4"),
        (evict, 429, status("TooManyRequests"), Busy, "come back in 3 s"),
        (write, 503, status("ServiceUnavailable"), Busy, "come back in 3 s"),
        (read, 503, status("ServiceUnavailable"), Busy, "come back in 3 s"),
        (write, 403, status("Forbidden"), Forbidden, r"patch pods p in prod is forbidden: .* docs/rbac/evict\.yaml"),
        (read, 403, status("Forbidden"), Forbidden, r"get pods p in prod is forbidden: .* docs/rbac/read\.yaml"),
        (read, 401, status("Unauthorized"), Forbidden, "does not know this token"),
        (read, 404, status("NotFound"), NotFound, "get pods p in prod"),
        (read, 410, status("Expired"), Expired, "410"),
        (write, 422, status("Invalid"), Refused, "422"),
        (read, 500, status("InternalError"), Retryable, "500"),
        (try_evict, 500, status("InternalError"), Retryable, "500"),
        (write, 500, status("InternalError"), Ambiguous, "may have been applied"),
        (write, 504, status("Timeout"), Ambiguous, "may have been applied"),
        (write, 502, b"<html>bad gateway</html>", Ambiguous, "may have been applied"),
        (read, 302, b"", Permanent, "302"),
        (read, 200, b"<html>hello</html>", Permanent, "not JSON"),
        (write, 200, b"[1]", Ambiguous, "not an object"),
        (read, 200, b"x" * 200_000, Permanent, "larger than"),
        (write, 200, b"x" * 200_000, Ambiguous, "larger than"),
        (read, 500, b"x" * 200_000, Retryable, "500"),
    ],
)
async def test_an_answer_means_what_it_means(
    server: Server, api: KubeApi, ask: Ask, code: int, body: object, kind: type[PortError], words: str
) -> None:
    """Of a read and of a write: only what was provably not applied is Refused or Retryable."""
    server.says(code, body, retry_after="3")

    with pytest.raises(kind, match=words) as error:
        await ask(api)

    assert len(str(error.value)) < 1000
    assert len(server.asked) == 1


async def silent(writer: asyncio.StreamWriter) -> None:
    """Takes the request and says nothing."""
    await asyncio.sleep(5)


async def cut(writer: asyncio.StreamWriter) -> None:
    """Takes the request and hangs up."""
    writer.close()


async def trickle(writer: asyncio.StreamWriter) -> None:
    """One byte now and then: never a time-out between two of them."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(100):
        writer.write(b" ")
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("fault", [silent, cut, trickle])
async def test_no_answer_is_retryable_for_a_read_and_ambiguous_for_a_write_that_was_sent(
    server: Server, api: KubeApi, fault: Any
) -> None:
    """Each within the time-out of the whole call."""
    server.answers += [fault, fault, fault]

    async with asyncio.timeout(3):
        with pytest.raises(Retryable):
            await read(api)
        with pytest.raises(Ambiguous, match="was sent"):
            await write(api)
        with pytest.raises(Retryable):
            await try_evict(api)


async def test_a_write_that_was_never_sent_is_retryable() -> None:
    """Nobody listens there."""
    async with serving() as server:
        port = server.port
    async with KubeApi(KubeAccess(f"http://127.0.0.1:{port}", Token(None)), timeout_s=0.5) as api:
        with pytest.raises(Retryable):
            await write(api)


async def test_each_call_says_what_it_means_on_the_wire(server: Server, api: KubeApi) -> None:
    """Content types, field manager, preconditions, versions, dry run."""
    for _ in range(7):
        server.says(200, {"status": {}})
    await write(api)
    await api.scale("/apis/apps/v1/namespaces/prod/deployments/d", 3, "17", role="increase_capacity.yaml")
    await api.apply(POD, {"a": 1}, role="x", force=True)
    await api.create("/api/v1/namespaces/prod/pods", {"a": 1}, role="x")
    await try_evict(api)
    await evict(api)
    await api.delete(POD, role="x", uid="u", grace_s=0)

    patch, scale, apply, create, dry, real, delete = server.asked
    assert patch.headers["content-type"] == "application/json-patch+json"
    assert (scale.headers["content-type"], scale.target.partition("?")[0][-6:]) == (
        "application/merge-patch+json",
        "/scale",
    )
    assert json.loads(scale.body) == {"metadata": {"resourceVersion": "17"}, "spec": {"replicas": 3}}
    assert apply.headers["content-type"] == "application/apply-patch+yaml"
    assert apply.target.endswith("?fieldManager=interlock&force=true")
    assert create.target.endswith("?fieldManager=interlock")
    assert (dry.target.endswith("?dryRun=All"), "dryRun" in real.target) == (True, False)
    assert json.loads(real.body)["deleteOptions"] == {"preconditions": {"uid": "uid"}}
    assert json.loads(delete.body) == {"gracePeriodSeconds": 0, "preconditions": {"uid": "u"}}


async def test_a_list_is_read_page_by_page_and_begun_again_when_it_expires(server: Server, api: KubeApi) -> None:
    """At one version; a second expiry in a row is Retryable."""
    page = {"items": [{"n": 1}], "metadata": {"continue": "next"}}
    server.says(200, page)
    server.says(410, status("Expired"))
    server.says(200, page)
    server.says(200, {"items": [{"n": 2}], "metadata": {"resourceVersion": "9"}})

    found = await api.list("/api/v1/pods", {"labelSelector": "a=b"})

    assert ([i["n"] for i in found.items], found.resource_version) == ([1, 2], "9")
    assert "continue=next" in server.asked[-1].target
    assert "labelSelector=a%3Db" in server.asked[-1].target


async def test_a_watch_gives_events_and_says_when_it_must_be_begun_again(server: Server, api: KubeApi) -> None:
    """A version that is too old comes as an event of the stream."""
    events = [{"type": "ADDED", "object": {"n": 1}}, {"type": "ERROR", "object": {"code": 410, "message": "too old"}}]
    server.says(200, b"".join(json.dumps(e).encode() + b"\n" for e in events))
    watch = api.watch("/api/v1/nodes", {"resourceVersion": "1"}, for_s=2)

    assert (await anext(watch))["object"] == {"n": 1}
    with pytest.raises(Expired, match="too old"):
        await anext(watch)
    assert "resourceVersion=1&watch=1" in server.asked[0].target


async def test_a_watch_without_news_ends_in_time(server: Server, api: KubeApi) -> None:
    """However long the connection is held."""

    async def hold(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await asyncio.sleep(5)

    server.answers.append(hold)

    async with asyncio.timeout(3):
        assert [e async for e in api.watch("/api/v1/nodes", {}, for_s=0.6)] == []


async def test_a_token_file_is_read_again_when_it_changes_and_when_the_token_is_refused(
    server: Server, tmp_path: Path
) -> None:
    """Once: a second refusal is final."""
    path = tmp_path / "token"
    path.write_text("first\n")
    for code in (200, 401, 200, 401):
        server.says(code, {"status": {}} if code == 200 else status("Unauthorized"))

    async def rewritten(writer: asyncio.StreamWriter) -> None:
        path.write_text("third, and longer")
        writer.write(b"HTTP/1.1 401 X\r\ncontent-length: 0\r\n\r\n")

    async with KubeApi(KubeAccess(f"http://127.0.0.1:{server.port}", TokenFile(path)), timeout_s=2) as api:
        await read(api)
        path.write_text("second one")
        server.answers[0] = rewritten
        await read(api)
        with pytest.raises(Forbidden) as error:
            await read(api)

    sent = [a.headers["authorization"] for a in server.asked]
    assert sent == ["Bearer first", "Bearer second one", "Bearer third, and longer", "Bearer third, and longer"]
    assert "third" not in str(error.value)


def kubeconfig(folder: Path, user: dict[str, Any], cluster: dict[str, Any] | None = None) -> Path:
    """A file with one context."""
    body = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:1", **(cluster or {})}}],
        "users": [{"name": "u", "user": user}],
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(body))
    return path


def test_a_kubeconfig_gives_server_and_token(tmp_path: Path) -> None:
    """A token in it, or a file beside it; no token shows in a repr."""
    (tmp_path / "beside").write_text("from-file")

    inline = from_kubeconfig(kubeconfig(tmp_path, {"token": "hush"}))
    assert (inline.server, inline.token.text()) == ("http://127.0.0.1:1", "hush")
    assert "hush" not in repr(inline)
    assert from_kubeconfig(kubeconfig(tmp_path, {"tokenFile": "beside"})).token.text() == "from-file"


@pytest.mark.parametrize(
    ("user", "cluster", "words"),
    [
        ({"exec": {"command": "x"}}, {}, "exec is not supported"),
        ({"token": "t"}, {"insecure-skip-tls-verify": True}, "insecure-skip-tls-verify is not supported"),
        ({"token": "t"}, {"server": "http://example.org"}, "https"),
        ({"token": "t"}, {"server": "https://x", "certificate-authority-data": "%%%"}, "not base64"),
        ({"token": "t"}, {"server": "https://x", "certificate-authority": "nowhere.crt"}, "certificate authority"),
        ({"client-key-data": base64.b64encode(b"k").decode()}, {"server": "https://x"}, "needs its key"),
        (
            {f"client-{n}-data": base64.b64encode(b"k").decode() for n in ("key", "certificate")},
            {"server": "https://x"},
            "client certificate cannot be used",
        ),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_says_why(
    tmp_path: Path, user: dict[str, Any], cluster: dict[str, Any], words: str
) -> None:
    """By the name of the field."""
    with pytest.raises(Permanent, match=words):
        from_kubeconfig(kubeconfig(tmp_path, user, cluster))


def test_in_cluster_access_needs_the_pods_own_files(tmp_path: Path) -> None:
    """The authority beside the token."""
    with pytest.raises(Permanent, match="certificate authority"):
        in_cluster("10.0.0.1", 443, tmp_path)
