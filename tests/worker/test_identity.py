"""Who a person is: only a whole, fresh token of our issuer for us, signed with a public-key algorithm, says it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import stat
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from worker.identity import KeysAway, NotVerified, Person, Verifier, dev_issuer, ensure_claim_key
from worker.settings import PeopleSettings


@pytest.fixture
def issuer(tmp_path: Path) -> Any:
    """An issuer of this test."""
    return dev_issuer(tmp_path / "issuer")


async def test_a_token_of_the_issuer_names_the_person(issuer: Any) -> None:
    """Subject and groups."""
    person = await Verifier(issuer.settings).verify(issuer.mint("ana", ("sre-oncall",)))

    assert person == Person("ana", ("sre-oncall",))


def test_the_issuer_keeps_its_key_to_itself(issuer: Any, tmp_path: Path) -> None:
    """0600, and the same key the next time."""
    files = list((tmp_path / "issuer").iterdir())
    before = {f.name: f.read_bytes() for f in files}
    dev_issuer(tmp_path / "issuer")

    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}
    assert {f.name: f.read_bytes() for f in files} == before
    assert stat.S_IMODE(ensure_claim_key(tmp_path / "key").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"exp": 1}, "expired"),
        ({"iss": "somebody"}, "refused"),
        ({"aud": "another-app"}, "refused"),
        ({"sub": ""}, "no subject"),
        ({"sub": None}, "refused"),
        ({"groups": "sre-oncall"}, "not a list"),
        ({"groups": [1]}, "not a list"),
        ({"nbf": 9_999_999_999}, "refused"),
    ],
)
async def test_a_wrong_claim_is_refused(issuer: Any, claims: dict[str, Any], says: str) -> None:
    """Expired, another issuer, for somebody else, nobody's."""
    with pytest.raises(NotVerified, match=says):
        await Verifier(issuer.settings).verify(issuer.mint("ana", claims=claims))


@pytest.mark.parametrize("missing", ["exp", "iss", "aud", "sub"])
async def test_a_missing_claim_is_refused(issuer: Any, missing: str) -> None:
    """A token without an end is a token for ever."""
    body = jwt.decode(issuer.mint("ana"), options={"verify_signature": False})
    del body[missing]
    token = jwt.encode(body, issuer._key, algorithm="ES256", headers={"kid": "dev"})

    with pytest.raises(NotVerified):
        await Verifier(issuer.settings).verify(token)


async def test_forged_tokens_are_refused(issuer: Any, tmp_path: Path) -> None:
    """No signature, a shared secret made of the public key, another key under the same name, an edited body."""
    verifier = Verifier(issuer.settings)
    token = issuer.mint("ana", ("sre-oncall",))
    body = jwt.decode(token, options={"verify_signature": False})
    hs256 = ".".join((jwt.encode(body, "s" * 32, headers={"kid": "dev"})).split(".")[:2])
    public = (
        tmp_path / "issuer" / "jwks.json"
    ).read_bytes()  # pyjwt itself will not sign with this: by hand, as a thief
    by_secret = hmac.new(public, hs256.encode(), hashlib.sha256).digest()
    head, _, tail = token.split(".")
    other = issuer.mint("mallory").split(".")[1]
    forged = [
        jwt.encode(body, None, algorithm="none"),
        ".".join((hs256, base64.urlsafe_b64encode(by_secret).rstrip(b"=").decode())),
        jwt.encode(body, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers={"kid": "dev"}),
        jwt.encode(body, rsa.generate_private_key(65537, 2048), algorithm="RS256", headers={"kid": "dev"}),
        jwt.encode(body, issuer._key, algorithm="ES256", headers={"kid": "unknown"}),
        f"{head}.{other}.{tail}",
        "not-a-token",
        "a.b.c",
        "x" * 20_000,
    ]
    for one in forged:
        with pytest.raises(NotVerified) as caught:
            await verifier.verify(one)
        assert one not in str(caught.value)


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
async def test_the_other_public_key_algorithms_count_too(tmp_path: Path, algorithm: str) -> None:
    """As company issuers use them."""
    key: Any = rsa.generate_private_key(65537, 2048) if algorithm == "RS256" else ed25519.Ed25519PrivateKey.generate()
    maker = jwt.get_algorithm_by_name(algorithm)
    public = {**json.loads(maker.to_jwk(key.public_key())), "kid": "a", "alg": algorithm}
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [public]}))
    token = jwt.encode(
        {"iss": "i", "aud": "a", "sub": "ana", "exp": time.time() + 60}, key, algorithm=algorithm, headers={"kid": "a"}
    )
    settings = PeopleSettings(jwks_file=file, issuer="i", audience="a")

    assert await Verifier(settings).verify(token) == Person("ana", ())


async def test_a_rotated_key_is_found(tmp_path: Path) -> None:
    """The file is read anew when it changes: no restart."""
    old, new = dev_issuer(tmp_path / "old"), dev_issuer(tmp_path / "new")
    verifier = Verifier(old.settings)
    await verifier.verify(old.mint("ana"))
    assert old.settings.jwks_file
    assert new.settings.jwks_file
    old.settings.jwks_file.write_bytes(new.settings.jwks_file.read_bytes())

    assert (await verifier.verify(new.mint("ana"))).sub == "ana"
    with pytest.raises(NotVerified):
        await verifier.verify(old.mint("ana"))


@pytest.mark.parametrize("content", [None, "{", '{"keys": []}', "[]"])
async def test_without_keys_nobody_is_verified(tmp_path: Path, issuer: Any, content: str | None) -> None:
    """Not the same as a bad token: it says that the keys are away."""
    file = tmp_path / "keys.json"
    if content is not None:
        file.write_text(content)
    settings = PeopleSettings(jwks_file=file, issuer="interlock-dev", audience="interlock")

    with pytest.raises(KeysAway):
        await Verifier(settings).verify(issuer.mint("ana"))
