"""What travels: frames between members (`frames`), and the bodies of the HTTP API.

Idea: the types are those of `raft` and `leadership` themselves, so nothing is translated twice; this layer adds
limits, versions and framing, and says precisely what is wrong with what came. Sans-I/O throughout: bytes in, values
out, and the other way, so that the same code serves asyncio, threads, tests and fuzzers.

Invariants: a decoder never holds more than one frame of its limit; garbage ends in a typed error, never in another
exception; what one version encodes the same version decodes to an equal value. Left out: sockets, retries, and who
may say what, which belong to the transport and to the API.
"""
