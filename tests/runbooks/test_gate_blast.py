"""G2 by a table: how much is taken away at once, in an hour, and with what stands already."""

from __future__ import annotations

from typing import Any

from runbooks.change import CannotPlan, NothingToDo
from runbooks.facts import Facts, GuardView, Spent, Unknown
from runbooks.gates.question import Question
from runbooks.plan import GateVerdict
from runbooks.policy import DomainPolicy, LeverPolicy
from tests.runbooks import gate_cluster as k
from tests.runbooks.gate_lab import agrees, change, facts, known, policy, question, standing, table, verdict


def takes(limits: dict[str, Any] | None = None, domain: dict[str, Any] | None = None, **blast: Any) -> Question:
    """May so much be taken away?"""
    rules = policy(levers={"isolate_endpoint": LeverPolicy(**limits or {})}, domain=DomainPolicy(**domain or {}))
    return question(change=change(**blast), policy=rules)


def spent(**units: Any) -> Facts:
    """The last hour has cost so much."""
    return facts(guard=known(GuardView(domain="lab", spent=Spent(**units))))


def acts(count: int) -> Facts:
    """So many acts in the last hour."""
    return facts(guard=known(GuardView(domain="lab", acts_last_hour=count)))


def no(reason: str) -> GateVerdict:
    """Refused."""
    return verdict("G2", "deny", reason)


def yes(reason: str) -> GateVerdict:
    """Within policy."""
    return verdict("G2", "allow", reason)


