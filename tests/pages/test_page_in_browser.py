"""The script of the page in headless Chromium, where it is installed: sorting, notes, colours."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from report_content import made_up

from handglass.runtime.pages.page import draw_page

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")

PROBE = """<script>addEventListener("load", () => {
  const tip = document.getElementById("tip"), found = {};
  const marks = [...document.querySelectorAll(".roofline [data-tip]")];
  found.stops = marks.filter((mark) => mark.tabIndex === 0).length;
  marks[0].focus();
  found.first = [tip.hidden, tip.textContent.split("\\n")[0]];
  marks[0].dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
  found.second = [document.activeElement === marks[1], tip.textContent === marks[1].dataset.tip];
  document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
  found.hidden = tip.hidden;
  const table = document.querySelector("table.sortable"), column = () =>
    [...table.tBodies[0].rows].map((row) => Number(row.cells[4].dataset.value));
  table.tHead.rows[0].cells[4].firstElementChild.click();
  found.falling = column();
  table.tHead.rows[0].cells[4].firstElementChild.click();
  found.rising = [column(), table.tHead.rows[0].cells[4].getAttribute("aria-sort")];
  const paper = () => getComputedStyle(document.documentElement).backgroundColor, before = paper();
  document.getElementById("theme").click();
  found.colours = before !== paper();
  found.wide = document.documentElement.scrollWidth <= innerWidth;
  found.overlaps = overlaps();
  const result = document.createElement("pre");
  result.textContent = JSON.stringify(found);
  document.body.replaceChildren(result);
});
function overlaps() {
  const touch = (a, b) =>
    a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3;
  const words = [...document.querySelectorAll("svg.roofline text:not([transform])")];
  const boxes = words.map((word) => word.getBoundingClientRect());
  return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => touch(a, b))).length;
}</script></body>"""


def opened(page: str, folder: Path, width: int) -> Any:
    """What PROBE finds in the page in a window of this width."""
    file = folder / "page.html"
    file.write_text(page.replace("</body>", PROBE))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
    flags += [f"--window-size={width},900", "--dump-dom", file.as_uri()]
    done = subprocess.run([str(BROWSER), *flags], capture_output=True, text=True, timeout=120)
    return json.loads(done.stdout.split("<pre>")[1].split("</pre>")[0])


@pytest.mark.parametrize("width", [1280, 420])
def test_the_script_of_the_page(width: int, tmp_path: Path) -> None:
    found = opened(draw_page([made_up(), made_up()]), tmp_path, width)
    assert found["stops"] == 1, "one stop of the tab key for each picture"
    assert found["first"] == [False, "matmul3"] and found["second"] == [True, True]
    assert found["hidden"] is True
    falling, (rising, order) = found["falling"], found["rising"]
    assert falling == sorted(falling, reverse=True) and rising == sorted(falling)
    assert order == "ascending" and len(set(falling)) > 1
    assert found["colours"] is True and found["wide"] is True and found["overlaps"] == 0
