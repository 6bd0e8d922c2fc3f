"""What stands around the code: the commands of CI, licences, citation, forms for issues."""

import re
import runpy
import shlex
import shutil
import subprocess
from email.message import Message
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
CITED = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
LICENCES = runpy.run_path(str(ROOT / "scripts/licences.py"))


def steps() -> list[str]:
    """Every command of every job."""
    return [step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step]


def test_every_command_of_ci_exists() -> None:
    assert len(steps()) > 8
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.M))
    for command in steps():
        program, *words = shlex.split(command)
        assert program in ("make", "uv")
        if program == "make":
            assert set(words) <= targets
        else:
            assert words[0] in ("run", "sync")
        if words[:1] == ["run"]:
            assert shutil.which(words[1]), command
            files = [word.lstrip("@") for word in words[2:] if "/" in word]
            assert [name for name in files if not (ROOT / name).exists()] == []


def test_ci_and_metadata_name_the_same_versions_of_python() -> None:
    versions = WORKFLOW["jobs"]["check"]["strategy"]["matrix"]["python"]
    for project in ROOT.glob("packages/*/pyproject.toml"):
        text = project.read_text("utf-8")
        assert re.findall(r"Python :: (3\.\d+)", text) == versions
        last = int(versions[-1].split(".")[1])
        assert f'requires-python = ">={versions[0]},<3.{last + 1}"' in text


def test_quick_tests_exist_and_only_one_list_names_them() -> None:
    names = [line for line in (ROOT / "tests/quick.txt").read_text("utf-8").splitlines() if "/" in line]
    assert [name for name in names if not (ROOT / name).exists()] == []
    assert "tests/test_house.py" in names
    assert MAKEFILE.count("@tests/quick.txt") == 1


def test_every_licence_is_known_and_a_new_one_is_not() -> None:
    rows = LICENCES["table"](distributions())
    assert "torch" in {name.split()[0] for name in rows}
    assert {name for name, said in rows.items() if said is None} == set()
    for said in ("GPL-3.0-only", "MIT AND GPL-3.0-only", "Our terms", ""):
        metadata = Message()
        metadata["Name"], metadata["License-Expression"] = "new-package", said
        assert LICENCES["licence"](metadata) is None


def test_there_is_one_version() -> None:
    files = [ROOT / "pyproject.toml", *ROOT.glob("packages/*/pyproject.toml")]
    files += ROOT.glob("packages/*/src/*/__init__.py")
    pattern = re.compile(r'^(?:__)?version(?:__)? = "(.+)"$', re.M)
    assert {version for file in files for version in pattern.findall(file.read_text("utf-8"))} == {
        CITED["version"]
    }


def test_the_papers_are_cited_as_their_packages_do() -> None:
    assert len(CITED["references"]) == 5
    texts = [page.read_text("utf-8") for page in ROOT.glob("packages/*/README.md")]
    for reference in CITED["references"]:
        (text,) = [text for text in texts if reference["url"] in text]
        assert reference["title"] in text
        assert [a for a in reference["authors"] if a["family-names"] not in text] == []


def test_commits_that_contributors_are_sent_to_exist() -> None:
    if (ROOT / ".git/shallow").exists():
        pytest.skip("the clone is shallow")
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    shown = re.findall(r"`git show (\w+)[^`]*` \(\*(.+?)\*\)", text)
    assert len(shown) == 4
    for commit, subject in shown:
        git = ["git", "log", "-1", "--format=%s", commit]
        done = subprocess.run(git, cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.strip() == subject


@pytest.mark.parametrize(
    "form", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/*.yml")), ids=lambda path: path.stem
)
def test_forms_are_those_of_github(form: Path) -> None:
    content = yaml.safe_load(form.read_text("utf-8"))
    assert content.keys() >= {"name", "description", "body"}
    fields = [field for field in content["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)