ONE = yes("1 of pool-a out; no other change of the domain stands")
LOST = facts(guard=Unknown(why="x"))
STANDS = "isolate_endpoint on t stands"
A1, A2, A3 = ({"endpoints_down": {"pool-a": n}} for n in (1, 2, 3))
WIDE = {"max_endpoints_down": 9}
HOURLY = "would be taken within one hour; the domain's budget is"
G2 = [
    (ONE, question(), facts()),
    (yes("nothing more is taken away"), question(change=NothingToDo(why="done")), LOST),
    (yes("nothing more is taken away"), question(change=CannotPlan(why="no room")), LOST),
    (yes("nothing more is taken away"), question(purpose="undo"), LOST),
    (yes("nothing more is taken away"), question(purpose="restore"), LOST),
    (verdict("G2", "deny", "what already stands in the domain is unknown: x", unknown=True), question(), LOST),
    (verdict("G2", "ask", "what already stands in the domain is unknown (x); policy asks people"),
     question(policy=policy(ask_on_unknown=("G2",))), LOST),
    (no("20 acts in the last hour; the limit is 20"), question(), acts(20)),
    (ONE, question(), acts(19)),
    (no("0 acts in the last hour; the limit is 0"), takes({"max_acts_per_hour": 0}), facts()),
    # The domain's budget per hour, over all levers: at the limit it is allowed, one over it is not.
    (ONE, takes(domain={"endpoints_per_hour_in_pool": 5}), spent(endpoints={"pool-a": 4})),
    (no(f"6 endpoints of pool-a {HOURLY} 5"), takes(domain={"endpoints_per_hour_in_pool": 5}), spent(endpoints={"pool-a": 5})),
    (ONE, takes(domain={"endpoints_per_hour": 5}), spent(endpoints={"pool-b": 3, "pool-a": 1})),
    (no(f"6 endpoints {HOURLY} 5"), takes(domain={"endpoints_per_hour": 5}), spent(endpoints={"pool-b": 5})),
    # Endpoints out, in a pool: absolute and share, with what stands.
    (ONE, takes({"max_endpoints_down": 1}), facts()),
    (no("2 endpoints of pool-a would be out; the limit is 1"), takes(**A2), facts()),
    (no(f"2 endpoints of pool-a would be out; the limit is 1 ({STANDS})"),
     takes(), facts(guard=standing(endpoints_down={"pool-a": 1}))),
    (yes("1 of pool-a out; 1 change(s) of the domain stand already"), takes(), facts(guard=standing(endpoints_down={"pool-b": 1}))),
    (yes("1 of pool-a out; 1 change(s) of the domain stand already"),
     takes({"max_endpoints_down": 2}), facts(guard=standing(endpoints_down={"pool-a": 1}))),
    (ONE, takes({"max_share_down": 0.25}), facts()),
    (no("1 of 4 endpoints of pool-a would be out; the limit is 24%"), takes({"max_share_down": 0.24}), facts()),
    (yes("2 of pool-a out; no other change of the domain stands"), takes(WIDE, **A2), facts()),
    (no("3 of 4 endpoints of pool-a would be out; the limit is 50%"), takes(WIDE, **A3), facts()),
    (no("pool nowhere is not in the inventory"), takes(endpoints_down={"nowhere": 1}), facts()),
    (no(f"2 endpoints of pool-a would be out; the limit is 1 ({STANDS})"),
     takes(**A2), facts(guard=standing(endpoints_down={"pool-b": 1}))),
    # Shares of a route: at once, and in all.
    (yes("25% of chat moved; no other change of the domain stands"), takes(share_moved={"chat": 0.25}), facts()),
    (no("26% of chat at once; the largest increment is 25%"), takes(share_moved={"chat": 0.26}), facts()),
    (yes("20% of chat moved; 1 change(s) of the domain stand already"),
     takes(share_moved={"chat": 0.2}), facts(guard=standing(share_moved={"chat": 0.8}))),
    (no(f"110% of chat would be moved; the limit is 100% ({STANDS})"),
     takes(share_moved={"chat": 0.2}), facts(guard=standing(share_moved={"chat": 0.9}))),
    (yes("20% of chat moved; 1 change(s) of the domain stand already"),
     takes(share_moved={"chat": 0.2}), facts(guard=standing(share_moved={"other": 0.9}))),
    (no(f"60% of chat would be moved; the limit is 50% ({STANDS})"),
     takes({"largest_share": 0.5}, share_moved={"chat": 0.2}), facts(guard=standing(share_moved={"chat": 0.4}))),
    (yes("25% more refused; no other change of the domain stands"), takes(refused_share=0.25), facts()),
    (no("26% more refused at once; the largest increment is 25%"), takes(refused_share=0.26), facts()),
    (yes("10% of chat on another version; no other change of the domain stands"), takes(changed={"chat": 0.1}), facts()),
    (yes("1 of pool-a out, 1 of pool-b down at once, 20% of chat moved, 5% more refused; no other change of the domain stands"),
     takes(endpoints_down={"pool-a": 1}, restarting={"pool-b": 1}, share_moved={"chat": 0.2}, refused_share=0.05), facts()),
    (no(f"20% of chat would be moved; the limit is 10% ({STANDS})"),
     takes({"largest_share": 0.1}, share_moved={"chat": 0.2}), facts(guard=standing(share_moved={"other": 0.9}))),
    # Nodes, GPUs, and replicas that restart.
    (yes("node n1 out, 4 GPUs taken; no other change of the domain stands"), k.ask(k.DRAIN, k.CORDON), k.facts()),
    (no("2 nodes would be out (n1, n2); the limit is 1"), k.ask(k.DRAIN, k.CORDON), k.facts(guard=k.stands(nodes=("n2",)))),
    (no("2 nodes would be out (n1, n2); the limit is 1"),
     k.ask(k.DRAIN, k.CORDON), k.facts(guard=k.stands("isolate_endpoint", "west/node/n1", nodes=("n2",)))),
    (yes("node n1 out, 4 GPUs taken; 1 change(s) of the domain stand already"),
     k.ask(k.DRAIN, k.CORDON), k.facts(guard=k.stands(target="west/node/n1", nodes=("n1",), gpus=5))),
    (yes("node n1 out, 4 GPUs taken; 1 change(s) of the domain stand already"),
     k.ask(k.DRAIN, k.CORDON), k.facts(guard=k.stands("reboot_node", "west/node/n1", nodes=("n1",), gpus=5))),
    (yes("node n1 out, 4 GPUs taken; 1 change(s) of the domain stand already"),
     k.ask(k.DRAIN, k.CORDON, k.policy(max_nodes_out=2)), k.facts(guard=k.stands(nodes=("n2",)))),
    (no("9 GPUs would be taken; the limit is 8 (reset_gpu on west/node/n1 stands)"),
     k.ask(k.DRAIN, k.CORDON), k.facts(guard=k.stands("reset_gpu", "west/node/n1", gpus=5))),
    (yes("nothing goes out of service; 1 change(s) of the domain stand already"),
     k.ask(k.RESET, {}), k.facts(guard=k.stands(nodes=("n2", "n3"), gpus=99))),
    (no("4 GPUs would be taken; the limit is 3"), k.ask(k.DRAIN, k.CORDON, k.policy(max_gpus=3)), k.facts()),
    (yes("node n1 out, 4 GPUs taken; no other change of the domain stands"), k.ask(k.DRAIN, k.CORDON, k.policy(max_gpus=4)), k.facts()),
    # A surge must not keep a sick node in service, nor the other way round.
    (yes("node n1 out, 4 GPUs taken; 1 change(s) of the domain stand already"),
     k.ask(k.DRAIN, k.CORDON), k.facts(guard=k.stands("increase_capacity", "west/service/big", gpus=7))),
    (yes("2 GPUs taken; 1 change(s) of the domain stand already"), k.ask(k.GROW, {"gpus": 2}), k.facts(guard=k.stands(gpus=7))),
    (no("9 GPUs would be taken; the limit is 8 (increase_capacity on west/service/big stands)"),
     k.ask(k.GROW, {"gpus": 2}), k.facts(guard=k.stands("increase_capacity", "west/service/big", gpus=7))),
    (yes("1 of big down at once; no other change of the domain stands"), k.ask(k.DRAIN, k.EVICT), k.facts()),
    (no("2 replicas of big would be down; the limit is 1"), k.ask(k.DRAIN, {"restarting": {"big": 2}}), k.facts()),
    (no("2 replicas of big would be down; the limit is 1 (isolate_endpoint on x stands)"),
     k.ask(k.RESTART, k.EVICT), k.facts(guard=k.stands("isolate_endpoint", "x", endpoints_down={"big": 1}))),
    (yes("1 of big down at once; 1 change(s) of the domain stand already"),
     k.ask(k.RESTART, k.EVICT), k.facts(guard=k.stands("isolate_endpoint", "x", endpoints_down={"small": 1}))),
]  # fmt: skip


