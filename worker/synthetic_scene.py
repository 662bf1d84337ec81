"""Plays a story in the simulated fleet while nobody does anything, and takes down what the site and people notice of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from activities.adapters.fluid_look import pool_look
from activities.adapters.fluid_world import FluidWorld
from runbooks.incident import Alert, Expect, Incident, Source, Timeline, Truth
from worker import synthetic_rates as rates
from worker.detect_rules import Outcome
from worker.synthetic_baking import WINDOW_S, baked, earliest, false_alarm, misleading
from worker.synthetic_detectors import Fired, Rules, kind_of
from worker.synthetic_draw import Draw
from worker.synthetic_monitoring import Monitoring, Sight, draw_monitoring
from worker.synthetic_people import noticed, report
from worker.synthetic_probes import Asked, Probe, Xids
from worker.synthetic_sight import Eyes
from worker.synthetic_story import Scene, Story
from worker.synthetic_truth import Statuses

XID_RULES = ("GPUXidError", "GpuXidErrors", "XID")
"""A rule over dcgm-exporter's gauge, where a site has no NVML detector."""
NORMAL = 4
"""Scrapes before the fault from which a site learns what is normal."""
PROBE_DEADLINE_S = 10.0
STATUS_SHOWS = 0.005


@dataclass(frozen=True)
class Shown:
    """`detected`: when the first alert or report about the fault came, seconds after the start."""

    alerts: Sequence[Alert]
    detected: float
    statuses: frozenset[int]


def show(
    draw: Draw, scene: Scene, story: Story, *, people: bool, statuses: Statuses, watchful: bool
) -> Shown | None:  # fmt: skip
    """None: no rule of this site fires within the play, so that it would not be found automatically."""
    site = draw_monitoring(draw, (statuses.timed_out, statuses.failed), watchful=watchful)
    play = _Play(draw, site, scene, story)
    return play.by_people() if people else play.by_rules()


@dataclass
class _Play:
    draw: Draw
    site: Monitoring
    scene: Scene
    story: Story
    world: FluidWorld = field(init=False)
    statuses: set[int] = field(default_factory=set)
    _tokens: dict[str, float] = field(default_factory=dict)
    """By pod, tokens made so far: the engine's counter."""

    def __post_init__(self) -> None:
        self.world = FluidWorld(_draft(self.scene, self.story))
        self._eyes = Eyes(self.world, self.site)
        self._rules = Rules(self.site)
        self._probe = Probe()
        self._xids = Xids(self.site.nvml, self.draw.one(XID_RULES))

    def by_rules(self) -> Shown | None:
        """The site's rules find it."""
        fired: list[Fired] = []
        sights: list[tuple[float, Sight]] = []
        for now, sight in self._ticks(self.story.lasts - 60):
            sights.append((now, sight))
            fired += self._look(now, sight)
            if fired and now > fired[0].at + WINDOW_S:
                break
        if not fired:
            return None
        first = earliest(fired)
        if self.draw.happens(rates.MISLEADING):
            before = next(s for t, s in sights if t >= first.at - 60)
            services = [t for t in before if kind_of(t) == "service"]
            wrong = misleading(self.draw, self.site, first, services, before)
            fired = [wrong, *fired] if wrong is not None else fired
        return self._shown(fired, first.at)

    def by_people(self) -> Shown:
        """Somebody reports it; what rules there are fire later or not at all."""
        at = noticed(self.draw, self.scene.begins, self.story.lasts)
        then = self.draw.happens(rates.PEOPLE_THEN_RULES)
        awake = at + self.draw.between(60, 240)
        said: list[Fired] = []
        for now, sight in self._ticks(self.story.lasts - 60):
            if now >= at and not said:
                said.append(report(self.draw, self.story, self.scene.service, now, sight, self.scene.begins))
            if then and now >= awake:
                said += self._look(now, sight)
            if said and (now > at + WINDOW_S or not then):
                break
        return self._shown(said, said[0].at)

    def _ticks(self, until: float) -> Iterator[tuple[float, Sight]]:
        """Every scrape; the last before the fault only teach what is normal."""
        now = self.scene.begins - (NORMAL + 1) * self.site.scrape_s
        while (now := now + self.site.scrape_s) <= until:
            if now < 0:
                continue
            self.world.advance(now)
            sight = self._eyes.sight()
            if now < self.scene.begins:
                self._rules.learn(sight)
                continue
            self._note(sight)
            yield now, sight

    def _look(self, now: float, sight: Sight) -> list[Fired]:
        fired = self._rules.look(now, sight)
        if self.site.probes:
            fired += self._probe.look(now, self._asked())
        return fired + self._xids.look(now, self._eyes.xids())

    def _asked(self) -> Mapping[str, Mapping[str, Asked]]:
        """How a real generation of each replica in rotation ends, and what its token counter shows."""
        found: dict[str, dict[str, Asked]] = {}
        for pool in self.scene.fleet.pools:
            found[f"{pool.cluster}/service/{pool.name}"] = ended = {}
            for replica in pool_look(self.world, pool.name).inside:
                made = self._tokens.get(replica.pod, 0.0) + replica.tokens_s * self.site.scrape_s
                self._tokens[replica.pod] = made
                if not replica.up:
                    dead = self._machine_is_gone(pool.cluster, replica.node)
                    ended[replica.address] = Asked(Outcome.TIMEOUT if dead else Outcome.REFUSED, None)
                elif not replica.answers or replica.wait_s + replica.token_s > PROBE_DEADLINE_S:
                    ended[replica.address] = Asked(Outcome.TIMEOUT, made)
                else:
                    ended[replica.address] = Asked(Outcome.OTHER if replica.errors > 0.5 else Outcome.OK, None)
        return found

    def _machine_is_gone(self, cluster: str, node: str) -> bool:
        """Nobody refuses a connection to a machine that is not there: it times out."""
        there = self.world.worlds[cluster].nodes.get(node)
        return there is not None and bool(there.failed)

    def _note(self, sight: Sight) -> None:
        for values in sight.values():
            for name, value in values.items():
                if name.startswith("http_") and isinstance(value, float) and value > STATUS_SHOWS:
                    self.statuses.add(int(name.split("_")[1]))

    def _shown(self, fired: list[Fired], detected: float) -> Shown:
        services = [f"{p.cluster}/service/{p.name}" for p in self.scene.fleet.pools]
        alerts = baked(self.draw, self.site, fired, self.story.lasts)
        if self.draw.happens(rates.FALSE_ALARM):
            alerts += self._alarm(services, detected)
        return Shown(alerts, detected, frozenset(self.statuses))

    def _alarm(self, services: Sequence[str], detected: float) -> list[Alert]:
        """Never the first: then it would have found what it is not about."""
        wrong = false_alarm(self.draw, self.site, services, detected + 30, self.story.lasts - 60)
        if wrong is None:
            return []
        return baked(self.draw, self.site, [wrong], self.story.lasts, until=wrong.at + self.draw.between(90, 240))


def _draft(scene: Scene, story: Story) -> Incident:
    """A file that only the simulation reads."""
    return Incident(
        incident="draft",
        title="draft",
        kind="synthetic",
        sources=(Source(says="draft", name="draft", mark="I"),),
        starts=datetime(2026, 1, 5, tzinfo=UTC),
        lasts=story.lasts,
        fleet=scene.fleet,
        timeline=Timeline(faults=story.faults),
        truth=Truth(failure_class="unknown", group="unknown"),
        expect=Expect(classes=("unknown",), outcome=("paged",), because="draft"),
    )
