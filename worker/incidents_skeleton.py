"""What `interlock incident new` prints: a small incident that passes the check, with a word about each part."""

SKELETON = """\
# An incident file: what happened, what people knew afterwards, and what Interlock must and must not do about it.
# The guide is docs/incident-files.md. Check it with `interlock incident check FILE`, play it with `interlock replay FILE`.
# This one passes the check as it is. Change it from top to bottom, and take out what you do not need.

incident: my-2025-01-31-short-name        # one word, no spaces; unique among your files
title: What a colleague would call it, in one line
kind: past                                # past: from a post-mortem. synthetic: invented. case: exported by Interlock

sources:                                  # what you read, each with what it says and a mark:
  - name: Post-mortem of 31 January       # R you read the source itself, S second-hand, D computed from data, I your inference
    url: https://status.example.com/incidents/1
    says: >-
      One engine stopped answering at 10:04. It was noticed at 10:15 and taken out by hand at 10:42.
    mark: R
inferred: >-                              # which figures below are yours: nearly always all sizes, rates and loads
  The number of replicas, all rates and loads, and what the alert measured.

starts: 2025-01-31T10:00:00Z              # the first moment that is played, with its time zone; Z is UTC
lasts: 60m                                # how long is played. Durations are 90s, 12m, 2h43m, 1d2h

fleet:                                    # sizes may be small: what counts is the proportion of load to capacity
  clusters:
    - name: east                          # its nodes are east-n1, east-n2, …
      nodes: 2
      gpus_per_node: 8
  pools:
    - name: chat-east                     # its replicas are the endpoints chat-east-0:8000, chat-east-1:8000, …
      cluster: east
      replicas: 6
      gpus_per_replica: 2
      tokens_per_second: 1000             # that ONE replica can generate
      cold_start: 3m                      # from a place on a node until its first token
  routes:
    - name: chat                          # what users ask for; its pools may stand in for each other
      pools: [chat-east]
      requests_per_second: 15             # in normal times: 15 x 200 tokens are 3,000 of the 6,000 tokens/s that there are
      tokens_per_request: 200
      deadline: 60s

timeline:
  faults:                                 # what broke. Times: 4m (after starts), 10:04 (its clock), or a full ISO time
    - {fault: hang, at: "10:04", pool: chat-east, replicas: 1}
  alerts:                                 # what a detector would have sent, when, about which target
    - at: "10:05"
      alert: EngineHang
      target: east/service/chat-east/endpoint/chat-east-0:8000
      severity: critical
      evidence: {generations_failed: 4, generations_ok: 0, siblings_ok: 5, tokens_rising: false}
  people: []                              # what people tell Interlock at a set time: {at, who, says: halt, about: east}
  answers: {decision: approve, after: 5m} # who is asked for an approval says so, so long after

truth:                                    # what people knew afterwards; the engine never sees it
  failure_class: engine.hang              # `interlock incident check` lists the classes when this is none of them
  group: engine
  found: people                           # automatic, or people
  levers: [isolate_endpoint]              # what people did that worked; free text where it is no lever
  detected: "10:15"
  mitigated: "10:42"
  words: The engine of one replica was frozen; the health check stayed green.

expect:                                   # what a run must show; anything else that is done fails it
  classes: [engine.hang]
  required: [isolate_endpoint]            # must be done
  allowed: []                             # may be done
  refused: []                             # must be refused: {lever: restart_engine, gate: G6}
  outcome: [restored, fixed, paged]       # how the main case may end
  harm: false                             # true: harm is known to follow and is tolerated
  because: One of six is hung and the others have room, so it can be taken out at once.
"""