G2 += [
    (no("2 replicas of big would be down; the limit is 1 (isolate_endpoint on x stands)"),
     k.ask(k.DRAIN, {"restarting": {"big": 2}}), k.facts(guard=k.stands("isolate_endpoint", "x", endpoints_down={"small": 1}))),
    (no(f"9 nodes would be out ({', '.join(f'n{n}' for n in range(1, 10))}); the limit is 1"),
     k.ask(k.DRAIN, k.CORDON), k.facts(guard=k.stands(nodes=tuple(f"n{n}" for n in range(9, 1, -1))))),
    (yes("nothing goes out of service; no other change of the domain stands"), k.ask(k.RESET, {}, k.policy(max_gpus=0)), k.facts()),
]  # fmt: skip


@table(*G2)
def test_no_more_is_taken_away_than_policy_says(wanted: GateVerdict, asked: Question, seen: Facts) -> None:
    """Exactly at the limit it is allowed, one over it is not."""
    agrees(wanted, asked, seen)


def test_at_most_three_standing_changes_are_named() -> None:
    """A reason is read at 3 am."""
    view = standing(endpoints_down={"pool-a": 1}).value
    four = tuple(view.standing[0].model_copy(update={"receipt_id": str(n), "target_id": f"t{n}"}) for n in range(4))
    seen = facts(guard=known(view.model_copy(update={"standing": four})))
    named = ", ".join(f"isolate_endpoint on t{n} stands" for n in range(3))
    agrees(no(f"5 endpoints of pool-a would be out; the limit is 1 ({named})"), question(), seen)
