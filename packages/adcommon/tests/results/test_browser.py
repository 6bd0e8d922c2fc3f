"""The pages in a real browser, where there is one: Debian's `chromium`, without a window."""

import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from adcommon.results.comparison import Compared, Seen, write_comparison
from adcommon.results.gallery import ScoredImage, write_gallery
from adcommon.results.pictures import webp
from adcommon.results.tables import Table

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: pages were not opened")


def opened(page: Path, state: str = "") -> str:
    """The page as the browser has it after its script ran."""
    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000",
         f"--user-data-dir={page.parent / 'profile'}", "--dump-dom", f"file://{quote(str(page))}{state}"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return unescape(done.stdout)


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    images = []
    for number, anomalous in enumerate((False, False, True, True)):
        name = f"part {number} & more.webp"
        (tmp_path / name).write_bytes(webp(Image.new("RGB", (40, 30), (50 * number,) * 3)))
        truth = name if anomalous else None
        images.append(ScoredImage(name, float(number), anomalous, name, name, name, truth))
    return write_gallery(tmp_path, images, title="parts", threshold=1.5, whose="yours", worth="a promise")


def test_the_threshold_of_the_address_decides_and_the_order_is_kept(gallery: Path) -> None:
    page = opened(gallery)
    assert "2 of 2 anomalies found · 0 of 2 normal images called anomalous" in page
    assert "1.500 (yours)" in page
    assert page.count('class="truth"') == 3  # of both anomalous images, and the viewer's
    page = opened(gallery, "#threshold=2.5&order=low&show=above")
    assert "1 of 2 anomalies found" in page
    assert re.findall(r'<figure class="(\w*)"', page) == ["right"]


def test_what_is_of_another_kind_is_counted_and_found_apart(tmp_path: Path) -> None:
    images = [ScoredImage(str(score), score, None, None) for score in (1.0, 2.0)]
    images.append(ScoredImage("other", 9.0, None, None, unfamiliar="much darker"))
    page = opened(write_gallery(tmp_path, images, title="parts", threshold=1.5), "#show=other")
    assert "1 of 3 called anomalous · 1 not of this kind" in page
    assert re.findall(r'<figure class="(\w*)">', page) == ["other"]
    assert ">much darker</div>" in page


def test_an_image_of_the_address_is_opened_large(gallery: Path) -> None:
    name = "part 2 & more.webp"
    page = opened(gallery, f"#order=high&image={quote(name)}")
    (dialog,) = re.findall(r'<dialog id="viewer".*?</dialog>', page, re.DOTALL)
    assert " open=" in dialog.partition(">")[0]
    assert f"2 of 4 · {name} · score 2.000 · ✓ anomaly found" in dialog
    assert quote(name) in dialog
    assert "open=" not in re.findall(r'<dialog id="viewer"[^>]*>', opened(gallery, "#image=nobody"))[0]


def test_keys_turn_the_pictures_and_hide_the_truth(gallery: Path) -> None:
    keys = "".join(
        f"by('large').dispatchEvent(new KeyboardEvent('keydown', {{ key: '{key}', bubbles: true }}));"
        for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "t", "z")
    )
    text = gallery.read_text(encoding="utf-8")
    gallery.write_text(text.replace("</html>", f"<script>{keys}</script></html>"), encoding="utf-8")
    page = opened(gallery, f"#order=name&image={quote('part 0 & more.webp')}")
    assert "2 of 4 · part 1 & more.webp" in page
    assert '<body class="truthless"' in page
    assert page.count('class="outline" type="button" aria-pressed="false"') == 2
    assert 'id="stage" tabindex="-1" autofocus="" class="zoomed"' in page


def test_a_comparison_begins_with_what_is_disagreed_on(tmp_path: Path) -> None:
    def image(name: str, disagreement: float, decision: str) -> Compared:
        return Compared(name, True, "a.webp", None, {"padim": Seen(0.5, decision, None)}, disagreement)

    images = [image("same", 0.1, "anomalous"), image("other", 0.9, "normal")]
    table = Table("comparison", [["method", "x"], ["padim", "1"]])
    page = opened(write_comparison(tmp_path, images, table, title="t", recommendation="Use <it>", of=9))
    assert re.findall(r"<h3>(\w+) ", page) == ["other", "same"]
    assert "2 of the 9 test images are shown" in page
    assert "Use <it>" in page
    assert 'class="wrong"' in page
