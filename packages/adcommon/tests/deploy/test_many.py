"""Shards of millions of images: as `predict` says, written once, and no picture ends a prediction."""

import os
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

import adcommon.deploy.many.predict
from adcommon.cli.many import Many
from adcommon.data.preprocess import Preprocess
from adcommon.deploy.many.listing import count_shards, identity, read_shard, write_listing
from adcommon.deploy.many.pool import score_shards
from adcommon.deploy.many.predict import Counted, predict_many, summary
from adcommon.deploy.many.shards import MAPS, Worker, find_deadly, shard_file
from adcommon.deploy.model import Model
from adcommon.deploy.predict import predict
from adcommon.deploy.rows import file_digest
from adcommon.errors import BadValue, EmptySplit, OutputExists, UserError, WrongCheckpoint
from adcommon.testing.commands import read_table
from adcommon.testing.surroundings import run_with_ray
from adcommon.types.prediction import Prediction
from adcommon.types.threshold import calibrate


def brightness(pixels: np.ndarray) -> Prediction:
    maps = pixels.mean(axis=3, dtype=np.float32) / 255
    return Prediction(maps.mean(axis=(1, 2)), maps)


def load() -> tuple[Model, str]:
    preprocess = Preprocess(image_size=16, mean=(0.0,) * 3, std=(1.0,) * 3)
    known = calibrate([number / 100 for number in range(60)], 0.05)
    model = Model(brightness, preprocess, {"method": "brightness"}, known.decision, known)
    return model, "cpu"


def worker(out: Path, *, maps: bool = False) -> Worker:
    model = Path(__file__)  # stands for its file
    digest = file_digest(model)
    return Worker(load=load, model=model, model_digest=digest, out=out, batch_size=3, threads=2, maps=maps)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number in range(11):
        path = folder / f"lot{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20 + number, 20), 20 * number).save(path)
    (folder / "lot0" / "broken.png").write_bytes(b"\x89PNG")
    (folder / "lot0" / "notes.txt").touch()
    return folder


