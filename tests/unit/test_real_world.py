"""The table of what was tried with what lists exactly the tests' markers."""

from pathlib import Path

import pytest

from tests.kit import real_world

MARKED = """
pytestmark = pytest.mark.real_world("Go SDK 2", "an empty text")

@pytest.mark.real_world("kafkajs#1795", "64 KB become 1 GB")
@pytest.mark.real_world(source="a | b", case="both")
async def test_one(): ...

class TestAll:
    @pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.real_world("kafkajs#1795", "another"))])
    def test_two(self): ...
"""


def test_the_table_in_the_readme_is_up_to_date() -> None:
    text = real_world.README.read_text()
    assert real_world.placed(text, real_world.cases()) == text, real_world.REMEDY


def test_every_place_of_a_marker_is_found(tmp_path: Path) -> None:
    (tmp_path / "unit").mkdir()
    (tmp_path / "unit" / "test_it.py").write_text(MARKED)
    assert real_world.cases(tmp_path) == [
        ("a | b", "both", "unit/test_it.py::test_one"),
        ("Go SDK 2", "an empty text", "unit/test_it.py"),
        ("kafkajs#1795", "64 KB become 1 GB", "unit/test_it.py::test_one"),
        ("kafkajs#1795", "another", "unit/test_it.py::test_two"),
    ]


def test_the_table_goes_between_its_comments_and_nowhere_else() -> None:
    text = f"before\n{real_world.BEGIN}old\n{real_world.END}after\n"
    placed = real_world.placed(text, [real_world.Case("a | b", "c", "t.py::test")])
    table = "| tried with | case | test |\n| --- | --- | --- |\n| a \\| b | c | `t.py::test` |\n"
    assert placed == f"before\n{real_world.BEGIN}{table}{real_world.END}after\n"


@pytest.mark.parametrize(
    "arguments", ['"only a source"', 'SOURCE, "case"', '"", "case"', '"a", "b", "c"', '"a", "b\\n"']
)
def test_a_marker_without_two_literal_texts_is_refused_by_line(tmp_path: Path, arguments: str) -> None:
    (tmp_path / "test_it.py").write_text(f"\n@pytest.mark.real_world({arguments})\ndef test_one(): ...\n")
    with pytest.raises(SystemExit, match=r"test_it\.py:2: real_world takes two literal texts"):
        real_world.cases(tmp_path)
