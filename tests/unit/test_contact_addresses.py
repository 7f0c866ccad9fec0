"""Addresses of a contact's pages hold the token, the filters and whether the id is shown, and nothing else."""

from urllib import parse

from msgspec import structs

from goalworker.console.contact_addresses import Addresses
from goalworker.console.contact_query import Filters
from goalworker.stores import contact_timeline

MASKED, REVEALED = Addresses("/console/contacts/t0ken"), Addresses("/console/contacts/t0ken", is_revealed=True)


def _query(address: str) -> dict[str, list[str]]:
    return parse.parse_qs(parse.urlsplit(address).query)


def test_without_filters_the_address_is_the_bare_one() -> None:
    assert MASKED.timeline(Filters()) == "/console/contacts/t0ken"


def test_filters_and_the_cursor_come_along() -> None:
    filters = Filters("w/1 & 2", (contact_timeline.HITS, contact_timeline.EXITS), "c0")
    assert _query(REVEALED.timeline(filters)) == {
        "workflow_id": ["w/1 & 2"],
        "kind": ["hits", "exits"],
        "cursor": ["c0"],
        "reveal": ["true"],
    }
    assert filters.are_set
    assert not structs.replace(filters, workflow_id=None, kinds=contact_timeline.KINDS, cursor=None).are_set


def test_a_link_shows_or_hides_the_id_whatever_this_page_does() -> None:
    assert _query(MASKED.timeline(Filters(), is_revealed=True)) == {"reveal": ["true"]}
    assert _query(REVEALED.timeline(Filters(), is_revealed=False)) == {}


def test_explanations_are_of_a_workflow_and_perhaps_of_one_enrollment() -> None:
    address = REVEALED.explanations("w 1", "e/1")
    assert parse.urlsplit(address).path == "/console/contacts/t0ken/explanations"
    assert _query(address) == {"workflow_id": ["w 1"], "enrollment_id": ["e/1"], "reveal": ["true"]}
