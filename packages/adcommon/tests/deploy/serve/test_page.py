"""The page of the server in a real browser, where there is one."""

import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from adcommon.deploy.serve import app

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine: the page was not opened"
)
DRIVER = """<script>
(async () => {
  by("token").value = "secret";
  await list();
  const canvas = make("canvas", { width: 32, height: 24 }), brush = canvas.getContext("2d");
  const chosen = new DataTransfer();
  for (const [name, red] of [["=good.png", 0], ["bad.png", 255]]) {
    brush.fillStyle = `rgb(${red} 0 0)`;
    brush.fillRect(0, 0, 32, 24);
    chosen.items.add(new File([await new Promise(done => canvas.toBlob(done))], name));
  }
  chosen.items.add(new File(["no image"], "notes.txt"));
  by("files").files = chosen.files;
  by("files").dispatchEvent(new Event("change"));
  await pause(.1);
  await queue;
  document.querySelector("figure a").click();
  document.body.append(make("pre", { id: "table", textContent: table() }));
})();
</script></html>"""


def opened(address: str, folder: Path) -> str:
    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000",
         "--window-size=390,844", f"--user-data-dir={folder / 'profile'}", "--dump-dom", address],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return unescape(done.stdout)


def test_photos_are_scored_shown_and_downloaded(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = app.filled
    monkeypatch.setattr(app, "filled", lambda *given: whole(*given).replace("</html>", DRIVER))
    page = opened(f"http://127.0.0.1:{start(token='secret').port}/", tmp_path)
    assert re.findall(r'<figure class="(\w*)">', page) == ["", "anomalous", "normal"]
    assert "3 scored: 1 anomalous, 1 normal" in page
    assert (
        re.findall(r'<img loading="lazy" src="(data:image/webp;base64),', page)
        == ["data:image/webp;base64"] * 2
    )
    (dialog,) = re.findall(r'<dialog id="viewer".*?</dialog>', page, re.DOTALL)
    assert " open=" in dialog.partition(">")[0]
    assert "1 of 2 · bad.png · score 1.000 · ✗ anomalous" in dialog
    (table,) = re.findall(r'<pre id="table">(.*?)</pre>', page, re.DOTALL)
    head, good, bad, notes, _ = re.split(r"\r?\n", table)
    assert head == "time,model,name,score,p_value,threshold,decision,unfamiliar,error,regions"
    assert re.fullmatch(r"[-0-9T:.]+Z,part,'=good.png,0,1,0.2,normal,,,0", good), good
    assert re.fullmatch(r"[-0-9T:.]+Z,part,bad.png,1,0.05,0.2,anomalous,,,1", bad), bad
    assert "none of the formats" in notes


def test_the_routes_are_described_for_people(start: Callable[..., Any], tmp_path: Path) -> None:
    page = opened(f"http://127.0.0.1:{start().port}/docs", tmp_path)
    assert "<code>/v1/models/{name}/predict</code>" in page
    assert "Score one image, or several" in page
