"""How much of everything a replica allows itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaLimits:
    """Bounds and intervals of one replica; units are in the names."""

    tick_interval_s: float = 0.1
    election_ticks: int = 10
    batch_commands_max: int = 512
    batch_bytes_max: int = 4 << 20
    queue_commands_max: int = 8192
    queue_bytes_max: int = 64 << 20
    batches_in_flight: int = 2
    overlap_commands_min: int = 40
    gather_s: float = 0.003
    entry_frames_bytes_max: int = 48 << 20
    checkpoint_soft_bytes: int = 12 << 20
    checkpoint_hard_bytes: int = 48 << 20
    checkpoint_entries: int = 10_000
    catch_up_entries: int = 5_000
    catch_up_bytes: int = 64 << 20
    reader_threads: int = 2
    reader_age_max_s: float = 5.0
    snapshot_chunk_bytes: int = 1 << 20
    snapshot_call_timeout_s: float = 15.0
    apply_batch_entries_max: int = 256
    learners_max: int = 1
    page_size: int = 4096

    @property
    def election_timeout_s(self) -> float:
        """The shortest time after which a follower campaigns."""
        return self.tick_interval_s * self.election_ticks

    @property
    def request_timeout_s(self) -> float:
        """How long a request may wait for consensus; etcd's 5 s plus two election timeouts."""
        return 5.0 + 2 * self.election_timeout_s
