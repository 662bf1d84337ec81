"""The paper's figures, each with its mark, to stand beside ours and never in their place.

Ranganathan, Zhang, Wu, arXiv 2511.07424: 156 high-severity incidents of a year. Marks: P its own words (abstract), S a
second-hand summary. Of S, "20 %" of infrastructure is in two sources, the others in one. Its TTD and TTM numbers were not
to be had, nor the shares of levers other than the hotfix; so nothing stands beside ours there.
"""

from __future__ import annotations

from typing import Literal

from runbooks.base import Model, Share


class Figure(Model):
    """A share as the paper has it."""

    share: Share
    mark: Literal["P", "S"]

    def words(self) -> str:
        """`60 % P`."""
        return f"{self.share:.0%}".replace("%", f" % {self.mark}")


SOURCE = "arXiv 2511.07424, 156 incidents; P: its own words, S: second-hand"
GROUPS = {
    "engine": Figure(share=0.60, mark="P"),
    "infra": Figure(share=0.20, mark="S"),
    "config": Figure(share=0.16, mark="S"),
    "ops": Figure(share=0.04, mark="S"),
}
"""Group → share of all incidents."""
OF_ENGINE = {
    "engine.timeout": Figure(share=0.40, mark="P"),
    "engine.exhaustion": Figure(share=0.29, mark="S"),
    "engine.crash": Figure(share=0.12, mark="S"),
    "engine.latency_spike": Figure(share=0.06, mark="S"),
}
"""Class → share of the engine's incidents. About 13 % of them have no name in any source."""
AUTOMATIC = Figure(share=0.74, mark="P")
HOTFIX = Figure(share=0.28, mark="P")
KAPPA = 0.89
"""Mark P: between its labellers."""
