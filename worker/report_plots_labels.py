"""The confusion matrix of the report: people's label against Interlock's class."""

from __future__ import annotations

from typing import Any

from worker.report import Agreed
from worker.report_svg import DARK, LIGHT, Draw


def says_kappa(found: Agreed | None) -> str:
    """In words."""
    if found is None:
        return ""
    value = "not defined" if found.kappa.value is None else f"{found.kappa.value:.2f}"
    return f"Cohen's kappa {value} over {found.kappa.n} incidents. A row is people's label, a column Interlock's class."


def confusion(found: Agreed | None) -> Draw | None:
    """Dark where a row's incidents went. None: nothing has both labels."""
    if found is None:
        return None
    names = sorted({c.truth for c in found.cells} | {c.found for c in found.cells})
    count = {(c.truth, c.found): c.incidents for c in found.cells}
    totals = {t: sum(count.get((t, f), 0) for f in names) for t in names}

    def draw(pyplot: Any) -> Any:
        side = max(3.2, 0.42 * len(names) + 1.4)
        figure, axes = pyplot.subplots(figsize=(side + 1.2, side))
        shares = [[count.get((t, f), 0) / totals[t] if totals[t] else 0.0 for f in names] for t in names]
        # Cells and not an image: they stay sharp, and the page may load nothing.
        axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, edgecolors=LIGHT, linewidth=0.8)
        axes.set_aspect("equal")
        axes.invert_yaxis()
        for i, t in enumerate(names):
            for j, f in enumerate(names):
                n = count.get((t, f), 0)
                if n:
                    dark = shares[i][j] > 0.55
                    axes.text(j + 0.5, i + 0.5, str(n), ha="center", va="center", color="white" if dark else DARK,
                              fontweight="bold" if i == j else "normal")  # fmt: skip
        axes.set_xticks([n + 0.5 for n in range(len(names))], names, rotation=45, ha="left", rotation_mode="anchor")
        axes.xaxis.tick_top()
        axes.set_yticks([n + 0.5 for n in range(len(names))], [f"{name} ({totals[name]})" for name in names])
        axes.set_xlabel("Interlock's class")
        axes.set_ylabel("people's label (incidents)")
        for side_ in axes.spines.values():
            side_.set_visible(False)
        return figure

    return draw
