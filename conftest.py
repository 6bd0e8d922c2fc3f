"""What every test folder shares: one thread per worker, no network, and where the golden files are."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

if sys.dont_write_bytecode:
    # Nothing beside the sources, then; but without any bytecode each process that a test starts compiles
    # torch and timm anew, which takes five of nine seconds.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parent / ".pytest_cache" / "bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix

import hypothesis
import pytest

if TYPE_CHECKING:
    import torch

    from adcommon.testing.golden import GoldenFile, GoldenFolder

# Every run sees the same examples; HYPOTHESIS_PROFILE=search looks for new ones that fail. How long an
# example may take is not asked: that depends on what else the machine does.
hypothesis.settings.register_profile("same", max_examples=40, derandomize=True, deadline=None)
hypothesis.settings.register_profile("search", max_examples=1000, deadline=None)
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


@pytest.fixture(autouse=True, scope="session")
def _no_wait_for_the_disk() -> Iterator[None]:
    """No test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """A test that draws from torch's global generator draws the same in every run."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> "Iterator[torch.device]":
    """Where a test computes: tensors and modules that it makes lie there; under `-m gpu` on the GPU.

    What it compares is read from there, and fp32 is fp32: TF32 would miss the tolerances.
    """
    import torch

    def on_host(read: Callable[..., Any]) -> Callable[..., Any]:
        return lambda tensor, *given, **named: read(tensor.detach().cpu(), *given, **named)

    if request.param == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        for name in ("numpy", "__array__"):
            monkeypatch.setattr(torch.Tensor, name, on_host(getattr(torch.Tensor, name)))
    with torch.device(request.param) as chosen:
        yield chosen


@pytest.fixture(autouse=True, scope="session")
def _not_the_users_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds what another has cached."""
    monkeypatch.setenv("AD_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def golden_root(request: pytest.FixtureRequest) -> Path:
    """Folder that holds one folder of golden files per method."""
    from adcommon.testing import golden

    return golden.golden_root(request.config, golden.tests_of(request.path))


@pytest.fixture(scope="module")
def golden_metrics(request: pytest.FixtureRequest) -> Path:
    """The golden files of all papers' metrics on the same maps, which the shared package keeps."""
    from adcommon.testing import golden

    shared = request.config.rootpath / "packages" / "adcommon" / "tests"
    return golden.golden_root(request.config, shared) / "metrics"


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest) -> "GoldenFolder":
    """The golden files of the package to which a test belongs."""
    from adcommon.testing import golden

    return golden.golden_folder(request.config, request.path)


@pytest.fixture
def file(request: pytest.FixtureRequest, folder: "GoldenFolder") -> "GoldenFile":
    """One golden file: `golden_cases` says which."""
    return folder.open(request.param)
