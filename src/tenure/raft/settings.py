"""Limits and intervals of the consensus core, each named, unit last."""

from msgspec import Struct

from tenure.base.ids import Boot, MemberId, Nonce
from tenure.base.versions import feature_newest


class Identity(Struct, frozen=True):
    """Who we are in this life. `lineage`: all nonces, the founding one first (P1.1)."""

    member: MemberId
    boot: Boot
    lineage: tuple[Nonce, ...]


class Settings(Struct, frozen=True):
    """Defaults are those of P6.2; a real-time class may use 10 and 40 ms."""

    heartbeat_us: int = 25_000
    floor_us: int = 75_000
    timeout_max_us: int = 250_000
    step_min_us: int = 5_000
    disk_stall_min_us: int = 500_000
    disk_stall_max_us: int = 2_000_000
    append_bytes_max: int = 512 * 1024
    append_entries_max: int = 1024
    inflight_appends_max: int = 64
    proposals_uncommitted_max: int = 16_384
    proposals_uncommitted_bytes_max: int = 64 * 1024 * 1024
    reads_waiting_max: int = 16_384
    rounds_inflight_max: int = 2
    snapshot_chunk_bytes: int = 64 * 1024
    """On a link of 1 MB/s a heartbeat waits 64 ms behind one."""
    snapshot_inflight_bytes_max: int = 512 * 1024
    """To one follower; fewer where chunks queue up on the way (`shipping`)."""
    snapshot_bytes_per_s: int = 32 * 1024 * 1024
    """To all followers together: a twentieth of the loop's time."""
    snapshot_bytes_max: int = 256 * 1024 * 1024
    witness_entries_max: int = 4_096
    witness_bytes_max: int = 16 * 1024 * 1024
    """A witness that holds more committed entries, or bytes, asks for a snapshot (P8)."""
    committed_per_step_max: int = 4096
    log_kept_entries: int = 10_000
    """Entries that stay below a snapshot whoever needs them: a member that restarts needs no snapshot."""
    log_kept_bytes: int = 16 * 1024 * 1024
    """Fewer stay if they are larger."""
    log_held_entries_max: int = 100_000
    """So many at most wait for a follower that is behind, or being sent a snapshot …"""
    log_held_bytes_max: int = 64 * 1024 * 1024
    log_held_us: int = 60_000_000
    """… for so long after it was last heard."""
    promote_lag_max: int = 1_000
    """An observer that lags by more entries isn't promoted: the quorum must not wait for it (thesis §4.2.1)."""
    feature_max: int = feature_newest
    """The newest feature version that this member speaks (P10)."""
