"""Render Raft values and trace events the way the transcripts print them."""

from __future__ import annotations

import json

from dqlite_py.raft import (
    LOCAL_APPEND_THREAD,
    LOCAL_APPLY_THREAD,
    ConfChange,
    ConfChangeKind,
    ConfChangeTransition,
    ConfState,
    Entry,
    EntryKind,
    Message,
    MessageKind,
    Ready,
    Role,
    Snapshot,
    decode_conf_change,
)
from dqlite_py.raft import trace as t
from dqlite_py.raft import trace_log as tl
from dqlite_py.raft.changes import as_v2

ROLE_NAMES = {
    Role.FOLLOWER: "StateFollower",
    Role.PRE_CANDIDATE: "StatePreCandidate",
    Role.CANDIDATE: "StateCandidate",
    Role.LEADER: "StateLeader",
}
_ROLE_WORDS = {
    Role.FOLLOWER: "follower",
    Role.PRE_CANDIDATE: "pre-candidate",
    Role.CANDIDATE: "candidate",
    Role.LEADER: "leader",
}
KIND_NAMES = {
    kind: "Msg" + "".join(word.capitalize() for word in kind.name.split("_"))
    for kind in MessageKind
}
_ENTRY_NAMES = {
    EntryKind.NORMAL: "EntryNormal",
    EntryKind.CONF_CHANGE: "EntryConfChange",
    EntryKind.CONF_CHANGE_V2: "EntryConfChangeV2",
}
_CHANGE_LETTERS = {
    ConfChangeKind.ADD_NODE: "v",
    ConfChangeKind.ADD_LEARNER_NODE: "l",
    ConfChangeKind.REMOVE_NODE: "r",
    ConfChangeKind.UPDATE_NODE: "u",
}
_CHANGE_NAMES = {
    ConfChangeKind.ADD_NODE: "ConfChangeAddNode",
    ConfChangeKind.ADD_LEARNER_NODE: "ConfChangeAddLearnerNode",
    ConfChangeKind.REMOVE_NODE: "ConfChangeRemoveNode",
    ConfChangeKind.UPDATE_NODE: "ConfChangeUpdateNode",
}
_TRANSITION_NAMES = {
    ConfChangeTransition.AUTO: "ConfChangeTransitionAuto",
    ConfChangeTransition.JOINT_IMPLICIT: "ConfChangeTransitionJointImplicit",
    ConfChangeTransition.JOINT_EXPLICIT: "ConfChangeTransitionJointExplicit",
}


def target(member: int) -> str:
    names = {LOCAL_APPEND_THREAD: "AppendThread", LOCAL_APPLY_THREAD: "ApplyThread"}
    return names.get(member, f"{member:x}")


def entry(e: Entry) -> str:
    head = f"{e.term}/{e.index} {_ENTRY_NAMES[e.kind]}"
    if e.kind == EntryKind.NORMAL:
        return f"{head} {json.dumps(e.data.decode())}"
    changes = as_v2(decode_conf_change(e)).changes
    return " ".join([head, *(f"{_CHANGE_LETTERS[c.kind]}{c.node_id}" for c in changes)])


def conf_state(state: ConfState) -> str:
    def ids(members: tuple[int, ...]) -> str:
        return f"[{' '.join(str(member) for member in members)}]"

    return (
        f"Voters:{ids(state.voters)} VotersOutgoing:{ids(state.voters_outgoing)} "
        f"Learners:{ids(state.learners)} LearnersNext:{ids(state.learners_next)} "
        f"AutoLeave:{str(state.auto_leave).lower()}"
    )


def snapshot(s: Snapshot) -> str:
    return f"Index:{s.index} Term:{s.term} ConfState:{conf_state(s.conf_state)}"


