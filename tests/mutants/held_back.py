"""Breakages of what a replica holds back for a while: news, batches, crowds of commands."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final = (
    Mutant(
        name="snapshot-waits-for-a-batch-that-waits-for-it",
        file="node/parts.py",
        old="                if self.snapshots.wanted and not drained.done():\n",
        new="                if False:\n",
        slip="whatever was proposed is taken to be committed in a moment",
        breaks="node 10: a batch never keeps a snapshot waiting that its own commitment waits for",
        chosen_from="code",
        likely=(
            "node/test_node_rules_snapshots.py::test_a_snapshot_is_made_although_a_write_waits_for_its_receiver",
            "node/test_losses_of_pysyncobj.py::test_p11_a_snapshot_that_fails_is_no_acknowledgement_of_an_old_tail",
        ),
    ),
    Mutant(
        name="slow-batch-taken-back-for-nobody",
        file="node/parts.py",
        old="                if self.snapshots.wanted and not drained.done():\n",
        new="                if not drained.done():\n",
        slip="what takes so long is taken to be stuck",
        breaks="a batch is taken back only if a member waits for a snapshot",
        chosen_from="design",
        likely=(
            "node/test_node_rules_snapshots.py::test_a_slow_write_is_not_taken_back_while_no_snapshot_is_wanted",
        ),
    ),
    Mutant(
        name="removal-told-before-it-is-durable",
        file="node/driver.py",
        old="        if self._removals and message.commit >= self._removals[0]:\n",
        new="        if False:\n",
        slip="a quorum has it, so everybody may know",
        breaks="node 9: nobody hears of a removal before it is durable with the leader",
        chosen_from="code",
        likely=(
            "simulation/test_simulation_findings.py::test_who_is_removed_hears_when_the_leader_has_it_durably",
        ),
    ),
    Mutant(
        name="removal-never-told-again",
        file="node/driver.py",
        old="        for message in untold.values():\n            self._send(message)\n",
        new="",
        slip="the next heartbeat says it anyway, but who is removed gets none",
        breaks="node 9: who is removed hears of it once it is durable with the leader",
        chosen_from="code",
        likely=(
            "simulation/test_simulation_findings.py::test_who_is_removed_hears_when_the_leader_has_it_durably",
        ),
    ),
    Mutant(
        name="removals-forgotten-at-a-start",
        file="node/driver.py",
        old="        self._removals = _removals_in_log(storage, self.durable_commit)\n",
        new="        self._removals: list[int] = []\n",
        slip="a list begins empty",
        breaks="node 9: nobody hears of a removal before it is durable with the leader",
        chosen_from="design",
        likely=(
            "simulation/test_simulation_findings.py::test_who_is_removed_hears_when_the_leader_has_it_durably",
        ),
    ),
    Mutant(
        name="replaced-removal-held-back-for-ever",
        file="node/driver.py",
        old="            self._removals.pop()  # replaced\n",
        new="            break\n",
        slip="a log is taken to grow only",
        breaks="Raft 5.3: an entry that was replaced has no effect",
        chosen_from="design",
        likely=(
            "simulation/test_simulation_findings.py::test_a_removal_that_was_replaced_holds_nothing_back",
        ),
    ),
    Mutant(
        name="crowd-waited-for-again-and-again",
        file="node/gathering.py",
        old="        self._over = True\n        self._pump()\n",
        new="        self._pump()\n",
        slip="whoever is asked again decides as before",
        breaks="commands wait for others for one short moment, however few come",
        chosen_from="design",
        likely=("node/test_node_gathering.py",),
    ),
    Mutant(
        name="crowd-that-went-is-waited-for-till-someone-comes",
        file="node/gathering.py",
        old="        self._over = True\n        self._pump()\n",
        new="        self._over = True\n",
        slip="the next command will start the batch",
        breaks="commands wait for others for one short moment, whether anybody comes or not",
        chosen_from="design",
        likely=("node/test_node_gathering.py",),
    ),
)
