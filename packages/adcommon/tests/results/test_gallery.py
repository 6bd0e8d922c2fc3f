import json
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from adcommon.results.gallery import ScoredImage, write_gallery


class Page(HTMLParser):
    """The title, and what each script holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.title = ""
        self.scripts: list[str] = []
        self.open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    def handle_data(self, data: str) -> None:
        if self.open == "title":
            self.title += data
        elif self.open == "script":
            self.scripts[-1] += data


def read(path: Path) -> tuple[Page, dict]:
    page = Page(path.read_text(encoding="utf-8"))
    return page, json.loads(page.scripts[0])


def test_the_page_holds_every_image_and_the_threshold(tmp_path: Path) -> None:
    images = [
        ScoredImage("good/1.png", 0.25, False, "good/1.png"),
        ScoredImage("hole/2.png", 4.5, True, "hole/2.png"),
        ScoredImage("new.png", -1.0, None, None),
    ]
    page, data = read(write_gallery(tmp_path / "maps", images, title="bottle", threshold=1.5))
    assert page.title == "bottle"
    assert len(page.scripts) == 3
    assert data["threshold"] == 1.5
    assert [image["score"] for image in data["images"]] == [0.25, 4.5, -1.0]
    assert [image.get("anomalous") for image in data["images"]] == [False, True, None]
    assert [image.get("picture") for image in data["images"]] == ["good/1.png", "hole/2.png", None]


@pytest.mark.parametrize(
    "name", ["</script><script>alert(1)</script>", "{{data}}", 'a "b" & #1?.png', "çé\\n"]
)
def test_no_name_of_a_file_can_break_the_page(tmp_path: Path, name: str) -> None:
    page, data = read(write_gallery(tmp_path, [ScoredImage(name, 1.0, None, f"{name}.png")], title=name))
    assert page.title == name
    assert len(page.scripts) == 3
    assert data["images"][0]["name"] == name
    assert unquote(data["images"][0]["picture"]) == f"{name}.png"
    assert not set('#?"<') & set(data["images"][0]["picture"])


def test_a_score_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_gallery(tmp_path, [ScoredImage("a", float("nan"), None, None)], title="a")
    assert not list(tmp_path.iterdir())


def test_nothing_on_the_page_comes_from_a_network(tmp_path: Path) -> None:
    text = write_gallery(tmp_path, [ScoredImage("a", 1.0, None, None)], title="a").read_text()
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_what_decisions_and_colours_mean_stands_on_the_page(tmp_path: Path) -> None:
    image = ScoredImage("a", 1.0, None, "a.png")
    worth, colours = "rate < 5 %", (0.5, None, 2.5)
    path = write_gallery(tmp_path, [image], title="a", whose="yours", worth=worth, colours=colours)
    _, data = read(path)
    assert (data["whose"], data["colours"]) == ("yours", [0.5, None, 2.5])
    assert ">rate &lt; 5 %</p>" in path.read_text()