def message(m: Message, indent: str = "") -> str:
    text = (
        f"{indent}{target(m.from_)}->{target(m.to)} {KIND_NAMES[m.kind]} "
        f"Term:{m.term} Log:{m.log_term}/{m.index}"
    )
    if m.reject:
        text += f" Rejected (Hint: {m.reject_hint})"
    if m.commit:
        text += f" Commit:{m.commit}"
    if m.vote:
        text += f" Vote:{m.vote}"
    if len(m.entries) == 1:
        text += f" Entries:[{entry(m.entries[0])}]"
    elif m.entries:
        lines = "".join(f"\n{indent}  {entry(e)}" for e in m.entries)
        text += f" Entries:[{lines}\n{indent}]"
    if m.snapshot is not None:
        text += f"\n{indent}  Snapshot: {snapshot(m.snapshot)}"
    if m.responses:
        lines = "".join("\n" + message(r, indent + "  ") for r in m.responses)
        text += f" Responses:[{lines}\n{indent}]"
    return text


def ready(r: Ready) -> str:
    lines = []
    if r.soft_state is not None:
        lines.append(f"Lead:{r.soft_state.leader_id} State:{ROLE_NAMES[r.soft_state.role]}")
    if r.hard_state is not None:
        vote = f" Vote:{r.hard_state.vote}" if r.hard_state.vote else ""
        lines.append(f"HardState Term:{r.hard_state.term}{vote} Commit:{r.hard_state.commit}")
    if r.read_states:
        lines.append(f"ReadStates {[(s.index, s.context) for s in r.read_states]}")
    if r.entries:
        lines += ["Entries:", *map(entry, r.entries)]
    if r.snapshot is not None:
        lines.append(f"Snapshot {snapshot(r.snapshot)}")
    if r.committed_entries:
        lines += ["CommittedEntries:", *map(entry, r.committed_entries)]
    if r.messages:
        lines += ["Messages:", *map(message, r.messages)]
    if not lines:
        return "<empty Ready>"
    return "\n".join([f"Ready MustSync={str(r.must_sync).lower()}:", *lines])


def _at(term: int, index: int, vote: int | None = None) -> str:
    voted = "" if vote is None else f", vote: {vote:x}"
    return f"[logterm: {term}, index: {index}{voted}]"


def _change(change: object) -> str:
    general = change.as_v2() if isinstance(change, ConfChange) else change
    words = [f"transition:{_TRANSITION_NAMES[general.transition]}"]
    words += [
        f"changes:{{type:{_CHANGE_NAMES[step.kind]} node_id:{step.node_id}}}"
        for step in general.changes
    ]
    return " ".join(words)


def event(e: t.TraceEvent) -> tuple[str, str]:
    """Return the level and text of the log line for an event; an empty level is never shown."""
    found = _elections(e) or _membership(e) or _replication(e) or _snapshots(e) or _log(e)
    assert found is not None, f"no log line for {e}"
    return found


def _elections(e: t.TraceEvent) -> tuple[str, str] | None:
    match e:
        case t.RoleChanged():
            return "INFO", f"{e.node:x} became {_ROLE_WORDS[e.role]} at term {e.term}"
        case t.ElectionStarted():
            return "INFO", f"{e.node:x} is starting a new election at term {e.term}"
        case t.ElectionIgnored():
            return "DEBUG", f"{e.node:x} ignoring MsgHup because already leader"
        case t.CannotCampaign():
            return "WARN", f"{e.node:x} is unpromotable and can not campaign"
        case t.CampaignDelayed():
            return "WARN", (
                f"{e.node:x} cannot campaign at term {e.term} since there are still "
                "pending configuration changes to apply"
            )
        case t.VoteRequested():
            return "INFO", (
                f"{e.node:x} {_at(e.log_term, e.index)} sent {KIND_NAMES[e.kind]} request "
                f"to {e.to:x} at term {e.term}"
            )
        case t.VoteAnswered(request=m):
            verb = "cast" if e.granted else "rejected"
            word = "for" if e.granted else "from"
            return "INFO", (
                f"{e.node:x} {_at(e.log_term, e.index, e.vote)} {verb} {KIND_NAMES[m.kind]} "
                f"{word} {m.from_:x} {_at(m.log_term, m.index)} at term {e.term}"
            )
        case t.VoteIgnored(request=m):
            return "INFO", (
                f"{e.node:x} {_at(e.log_term, e.index, e.vote)} ignored {KIND_NAMES[m.kind]} "
                f"from {m.from_:x} {_at(m.log_term, m.index)} at term {e.term}: "
                f"lease is not expired (remaining ticks: {e.remaining_ticks})"
            )
        case t.VoteReceived():
            word = "" if e.granted else " rejection"
            name = KIND_NAMES[e.kind]
            return "INFO", f"{e.node:x} received {name}{word} from {e.voter:x} at term {e.term}"
        case t.VotesCounted():
            return "INFO", (
                f"{e.node:x} has received {e.granted} {KIND_NAMES[e.kind]} votes "
                f"and {e.rejected} vote rejections"
            )
        case _:
            return _terms(e)


