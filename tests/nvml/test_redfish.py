"""A node restarted through a BMC: a real HTTP server that behaves as BMCs do, well and badly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from activities.adapters.redfish import Redfish, secret_file
from activities.errors import Ambiguous, Permanent, PortError, Refused, Retryable
from tests.nvml.bmc import SYSTEM, TARGET, TOKEN, Bmc, bmc_running


@pytest.fixture
async def bmc() -> AsyncIterator[Bmc]:
    """A BMC on loopback."""
    async with bmc_running() as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the worker's kind."""
    async with httpx.AsyncClient(trust_env=False) as http:
        yield http


@pytest.fixture
def redfish(bmc: Bmc, client: httpx.AsyncClient, tmp_path: Path) -> Redfish:
    """The system of node-7, with a token by reference."""
    (tmp_path / "token").write_text(TOKEN + "\n")
    return Redfish(bmc.url, "node-7", client, token=secret_file(tmp_path / "token"), timeout_s=0.5)


async def test_a_restart_is_ordered_at_the_target_that_the_bmc_names(bmc: Bmc, redfish: Redfish) -> None:
    """With the token read at the moment of use."""
    assert await redfish.power_state() == "On"
    await redfish.reset("ForceRestart")

    assert bmc.resets == [{"ResetType": "ForceRestart"}]
    assert all(f"x-auth-token: {TOKEN}" in head.lower() for head in bmc.heads)


async def test_basic_credentials_by_reference_serve_as_well(
    bmc: Bmc, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """For BMCs without sessions; a credential file that is gone is a sentence without its content."""
    password = tmp_path / "password"
    password.write_text("pw")
    basic = Redfish(bmc.url, SYSTEM, client, user="operator", password=secret_file(password))
    await basic.reset()
    assert "authorization: basic b3blcmf0b3i6chc=" in bmc.heads[-1].lower()

    password.unlink()
    with pytest.raises(Permanent, match="credential file password cannot be read: No such file"):
        await basic.power_state()
    with pytest.raises(ValueError, match="token, or a user with a password"):
        Redfish(bmc.url, SYSTEM, client)


async def test_a_kind_of_restart_that_the_bmc_does_not_list_is_refused_before_it_is_sent(
    bmc: Bmc, redfish: Redfish
) -> None:
    """By its list, by the list behind its ActionInfo, or by having none."""
    bmc.allowed = ["On", "ForceOff"]
    with pytest.raises(Refused, match="does not allow GracefulRestart for this system: it gives only On, ForceOff"):
        await redfish.reset()
    bmc.allowed = None
    with pytest.raises(Refused, match="only ForceRestart"):
        await redfish.reset("GracefulRestart")
    bmc.answers[f"GET {SYSTEM}/ResetActionInfo"] = (200, {})
    with pytest.raises(Refused, match="no list of what it allows"):
        await redfish.reset("ForceRestart")

    assert bmc.resets == []
    del bmc.answers[f"GET {SYSTEM}/ResetActionInfo"]
    await redfish.reset("ForceRestart")
    assert bmc.resets == [{"ResetType": "ForceRestart"}]


SAID = {"error": {"@Message.ExtendedInfo": [{"Message": "The system is in POST."}]}}


@pytest.mark.parametrize(
    ("answer", "error", "why"),
    [
        ((503, SAID), Retryable, r"the BMC is busy \(HTTP 503: The system is in POST\.\)"),
        ((429, None), Retryable, r"busy \(HTTP 429\)"),
        ((400, SAID), Permanent, r"the BMC refused \(HTTP 400: The system is in POST\.\)"),
        ((409, None), Permanent, r"refused \(HTTP 409\)"),
        ((401, None), Permanent, "refuses our credential"),
        ((307, None), Permanent, r"refused \(HTTP 307\)"),
        ((500, None), Ambiguous, "failed while it restarted"),
        ("hang", Ambiguous, r"ordered and the BMC did not confirm it: no answer within 0\.5 s"),
        ("drop", Ambiguous, "ordered and the BMC did not confirm it: connection broken"),
    ],
)
async def test_an_order_that_is_not_confirmed_is_what_it_is(
    bmc: Bmc, redfish: Redfish, answer: tuple[int, Any] | str, error: type[PortError], why: str
) -> None:
    """Only what cannot have been done may be called not done."""
    bmc.answers[f"POST {TARGET}"] = answer

    with pytest.raises(error, match=why) as caught:
        await redfish.reset()

    assert type(caught.value) is error
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((503, None), Retryable),
        ((500, None), Retryable),
        ("hang", Retryable),
        ("drop", Retryable),
        ((404, None), Permanent),
    ],
)
async def test_a_reading_that_fails_has_changed_nothing(
    bmc: Bmc, redfish: Redfish, answer: tuple[int, Any] | str, error: type[PortError]
) -> None:
    """And no order follows it."""
    bmc.answers[f"GET {SYSTEM}"] = answer

    with pytest.raises(PortError) as caught:
        await redfish.reset()

    assert type(caught.value) is error
    assert bmc.resets == []


async def test_a_bmc_out_of_reach_was_ordered_nothing(client: httpx.AsyncClient) -> None:
    """Asking again is safe."""
    async with bmc_running() as bmc:
        url = bmc.url
    with pytest.raises(Retryable, match="the BMC does not answer: connection refused"):
        await Redfish(url, "node-7", client, token=lambda: TOKEN).reset()


async def test_the_credential_is_never_sent_to_another_host(bmc: Bmc, redfish: Redfish) -> None:
    """A BMC that names a target elsewhere is not obeyed."""
    bmc.target = "http://127.0.0.2:1/Reset"

    with pytest.raises(Permanent, match="another host"):
        await redfish.reset()


@pytest.mark.parametrize("page", [[], {"Actions": []}, {"Actions": {"#ComputerSystem.Reset": 7}}, {"PowerState": 3}])
async def test_a_service_that_is_no_redfish_is_said_so(bmc: Bmc, redfish: Redfish, page: Any) -> None:
    """No shape of an answer is taken on trust."""
    bmc.answers[f"GET {SYSTEM}"] = (200, page)

    with pytest.raises(Permanent):
        await redfish.reset()
    with pytest.raises(Permanent):
        await redfish.power_state()