def test_shards_say_of_each_image_what_predict_says(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_listing(str(photos), out, 4)
    assert count_shards(out) == (3, 12)
    for number in range(3):
        assert worker(out, maps=True).score(number) == 4
    predict(load()[0], photos, tmp_path / "one", batch_size=3)
    expected = read_table(tmp_path / "one" / "predictions.csv")
    rows = pa.concat_tables(pq.read_table(shard_file(out, number)) for number in range(3)).to_pylist()
    assert {row.pop("model_digest") for row in rows} == {file_digest(Path(__file__))}
    assert [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in rows
    ] == expected
    assert {row["decision"] for row in rows} == {"normal", "anomalous", "unknown"}
    (first, *_) = pq.read_table(shard_file(out, 0, MAPS)).to_pylist()
    shown = np.array(first["map"]).reshape(first["height"], first["width"])
    assert first["path"] == rows[0]["path"]
    assert shown.mean() == pytest.approx(rows[0]["score"], abs=1e-6)


def test_an_image_that_ends_the_process_is_found(photos: Path) -> None:
    images = [photos / "lot0" / "0.png", partial(os._exit, 9), photos / "lot0" / "broken.png"]
    assert find_deadly(images, load()[0].preprocess) == [1]


def test_images_of_a_store_and_of_a_table(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fsspec.filesystem("memory")
    for name in ("b/2.png", "b/1.jpg", "b/.hidden.png", "b/notes.txt"):
        store.pipe(f"/shop/{name}", (photos / "lot0" / "2.png").read_bytes())
    out = tmp_path / "out"
    write_listing("memory:///shop", out, 5)
    assert [image.path for image in read_shard(out, 0)] == [
        "memory:///shop/b/1.jpg",
        "memory:///shop/b/2.png",
    ]

    table = tmp_path / "list.parquet"
    listed = ["memory:///shop/b/1.jpg", "photos/lot0/2.png", "memory:///shop/b/gone.png"]
    pq.write_table(pa.table({"path": listed}), table)
    write_listing(str(table), out, 5)
    assert worker(out).score(0) == 3
    one, same, gone = pq.read_table(shard_file(out, 0)).to_pylist()
    assert (one["score"], one["path"]) == (same["score"], listed[0])
    assert same["path"] == str(photos / "lot0" / "2.png")
    assert (gone["score"], gone["error"]) == (None, f"cannot read the image {listed[2]}: FileNotFoundError")

    for number in range(2):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as archive:
            archive.add(photos / "lot0", f"part{number}")
    write_listing(f"{tmp_path}/*.tar", out, 20)
    assert worker(out).score(0) == 14
    packed = pq.read_table(shard_file(out, 0)).to_pylist()
    (found,) = [row for row in packed if row["path"] == f"file://{tmp_path}/1.tar::part1/2.png"]
    assert found["score"] == one["score"]
    assert [row["path"].rpartition("/")[2] for row in packed if row["error"]] == ["broken.png"] * 2

    write_listing(str(table), out, 5)
    before = identity(str(table))
    pq.write_table(pa.table({"path": listed[:1]}), table)
    assert identity(str(table)) != before
    write_listing(str(table), out, 5)

    def busy(*_: object) -> bytes:
        raise OSError("slow down")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", busy)
    with pytest.raises(WrongCheckpoint, match="not the model any more"):
        replace(worker(out), model_digest="of another").score(0)
    with pytest.raises(RuntimeError, match=f"cannot fetch {listed[0]}: slow down"):
        worker(out).score(0)  # the store's fault is no image's


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("nowhere://bucket/photos", "cannot list nowhere://bucket/photos: ValueError: Protocol not known"),
        ("memory://empty", "no images in memory://empty"),
        ("{photos}/none", "no image or folder at"),
        ("{photos}/none.parquet", "cannot list .*none.parquet: FileNotFoundError"),
        ("{photos}/names.parquet", "names.parquet has the columns name; expected path"),
    ],
)
def test_what_cannot_be_listed_is_said(images: str, message: str, photos: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"name": ["a.png"]}), photos / "names.parquet")
    with pytest.raises((BadValue, EmptySplit), match=message):
        write_listing(images.format(photos=photos), tmp_path / "out", 5)
    assert not list(tmp_path.glob("out/*"))


def test_flags_of_a_cluster_need_one() -> None:
    with pytest.raises(BadValue, match="--shard-size is for --engine ray"):
        Many(shard_size=10)
    with pytest.raises(BadValue, match="--save-maps means nothing to --engine ray"):
        Many(engine="ray").refuse(None, gpu=None, save_maps="npy")


