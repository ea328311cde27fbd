"""The page of rules says what the tests hold."""

from __future__ import annotations

from tests.http.rules_table import TABLE, rules, table

# Sections of RFC 9113 that put MUSTs to a server.
SECTIONS = {
    *("3.4", "4.1", "4.2", "4.3", "4.3.1", "5.1", "5.1.1", "5.1.2", "5.2.1", "5.4.1", "5.4.2"),
    *("5.5", "6.1", "6.2", "6.3", "6.4", "6.5", "6.5.2", "6.5.3", "6.6", "6.7", "6.8", "6.9"),
    *("6.9.1", "6.9.2", "6.9.3", "6.10", "7", "8.1", "8.1.1", "8.2", "8.2.1", "8.2.2", "8.2.3"),
    *("8.3", "8.3.1", "8.3.2", "8.5"),
}


def test_the_page_of_rules_is_current() -> None:
    assert TABLE.read_text() == table(), "run: python -m tests.http.rules_table"


def test_every_section_with_rules_for_servers_has_tests() -> None:
    held = {rule.number for rule in rules() if rule.document == "9113"}
    assert held >= SECTIONS


def test_no_test_stands_for_two_rules() -> None:
    names = [rule.test for rule in rules()]
    assert len(names) == len(set(names))
