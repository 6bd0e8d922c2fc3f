"""What every test folder shares: one thread per worker, no network, and where the golden files are."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import hypothesis
import pytest

# Every run sees the same examples; HYPOTHESIS_PROFILE=search looks for new ones that fail.
hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.register_profile("search", max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-root",
        type=Path,
        default=None,
        help="folder with one folder of golden files per method (default: the package's own tests/golden)",
    )


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """A test that draws from torch's global generator draws the same in every run."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("AD_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def golden_root(request: pytest.FixtureRequest) -> Path:
    """Folder that holds one folder of golden files per method."""
    given = request.config.getoption("--golden-root")
    tests = next(folder for folder in Path(request.path).parents if folder.name == "tests")
    return Path(given) if given else tests / "golden"
