"""What a member keeps on disk for Raft: log, hard state, manifest, identity."""
