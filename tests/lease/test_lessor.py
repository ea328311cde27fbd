"""The book of deadlines, on a clock that the test holds."""

from __future__ import annotations

import random

import pytest

from dqlite_py.lease import lessor as rules
from dqlite_py.lease.lessor import Lessor, Renewal

GRACE_S = 1.0


@pytest.fixture
def lessor() -> Lessor:
    """Leases 1 of 10 s and 2 of 20 s, granted at 100 s."""
    lessor = Lessor(grace_s=GRACE_S)
    lessor.promote([], 0.0)
    lessor.granted(1, 10, 100.0)
    lessor.granted(2, 20, 100.0)
    return lessor


def test_a_lease_is_due_at_its_deadline_and_not_before(lessor: Lessor) -> None:
    assert lessor.due(109.999, 10) == []
    assert lessor.due(110.0, 10) == [1]
    assert lessor.due(120.0, 10) == [2]


def test_it_is_handed_out_once(lessor: Lessor) -> None:
    assert lessor.due(110.0, 10) == [1]
    assert lessor.due(115.0, 10) == []
    assert lessor.is_queued(1)


def test_renewal_gives_the_full_ttl_from_now(lessor: Lessor) -> None:
    assert lessor.renew(1, 109.0) == 10
    assert lessor.remaining_s(1, 110.0) == (9.0, 10)
    assert lessor.due(118.9, 10) == []
    assert lessor.due(119.0, 10) == [1]


def test_an_expired_lease_is_not_renewed_even_before_its_revoke_is_queued(lessor: Lessor) -> None:
    assert lessor.renew(1, 110.0) is Renewal.EXPIRED
    assert lessor.due(110.0, 10) == [1]
    assert lessor.renew(1, 110.0) is Renewal.EXPIRED
    assert lessor.remaining_s(1, 110.0) == (0.0, 10)


def test_an_unknown_lease(lessor: Lessor) -> None:
    assert lessor.renew(9, 100.0) is Renewal.UNKNOWN
    assert lessor.remaining_s(9, 100.0) is None
    lessor.revoked(9)


def test_a_revoked_lease_is_forgotten(lessor: Lessor) -> None:
    lessor.revoked(1)
    assert lessor.renew(1, 101.0) is Renewal.UNKNOWN
    assert lessor.due(200.0, 10) == [2]


def test_a_failed_revoke_comes_again_later_and_stays_expired(lessor: Lessor) -> None:
    lessor.due(110.0, 10)
    lessor.revoke_failed(1, 111.0)
    assert lessor.renew(1, 111.0) is Renewal.EXPIRED
    assert lessor.due(111.0 + rules.RETRY_S - 0.1, 10) == []
    assert lessor.due(111.0 + rules.RETRY_S, 10) == [1]


def test_a_grant_told_twice_does_not_revive(lessor: Lessor) -> None:
    lessor.due(110.0, 10)
    lessor.granted(1, 10, 111.0)
    assert lessor.renew(1, 111.0) is Renewal.EXPIRED


def test_a_scan_is_bounded_and_the_oldest_go_first(lessor: Lessor) -> None:
    for lease in range(10, 20):
        lessor.granted(lease, 5 + lease, 100.0)
    assert lessor.due(200.0, 3) == [1, 10, 11]
    assert len(lessor.due(200.0, 100)) == 9


def test_promotion_gives_full_ttl_and_grace(lessor: Lessor) -> None:
    lessor.promote([(1, 10), (3, 30)], 1000.0)
    assert lessor.remaining_s(1, 1000.0) == (11.0, 10)
    assert lessor.remaining_s(3, 1000.0) == (31.0, 30)
    assert lessor.remaining_s(2, 1000.0) is None
    assert lessor.renew(1, 1000.0) == 10
    assert lessor.remaining_s(1, 1000.0) == (10.0, 10)


def test_demotion_forgets_all_deadlines(lessor: Lessor) -> None:
    lessor.demote()
    assert len(lessor) == 0
    assert lessor.due(1e9, 10) == []


def test_reconciling_keeps_known_deadlines(lessor: Lessor) -> None:
    lessor.reconcile([(2, 20), (3, 30)], 105.0)
    assert lessor.remaining_s(1, 105.0) is None
    assert lessor.remaining_s(2, 105.0) == (15.0, 20)
    assert lessor.remaining_s(3, 105.0) == (30.0, 30)


def test_after_promotion_expiry_is_spread(lessor: Lessor) -> None:
    count = 2 * rules.MOST_PER_SECOND + 10
    lessor.promote([(lease, 10) for lease in range(1, count + 1)], 0.0)
    assert [len(lessor.due(at, count)) for at in (10.9, 11.0, 12.0, 13.0)] == [
        0,
        rules.MOST_PER_SECOND,
        rules.MOST_PER_SECOND,
        10,
    ]


def test_revoked_leases_leave_no_memory_behind(lessor: Lessor) -> None:
    for lease in range(100, 2000):
        lessor.granted(lease, 9_000_000_000, 0.0)
        lessor.revoked(lease)
    assert len(lessor._heap) < 200
    assert lessor.due(120.0, 10) == [1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_no_lease_ends_early_or_is_forgotten(seed: int) -> None:
    rng = random.Random(seed)
    lessor = Lessor(grace_s=GRACE_S)
    lessor.promote([], 0.0)
    deadlines: dict[int, tuple[int, float]] = {}
    now_s = 0.0
    for step in range(400):
        now_s += rng.random()
        lease = rng.randrange(1, 30)
        match rng.randrange(4):
            case 0 if lease not in deadlines:
                ttl_s = rng.randrange(2, 20)
                lessor.granted(lease, ttl_s, now_s)
                deadlines[lease] = (ttl_s, now_s + ttl_s)
            case 1 if lease in deadlines:
                ttl_s, deadline_s = deadlines[lease]
                renewed = lessor.renew(lease, now_s)
                assert renewed == (ttl_s if now_s < deadline_s else Renewal.EXPIRED), step
                if now_s < deadline_s:
                    deadlines[lease] = (ttl_s, now_s + ttl_s)
            case 2:
                lessor.revoked(lease)
                deadlines.pop(lease, None)
            case _:
                expected = {lease for lease, (_, at) in deadlines.items() if at <= now_s}
                assert set(lessor.due(now_s, 100)) == expected, step
                for expired in expected:
                    lessor.revoked(expired)
                    del deadlines[expired]
