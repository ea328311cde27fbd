"""All breakages, in the order of the layers."""

from __future__ import annotations

from typing import Final

from tests.mutants import database, held_back, node, raft, services, storage
from tests.mutants.mutant import Mutant

CATALOGUE: Final[tuple[Mutant, ...]] = (
    *raft.MUTANTS,
    *storage.MUTANTS,
    *database.MUTANTS,
    *node.MUTANTS,
    *held_back.MUTANTS,
    *services.MUTANTS,
)
