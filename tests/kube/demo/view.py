"""What a person sees while it runs: the demo's screen, with nodes and pods instead of endpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from tests.kube.manifests import condition, pod_serves
from tests.kube.stories.cluster import StoryCluster
from worker.demo.live import View

STYLES = {"serves": "green", "starting": "yellow", "ending": "yellow", "silent": "red"}


@dataclass(frozen=True)
class NodeLine:
    """A node: `words` is Ready or NotReady and whether it is cordoned; `pods` is (pool and id, state)."""

    name: str
    words: str
    pods: tuple[tuple[str, str], ...]


@dataclass
class ClusterView(View):
    """`nodes` is asked at each drawing."""

    nodes: Callable[[], Sequence[NodeLine]] = tuple

    def _pools(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for node in self.nodes():
            style = "green" if node.words == "Ready" else "red" if "NotReady" in node.words else "yellow"
            cells = [Text(f"{name} {state}", style=STYLES[state]) for name, state in node.pods]
            table.add_row(Text(node.name, style="bold"), Text(node.words, style=style), *cells)
        return table


def lines(cluster: StoryCluster) -> list[NodeLine]:
    """The cluster as its API server has it now."""
    return [_line(cluster, name) for name in cluster.nodes]


def _line(cluster: StoryCluster, name: str) -> NodeLine:
    node = cluster.world.node(name)
    words = "Ready" if condition(node, "Ready") else "NotReady"
    if node["spec"].get("unschedulable"):
        words += ", cordoned"
    here = [p for p in tuple(cluster.world.pods.values()) if p["spec"].get("nodeName") == name]
    return NodeLine(name, words, tuple(sorted((_name(p), _state(p, words)) for p in here)))


def _name(pod: dict[str, object]) -> str:
    metadata = pod["metadata"]
    assert isinstance(metadata, dict)
    labels = metadata["labels"]
    # The Deployment's pods end in an id of five letters; a check replica is nobody's.
    return f"{labels['app']}-{metadata['name'][-5:]}" if "app" in labels else "check replica"


def _state(pod: dict[str, object], node: str) -> str:
    metadata = pod["metadata"]
    assert isinstance(metadata, dict)
    if "deletionTimestamp" in metadata:
        return "ending"
    return "serves" if pod_serves(pod) else "silent" if "NotReady" in node else "starting"
