"""The environment: every variable has a name, a wrong one is one sentence, and no secret is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.settings import BadSettings, load, variables


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("INTERLOCK_"):
            monkeypatch.delenv(name)


def test_nothing_set_gives_the_embedded_defaults() -> None:
    """A laptop needs no environment at all."""
    settings = load()

    assert settings.temporal.address == "127.0.0.1:7233"
    assert settings.intake.max_body_bytes == 1 << 20
    assert settings.intake.bearer() is None


def test_values_come_in_by_their_full_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested by two underscores, lists and maps as JSON."""
    monkeypatch.setenv("INTERLOCK_TEMPORAL__NAMESPACE", "prod")
    monkeypatch.setenv("INTERLOCK_INTAKE__SERVICE_LABELS", '["app"]')
    monkeypatch.setenv("INTERLOCK_ROUTE_URLS", '{"chat": "http://127.0.0.1:1"}')
    settings = load()

    assert settings.temporal.namespace == "prod"
    assert settings.intake.service_labels == ("app",)
    assert settings.route_urls == {"chat": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("INTERLOCK_INTAKE__PORT", "hunter2", "integer"),
        ("INTERLOCK_INTAKE__PORT", "70000", "less than or equal to 65535"),
        ("INTERLOCK_INTAKE__TOKEN", "", "empty"),
        ("INTERLOCK_INTAKE__TOKEN_FILE", "/nowhere/hunter2", "cannot be read"),
        ("INTERLOCK_INTAKE__MOST_WAITING_BYTES", "1048575", "greater than or equal to 1048576"),
        ("INTERLOCK_INTAKE__MAX_BODY_BYTES", "67108864", "most_waiting_bytes must be at least max_body_bytes"),
        ("INTERLOCK_TEMPORAL__TLS_CERT_FILE", "/hunter2", "go together"),
        ("INTERLOCK_TEMPORAL__BUILD_ID", "hunter2", "deployment and build_id go together"),
        ("INTERLOCK_TEMPORAL__DEPLOYMENT", "hunter2.1", "should match pattern"),
        ("INTERLOCK_PEOPLE__JWKS_FILE", "/hunter2", "issuer and audience"),
        ("INTERLOCK_ROUTE_URLS", "{hunter2", "JSON"),
        ("INTERLOCK_INTAKE__TOKN", "hunter2", "did you mean INTERLOCK_INTAKE__TOKEN"),
        ("INTERLOCK_POLICYFILE", "hunter2", "did you mean INTERLOCK_POLICY_FILE"),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    """And it does not repeat the value, which may be a secret in the wrong place."""
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings) as caught:
        load()

    text = str(caught.value)
    assert text.startswith(name.rpartition("__")[0] or name)
    assert says in text
    assert "hunter2" not in text
    assert "\n" not in text


def test_secrets_are_shown_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither in repr nor in a dump."""
    file = tmp_path / "token"
    file.write_text("hunter2\n")
    monkeypatch.setenv("INTERLOCK_INTAKE__TOKEN_FILE", str(file))
    monkeypatch.setenv("INTERLOCK_TEMPORAL__API_KEY", "hunter2")
    monkeypatch.setenv("INTERLOCK_WEBHOOK_URL", "http://hook/hunter2")
    monkeypatch.setenv("INTERLOCK_TOKEN", "hunter2")
    settings = load()

    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()
    bearer = settings.intake.bearer()
    assert bearer is not None
    assert bearer.get_secret_value() == "hunter2"


def test_a_secret_by_value_and_by_file_is_a_mistake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody would know which one counts."""
    (tmp_path / "t").write_text("x")
    monkeypatch.setenv("INTERLOCK_INTAKE__TOKEN", "y")
    monkeypatch.setenv("INTERLOCK_INTAKE__TOKEN_FILE", str(tmp_path / "t"))
    with pytest.raises(BadSettings, match="both set"):
        load()


@pytest.mark.parametrize(
    ("content", "mode", "says"), [(b"k" * 32, 0o644, "0600"), (b"k" * 8, 0o600, "32 random bytes"), (None, 0, "read")]
)
def test_the_claim_key_must_be_private_and_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, mode: int, says: str
) -> None:
    """Whoever reads it can approve in anybody's name."""
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
        file.chmod(mode)
    monkeypatch.setenv("INTERLOCK_CLAIM_KEY_FILE", str(file))
    with pytest.raises(BadSettings, match=says):
        load().claim_key()


def test_every_variable_name_is_its_own() -> None:
    """`INTERLOCK_A__B` cannot be read as two settings."""
    names = list(variables())

    assert len(names) == len(set(names))
