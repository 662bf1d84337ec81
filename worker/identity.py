"""Who a person is: their JWT, verified against their issuer's public keys. We verify with pyjwt and write no JWT code.

Only asymmetric algorithms: a shared secret in a JWKS would let every verifier be an issuer.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from runbooks.claims import Action, SignedClaim, sign
from worker.settings import PeopleSettings

ALGORITHMS = ("RS256", "ES256", "EdDSA")
LONGEST_TOKEN = 16_384
CLAIM_LIFE_S = 60
_KEEP_KEYS_S = 300.0
_LOOK_AGAIN_S = 10.0


class NotVerified(Exception):
    """The token counts for nothing; the text says why and never holds any of it."""


class KeysAway(Exception):
    """The issuer's keys cannot be had now: nobody can be verified, which is not the same as a bad token."""


@dataclass(frozen=True)
class Person:
    """A verified subject and the groups that the issuer puts them in."""

    sub: str
    groups: tuple[str, ...]


class Verifier:
    """Verifies tokens of one issuer for one audience. Keys come from a file (read anew when it changes) or a URL."""

    def __init__(self, settings: PeopleSettings) -> None:
        if not (settings.configured and settings.issuer and settings.audience):
            raise ValueError(
                "people cannot be verified: set INTERLOCK_PEOPLE__JWKS_FILE (or _URL), __ISSUER and __AUDIENCE"
            )
        self._settings = settings
        self._keys: jwt.PyJWKSet | None = None
        self._read_at = float("-inf")
        self._stamp = 0.0
        self._lock = asyncio.Lock()

    async def verify(self, token: str) -> Person:
        """The person of a valid token. NotVerified with the reason; KeysAway when keys cannot be had."""
        if len(token) > LONGEST_TOKEN:
            raise NotVerified("this token is too long to be one of ours")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise NotVerified("this is not a JWT") from None
        if header.get("alg") not in ALGORITHMS:
            raise NotVerified(f"the token must be signed with one of {', '.join(ALGORITHMS)}")
        key = await self._key(header.get("kid"), str(header["alg"]))
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[str(header["alg"])],
                issuer=self._settings.issuer,
                audience=self._settings.audience,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise NotVerified("the token has expired: log in again") from None
        except (jwt.PyJWTError, TypeError, ValueError) as error:
            raise NotVerified(f"the token was refused: {type(error).__name__}") from None
        return self._person(claims)

    def _person(self, claims: dict[str, Any]) -> Person:
        sub, groups = claims["sub"], claims.get(self._settings.groups_claim, [])
        if not isinstance(sub, str) or not sub.strip() or len(sub) > 300:
            raise NotVerified("the token names no subject")
        if not isinstance(groups, list) or not all(isinstance(g, str) for g in groups):
            raise NotVerified(f"the token's {self._settings.groups_claim} is not a list of names")
        return Person(sub, tuple(groups))

    async def _key(self, kid: object, alg: str) -> jwt.PyJWK:
        for attempt in (1, 2):
            keys = await self._load(again=attempt == 2)
            fitting = [k for k in keys.keys if (kid is None or k.key_id == kid) and k.algorithm_name == alg]
            if len(fitting) == 1:
                return fitting[0]
        raise NotVerified("no key of the issuer signed this token")

    async def _load(self, *, again: bool) -> jwt.PyJWKSet:
        """The key set. `again`: a key is unknown, so look once more, but not for every forged token."""
        async with self._lock:
            age = time.monotonic() - self._read_at
            file = self._settings.jwks_file
            try:
                stamp = file.stat().st_mtime if file else 0.0
                old = age > (_LOOK_AGAIN_S if again else _KEEP_KEYS_S) or stamp != self._stamp
                if self._keys is not None and not old:
                    return self._keys
                raw = json.loads(file.read_bytes()) if file else await self._fetch()
                self._keys = jwt.PyJWKSet.from_dict(raw)
            except (OSError, ValueError, httpx.HTTPError, jwt.PyJWTError, AttributeError) as error:
                raise KeysAway(f"the issuer's keys cannot be read: {type(error).__name__}") from None
            self._read_at, self._stamp = time.monotonic(), stamp
            return self._keys

    async def _fetch(self) -> Any:
        async with httpx.AsyncClient(timeout=5.0) as client:
            answer = await client.get(str(self._settings.jwks_url))
            answer.raise_for_status()
            return answer.json()


def claim_for(
    person: Person,
    key: bytes,
    *,
    case: str,
    action: Action,
    reason: str,
    groups: tuple[str, ...] = (),
    step: str = "",
    digest: str = "",
    decision: Any = None,
) -> SignedClaim:
    """A signed claim of a verified person, good for a minute. `groups`: those that policy adds to the issuer's."""
    claim = SignedClaim(
        case=case,
        action=action,
        step=step,
        digest=digest,
        decision=decision,
        reason=reason,
        who=person.sub,
        groups=tuple(sorted({*person.groups, *groups})),
        exp=int(datetime.now(UTC).timestamp()) + CLAIM_LIFE_S,
        iat=datetime.now(UTC).timestamp(),
        nonce=secrets.token_hex(16),
    )
    return sign(claim, key)


def ensure_claim_key(path: Path) -> Path:
    """Makes the key that API and worker share, mode 0600, unless it is there. For demos and tests."""
    _write_once(path, secrets.token_bytes(32))
    return path


@dataclass(frozen=True)
class DevIssuer:
    """An issuer for demos and tests: its own key, its own JWKS file. Never a place where real people log in."""

    settings: PeopleSettings
    _key: ec.EllipticCurvePrivateKey

    def mint(
        self, sub: str, groups: tuple[str, ...] = (), *, life_s: int = 3600, claims: Mapping[str, object] | None = None
    ) -> str:
        """A token for `sub`. `claims` override or add, so that tests can make wrong ones."""
        now = int(datetime.now(UTC).timestamp())
        body = {
            "iss": self.settings.issuer,
            "aud": self.settings.audience,
            "sub": sub,
            "iat": now,
            "exp": now + life_s,
            "groups": list(groups),
            **(claims or {}),
        }
        return jwt.encode(body, self._key, algorithm="ES256", headers={"kid": "dev"})


def dev_issuer(folder: Path) -> DevIssuer:
    """The issuer kept in this folder: `dev-issuer.pem` and `jwks.json`, both 0600, made when missing."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = ec.generate_private_key(ec.SECP256R1())
    pem = folder / "dev-issuer.pem"
    _write_once(
        pem,
        fresh.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    key = serialization.load_pem_private_key(pem.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{pem} does not hold an EC key")
    public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    _write_once(
        folder / "jwks.json", json.dumps({"keys": [{**public, "kid": "dev", "alg": "ES256", "use": "sig"}]}).encode()
    )
    people = PeopleSettings(jwks_file=folder / "jwks.json", issuer="interlock-dev", audience="interlock")
    return DevIssuer(people, key)


def _write_once(path: Path, content: bytes) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "wb") as file:
        file.write(content)
