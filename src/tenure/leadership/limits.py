"""Every bound of the state machine, unit last. A refusal at a bound is `too_many` or `too_large`, and names it.

These decide what `apply` answers, so members must agree on them: they change only with the feature version (P10).
"""

from typing import Final

sessions_max: Final = 10_000
session_ttl_ms_min: Final = 5
session_ttl_ms_max: Final = 3_600_000
session_meta_entries_max: Final = 16
session_meta_bytes_max: Final = 2_048
session_candidacies_max: Final = 1_000

elections_max: Final = 2_000
candidates_max: Final = 200
"""Per election."""
history_max: Final = 50
"""Holdings kept per election."""
priority_max: Final = 1_000_000
grace_ms_max: Final = 3_600_000
wait_ms_max: Final = 600_000
cooldown_ms_max: Final = 24 * 3_600_000
lag_max_max: Final = 2**53 - 1
reason_chars_max: Final = 500
remarks_max: Final = 100
"""Decisions of the autopilot that are kept."""
dead_after_ms_min: Final = 1_000
dead_after_ms_max: Final = 7 * 24 * 3_600_000
stabilise_ms_max: Final = 24 * 3_600_000
voters_max: Final = 7
"""As `raft.entries.voters_max`, which this package may not see."""
release_reason_chars_max: Final = 200

kv_value_bytes_max: Final = 1 << 20
kv_keys_max: Final = 100_000
kv_bytes_max: Final = 64 << 20
"""All keys and values together."""

clients_max: Final = 10_000
client_window_max: Final = 256
"""Answers kept per client session; older ones fall below the window (P9.1)."""
keyed_max: Final = 10_000
"""Answers kept under idempotency keys (P9.2)."""
key_chars_max: Final = 255

transitions_max: Final = 8_192
"""Kept in memory for watchers that resume; not part of the replicated state."""

term_floor_max: Final = 2**52
"""P2.3: no operator's floor and no mark above it."""