def _terms(e: t.TraceEvent) -> tuple[str, str] | None:
    match e:
        case t.HigherTermReceived(message=m):
            return "INFO", (
                f"{e.node:x} [term: {e.term}] received a {KIND_NAMES[m.kind]} message "
                f"with higher term from {m.from_:x} [term: {m.term}]"
            )
        case t.LowerTermIgnored(message=m):
            name, head = KIND_NAMES[m.kind], f"{e.node:x} [term: {e.term}]"
            if m.kind == MessageKind.STORAGE_APPEND_RESP:
                return "INFO", (
                    f"{head} ignored entry appends from a {name} message "
                    f"with lower term [term: {m.term}]"
                )
            return "INFO", (
                f"{head} ignored a {name} message with lower term from {m.from_:x} [term: {m.term}]"
            )
        case t.QuorumLost():
            return "WARN", f"{e.node:x} stepped down to follower since quorum is not active"
        case t.TimeoutNowReceived(obeyed=True):
            return "INFO", (
                f"{e.node:x} [term {e.term}] received MsgTimeoutNow from {e.from_:x} "
                "and starts an election to get leadership."
            )
        case t.TimeoutNowReceived():
            return "DEBUG", f"{e.node:x} [term {e.term}] ignored MsgTimeoutNow from {e.from_:x}"
        case t.LeaderForgotten():
            return "INFO", f"{e.node:x} forgetting leader {e.leader:x} at term {e.term}"
        case t.ForgetLeaderRefused():
            return "ERROR", "ignoring MsgForgetLeader due to ReadOnlyLeaseBased"
        case _:
            return None


def _membership(e: t.TraceEvent) -> tuple[str, str] | None:
    match e:
        case t.MemberStarted():
            peers = ",".join(f"{peer:x}" for peer in e.peers)
            return "INFO", (
                f"newRaft {e.node:x} [peers: [{peers}], term: {e.term}, commit: {e.commit}, "
                f"applied: {e.applied}, lastindex: {e.last_index}, lastterm: {e.last_term}]"
            )
        case t.ConfigurationSwitched():
            return "INFO", f"{e.node:x} switched to configuration {e.configuration}"
        case t.LeavingJoint():
            return "INFO", (
                f"initiating automatic transition out of joint configuration {e.configuration}"
            )
        case t.LeavingJointDelayed():
            return "DEBUG", (
                "not initiating automatic transition out of joint configuration "
                f"{e.configuration}: {e.reason}"
            )
        case t.ConfChangeRefused():
            return "INFO", (
                f"{e.node:x} ignoring conf change {_change(e.change)} "
                f"at config {e.configuration}: {e.reason}"
            )
        case _:
            return None


def _replication(e: t.TraceEvent) -> tuple[str, str] | None:
    match e:
        case t.ProposalIgnored() | t.ReadIgnored():
            what = "proposal" if isinstance(e, t.ProposalIgnored) else "index reading msg"
            shown = e.reason.startswith(("no leader", "not forwarding"))
            return (
                "INFO" if shown else "",
                f"{e.node:x} {e.reason} at term {e.term}; dropping {what}",
            )
        case t.TransferStarted():
            return "INFO", (f"{e.node:x} [term {e.term}] starts to transfer leadership to {e.to:x}")
        case t.TransferIgnored():
            return "DEBUG", (f"{e.node:x} [term {e.term}] ignored transfer to {e.to:x}: {e.reason}")
        case t.TransferAborted():
            return "INFO", (
                f"{e.node:x} [term {e.term}] abort previous transferring leadership to {e.to:x}"
            )
        case t.TimeoutNowSent(at_once=True):
            return "INFO", (
                f"{e.node:x} sends MsgTimeoutNow to {e.to:x} immediately "
                f"as {e.to:x} already has up-to-date log"
            )
        case t.TimeoutNowSent():
            return "INFO", (f"{e.node:x} sent MsgTimeoutNow to {e.to:x} after received MsgAppResp")
        case tl.AppendRejected(message=m):
            return "DEBUG", (
                f"{e.node:x} {_at(e.log_term, m.index)} rejected MsgApp "
                f"{_at(m.log_term, m.index)} from {m.from_:x}"
            )
        case tl.RejectionReceived(message=m):
            return "DEBUG", (
                f"{e.node:x} received MsgAppResp(rejected, hint: (index {m.reject_hint}, "
                f"term {m.log_term})) from {m.from_:x} for index {m.index}"
            )
        case tl.ProgressDecreased():
            return "DEBUG", (f"{e.node:x} decreased progress of {e.follower:x} to [{e.progress}]")
        case tl.FollowerUnreachable():
            return "DEBUG", (
                f"{e.node:x} failed to send message to {e.follower:x} "
                f"because it is unreachable [{e.progress}]"
            )
        case _:
            return None


