"""Breakages of the pipeline: executing, proposing, applying, answering."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final = (
    Mutant(
        name="executes-before-own-no-op-is-applied",
        file="node/leadership.py",
        old="not self._term and self._applied.index >= raw.term_start_index:\n"
        "            self._term = raw.term\n"
        "            self._start_index = raw.term_start_index\n",
        new="not self._term:\n            self._term = raw.term\n"
        "            self._start_index = self._applied.index\n",
        slip="a leader leads from the moment it is elected",
        breaks="rule 1: nothing executes until the no-op of the own term is applied",
        chosen_from="design",
        likely=(
            "node/test_node_rules_leading.py::test_a_leader_executes_nothing_before_its_own_no_op_is_applied",
        ),
    ),
    Mutant(
        name="speculation-not-rolled-back",
        file="node/leadership.py",
        old="            speculative = pipeline.stop() or discard or bool(hosted.speculation)\n",
        new="            speculative = pipeline.stop() and discard\n",
        slip="what was executed will surely be committed by the next leader",
        breaks="decision 2: losing leadership rolls back to the committed position",
        chosen_from="design",
        likely=(
            "node/test_node_rules_leading.py::test_what_an_isolated_leader_executed_is_rolled_back",
        ),
    ),
    Mutant(
        name="speculation-known-by-index-alone",
        file="node/hosted.py",
        old="        if head.index != index or head.term != term:\n",
        new="        if head.index != index:\n",
        slip="an index seems to name an entry",
        breaks="rule 1: injection is skipped only for the (term, index) executed here",
        chosen_from="design",
        likely=(
            "node/test_node_mutants.py::test_only_the_entry_of_this_very_term_and_index_needs_no_injection",
        ),
    ),
    Mutant(
        name="refused-proposal-left-in-the-wal",
        file="node/pipeline.py",
        old="the WAL: roll it back.\n            self._proposer.speculation_failed()\n",
        new="the WAL: roll it back.\n",
        slip="the requests were answered, so the case seems closed",
        breaks="rule 1: a refused proposal rolls back and steps down",
        chosen_from="design",
        likely=(
            "node/test_node_rules_leading.py::test_a_dropped_proposal_is_rolled_back_and_the_write_done_once_elsewhere",
        ),
    ),
    Mutant(
        name="proposed-in-whatever-term",
        file="node/parts.py",
        old="        if raw.role is not Role.LEADER or raw.term != term:\n",
        new="        if raw.role is not Role.LEADER:\n",
        slip="a leader may propose",
        breaks="rule 1: frames are proposed only in the term they were executed in",
        chosen_from="design",
        likely=(
            "node/test_node_rules_leading.py::test_a_proposal_stands_in_the_term_it_was_made_for",
        ),
    ),
    Mutant(
        name="frames-applied-on-any-prefix",
        file="node/hosted.py",
        old="        if entry.term != entry_term or entry.previous != previous:\n",
        new="        if entry.term != entry_term and entry.previous != previous:\n",
        slip="and for or",
        breaks="rule 1: a frame entry names its term and its predecessor, and both are checked",
        chosen_from="design",
        likely=(
            "node/test_node_rules_leading.py::test_members_stop_rather_than_apply_frames_of_another_prefix",
        ),
    ),
    Mutant(
        name="sql-before-replay-is-done",
        file="node/state.py",
        old="        if self.replayed or self._applied.index < self._replay_target:\n",
        new="        if self.replayed:\n",
        slip="the file is there, so it can be opened",
        breaks="rule 2: no SQL before everything durably committed is in place",
        chosen_from="design",
        likely=(
            "node/test_node_rules_disk.py::test_replay_ends_at_the_durable_commit_index_and_sql_waits_for_it",
        ),
    ),
    Mutant(
        name="checkpoint-before-commit-is-durable",
        file="node/checkpoints.py",
        old="            await self._ports.make_commit_durable(sample.index)\n",
        new="",
        slip="a quorum has it, so it cannot be lost",
        breaks="rule 2: a commit index covering every frame is durable before the first page write",
        chosen_from="design",
        likely=(
            "node/test_node_rules_disk.py::test_a_commit_index_covering_its_frames_is_durable_before_a_checkpoint_writes",
        ),
    ),
    Mutant(
        name="starts-with-a-base-beyond-its-log",
        file="node/startup.py",
        old="    if commit < base:\n",
        new="    if commit < base - 1:\n",
        slip="off by one",
        breaks="rule 2: commit < base refuses to start",
        chosen_from="design",
        likely=("node/test_node_mutants.py::test_a_commit_index_one_below_the_base_is_refused",),
    ),
    Mutant(
        name="base-sampled-after-the-checkpoint",
        file="node/checkpoints.py",
        old="        base = BaseIndex(index=run.index, last_frames=run.last_frames)\n",
        new="        base = BaseIndex(\n            index=self._applied.index,"
        " last_frames=run.hosted.last_frames\n        )\n",
        slip="the newest figures are taken",
        breaks="rule 3: the base is sampled before the checkpoint",
        chosen_from="design",
        likely=(
            "node/test_node_rules_disk.py::test_the_base_is_that_of_the_checkpoints_beginning",
        ),
    ),
    Mutant(
        name="trims-after-an-incomplete-checkpoint",
        file="node/checkpoints.py",
        old="        return sample.index if complete else None\n",
        new="        return sample.index\n",
        slip="the checkpoint has run",
        breaks="the log is trimmed only after a complete checkpoint",
        chosen_from="design",
        likely=(
            "node/test_node_mutants.py::test_a_checkpoint_that_is_not_complete_moves_neither_base_nor_log",
        ),
    ),
    Mutant(
        name="checkpoint-without-closing-the-gate",
        file="node/pipeline.py",
        old="        if self._gates or not self._proposer.has_room():\n",
        new="        if not self._proposer.has_room():\n",
        slip="waiting until nothing is uncommitted is taken to be enough",
        breaks="rule 7: no batch is admitted until the checkpoint fixed its limit",
        chosen_from="design",
        likely=("node/test_node_rules_load.py", "node/test_node_rules_snapshots.py"),
    ),
    Mutant(
        name="segments-dropped-before-the-manifest",
        file="node/state.py",
        old="        await self.store_manifest(manifest)\n"
        "        result = await self._log_worker.run(lambda: self._storage.compact(manifest))\n",
        new="        result = await self._log_worker.run(lambda: self._storage.compact(manifest))\n"
        "        await self.store_manifest(manifest)\n",
        slip="two steps in the wrong order",
        breaks="rule 5: the manifest is durable before the log is trimmed",
        chosen_from="design",
        likely=(
            "node/test_node_rules_disk.py::test_file_base_and_manifest_are_durable_in_this_order_before_a_segment_goes",
        ),
    ),
    Mutant(
        name="log-restarted-before-the-manifest",
        file="node/install.py",
        old="            await self._ports.store_manifest(manifest)\n"
        "            await self._ports.restart_log(manifest)\n",
        new="            await self._ports.restart_log(manifest)\n"
        "            await self._ports.store_manifest(manifest)\n",
        slip="two steps in the wrong order",
        breaks="rule 6: one manifest rename switches; only then the old log goes",
        chosen_from="design",
        likely=(
            "node/test_node_rules_snapshots.py::test_a_power_cut_while_installing_leaves_the_old_or_the_new_state",
        ),
    ),
    Mutant(
        name="snapshot-acknowledged-before-the-manifest",
        file="node/driver.py",
        old="            await self._ports.install(message)\n",
        new="            self._respond([message])\n"
        "            await self._ports.install(message)\n",
        slip="the files are here, so the sender may know",
        breaks="rule 6: a snapshot is acknowledged only after the manifest is durable",
        chosen_from="design",
        likely=("node/test_node_mutants.py::test_a_slow_installation_is_not_acknowledged_ahead",),
    ),
    Mutant(
        name="failed-snapshot-acknowledged",
        file="node/driver.py",
        old="            self._ports.failed(error)\n            return\n"
        "        self._writing = False\n        if not",
        new="            self._scheduled = False\n        self._writing = False\n        if not",
        slip="an error in loading is swallowed (pysyncobj does so)",
        breaks="a snapshot that failed to load is never acknowledged",
        chosen_from="design",
        likely=(
            "node/test_node_mutants.py::test_a_snapshot_that_can_not_be_installed_is_never_acknowledged",
        ),
    ),
    Mutant(
        name="received-file-not-synced",
        file="node/snapshot_sink.py",
        old="            incoming.file.fdatasync()\n",
        new="",
        slip="the digest matched, so the file is right",
        breaks="rule 6: the new generation's files are durable before the switch",
        chosen_from="design",
        likely=(
            "node/test_node_rules_snapshots.py::test_a_power_cut_while_installing_leaves_the_old_or_the_new_state",
        ),
    ),
    Mutant(
        name="new-database-file-not-synced",
        file="node/databases.py",
        old="        file.pwrite(data, 0)\n        file.fdatasync()\n",
        new="        file.pwrite(data, 0)\n",
        slip="the creation is in the log, so it can be done again",
        breaks="rule 3: file, fdatasync, directory, and only then the base that makes it valid",
        chosen_from="design",
        likely=("node/test_node_mutants.py::test_a_new_database_survives_a_power_cut",),
    ),
    Mutant(
        name="snapshot-says-newer-frames-than-its-image",
        file="node/snapshot_source.py",
        old="        last_frames = hosted.base_frames\n",
        new="        last_frames = hosted.last_frames\n",
        slip="the newest figure is taken",
        breaks="rule 6: a snapshot stands at exactly one index",
        chosen_from="design",
        likely=(
            "node/test_node_mutants.py::test_frames_that_come_while_an_image_is_copied_are_not_in_it",
        ),
    ),
    Mutant(
        name="answers-before-commit",
        file="node/pipeline.py",
        old="        self._batches.append(ProposedBatch(term, index, number, answers))\n",
        new="        self._batches.append(ProposedBatch(term, index, number, answers))\n"
        "        for answer, value in answers:\n            settle(answer, value)\n",
        slip="it is executed and proposed, what can go wrong",
        breaks="decision 2: no answer leaves before Raft has committed what it rests on",
        chosen_from="design",
        likely=(
            "node/test_node_rules_leading.py::test_what_an_isolated_leader_executed_is_rolled_back",
        ),
    ),
    Mutant(
        name="unchanged-request-answered-at-once",
        file="node/pipeline.py",
        old="        self._proposer.after_read_round(confirmed)\n",
        new="        confirmed(None)\n",
        slip="nothing was written, so nothing need be waited for",
        breaks="rule 4: a request without effect completes a read round begun after it arrived",
        chosen_from="design",
        likely=(
            "node/test_node_rules_answers.py::test_an_unchanged_write_waits_for_a_round_begun_after_it_arrived",
        ),
    ),
    Mutant(
        name="unchanged-request-answered-on-speculation",
        file="node/pipeline.py",
        old="            elif error is None and rests_on is not None and not rests_on.committed:\n",
        new="            elif rests_on is not None and rests_on.committed and error is not None:\n",
        slip="the read round is taken to be enough",
        breaks="rule 4: an answer waits for the batches below the state it saw",
        chosen_from="design",
        likely=(
            "node/test_node_mutants.py::test_a_read_round_alone_does_not_answer_what_rests_on_an_uncommitted_batch",
        ),
    ),
    Mutant(
        name="lost-proposal-answered-as-refused",
        file="node/pipeline.py",
        old="                fail(answer, LeaderChanged())\n",
        new="                fail(answer, NotLeader())\n",
        slip="this member does not lead any more, so it says so",
        breaks="decision 9: unknown is not failed, and never repeated",
        chosen_from="design",
        likely=(
            "node/test_node_rules_leading.py::test_what_an_isolated_leader_executed_is_rolled_back",
        ),
    ),
    Mutant(
        name="gated-read-does-not-wait",
        file="node/hosted.py",
        old="            if rollbacks == self.rollback_count and await"
        " self._number_settled(seen[-1]):\n",
        new="            if rollbacks == self.rollback_count:\n",
        slip="no rollback happened, so what was seen looks good",
        breaks="rule 4: a gated read waits for the batch it saw",
        chosen_from="design",
        likely=(
            "node/test_node_rules_answers.py::test_a_gated_read_never_returns_what_is_rolled_back_later",
        ),
    ),
    Mutant(
        name="rolled-back-read-is-answered",
        file="node/hosted.py",
        old="                waiter.set_result(False)\n",
        new="                waiter.set_result(True)\n",
        slip="whoever waits is released",
        breaks="rule 4: a rollback fails the wait and the read runs again",
        chosen_from="design",
        likely=(
            "node/test_node_rules_answers.py::test_a_gated_read_never_returns_what_is_rolled_back_later",
        ),
    ),
    Mutant(
        name="batch-numbered-after-its-commit",
        file="node/pipeline.py",
        old="            outcome = hosted.db.execute_batch(\n"
        "                jobs, mark=machine.mark, restore=machine.restore,"
        " max_frames_bytes=frames_bytes_max\n            )\n",
        new="            hosted.batch_number -= 1\n"
        "            outcome = hosted.db.execute_batch(\n"
        "                jobs, mark=machine.mark, restore=machine.restore,"
        " max_frames_bytes=frames_bytes_max\n            )\n"
        "            hosted.batch_number += 1\n",
        slip="a batch gets its number when it is done",
        breaks="rule 4: the writer takes its number before COMMIT",
        chosen_from="design",
        likely=(
            "node/test_node_mutants.py::test_a_batch_has_its_number_before_readers_can_see_it",
        ),
    ),
    Mutant(
        name="late-reader-joins-a-round-under-way",
        file="node/read_index.py",
        old="        self._waiting.append((self._clock.now_s() + self._timeout_s, done))\n",
        new="        under_way = self._waiting if self._round is None else self._round.readers\n"
        "        under_way.append((self._clock.now_s() + self._timeout_s, done))\n",
        slip="one round for all saves messages",
        breaks="Raft 6.4: a round answers only for what arrived before it began",
        chosen_from="design",
        likely=(
            "node/test_node_mutants.py::test_a_read_waits_for_a_round_begun_after_it_came_and_until_that_is_applied",
        ),
    ),
    Mutant(
        name="read-does-not-wait-until-applied",
        file="node/read_index.py",
        old="        self._when_applied(index, applied)\n",
        new="        applied()\n",
        slip="the leader is confirmed, so the read may run",
        breaks="Raft 6.4: a read runs once the read index is applied here",
        chosen_from="design",
        likely=(
            "node/test_node_mutants.py::test_a_read_waits_for_a_round_begun_after_it_came_and_until_that_is_applied",
        ),
    ),
    Mutant(
        name="acknowledgement-overtakes-the-disk",
        file="node/driver.py",
        old="                    self._appends.append(message)\n",
        new="                    self._appends.append(message)\n"
        "                    for response in message.responses:\n"
        "                        if response.to != self._member_id:\n"
        "                            ports.send(response)\n",
        slip="responses are sent with the other messages",
        breaks="persist, then send",
        chosen_from="design",
        likely=(
            "node/test_node_mutants.py::test_nothing_is_committed_before_the_followers_disks_have_it",
        ),
    ),
    Mutant(
        name="vote-in-a-known-term-not-written",
        file="node/driver.py",
        old="        election = (hard_state.term, hard_state.vote) != (known.term, known.vote)\n",
        new="        election = hard_state.term != known.term\n",
        slip="a new vote comes with a new term",
        breaks="Raft 5.2: a vote is durable before it is answered",
        chosen_from="design",
        likely=(
            "node/test_node_mutants.py::test_a_vote_in_a_term_that_was_known_already_survives_a_power_cut",
        ),
    ),
)
