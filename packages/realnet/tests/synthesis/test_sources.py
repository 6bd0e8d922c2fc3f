import numpy as np
import pytest
import skimage.data
from PIL import Image

from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.data.sources.access import dtd_textures
from adcommon.errors import DatasetNotFound, EmptySplit
from adcommon.io.cache import DiskCache
from realnet.recipes import Recipe
from realnet.synthesis import sources
from realnet.synthesis.items import samples_of
from realnet.synthesis.opencv import resize
from realnet.synthesis.sources import ImageSource, OtherImages, OwnTextures, sdas_source
from realnet.synthesis.texture_augment import augment


@pytest.fixture
def samples(tmp_path):
    """Four samples of uniform colours, in a category's folder."""
    folder = tmp_path / "sdas" / "bottle"
    folder.mkdir(parents=True)
    for number in range(4):
        Image.fromarray(np.full((20, 20, 3), 40 * number, dtype=np.uint8)).save(
            folder / f"rank0_{number}.jpg"
        )
    return folder


def draw(source, seed: int = 0, count: int = 5, size: int = 16) -> np.ndarray:
    return source.draw(np.random.default_rng(seed), count, size)


def test_samples_are_drawn_uniformly_and_used_as_they_are(samples) -> None:
    drawn = draw(sdas_source(samples), count=200)
    assert drawn.shape == (200, 16, 16, 3)
    levels, counts = np.unique(np.rint(drawn.mean(axis=(1, 2, 3)) / 40), return_counts=True)
    assert levels.tolist() == [0, 1, 2, 3]
    assert counts.min() > 30


def test_samples_are_resized_as_opencv_does_and_decoded_once(samples, tmp_path, monkeypatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)
    for file in samples.iterdir():
        file.unlink()
    Image.fromarray(pixels).save(samples / "only.png")
    source = sdas_source(samples, DiskCache(tmp_path / "cache"))
    assert np.array_equal(draw(source, count=1)[0], resize(pixels, (16, 16)))
    monkeypatch.setattr(sources, "open_image", None)
    assert len(draw(source, seed=1)) == 5
    again = draw(sdas_source(samples, DiskCache(tmp_path / "cache")), count=1)
    assert np.array_equal(again[0], resize(pixels, (16, 16)))
    monkeypatch.undo()
    assert draw(source, size=8).shape == (5, 8, 8, 3)


def test_a_missing_or_empty_folder_of_samples_says_what_to_do(tmp_path) -> None:
    with pytest.raises(DatasetNotFound, match=r"no folder .*gone\n  Sample them with realnet-sample"):
        sdas_source(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmptySplit, match=r"no images in .*empty; expected diffusion samples such as"):
        sdas_source(tmp_path / "empty")


def test_a_category_finds_its_folder_however_it_is_given(samples) -> None:
    out = samples.parent
    for given in (out / "{}", out, samples):
        assert samples_of(Recipe(sdas_dir=given), "bottle") == samples
    assert samples_of(Recipe(sdas_dir=out), "cable") == out / "cable"


def test_textures_of_dtd_are_changed(tmp_path) -> None:
    folder = tmp_path / "dtd" / "images" / "banded"
    folder.mkdir(parents=True)
    texture = np.random.default_rng(0).integers(0, 200, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(texture).save(folder / "banded_0001.png")
    drawn = draw(ImageSource(dtd_textures(tmp_path), change=augment), count=8)
    assert len(np.unique(drawn.reshape(8, -1), axis=0)) == 8
    assert sum(np.array_equal(image, texture) for image in drawn) < 2
    assert np.array_equal(drawn, draw(ImageSource(dtd_textures(tmp_path), change=augment), count=8))
    with pytest.raises(DatasetNotFound, match="a share of 0 does without"):
        dtd_textures(tmp_path / "nowhere")


def test_own_textures_are_made_of_training_images_and_bundled_ones(normal_dataset, monkeypatch) -> None:
    dataset = normal_dataset()
    monkeypatch.setattr(sources, "augment", lambda image, generator: image)
    training = {tuple(sorted(image.ravel().tolist())) for image in dataset.pixels(range(len(dataset)))}
    drawn = draw(OwnTextures(dataset), count=60, size=32)
    rearranged = sum(tuple(sorted(image.ravel().tolist())) in training for image in drawn)
    assert 20 <= rearranged <= 40
    assert len(np.unique(drawn.reshape(60, -1), axis=0)) > 50


def test_own_textures_depend_on_the_generator_alone(normal_dataset) -> None:
    source = OwnTextures(normal_dataset())
    assert np.array_equal(draw(source, 3), draw(source, 3))
    assert not np.array_equal(draw(source, 3), draw(source, 4))


def test_textures_for_grey_images_are_grey(tmp_path, normal_dataset) -> None:
    coloured = normal_dataset()
    drawn = draw(OwnTextures(coloured), count=12)
    assert sum(bool((image != image[..., :1]).any()) for image in drawn) > 8
    for record in coloured.records:
        Image.open(record.image).convert("L").save(record.image)
    grey = AnomalyDataset(coloured.records, Preprocess(image_size=32))
    drawn = draw(OwnTextures(grey), count=12)
    assert (drawn == drawn[..., :1]).all()


def _colours(image: np.ndarray) -> tuple:
    """All pixels, wherever they are."""
    return tuple(sorted(map(tuple, image.reshape(-1, 3).tolist())))


def test_other_images_are_training_images_moved_and_turned(normal_dataset) -> None:
    dataset = normal_dataset()
    source = OtherImages(dataset)
    colours = {
        tuple(sorted(map(tuple, image.reshape(-1, 3)))) for image in dataset.pixels(range(len(dataset)))
    }
    drawn = draw(source, count=20, size=32)
    assert all(tuple(sorted(map(tuple, image.reshape(-1, 3)))) in colours for image in drawn)
    assert len(np.unique(drawn.reshape(20, -1), axis=0)) > len(dataset)
    assert np.array_equal(drawn, draw(source, count=20, size=32))
    assert draw(source).shape == (5, 16, 16, 3)


def test_the_bundled_textures_are_there_without_a_download() -> None:
    for name in sources.BUNDLED:
        assert getattr(skimage.data, name)().shape == (512, 512)


def test_no_training_images_make_no_textures() -> None:
    with pytest.raises(EmptySplit, match="no training images to make textures from"):
        OwnTextures(AnomalyDataset([], Preprocess(image_size=32)))
