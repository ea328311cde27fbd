from __future__ import annotations

from dqlite_py.cluster.admission import Admit, Refuse, Resume, decide
from dqlite_py.cluster.join import JoinRequest
from dqlite_py.node.contract import Member

URLS = ("http://a:1", "http://b:1")
REQUEST = JoinRequest("n2", URLS, ("http://a:2",))


def member(
    name: str = "n2", peer_urls: tuple[str, ...] = URLS, client_urls: tuple[str, ...] = ()
) -> Member:
    return Member(5, name, peer_urls, client_urls, is_learner=True)


def test_a_stranger_is_admitted() -> None:
    assert decide([], REQUEST) == Admit()
    assert decide([member("n1", ("http://c:1",), ("http://c:2",))], REQUEST) == Admit()


def test_a_joiner_that_crashed_before_it_stored_its_id_gets_it_again() -> None:
    assert decide([member()], REQUEST) == Resume(member())
    reversed_urls = member(peer_urls=URLS[::-1])
    assert decide([reversed_urls], REQUEST) == Resume(reversed_urls)


def test_a_member_added_by_its_address_is_claimed_by_the_first_who_comes() -> None:
    unnamed = member(name="")
    assert decide([unnamed], REQUEST) == Resume(unnamed)


def test_a_member_that_has_run_must_not_come_back_without_its_data() -> None:
    decision = decide([member(client_urls=("http://a:2",))], REQUEST)
    assert isinstance(decision, Refuse)
    assert "member remove 5" in decision.reason


def test_a_name_in_use_is_refused() -> None:
    decision = decide([member(peer_urls=("http://c:1",))], REQUEST)
    assert isinstance(decision, Refuse)
    assert "duplicate node name" in decision.reason


def test_an_address_in_use_is_refused() -> None:
    for other in (member("n1"), member("n1", URLS[1:]), member("", URLS[:1])):
        decision = decide([other], REQUEST)
        assert isinstance(decision, Refuse), other
        assert "belongs to member 5" in decision.reason
