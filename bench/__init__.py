"""Side-by-side benchmarks: Tenure and etcd, on one machine, in one run.

Idea. Figures of a noisy machine mean little alone, so every round measures both sides one after the other, in turning
order, with only one cluster running at a time; what is quoted is the ratio, with the absolute figures beside it.

Fairness. Both sides get three members on loopback with their data in temp folders of the same disk, durable writes, and
generators of equal cost: one asyncio protocol over a raw socket with requests encoded in advance and answers parsed no
further than success needs it (`http1`, `websocket` for Tenure; for etcd `http2`, a minimal gRPC framing with indexed
headers, since grpcio in Python would be slower than the server that it measures). What is answered to one read leaves
in one write, on both sides. Throughput is measured against the leader; fail-over through the survivors.

Words. *Side*: a system under test with its cluster (`sides.Side`). *Lane*: one connection that can ask. *Row*: one line
of the result, with its target (`rows`).
"""