def _snapshots(e: t.TraceEvent) -> tuple[str, str] | None:
    match e:
        case tl.SnapshotNotSent():
            return "DEBUG", f"{e.node:x} sends no snapshot to {e.follower:x}: {e.reason}"
        case tl.SnapshotSent():
            return "DEBUG", (
                f"{e.node:x} [firstindex: {e.first_index}, commit: {e.commit}] sent "
                f"snapshot[index: {e.index}, term: {e.term}] to {e.follower:x} [{e.progress}]"
            )
        case tl.ReplicationPaused():
            return "DEBUG", (
                f"{e.node:x} paused sending replication messages to {e.follower:x} [{e.progress}]"
            )
        case tl.SnapshotCaughtUp():
            return "DEBUG", (
                f"{e.node:x} recovered from needing snapshot, resumed sending replication "
                f"messages to {e.follower:x} [{e.progress}]"
            )
        case tl.SnapshotReported():
            verb = "succeeded" if e.ok else "failed"
            return "DEBUG", (
                f"{e.node:x} snapshot {verb}, resumed sending replication messages "
                f"to {e.follower:x} [{e.progress}]"
            )
        case tl.SnapshotRestored() | tl.SnapshotFastForwarded():
            restored = isinstance(e, tl.SnapshotRestored)
            verb = "restored snapshot" if restored else "fast-forwarded commit to snapshot"
            return "INFO", (
                f"{e.node:x} [commit: {e.commit}, lastindex: {e.last_index}, "
                f"lastterm: {e.last_term}] {verb} [index: {e.index}, term: {e.term}]"
            )
        case tl.SnapshotAnswered():
            verb = "restored" if e.restored else "ignored"
            return "INFO", (
                f"{e.node:x} [commit: {e.commit}] {verb} snapshot "
                f"[index: {e.index}, term: {e.term}]"
            )
        case tl.SnapshotRefused():
            return "WARN", f"{e.node:x} attempted to restore snapshot but {e.reason}"
        case _:
            return None


def _log(e: t.TraceEvent) -> tuple[str, str] | None:
    match e:
        case tl.ConflictFound():
            return "INFO", (
                f"found conflict at index {e.index} [existing term: {e.existing_term}, "
                f"conflicting term: {e.new_term}]"
            )
        case tl.UnstableReplaced():
            return "INFO", f"replace the unstable entries from index {e.index}"
        case tl.UnstableTruncated():
            return "INFO", f"truncate the unstable entries before index {e.index}"
        case tl.StableIgnored(unstable_term=0):
            return "INFO", f"entry at index {e.index} missing from unstable log; ignoring"
        case tl.StableIgnored():
            return "INFO", (
                f"entry at (index,term)=({e.index},{e.term}) mismatched with entry at "
                f"({e.index},{e.unstable_term}) in unstable log; ignoring"
            )
        case tl.RestoreStarted():
            return "INFO", (
                f"log [committed={e.committed}, applied={e.applied}, applying={e.applying}, "
                f"unstable.offset={e.offset}, unstable.offsetInProgress={e.offset_in_progress}, "
                f"len(unstable.Entries)={e.unstable_entries}] starts to restore snapshot "
                f"[index: {e.index}, term: {e.term}]"
            )
        case _:
            return None
