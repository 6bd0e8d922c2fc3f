from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from adcommon.errors import MaskMissing, MaskSizeMismatch, UnreadableImage
from adcommon.io.images import has_transparent_pixels, image_size, list_images, open_image, open_mask


def save(path: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    Image.fromarray(array, mode).save(path, **options)
    return path


def rotated_jpeg(path: Path) -> Path:
    """Stored 30 wide and 20 high, left half white; its EXIF data says: turn it clockwise."""
    pixels = np.zeros((20, 30, 3), dtype=np.uint8)
    pixels[:, :15] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(path, exif=exif, quality=95)
    return path


def test_grey_is_replicated_to_three_channels(tmp_path: Path) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    opened = np.asarray(open_image(save(tmp_path / "a.png", grey)))
    assert opened.shape == (3, 4, 3)
    assert (opened == grey[..., None]).all()


@settings(max_examples=20)
@given(value=st.integers(0, 65535))
def test_16_bit_values_are_scaled_by_the_largest_value_of_their_type(
    value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = save(tmp_path_factory.mktemp("deep") / "a.png", np.full((2, 2), value, dtype=np.uint16))
    assert (np.asarray(open_image(path)) == round(value * 255 / 65535)).all()


def test_alpha_is_dropped_and_the_colour_below_it_kept(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 4), dtype=np.uint8)
    pixels[..., 0] = 200
    assert np.asarray(open_image(save(tmp_path / "a.png", pixels)))[0, 0].tolist() == [200, 0, 0]


def test_palette_images_get_their_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "a.png", transparency=1)
    assert np.asarray(open_image(tmp_path / "a.png")).tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (2, 2), (0, 0, 0, 0)).save(tmp_path / "a.jpg")
    assert (np.asarray(open_image(tmp_path / "a.jpg")) > 250).all()


def test_exif_orientation_counts_only_if_asked_for(tmp_path: Path) -> None:
    path = rotated_jpeg(tmp_path / "a.jpg")
    assert open_image(path).size == (30, 20)
    upright = open_image(path, upright=True)
    assert upright.size == (20, 30)
    assert np.asarray(upright)[2, 10, 0] > 200  # the white half is on top


def test_truncated_image_is_named_with_the_decoders_words(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / "broken.png", noise)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UnreadableImage, match=r"broken\.png: .*truncated"):
        open_image(path)
    assert image_size(path) == (64, 64)  # the header alone is enough


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>sign in</html>", "HTML page"),
        (b"", "empty"),
        (b"not an image", "none of the formats"),
    ],
)
def test_files_that_are_no_images_say_what_they_are(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for opener in (open_image, open_mask, image_size):
        with pytest.raises(UnreadableImage, match=reason):
            opener(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match=r"a\.png: no such file"):
        open_image(tmp_path / "a.png")


def test_floating_point_image_is_refused_because_its_white_is_unknown(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", np.ones((2, 2), dtype=np.float32))
    with pytest.raises(UnreadableImage, match="8 or 16 bits"):
        open_image(path)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32])
@pytest.mark.parametrize(
    ("highest", "fits"), [(255, True), (65535, True), (65536, False), (2**31 - 1, False)]
)
def test_integers_of_32_bits_are_those_of_16_where_all_fit(
    tmp_path: Path, dtype: type, highest: int, fits: bool
) -> None:
    values = np.array([[0, 5, highest]], dtype=dtype)
    path = save(tmp_path / "a.tif", values)
    if not fits:
        with pytest.raises(
            UnreadableImage, match=f"from 0 to {highest} and what is white is unknown; save it"
        ):
            open_image(path)
        return
    expected = np.asarray(open_image(save(tmp_path / "b.png", values.astype(np.uint16))))
    np.testing.assert_array_equal(np.asarray(open_image(path)), expected)


def test_negative_values_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="from -4 to 7"):
        open_image(save(tmp_path / "a.tif", np.array([[-4, 7]], dtype=np.int32)))


def test_white_says_which_value_is_white_and_what_is_above_is_white_too(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array([[0, 2048, 4095, 9000]], dtype=np.uint16))
    assert np.asarray(open_image(path, white=4095))[0, :, 0].tolist() == [0, 128, 255, 255]
    eight = save(tmp_path / "b.png", np.array([[0, 100]], dtype=np.uint8))
    assert np.asarray(open_image(eight, white=4095))[0, :, 0].tolist() == [0, 100]


