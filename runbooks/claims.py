"""A SignedClaim: what a verified person decided, as our HTTP API vouches for it. Pure: HMAC-SHA256 of the stdlib.

The API verifies the person's token and signs; an activity checks the signature. So no token ever enters a history, and
nobody who can only send an update can pretend to be somebody.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from runbooks.base import Model

Action = Literal["decide", "takeover", "hand_back", "abort", "resume", "reset_breaker"]
LONGEST_LIFE_S = 300
"""A claim that ends later than this from now was not made by our API, which gives a minute."""
SHORTEST_KEY = 32
"""Bytes. A shorter key than the hash's own length weakens it."""


class WeakKey(ValueError):
    """The claim key is too short to sign or check anything: a fault of the installation, not of the sender."""


class SignedClaim(Model):
    """One decision of one verified person. `case` is the workflow id of the Remediation, or of the Guard for an order;
    `exp` is epoch seconds."""

    case: str = Field(min_length=1, max_length=1000)
    action: Action
    step: str = Field(default="", max_length=200, description="Only for decide: the step's id.")
    digest: str = Field(default="", max_length=64, description="Only for decide: the digest of the step's envelope.")
    decision: Literal["approve", "reject", "withdraw"] | None = None
    reason: str = Field(default="", max_length=2000)
    who: str = Field(min_length=1, max_length=300, description="The verified subject.")
    groups: tuple[Annotated[str, Field(max_length=300)], ...] = Field(default=(), max_length=500)
    exp: int
    iat: float = Field(default=0.0, ge=0, description="When the person gave it, epoch seconds, by our API's clock.")
    nonce: str = Field(min_length=16, max_length=64, description="Makes each claim single; the workflow remembers it.")
    signature: str = Field(default="", max_length=64)

    @model_validator(mode="after")
    def _whole(self) -> SignedClaim:
        if self.action == "decide" and not (self.step and self.digest and self.decision):
            raise ValueError("decide needs step, digest and decision: an approval is bound to one step's envelope")
        if self.action != "decide" and (self.step or self.digest or self.decision):
            raise ValueError(f"{self.action} takes no step, digest or decision: it is about the whole case or domain")
        return self


def sign(claim: SignedClaim, key: bytes) -> SignedClaim:
    """The same claim with its signature. WeakKey when the key is too short to be one."""
    return claim.model_copy(update={"signature": _mac(claim, key)})


def check(claim: SignedClaim, key: bytes, now: datetime) -> str:
    """Why the claim does not count at `now`, in one sentence; empty when it is genuine and has not ended."""
    if not hmac.compare_digest(_mac(claim, key).encode(), claim.signature.encode()):
        return "the signature of this claim is wrong: send the decision through the Interlock API"
    left = claim.exp - now.timestamp()
    if left <= 0:
        return f"this claim expired {-left:.0f} s ago: send the decision again"
    if left > LONGEST_LIFE_S:
        return f"this claim lasts {left:.0f} s, longer than {LONGEST_LIFE_S} s: the clocks differ or it is not ours"
    return ""


def canonical(claim: SignedClaim) -> bytes:
    """The bytes that are signed: every field but the signature, sorted, no white space."""
    data: dict[str, Any] = claim.model_dump(mode="json", exclude={"signature"})
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _mac(claim: SignedClaim, key: bytes) -> str:
    if len(key) < SHORTEST_KEY:
        raise WeakKey(f"the claim key has {len(key)} bytes; it needs {SHORTEST_KEY} or more")
    return hmac.new(key, b"interlock-claim-v1\n" + canonical(claim), hashlib.sha256).hexdigest()
