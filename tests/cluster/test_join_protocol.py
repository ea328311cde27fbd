from __future__ import annotations

from dataclasses import replace

import pytest

from dqlite_py.cluster.join import (
    JoinAnswer,
    JoinRequest,
    Nonces,
    PendingChallenges,
    Prover,
    check_shape,
    prover,
    unambiguous,
)
from dqlite_py.cluster.tokens import Token
from dqlite_py.errors import AuthenticationFailed
from dqlite_py.node.contract import Member

NONCES = Nonces(b"c" * 32, b"s" * 32)
REQUEST = JoinRequest("n2", ("http://127.0.0.1:2",), ("http://127.0.0.1:3",))
MEMBER = Member(7, "n1", ("http://127.0.0.1:1",), ("http://127.0.0.1:4",), False)
ANSWER = JoinAnswer(99, 8, (MEMBER,))
TOKEN = Token.parse("open-sesame")
PROOFS = prover(TOKEN, 99, 7)


def test_the_three_proofs_are_accepted_by_the_other_side() -> None:
    PROOFS.check_challenge(NONCES, PROOFS.challenge_proof(NONCES))
    PROOFS.check_redeem(NONCES, REQUEST, PROOFS.redeem_proof(NONCES, REQUEST))
    PROOFS.check_answer(NONCES, REQUEST, ANSWER, PROOFS.answer_proof(NONCES, REQUEST, ANSWER))


@pytest.mark.parametrize(
    "other",
    [
        prover(Token.parse("another-token"), 99, 7),
        prover(TOKEN, 98, 7),
        prover(TOKEN, 99, 6),
    ],
    ids=["token", "cluster", "member"],
)
def test_proofs_of_another_token_cluster_or_member_are_refused(other: Prover) -> None:
    with pytest.raises(AuthenticationFailed):
        PROOFS.check_challenge(NONCES, other.challenge_proof(NONCES))
    with pytest.raises(AuthenticationFailed):
        PROOFS.check_redeem(NONCES, REQUEST, other.redeem_proof(NONCES, REQUEST))
    with pytest.raises(AuthenticationFailed):
        PROOFS.check_answer(NONCES, REQUEST, ANSWER, other.answer_proof(NONCES, REQUEST, ANSWER))


def test_a_proof_can_not_be_reflected_or_passed_off_as_another() -> None:
    with pytest.raises(AuthenticationFailed):
        PROOFS.check_redeem(NONCES, REQUEST, PROOFS.challenge_proof(NONCES))
    with pytest.raises(AuthenticationFailed):
        PROOFS.check_challenge(NONCES, PROOFS.redeem_proof(NONCES, REQUEST))
    swapped = Nonces(NONCES.server, NONCES.client)
    with pytest.raises(AuthenticationFailed):
        PROOFS.check_challenge(swapped, PROOFS.challenge_proof(NONCES))


@pytest.mark.parametrize(
    "changed",
    [
        replace(REQUEST, name="n3"),
        replace(REQUEST, peer_urls=("http://evil:1",)),
        replace(REQUEST, client_urls=()),
        replace(REQUEST, peer_urls=REQUEST.peer_urls + REQUEST.client_urls, client_urls=()),
    ],
)
def test_no_field_of_the_request_can_be_changed_on_the_way(changed: JoinRequest) -> None:
    with pytest.raises(AuthenticationFailed):
        PROOFS.check_redeem(NONCES, changed, PROOFS.redeem_proof(NONCES, REQUEST))


@pytest.mark.parametrize(
    "changed",
    [
        replace(ANSWER, member_id=9),
        replace(ANSWER, members=()),
        replace(ANSWER, members=(replace(MEMBER, peer_urls=("http://evil:1",)),)),
        replace(ANSWER, members=(replace(MEMBER, is_learner=True),)),
        replace(ANSWER, refusal="no"),
        replace(ANSWER, retry=True),
        replace(ANSWER, cluster_id=98),
    ],
)
def test_no_field_of_the_answer_can_be_changed_on_the_way(changed: JoinAnswer) -> None:
    with pytest.raises(AuthenticationFailed):
        PROOFS.check_answer(NONCES, REQUEST, changed, PROOFS.answer_proof(NONCES, REQUEST, ANSWER))


def test_different_values_never_serialise_alike() -> None:
    values = [
        b"ab",
        "ab",
        ("a", "b"),
        ("ab",),
        (("a",), "b"),
        ("a", ("b",)),
        (),
        "",
        b"",
        0,
        ("", ()),
    ]
    assert len({unambiguous(value) for value in values}) == len(values)


def test_a_challenge_is_redeemed_once_and_in_time() -> None:
    pending = PendingChallenges(limit=2, ttl_s=10.0)
    pending.issue(NONCES, now_s=0.0)
    pending.redeem(NONCES, now_s=10.0)
    with pytest.raises(AuthenticationFailed):
        pending.redeem(NONCES, now_s=10.0)
    pending.issue(NONCES, now_s=20.0)
    with pytest.raises(AuthenticationFailed):
        pending.redeem(NONCES, now_s=30.1)


def test_a_flood_of_challenges_is_bounded_and_drops_the_oldest() -> None:
    pending = PendingChallenges(limit=2, ttl_s=10.0)
    flood = [Nonces(bytes([number]) * 32, b"s" * 32) for number in range(3)]
    for nonces in flood:
        pending.issue(nonces, now_s=0.0)
    with pytest.raises(AuthenticationFailed):
        pending.redeem(flood[0], now_s=0.0)
    pending.redeem(flood[1], now_s=0.0)
    pending.redeem(flood[2], now_s=0.0)


def test_short_nonces_are_refused() -> None:
    with pytest.raises(AuthenticationFailed):
        Nonces(b"", b"s" * 32)


@pytest.mark.parametrize(
    "bad",
    [
        replace(REQUEST, name=""),
        replace(REQUEST, name="a\nb"),
        replace(REQUEST, peer_urls=()),
        replace(REQUEST, client_urls=("http://a:1",) * 17),
    ],
)
def test_malformed_requests_are_named(bad: JoinRequest) -> None:
    assert check_shape(bad)
    assert not check_shape(REQUEST)