def test_large_images_of_16_bits_are_scaled_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.png", np.arange(35 * 100, dtype=np.uint16).reshape(35, 100) * 18)
    expected = np.asarray(open_image(path))
    monkeypatch.setattr("adcommon.io.images._BAND_PIXELS", 250)
    np.testing.assert_array_equal(np.asarray(open_image(path)), expected)


def test_transparent_pixels_are_found_in_every_kind_of_file(tmp_path: Path) -> None:
    opaque = np.full((2, 2, 4), 255, np.uint8)
    holes = opaque.copy()
    holes[0, 0, 3] = 254
    Image.fromarray(np.zeros((2, 2), np.uint8), "P").save(tmp_path / "palette.png", transparency=0)
    save(tmp_path / "opaque.png", opaque)
    save(tmp_path / "holes.png", holes)
    save(tmp_path / "none.jpg", opaque[..., :3])
    found = {path.name for path in tmp_path.iterdir() if has_transparent_pixels(path)}
    assert found == {"palette.png", "holes.png"}


@pytest.mark.parametrize("suffix", [".heic", ".HEIF", ".avif"])
def test_photographs_of_telephones_are_images_where_their_decoder_is_installed(
    tmp_path: Path, suffix: str
) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    grey = np.zeros((48, 64), np.uint8)
    grey[:, :32] = 200
    path = tmp_path / f"a{suffix}"
    Image.fromarray(grey).convert("RGB").save(
        path, format="AVIF" if suffix == ".avif" else "HEIF", quality=90
    )
    assert list_images(tmp_path) == [path]
    assert image_size(path) == (64, 48)
    pixels = np.asarray(open_image(path, upright=True))
    assert abs(int(pixels[24, 16, 0]) - 200) < 8
    assert pixels[24, 48, 0] < 8


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_masks_of_small_numbers_are_anomalous_wherever_they_are_not_zero(tmp_path: Path, dtype: type) -> None:
    mask = np.array([[0, 1, 3], [255, 0, 249]], dtype=dtype)
    opened = open_mask(save(tmp_path / "a.png", mask))
    assert opened.dtype == bool
    assert (opened == (mask > 0)).all()


def paletted(indices: list[list[int]], palette: list[int]) -> Image.Image:
    image = Image.fromarray(np.array(indices, dtype=np.uint8), "P")
    image.putpalette(palette)
    return image


def rgba(*pixels: tuple[int, int, int, int]) -> Image.Image:
    return Image.fromarray(np.array([pixels], dtype=np.uint8))


WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (255, 0, 0)
MASKS: dict[str, tuple[Image.Image, list[int]]] = {
    "palette, first white": (paletted([[0, 1, 2]], [*WHITE, *BLACK, 9, 9, 9]), [1, 0, 1]),
    "palette, first black": (paletted([[0, 1, 1]], [*BLACK, *WHITE]), [0, 1, 1]),
    "palette of reds": (paletted([[0, 1, 2]], [*BLACK, 128, 0, 0, *RED]), [0, 1, 1]),
    "palette of an empty mask": (paletted([[3, 3]], [*WHITE, *WHITE, *WHITE, *BLACK]), [0, 0]),
    "two blacks of one palette that has white": (paletted([[0, 1, 2]], [*BLACK, *BLACK, *WHITE]), [0, 0, 1]),
    "palette that is black throughout": (paletted([[0, 1, 2]], [*BLACK, *BLACK, *BLACK]), [0, 1, 1]),
    "red on transparent black": (rgba((*BLACK, 0), (*RED, 255), (*BLACK, 0)), [0, 1, 0]),
    "black on transparent black": (rgba((*BLACK, 0), (*BLACK, 255), (*BLACK, 0)), [0, 1, 0]),
    "white on transparent white": (rgba((*WHITE, 0), (*WHITE, 255), (*WHITE, 9)), [0, 1, 1]),
    "red on transparent white": (rgba((*WHITE, 0), (*RED, 255), (*WHITE, 0)), [0, 1, 0]),
    "opaque": (rgba((*BLACK, 255), (*RED, 255), (*WHITE, 255)), [0, 1, 1]),
    "all transparent: only colours say something": (rgba((*BLACK, 0), (*RED, 0)), [0, 1]),
    "grey and alpha": (Image.fromarray(np.array([[[0, 0], [0, 255]]], dtype=np.uint8), "LA"), [0, 1]),
    "one bit": (Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1"), [0, 1]),
    "16 bits": (Image.fromarray(np.array([[0, 1, 65535]], dtype=np.uint16)), [0, 1, 1]),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_is_read_by_what_its_values_mean(tmp_path: Path, name: str) -> None:
    image, expected = MASKS[name]
    image.save(tmp_path / "a.png")
    assert open_mask(tmp_path / "a.png").astype(int).tolist() == [expected]


def test_masks_that_number_kinds_of_defects_go_by_index_if_asked(tmp_path: Path) -> None:
    paletted([[0, 1, 2]], [*WHITE, *BLACK, *BLACK]).save(tmp_path / "a.png")
    assert open_mask(tmp_path / "a.png", by_index=True).tolist() == [[False, True, True]]


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "1", "F", "I"])
@pytest.mark.parametrize("inverted", [False, True])
def test_black_is_normal_in_every_mode_of_tiff(tmp_path: Path, mode: str, inverted: bool) -> None:
    grey = np.array([[0, 255, 0]], dtype=np.uint8) ^ (255 if inverted else 0)
    image = Image.fromarray(np.stack([grey] * 3, -1)) if mode in ("CMYK", "YCbCr") else Image.fromarray(grey)
    image.convert(mode).save(tmp_path / "a.tif")
    assert (open_mask(tmp_path / "a.tif") == (grey > 0)).all()


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (rgba((*WHITE, 0), (*BLACK, 255)), "two ways"),
        (rgba((*RED, 0), (*RED, 255), (*BLACK, 255)), "two ways"),
    ],
    ids=["white below transparency", "red below transparency"],
)
def test_a_mask_that_may_mean_two_things_is_refused(tmp_path: Path, image: Image.Image, reason: str) -> None:
    image.save(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match=f"{reason}.*save it in grey, with 0"):
        open_mask(tmp_path / "a.png")