def test_a_prediction_goes_on_with_the_shards_that_it_was_begun_with(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, done = tmp_path / "out", []

    def score_some(worker: Worker, numbers: Sequence[int], *, stop: Callable[[], bool], **_: object) -> dict:
        """As the cluster would: one shard, and the others if nobody stops it."""
        for number in numbers[: 1 if stop() else None]:
            worker.score(number)
            done.append(number)
        return {}

    def run(images: Path = photos, *, shard: int = 5, stopped: bool = False, **flags: bool) -> Counted:
        return predict_many(
            worker(out),
            str(images),
            shard=shard,
            cpus=1,
            gpus=0.0,
            retries=0,
            made_with={"model_digest": "d1"},
            stop=lambda: stopped,
            **{"resume": False, "force": False, **flags},
        )

    monkeypatch.setattr(adcommon.deploy.many.predict, "score_shards", score_some)
    monkeypatch.setattr(adcommon.deploy.many.predict, "refuse_without_room", lambda *_: None)
    with pytest.raises(BadValue, match="no image or folder at"):
        run(images=photos / "none")
    assert not out.exists()
    assert run(stopped=True).failed == 7  # of 12
    Image.new("L", (20, 20)).save(photos / "0-late.png")
    with pytest.raises(OutputExists, match="Continue the prediction in it with --resume"):
        run()
    with pytest.raises(OutputExists, match="other values of shard_size"):
        run(resume=True, shard=4)
    found = run(resume=True)
    assert done == [0, 1, 2]
    assert (found.asked, found.failed, found.anomalous) == (12, 1, 3)
    said = summary(found, load()[0], out)
    assert said.startswith("12 images: 3 anomalous, 8 normal\n1 could not be scored, the first: cannot read")
    assert run(force=True).asked == 13


class Ray:
    """Stands for Ray: two nodes of one processor each; a call ends, well or not, when it is waited for."""

    class RayError(Exception):
        pass

    def __init__(self, ends_well: Callable[[int, bool], bool]) -> None:
        self.ends_well, self.asked = ends_well, []
        self.alive, self.most = 0, 0

    def nodes(self) -> list[dict]:
        return [{"Alive": True, "Resources": {"CPU": 1.0}}] * 2

    def remote(self, kind: type) -> SimpleNamespace:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self.new))

    def new(self, **_: object) -> SimpleNamespace:
        self.alive += 1
        self.most = max(self.most, self.alive)
        return SimpleNamespace(score=SimpleNamespace(remote=lambda number, careful: (number, careful)))

    def kill(self, _: object) -> None:
        self.alive -= 1

    def wait(self, calls: list, timeout: float) -> tuple[list, list]:
        return calls[:1], calls[1:]

    def get(self, call: tuple[int, bool]) -> int:
        self.asked.append(call)
        if not self.ends_well(*call):
            raise self.RayError("The actor died.\nAnd so on.")
        return 5


def score_with(ray: Ray, monkeypatch: pytest.MonkeyPatch, shards: int) -> tuple[dict[int, str], int]:
    """What could not be scored, and images that were."""
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", ray)
    done: list[int] = []
    failed = score_shards(
        worker(Path("out")),
        range(shards),
        cpus=1,
        gpus=0.0,
        retries=2,
        done=done.append,
        stop=lambda: False,
    )
    return failed, sum(done)


def test_a_shard_is_tried_again_and_the_last_time_carefully(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Ray(lambda number, careful: number != 7 and (careful or number % 2 == 0))
    failed, images = score_with(ray, monkeypatch, 40)
    assert (failed, images) == ({7: "The actor died."}, 5 * 39)
    assert [careful for number, careful in ray.asked if number == 7] == [False, False, True]
    assert len(ray.asked) == 20 + 3 * 20
    assert (ray.alive, ray.most) == (0, 2)


def test_where_all_fails_it_is_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Ray(lambda number, careful: number < 5)
    with pytest.raises(UserError, match="10 shards failed one after the other, the last one: The actor died"):
        score_with(ray, monkeypatch, 10_000)
    assert len(ray.asked) <= 5 + 3 * 11
    assert ray.alive == 0


DEADLY = """
import os
import fsspec

class Deadly(fsspec.AbstractFileSystem):
    protocol = "deadly"

    def cat_file(self, path, start=None, end=None, **kwargs):
        os.kill(os.getpid(), 9)

fsspec.register_implementation("deadly", Deadly)
"""


@pytest.mark.slow
def test_a_ray_cluster_writes_each_shard_once_whatever_is_killed(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(DEADLY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    listed = [str(path) for path in sorted(photos.rglob("*.png"))] * 5
    listed[22] = "deadly://of/its/process.png"
    pq.write_table(pa.table({"path": listed}), tmp_path / "list.parquet")
    program = Path(__file__).parent / "ray_predict.py"
    out = tmp_path / "out"
    run_with_ray(sys.executable, program, tmp_path / "list.parquet", out)
    rows = pa.concat_tables(pq.read_table(shard_file(out, number)) for number in range(12)).to_pylist()
    assert [row["path"] for row in rows] == listed
    assert [row["path"] for row in rows if "ended by it" in str(row["error"])] == [listed[22]]
    assert sum(row["score"] is not None for row in rows) == 60 - 5 - 1
    scored = (tmp_path / "scored").read_text().split()
    assert len(scored) <= 12 + 3  # a worker's one, and the driver's two in flight
