"""Templates of runbooks and indicators: jinja2, sandboxed, strict, rendered once at planning."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, UndefinedError
from jinja2.sandbox import SandboxedEnvironment

Context = Mapping[str, Any]
"""target, route, pool, endpoint, siblings, tier_lowest, labels, evidence: what the target lacks is absent."""


class RenderError(Exception):
    """A template that cannot be rendered. `field` is its place, as parts of a path."""

    def __init__(self, field: tuple[int | str, ...], why: str) -> None:
        self.field, self.why = field, why
        super().__init__(f"{'.'.join(map(str, field))}: {why}")


def _quoted(value: object) -> object:
    # A label comes from outside. Inside a PromQL string it must not be able to end that string.
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") if isinstance(value, str) else value


_TEXT = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False)
_PROMQL = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False, finalize=_quoted)


@lru_cache(maxsize=1024)
def _compiled(text: str, promql: bool) -> Template:
    # Compiling takes a hundred times longer than rendering, and a plan is on the way of every alert.
    return (_PROMQL if promql else _TEXT).from_string(text)


def render(text: str, context: Context, field: tuple[int | str, ...], *, promql: bool = False) -> str:
    """One template as text. Raises RenderError with the reason in one line."""
    try:
        return _compiled(text, promql).render(context)
    except UndefinedError as error:
        known = ", ".join(sorted(context)) or "none"
        raise RenderError(field, f"template {text!r}: {error.message}; variables here: {known}") from error
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise RenderError(field, f"template {text!r}: {' '.join(str(error).split())}") from error


def render_all(value: Any, context: Context, field: tuple[int | str, ...]) -> Any:
    """Renders every text in a structure of mappings and lists; leaves all other values as they are."""
    if isinstance(value, str):
        return render(value, context, field)
    if isinstance(value, Mapping):
        return {key: render_all(item, context, (*field, str(key))) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [render_all(item, context, (*field, index)) for index, item in enumerate(value)]
    return value
