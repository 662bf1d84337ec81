"""What a synthetic file says about itself: where each share is from, what is made up, what would be right to do."""

from __future__ import annotations

from typing import cast, get_args

from runbooks.incident import Expect, Lever, Source
from runbooks.record import Outcome
from worker.synthetic_shares import Share
from worker.synthetic_story import Story

_PAPER = "Ranganathan, Zhang, Wu, Enhancing reliability in AI inference services, arXiv 2511.07424 (2025)"
_NO_END = ("refused_input", "forwarded")
"""Ends that no incident of this corpus may have: they say that what came in was wrong."""


def sources(share: Share) -> tuple[Source, ...]:
    """Of one file."""
    group = {"engine": "60 %", "infra": "20 %", "config": "16 %", "ops": "4 %"}[share.group]
    return (
        Source(
            says="156 high-severity incidents; ~60 % are engine failures, ~40 % of those timeouts; ~74 % were found automatically, "
            "~28 % needed a hotfix (the abstract's own words: mark P in docs/synthetic-incidents.md).",
            name=_PAPER,
            url="https://arxiv.org/abs/2511.07424",
            mark="R",
        ),
        Source(
            says=f"{group} of the incidents are of this group; HTTP 500 appeared in ~74 % and 408 in ~10 % of all.",
            name="Summaries of the same paper by others; its full text was not read",
            mark="S",
        ),
        Source(
            says="Minutes from start to close: lognormal, mu 4.26, sigma 1.39; medians and ninth deciles of the stages.",
            name="Computed from the FAILS data set (arXiv 2503.12185), 697 incidents",
            mark="D",
        ),
        Source(
            says=f"{share.of} of 156 of the cause {share.cause}"
            + ("; the class's own share is in the paper." if share.mark == "P" else "")
            + " The incident itself is invented: fleet, fault, alerts, people.",
            name="worker/synthetic_shares.py and what it draws",
            mark="I",
        ),
    )


def expect(share: Share, story: Story) -> Expect:
    """Class, levers that are right, any end that is one, no harm."""
    ends = tuple(o for o in get_args(Outcome) if o not in _NO_END)
    return Expect(
        classes=(share.failure_class,),
        allowed=tuple(cast(Lever, lever) for lever in story.allowed),
        outcome=ends,
        because="Levers are those that the taxonomy of the mission gives this class (ours, I). Any other is a remedy against "
        "a fault that is not there. To do nothing and to tell people is never wrong.",
    )
