"""Claims as our API makes them."""

from __future__ import annotations

import time
import uuid
from typing import Any

from runbooks.claims import SignedClaim, sign
from tests import lab as labs


def claim_of(workflow: str, action: str, who: str, **more: Any) -> SignedClaim:
    """A minute of life, a new nonce."""
    base: dict[str, Any] = {
        "case": workflow, "action": action, "who": who, "groups": (), "reason": "seen",
        "exp": int(time.time()) + 60, "iat": time.time(), "nonce": uuid.uuid4().hex,
    }  # fmt: skip
    return sign(SignedClaim.model_validate({**base, **more}), labs.CLAIM_KEY)
