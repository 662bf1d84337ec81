"""Text of strangers in Markdown that people paste somewhere: it stays text, and it stays readable where nothing renders it.

Labels, alert names, reasons and a person's own words come from outside. They never begin a line here, so only what is
alive within one is escaped. `Md` marks what is Markdown on purpose; everything else is escaped when it is put in.
"""

from __future__ import annotations

import re

_LIVE = re.compile(r"[\\`*\[\]~|$]|<(?=[\w/!?])|&(?=[#\w])|(?<![^\W_])_|_(?![^\W_])|(?<=:)//|(?<=\bwww)\.", re.I)
"""An underscore within a word is no emphasis, and names are full of them. `://` and `www.` would become links."""


class Md(str):
    """Markdown as it is meant: not escaped again."""

    __slots__ = ()


def plain(text: object, most: int = 500) -> str:
    """One line of printable characters: safe for a terminal."""
    return "".join(c if c.isprintable() else " " for c in str(text)[:most])


def esc(text: object, most: int = 500) -> Md:
    """Untrusted text as plain text: no markup, no link, no image, no line break; `most` characters of it."""
    return text if isinstance(text, Md) else Md(_LIVE.sub(lambda found: "\\" + found[0], plain(text, most)))


def code(text: object) -> Md:
    """A name or a value as code, to be copied; as plain text where it could break out of that."""
    short = plain(text, 300)
    return Md(f"`{short}`") if short.strip() and "`" not in short else esc(short or "(empty)")
