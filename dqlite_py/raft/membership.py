"""Putting a committed membership change, or a restored one, into effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dqlite_py.raft.changes import ConfChangeV2
from dqlite_py.raft.confchange import Changer, Configuration, ProgressMap
from dqlite_py.raft.errors import InvalidConfChange, ProposalDropped
from dqlite_py.raft.messages import ConfState, Entry, EntryKind, Message, MessageKind, Role
from dqlite_py.raft.replication import broadcast_append, try_commit, try_send_append
from dqlite_py.raft.trace import ConfigurationSwitched, LeavingJoint, LeavingJointDelayed

if TYPE_CHECKING:
    from dqlite_py.raft.core import Raft


def _changer(raft: Raft, configuration: Configuration, progress: ProgressMap) -> Changer:
    config = raft.config
    return Changer(
        configuration,
        progress,
        raft.log.last_index(),
        config.max_inflight_messages,
        config.max_inflight_bytes,
    )


def apply_conf_change(raft: Raft, change: ConfChangeV2, index: int) -> ConfState:
    """Put a committed change into effect and return the configuration after it.

    A change before a snapshot that has been received concerns only what has been applied: the
    snapshot's later configuration is in effect already. Raises InvalidConfChange if the change
    does not fit.
    """
    if not 0 < index <= raft.restored_index:
        configuration, progress = _changed(raft, change)
        raft.applied_configuration = configuration
        return _switch(raft, configuration, progress)
    if raft.log.has_pending_snapshot():
        state = raft.applied_configuration.conf_state()
        start = _changer(raft, Configuration(), {}).restore(state)
        raft.applied_configuration, _ = _change(_changer(raft, *start), change)
    return raft.applied_configuration.conf_state()


def _changed(raft: Raft, change: ConfChangeV2) -> tuple[Configuration, ProgressMap]:
    return _change(_changer(raft, raft.configuration, raft.progress), change)


def _change(changer: Changer, change: ConfChangeV2) -> tuple[Configuration, ProgressMap]:
    if change.leaves_joint:
        return changer.leave_joint()
    if change.enters_joint:
        return changer.enter_joint(change.changes, auto_leave=change.auto_leave)
    return changer.simple(change.changes)


def objection(raft: Raft, change: ConfChangeV2) -> str:
    """Return why ``change`` must not be appended now, or an empty string.

    One change at a time may be unapplied (dissertation 4.1): otherwise two majorities that do not
    overlap could arise. So the present configuration is also the one that it will be applied to,
    and what does not fit now never will.
    """
    applied = raft.log.applied
    joint = raft.configuration.voters.is_joint
    if raft.pending_conf_index > applied:
        return (
            f"possible unapplied conf change at index {raft.pending_conf_index} "
            f"(applied to {applied})"
        )
    if joint and not change.leaves_joint:
        return "must transition out of joint config first"
    if not joint and change.leaves_joint:
        return "not in joint state; refusing empty conf change"
    try:
        _changed(raft, change)
    except InvalidConfChange as error:
        return str(error)
    return ""


def restore_configuration(raft: Raft, state: ConfState) -> None:
    """Use the configuration of a snapshot or of storage, forgetting all progress."""
    changer = _changer(raft, raft.configuration, raft.progress)
    _switch(raft, *changer.restore(state))


def _switch(raft: Raft, configuration: Configuration, progress: ProgressMap) -> ConfState:
    raft.configuration = configuration
    raft.progress = progress
    raft.peer_ids = tuple(sorted(progress.keys() - {raft.id}))
    if raft.trace is not None:
        raft.trace(ConfigurationSwitched(raft.id, str(configuration)))
    state = configuration.conf_state()
    own = progress.get(raft.id)
    raft.is_learner = own is not None and own.is_learner
    if raft.role is not Role.LEADER:
        return state
    if own is None or own.is_learner:
        # A leader that may no longer vote leads on until its last entries are out, unless asked
        # otherwise (dissertation 4.2.2); it does not count itself.
        if raft.config.step_down_on_removal:
            raft.become_follower(raft.term, 0)
        return state
    if try_commit(raft):
        broadcast_append(raft)
    else:
        for peer in raft.peer_ids:
            try_send_append(raft, peer, progress[peer], send_if_empty=False)
    if raft.lead_transferee and raft.lead_transferee not in configuration.voters.ids:
        raft.lead_transferee = 0
    return state


def leave_joint_if_due(raft: Raft) -> None:
    """As leader, propose to end an auto-leave joint configuration once it has been applied."""
    configuration = raft.configuration
    if (
        not configuration.auto_leave
        or raft.role is not Role.LEADER
        or raft.log.applied < raft.pending_conf_index
    ):
        return
    leave = Message(
        MessageKind.PROP, from_=raft.id, entries=(Entry(0, 0, EntryKind.CONF_CHANGE_V2),)
    )
    try:
        raft.step(leave)
    except ProposalDropped as dropped:
        if raft.trace is not None:
            raft.trace(LeavingJointDelayed(str(configuration), str(dropped)))
        return
    if raft.trace is not None:
        raft.trace(LeavingJoint(str(configuration)))
