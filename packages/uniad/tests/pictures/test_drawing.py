import numpy as np

from adcommon.results.pictures import jet
from uniad.pictures.drawing import compound, single

IMAGE = np.full((20, 30, 3), 100, dtype=np.uint8)
MAP = np.zeros((10, 15), dtype=np.float32)


def test_a_normal_image_has_two_tiles_and_a_defective_one_four() -> None:
    mask = np.zeros((10, 15), dtype=bool)
    assert compound(IMAGE, None, MAP, low=0.0, high=1.0).shape == (40, 30, 3)
    assert compound(IMAGE, mask, MAP, low=0.0, high=1.0).shape == (80, 30, 3)


def test_colours_compare_between_images_in_the_third_tile_and_not_in_the_fourth() -> None:
    weak = MAP.copy()
    weak[2:4, 2:4] = 0.1
    sheet = compound(IMAGE, np.zeros((10, 15), dtype=bool), weak, low=0.0, high=10.0)
    shared, own = sheet[40:60].astype(int), sheet[60:].astype(int)
    assert shared[5, 5, 0] < 60  # still blue
    assert own[5, 5, 0] > 110  # red


def test_a_constant_map_is_all_first_colour() -> None:
    first = (100 + jet(np.zeros((1,), dtype=np.uint8))[0].astype(int)) // 2
    sheet = compound(IMAGE, np.zeros((10, 15), dtype=bool), MAP, low=0.0, high=0.0)
    assert (sheet[60:] == first).all()
    assert (single(IMAGE, MAP, low=0.0, high=0.0) == first).all()


def test_the_mask_is_resized_by_the_floor_rule() -> None:
    mask = np.array([[False, True]])
    image = np.zeros((1, 5, 3), dtype=np.uint8)
    sheet = compound(image, mask, np.zeros((1, 2), dtype=np.float32), low=0.0, high=1.0)
    assert sheet[1, :, 0].tolist() == [0, 0, 0, 255, 255]
