"""The pages of the documentation: linked, in the plan of the site, and read without fetching anything."""

import importlib.util
import logging
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")), *ROOT.glob("packages/*/README.md")]
FENCE = re.compile(r"^```.*?^```", re.M | re.S)
METHODS = "baselines|recontrast|realnet|uniad|inctrl|resad"


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    words = [
        re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower()) for heading in headings
    ]
    return {word.replace(" ", "-") for word in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_on_github(page: Path) -> None:
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = link.partition("#")
        if not link.startswith("http"):
            target = (page.parent / path).resolve() if path else page
            target = target / "README.md" if anchor and target.is_dir() else target
            if not target.exists() or (anchor and anchor not in anchors(target)):
                dead.append(link)
    assert dead == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `mkdocs build --strict` makes it: every page in the plan, no dead link or anchor."""
    config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path_factory.mktemp("site")))
    logger = logging.getLogger("mkdocs")
    level = logger.level
    try:
        build(config)
    finally:
        logger.setLevel(level)
        config.plugins.on_shutdown()
    return Path(config.site_dir)


def test_a_page_fetches_nothing_to_be_read(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    tags = re.compile(
        r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=[\"']?((?:https?:)?//[^\"'> ]+)"
    )
    assert {path.name: found for path in pages if (found := tags.findall(path.read_text("utf-8")))} == {}
    styles = [path.read_text("utf-8") for path in site.rglob("*.css")]
    assert [url for style in styles for url in re.findall(r"url\([\"']?(?:https?:)?//[^)]+", style)] == []


def test_pages_are_made_of_docstrings_and_scripts(site: Path) -> None:
    api = (site / "api.html").read_text("utf-8")
    assert {
        name for name in ("adcommon.load", "adcommon.metrics.aupro") if f'id="{name}"' not in api
    } == set()
    assert (
        "kept out of training to choose the decision threshold" in api
    )  # a recipe's field, from its docstring
    assert "# %%" in (site / "notebooks.html").read_text("utf-8")


def test_the_search_of_a_page_on_a_disk_has_its_index(site: Path) -> None:
    assert (site / "search/search_index.js").read_text("utf-8").startswith("var __index = ")
    assert "assets/iframe-worker.js" in (site / "index.html").read_text("utf-8")


@pytest.mark.parametrize("page", sorted((ROOT / "docs/methods").glob("*.md")), ids=lambda page: page.stem)
def test_the_names_beside_the_equations_exist(page: Path) -> None:
    names = re.findall(rf"`((?:{METHODS})(?:\.\w+)+)`", page.read_text(encoding="utf-8"))
    assert page.stem == "index" or len(names) >= 6
    for name in names:
        pkgutil.resolve_name(name)


def test_the_figures_of_the_methods_pages_were_measured() -> None:
    measured = (ROOT / "docs/results.md").read_text("utf-8")
    cited = {
        figure
        for page in (ROOT / "docs/methods").glob("*.md")
        for figure in re.findall(r"\d+\.\d\d(?: ± \d+\.\d\d)?(?=[ |])", page.read_text("utf-8"))
    }
    assert len(cited) > 15
    assert {figure for figure in cited if figure not in measured} == set()


def _script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figures_are_what_their_script_draws() -> None:
    script = _script(ROOT / "docs/figures/methods.py")
    drawn = {name: (ROOT / f"docs/figures/{name}.svg").read_text("utf-8") for name in script.FIGURES}
    assert {name for name, text in drawn.items() if text != script.draw(name)} == set()
