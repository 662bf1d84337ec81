"""A claim is genuine, whole and fresh, or it counts for nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runbooks.claims import SignedClaim, WeakKey, check, sign

KEY = b"k" * 32
NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def claim(**changes: Any) -> SignedClaim:
    """A whole approval, unsigned."""
    return SignedClaim.model_validate(
        {
            "case": "remediate:eu1/service/pool-a",
            "action": "decide",
            "step": "1",
            "digest": "abc",
            "decision": "approve",
            "reason": "looks right",
            "who": "ana",
            "groups": ["sre-oncall"],
            "exp": int(NOW.timestamp()) + 60,
            "nonce": "0" * 32,
        }
        | changes
    )


def test_a_signed_claim_counts_also_after_a_trip_through_json() -> None:
    """As it goes through Temporal."""
    signed = SignedClaim.model_validate_json(sign(claim(), KEY).model_dump_json())

    assert check(signed, KEY, NOW) == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("case", "remediate:us1"),
        ("step", "2"),
        ("digest", "abd"),
        ("decision", "reject"),
        ("reason", ""),
        ("who", "bob"),
        ("groups", ("root",)),
        ("exp", int(NOW.timestamp()) + 61),
        ("nonce", "1" * 32),
        ("signature", ""),
    ],
)
def test_a_change_of_any_field_breaks_the_signature(field: str, value: Any) -> None:
    """Nothing in it can be edited on the way."""
    forged = sign(claim(), KEY).model_copy(update={field: value})

    assert "signature" in check(forged, KEY, NOW)


def test_another_key_signs_nothing_here() -> None:
    """The key is what API and worker share."""
    assert "signature" in check(sign(claim(), b"x" * 32), KEY, NOW)


@given(st.text(max_size=64))
def test_no_text_is_a_signature_by_chance(text: str) -> None:
    """Whatever is typed in, non-ASCII included, is refused and raises nothing."""
    try:
        forged = claim(signature=text)
    except ValidationError:
        return
    assert "signature" in check(forged, KEY, NOW)


def test_it_expires() -> None:
    """At its end, not after."""
    assert "expired" in check(sign(claim(), KEY), KEY, NOW + timedelta(seconds=60))


def test_a_claim_for_ever_is_refused() -> None:
    """Our API gives a minute: a longer life means wrong clocks or a stolen key in careless hands."""
    assert "lasts" in check(sign(claim(exp=int(NOW.timestamp()) + 3600), KEY), KEY, NOW)


def test_a_short_key_is_an_error_and_not_a_weak_signature() -> None:
    """Fail closed."""
    with pytest.raises(WeakKey):
        sign(claim(), b"short")
    with pytest.raises(WeakKey):
        check(sign(claim(), KEY), b"", NOW)


@pytest.mark.parametrize("changes", [{"step": ""}, {"digest": ""}, {"decision": None}, {"action": "abort"}, {"x": 1}])
def test_an_incomplete_claim_is_no_claim(changes: Any) -> None:
    """A decision names step and digest; the others are about the whole case."""
    with pytest.raises(ValidationError):
        claim(**changes)
