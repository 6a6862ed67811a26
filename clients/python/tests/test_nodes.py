"""Who is asked next."""

from __future__ import annotations

import pytest
from synap_client.rules.nodes import Nodes, node_url

A, B, C = "http://a:1", "http://b:1", "http://c:1"
NOW = 100.0


def order(nodes: Nodes, *, needs_master: bool) -> list[int]:
    asked: list[int] = []
    while (number := nodes.next(asked, NOW, needs_master=needs_master)) is not None:
        asked.append(number)
    return asked


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("http://A:15500/", "http://a:15500"),
        ("https://node", "https://node:443"),
        ("http://[::1]:15500", "http://[::1]:15500"),
    ],
)
def test_node_url_has_one_form(text: str, wanted: str) -> None:
    assert node_url(text) == wanted


@pytest.mark.parametrize("text", ["a:1", "ftp://a:1", "http://", "http://a:1/kv", "http://u@a:1"])
def test_node_url_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"http"):
        node_url(text)


def test_client_without_nodes_is_refused() -> None:
    with pytest.raises(ValueError, match="one node at least"):
        Nodes([])


def test_write_goes_to_the_known_master_first() -> None:
    nodes = Nodes([A, B, C])
    nodes.took_write(1)
    assert order(nodes, needs_master=True) == [1, 0, 2]


def test_reads_go_to_replicas_in_turn_and_to_the_master_last() -> None:
    nodes = Nodes([A, B, C])
    nodes.took_write(1)
    orders = [order(nodes, needs_master=False) for _ in range(3)]
    assert {tuple(each) for each in orders} == {(0, 2, 1), (2, 0, 1)}


def test_reads_go_to_the_master_first_where_that_is_wanted() -> None:
    nodes = Nodes([A, B, C], has_replicas_read=False)
    nodes.took_write(2)
    assert order(nodes, needs_master=False) == [2, 0, 1]


def test_node_that_is_silent_is_asked_last_until_its_time_is_over() -> None:
    nodes = Nodes([A, B])
    nodes.took_write(0)
    nodes.silent(0, NOW, waited_seconds=0)
    assert order(nodes, needs_master=True) == [1, 0]
    assert nodes.next([], NOW + 0.1, needs_master=True) == 0
    nodes.silent(0, NOW, waited_seconds=0)
    assert nodes.next([], NOW + 0.1, needs_master=True) == 1
    nodes.heard(0)
    assert nodes.next([], NOW, needs_master=True) == 0


def test_node_that_stood_still_is_asked_the_later_the_longer_it_was_waited_for() -> None:
    nodes = Nodes([A, B])
    nodes.took_write(0)
    nodes.silent(0, NOW, waited_seconds=3)
    assert nodes.next([], NOW + 11.9, needs_master=True) == 1
    assert nodes.next([], NOW + 12, needs_master=True) == 0
    nodes.silent(0, NOW, waited_seconds=60)
    assert nodes.next([], NOW + 30, needs_master=True) == 0


def test_told_master_is_asked_where_it_is_in_the_list() -> None:
    nodes = Nodes([A, B, C])
    nodes.refused_write(0, C + "/")
    assert nodes.next([0], NOW, needs_master=True) == 2


@pytest.mark.parametrize("told", ["http://evil:1", "", "null", A])
def test_told_master_that_is_no_other_of_the_list_counts_for_nothing(told: str) -> None:
    nodes = Nodes([A, B])
    nodes.refused_write(0, told)
    assert nodes.master is None


def test_master_that_refuses_is_none_any_more() -> None:
    nodes = Nodes([A, B, C])
    nodes.took_write(0)
    nodes.refused_write(1, C)
    assert nodes.master == 0
    nodes.refused_write(0, C)
    assert nodes.master == 2
