"""Restarts a node through its BMC by Redfish, for when the node itself no longer obeys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

import httpx

from activities.adapters.reading import failure, own_fault
from activities.errors import Ambiguous, Permanent, PortError, Refused, Retryable

ResetType = Literal["GracefulRestart", "ForceRestart"]
Secret = Callable[[], str]
"""Gives a secret at the moment of use, so that a rotated one is taken up and none lies in an object's text."""
_BUSY = (429, 503)
_ACTION = "#ComputerSystem.Reset"
_ALLOWED = "ResetType@Redfish.AllowableValues"


def secret_file(path: Path) -> Secret:
    """A secret by reference: the file is read at each use. Permanent when it cannot be."""

    def read() -> str:
        try:
            return path.read_text().strip()
        except OSError as error:
            raise Permanent(f"the BMC's credential file {path.name} cannot be read: {error.strerror}") from error

    return read


class Redfish:
    """One computer system behind one BMC. `system` is its id or its path, e.g. "1" or "/redfish/v1/Systems/1".

    Give `token` (X-Auth-Token) or `user` with `password` (Basic), each by reference.
    """

    def __init__(
        self,
        base_url: str,
        system: str,
        client: httpx.AsyncClient,
        *,
        token: Secret | None = None,
        user: str | None = None,
        password: Secret | None = None,
        timeout_s: float = 15.0,
    ) -> None:
        if (token is None) == (user is None or password is None):
            raise ValueError("give the BMC's token, or a user with a password, and not both")
        self._base = base_url.rstrip("/") + "/"
        self._path = system if system.startswith("/") else f"/redfish/v1/Systems/{system}"
        self._client = client
        self._token, self._user, self._password = token, user, password
        self._timeout_s = timeout_s

    async def power_state(self) -> str:
        """The BMC's word: On, Off, PoweringOn, PoweringOff, Paused. Permanent when it gives none."""
        state = (await self._system()).get("PowerState")
        if not isinstance(state, str) or not state:
            raise Permanent("the BMC does not give the system's PowerState")
        return state

    async def allowed(self) -> tuple[str, ...]:
        """The kinds of reset that the BMC allows for this system; none: it does not say."""
        return await self._allowed(_action(await self._system()))

    async def reset(self, kind: ResetType = "GracefulRestart") -> None:
        """Orders the restart; that it was done shows in another boot id of the node.

        Refused: the BMC does not list this kind. Retryable: the BMC was busy or out of reach, nothing was ordered.
        Permanent: it refused the order. Ambiguous: the order was sent, and the answer is missing or is the BMC's own failure.
        """
        action = _action(await self._system())
        allowed = await self._allowed(action)
        if kind not in allowed:
            has = f"only {', '.join(allowed)}" if allowed else "no list of what it allows"
            raise Refused(f"the BMC does not allow {kind} for this system: it gives {has}")
        await self._call("POST", self._target(action), {"ResetType": kind})

    async def _allowed(self, action: dict[str, Any]) -> tuple[str, ...]:
        listed = action.get(_ALLOWED)
        if listed is None and isinstance(action.get("@Redfish.ActionInfo"), str):
            info = await self._call("GET", self._own(action["@Redfish.ActionInfo"]))
            parameters = info.get("Parameters")
            for parameter in parameters if isinstance(parameters, list) else []:
                if isinstance(parameter, dict) and parameter.get("Name") == "ResetType":
                    listed = parameter.get("AllowableValues")
        return tuple(str(kind) for kind in listed) if isinstance(listed, list) else ()

    def _target(self, action: dict[str, Any]) -> str:
        target = action.get("target")
        if not isinstance(target, str) or not target:
            raise Permanent(
                "the BMC names no target for ComputerSystem.Reset: this system cannot be restarted by Redfish"
            )
        return self._own(target)

    def _own(self, path: str) -> str:
        """The path as an address of this BMC. A BMC must not send our credential to another host."""
        url = urljoin(self._base, path)
        if urlsplit(url)[:2] != urlsplit(self._base)[:2]:
            raise Permanent("the BMC names an address on another host: it is not called")
        return url

    async def _system(self) -> dict[str, Any]:
        return await self._call("GET", self._own(self._path))

    async def _call(self, method: str, url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {"accept": "application/json", "odata-version": "4.0"}
        auth = None
        if self._token is not None:
            headers["x-auth-token"] = self._token()
        elif self._user is not None and self._password is not None:
            auth = httpx.BasicAuth(self._user, self._password())
        try:
            answer = await self._client.request(
                method, url, json=body, headers=headers, auth=auth, timeout=self._timeout_s, follow_redirects=False
            )
        except httpx.HTTPError as error:
            raise self._no_answer(method, error) from error
        if answer.is_success:
            return _json(answer, required=method == "GET")
        raise _refusal(method, answer)

    def _no_answer(self, method: str, error: httpx.HTTPError) -> PortError:
        why = own_fault(error) or failure(error, self._timeout_s)
        unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        if method == "GET" or unsent:
            return Retryable(f"the BMC does not answer: {why}")
        return Ambiguous(f"the restart was ordered and the BMC did not confirm it: {why}")


def _refusal(method: str, answer: httpx.Response) -> PortError:
    said = _message(answer)
    what = f"HTTP {answer.status_code}" + (f": {said}" if said else "")
    if answer.status_code in _BUSY:
        return Retryable(f"the BMC is busy ({what})")
    if answer.status_code in (401, 403):
        return Permanent(f"the BMC refuses our credential ({what})")
    if answer.is_server_error:
        if method == "GET":
            return Retryable(f"the BMC failed ({what})")
        return Ambiguous(f"the BMC failed while it restarted the system ({what})")
    return Permanent(f"the BMC refused ({what})")


def _action(system: dict[str, Any]) -> dict[str, Any]:
    actions = system.get("Actions")
    action = actions.get(_ACTION) if isinstance(actions, dict) else None
    if not isinstance(action, dict):
        raise Permanent("the BMC offers no ComputerSystem.Reset for this system")
    return action


def _json(answer: httpx.Response, *, required: bool) -> dict[str, Any]:
    try:
        data = answer.json()
    except ValueError:
        data = None
    if isinstance(data, dict):
        return data
    if required:
        raise Permanent("this is not a Redfish service: its answer is not a JSON object")
    return {}  # an accepted order needs no body


def _message(answer: httpx.Response) -> str:
    """The first sentence of Redfish's extended error, cut short."""
    error = _json(answer, required=False).get("error")
    if not isinstance(error, dict):
        return ""
    details = error.get("@Message.ExtendedInfo")
    first = details[0] if isinstance(details, list) and details and isinstance(details[0], dict) else {}
    return str(first.get("Message") or error.get("message") or "")[:200]