@pytest.mark.parametrize("value", [-1, np.nan])
def test_a_mask_of_numbers_that_are_none_is_refused(tmp_path: Path, value: float) -> None:
    dtype = np.float32 if np.isnan(value) else np.int32
    with pytest.raises(UnreadableImage, match="below 0 or that are no numbers"):
        open_mask(save(tmp_path / "a.tif", np.array([[0, value]], dtype=dtype)))


def test_colour_mask_counts_any_channel_but_not_alpha(tmp_path: Path) -> None:
    pixels = np.zeros((1, 3, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    pixels[0, 1, 2] = 1
    assert open_mask(save(tmp_path / "a.png", pixels)).tolist() == [[False, True, False]]
    assert open_mask(save(tmp_path / "b.png", pixels[..., :3])).tolist() == [[False, True, False]]


def test_folder_of_masks_is_their_union(tmp_path: Path) -> None:
    (tmp_path / "000").mkdir()
    save(tmp_path / "000/000.png", np.array([[255, 0, 0]], dtype=np.uint8))
    save(tmp_path / "000/001.png", np.array([[0, 249, 0]], dtype=np.uint8))
    assert open_mask(tmp_path / "000").tolist() == [[True, True, False]]
    assert image_size(tmp_path / "000") == (3, 1)


def test_parts_of_different_size_and_folders_without_parts_are_errors(tmp_path: Path) -> None:
    with pytest.raises(MaskMissing, match="no mask images"):
        open_mask(tmp_path)
    save(tmp_path / "000.png", np.zeros((2, 3), dtype=np.uint8))
    save(tmp_path / "001.png", np.zeros((3, 3), dtype=np.uint8))
    with pytest.raises(MaskSizeMismatch, match=r"000\.png is 3x2.*001\.png is 3x3"):
        open_mask(tmp_path)


def test_listing_takes_any_case_of_suffix_skips_junk_and_sorts(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.jpeg", "C.png", "Thumbs.db", ".DS_Store", "._a.jpeg", "notes.txt", "list.json"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["C.png", "a.jpeg", "b.JPG"]
    assert list_images(tmp_path / "nowhere") == []


@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_turned_as_pillow_turns_it(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.png", upright=True)), expected)


def test_an_image_in_memory_gives_the_pixels_of_its_file(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    path = save(tmp_path / "a.png", pixels)
    image = Image.open(path)
    np.testing.assert_array_equal(np.asarray(open_image(image)), np.asarray(open_image(path)))
    assert image.size == open_image(image, late_rgb=True).size == (30, 20)  # it is still open
    with pytest.raises(UnreadableImage, match="cannot read the image in memory: floating-point"):
        open_image(Image.new("F", (4, 4)))
