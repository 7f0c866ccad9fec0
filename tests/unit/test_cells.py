"""Cells: buckets, their setting, and the tenants that a cell owns (contract section 10)."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalworker.domain import cells
from goalworker.domain.cells import ALL_BUCKETS, Cell, ForeignTenants, bucket_of, format_buckets, parse_buckets
from tests.unit.test_settings_refused import load, refusal

BUCKET_SETS = st.frozensets(st.integers(0, 1023), min_size=1, max_size=40)
TENANTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)


def test_the_bucket_of_a_tenant_is_the_checksum_of_its_utf_8() -> None:
    assert [bucket_of(tenant_id) for tenant_id in ("north", "größe", "a" * 255)] == [
        zlib.crc32(text) % 1024 for text in (b"north", "größe".encode(), b"a" * 255)
    ]
    assert bucket_of("123456789") == 0xCBF43926 % 1024  # the check value of CRC-32


@given(BUCKET_SETS)
def test_buckets_are_read_as_they_are_written(buckets: frozenset[int]) -> None:
    assert parse_buckets(format_buckets(buckets)) == buckets


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("0-1023", "0-1023"),
        ("7", "7"),
        (" 0-2, 4 ,6-7", "0-2,4,6-7"),
        ("3,1,2", "1-3"),
        ("5-5", "5"),
        ("0007", "7"),
        ("none", "none"),
    ],
)
def test_ranges_and_single_buckets_may_be_mixed(text: str, written: str) -> None:
    assert format_buckets(parse_buckets(text)) == written


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("all", "it should be buckets and ranges of them, such as 0-511,700, and 'all' is neither"),
        ("0-511,", "it should be buckets and ranges of them, such as 0-511,700, and '' is neither"),
        ("-1", "it should be buckets and ranges of them, such as 0-511,700, and '-1' is neither"),
        ("\u0667", "it should be buckets and ranges of them, such as 0-511,700, and '\u0667' is neither"),
        ("0-1024", "it should name buckets from 0 to 1023, and 0-1024 goes beyond"),
        ("1024", "it should name buckets from 0 to 1023, and 1024 goes beyond"),
        ("511-0", "it should name the lower bucket of a range first: 0-511, not 511-0"),
        ("0-9,7-12", "it should name each bucket once, and names 7-9 twice"),
    ],
)
def test_wrong_buckets_are_refused_with_what_would_be_right(text: str, reason: str) -> None:
    name = "GOALWORKER_CELL__BUCKETS"
    assert refusal({"CELL__BUCKETS": text}) == f"{name}={text!r} in the environment: {reason}; for example {name}=0-511"


def test_an_installation_owns_every_tenant_unless_told_otherwise() -> None:
    assert load().cell.buckets == ALL_BUCKETS
    assert Cell(load().cell.buckets).owns_all
    assert not Cell(load({"CELL__BUCKETS": "0-1022"}).cell.buckets).owns_all


@given(BUCKET_SETS, TENANTS)
def test_of_two_cells_that_share_the_buckets_one_owns_each_tenant(buckets: frozenset[int], tenant_id: str) -> None:
    both = [Cell(buckets), Cell(ALL_BUCKETS - buckets)]
    assert [cell.owns(tenant_id) for cell in both].count(True) == 1
    assert [cell.owns_unknown for cell in both].count(True) == 1


def test_a_tenant_that_was_moved_belongs_where_it_was_moved_to() -> None:
    source, target = Cell(moved={"north": False}), Cell(frozenset({0}), {"north": True})
    assert (source.owns("north"), target.owns("north")) == (False, True)
    assert not source.owns_all
    assert Cell(moved={"north": True}).owns_all


def test_a_flood_of_tenants_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "REMEMBERED_MAX", 3)
    cell = Cell(frozenset(range(512)))
    foreign = ForeignTenants(cell)
    for number in range(10):
        assert foreign[f"t-{number}"] == (not cell.owns(f"t-{number}"))
        assert len(foreign) <= 3
