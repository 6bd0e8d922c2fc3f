import subprocess
import sys
from dataclasses import replace

import pytest

import realnet
from adcommon.data import load_splits
from adcommon.errors import BadValue


def test_fit_trains_a_model_per_category_that_predicts(mvtec, tiny, tmp_path) -> None:
    data = load_splits("mvtec", mvtec, ("bottle", "cable"))
    recipe = replace(tiny, iterations=1)
    fitted = realnet.fit(recipe, data, out=tmp_path / "run", device="cpu", weights="random", cache=False)
    assert list(fitted.models) == ["bottle", "cable"]
    assert {row["category"] for row in fitted.rows} == {"bottle", "cable"}
    assert all((folder / "config.json").is_file() for folder in fitted.models.values())
    with pytest.raises(BadValue, match="there are models of bottle, cable"):
        assert fitted.model
    one = realnet.fit(recipe, data["bottle"], out=tmp_path / "one", device="cpu", weights="random")
    assert 0 <= one.model.predict(data["bottle"].test[0].image).score <= 1


def test_importing_the_package_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, realnet; assert realnet.Recipe().dataset == 'mvtec'; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'train_all'"):
        assert realnet.train_all
