"""Every limit of the API by name, unit last (STYLE 7)."""

from dataclasses import dataclass

from tenure.wire.bodies import body_bytes_max


@dataclass(frozen=True, slots=True)
class Limits:
    """Defaults fit a member of 60 MB; tests make them small."""

    body_bytes_max: int = body_bytes_max
    head_bytes_max: int = 32 * 1024
    """Request line and headers."""
    hot_body_bytes_max: int = 64 * 1024
    """Larger bodies take the cold way."""
    pipelined_requests_max: int = 64
    """Unanswered hot requests on one connection; further ones take the cold way, which answers one after the other."""
    connections_max: int = 4_096
    requests_in_flight_max: int = 16_384
    watchers_max: int = 512
    """SSE readers, and observers on streams, together."""
    long_polls_max: int = 4_096
    snapshots_max: int = 2
    """Being sent at once (`GET /v1/snapshot`): each keeps what it froze from being forgotten."""
    streams_max: int = 2_048
    stream_message_bytes_max: int = 64 * 1024
    stream_in_flight_max: int = 4_096
    """Unanswered messages on one stream; more are refused with `too_many`."""
    stream_sessions_max: int = 4_096
    stream_buffer_bytes_max: int = 1024 * 1024
    """Unsent bytes on one stream; then it is closed with 1013."""
    request_timeout_ms: int = 30_000
    """A request must have arrived as a whole within this time."""
    stuck_timeout_ms: int = 30_000
    """A client that takes nothing of its answers for this long is dropped."""
    idle_timeout_ms: int = 75_000
    """A connection without requests is closed; a stream is pinged after a third of it."""
    sweep_ms: int = 2_500
    """How often the two above are looked after."""
    sse_comment_ms: int = 15_000
    long_poll_ms_default: int = 30_000
    drain_bytes_max: int = 8 * 1024 * 1024
    """Of a refused body, read and thrown away so that the answer arrives before the reset."""
    drain_ms: int = 2_000
