"""Engines: what stands behind the seam of `tenure.leadership.engine`.

One contract, several ways to keep it. `native` is our own consensus (Raft core, replicated state machine, steward) with
an asyncio shell; `memory` keeps the same state machine in one process without durability, for tests and as the users'
pytest fixture. etcd, ZooKeeper and a remote cluster come later, behind the same seam and the same conformance suite
(tests/engines). Engines never import each other.
"""
