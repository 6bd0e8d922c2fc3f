import re
from pathlib import Path

import pytest

from adcommon.results.tables import Table, aligned, in_markdown, markdown, page

TABLE = Table("standard protocol", [["category", "AUROC"], ["bottle", "99.10"], ["<b>", "5.00"]], ["A note."])


def test_a_terminal_gets_columns_that_line_up() -> None:
    assert aligned(TABLE).splitlines() == [
        "standard protocol",
        "category  AUROC",
        "--------  -----",
        "bottle    99.10",
        "<b>        5.00",
        "A note.",
    ]


def test_markdown_has_a_rule_below_the_header() -> None:
    lines = markdown(TABLE).splitlines()
    assert lines[0] == "**Standard protocol**"
    assert lines[2:4] == ["| category | AUROC |", "| --- | ---: |"]
    assert lines[-1] == "A note."


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("metal_nut", "metal_nut"),
        ("a|b", "a\\|b"),
        ("a\n| --- |", "a\\x0a\\| --- \\|"),
        ("`rm`", "\\`rm\\`"),
        ("_x_ a_", "\\_x\\_ a\\_"),
        ("**b**", "\\*\\*b\\*\\*"),
        ("[7, 9] [x](http://y)", "[7, 9] [x\\](http://y)"),
        ("<img src=x>&", "&lt;img src=x&gt;&amp;"),
        ("caf\udce9", "caf\\\\xe9"),
        ("93.79 ± 0.41", "93.79 ± 0.41"),
    ],
)
def test_no_name_breaks_markdown(name: str, shown: str) -> None:
    assert in_markdown(name).replace("\\\\x0a", "\\x0a") == shown
    lines = markdown(Table(name, [["category", name], [name, name]], [name])).splitlines()
    assert len(lines) == 7
    assert [re.sub(r"\\.", "", line).count("|") for line in lines[2:5]] == [3, 3, 3]


def test_a_terminal_gets_one_line_of_a_name() -> None:
    assert len(aligned(Table("a", [["b"], ["\x1b[2Jc\nd"]])).splitlines()) == 4


def test_the_page_has_the_numbers_and_links_every_page_of_pictures(tmp_path: Path) -> None:
    for place in ("bottle/maps", "metal nut/maps/a"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "index.html").touch()
    text = page("run <1>", [TABLE], tmp_path)
    assert "<h1>run &lt;1&gt;</h1>" in text
    assert '<th scope="row">bottle</th><td>99.10</td>' in text
    assert '<th scope="row">&lt;b&gt;</th>' in text
    assert "<p>A note.</p>" in text
    assert 'href="bottle/maps/index.html"' in text
    assert "What the columns mean" not in text
    (tmp_path / "more").mkdir()
    told = page("run", [Table("t", [["category", "AUPRO"], ["bottle", "1.00"]])], tmp_path / "more")
    assert re.search(
        r"<summary>What the columns mean</summary><dl>\n<dt>AUPRO</dt><dd>How much of each", told
    )
    assert 'href="metal%20nut/maps/a/index.html"' in text


def test_without_pictures_there_is_no_list_of_them(tmp_path: Path) -> None:
    assert "Pictures" not in page("run", [TABLE], tmp_path)
