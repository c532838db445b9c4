"""Opens reports in headless Chromium. BTS_SCREENSHOTS names a folder that keeps the screenshots."""

import html
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from BreastTumorSegLib.core.exam import Exam, PhaseTable, Problem
from BreastTumorSegLib.report.html import write_report
from BreastTumorSegLib.report.noncontrast import write_noncontrast_report
from Testing.results import noncontrast_result, simulated_result

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: apt-get install chromium")

FLAGS = """
    --headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --hide-scrollbars --enable-logging=stderr --v=0
"""

# Runs in a copy of the page and leaves what it found as JSON; a pixel of tolerance is for rounding.
MEASURE = """<pre id="found" hidden></pre><script>
addEventListener("load", () => {
  const name = e => e.tagName + "." + e.className + " " + e.textContent.trim().slice(0, 40);
  const cut = [...document.querySelectorAll("body, body *:not(script):not(pre)")].filter(e => {
    const box = e.getBoundingClientRect();
    return box.right > innerWidth + 1 || box.left < -1 || (e.clientWidth && e.scrollWidth > e.clientWidth + 1);
  });
  document.getElementById("found").textContent = JSON.stringify({
    width: innerWidth, page: document.documentElement.scrollWidth, height: document.documentElement.scrollHeight,
    images: document.images.length, broken: [...document.images].filter(i => !i.naturalWidth).map(i => i.alt),
    cut: cut.map(name),
  });
});
</script>"""


def browse(path: Path, tmp_path: Path, width: int, height: int, *arguments: str) -> tuple[str, list[str]]:
    """The page's DOM, when asked for, and the lines of its console."""
    command = [CHROMIUM, *FLAGS.split(), f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},{height}"]
    done = subprocess.run(
        [*command, *arguments, path.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def measure(page: Path, tmp_path: Path, width: int) -> dict:
    """What a browser of this width finds in a page."""
    copy = tmp_path / "measured.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    dom, console = browse(copy, tmp_path, width, 900, "--dump-dom")
    found = re.search(r'<pre id="found"[^>]*>(.*?)</pre>', dom, re.DOTALL)
    return {**json.loads(html.unescape(found[1])), "console": console}


def crowded(plane: str):
    """A result whose texts are as long as they get."""
    result = simulated_result(11, phases=5, plane=plane)
    long = "ax_dyn_T1_fl3d_tra_fatsat_5min_SPAIR_SENSE_MotionCorrected_pass"
    phases = tuple(replace(phase, name=f"{i}: {long}") for i, phase in enumerate(result.exam.table.phases))
    lesions = tuple(replace(lesion, worst_curve="not enhancing", peak_pe=1234.0) for lesion in result.lesions)
    table = PhaseTable(phases, (Problem(f'The phase "{long}{long}" is odd.', "Check it."),))
    models = [{"name": "tumor-resunet-bilateral-large", "version": "2026.11", "sha256": "f" * 64}] * 2
    manifest = {**result.manifest, "models": models}
    warnings = (f"Something about {long}{long}{long}.",)
    return replace(result, exam=Exam(table, result.exam.data), lesions=lesions, warnings=warnings, manifest=manifest)


@pytest.mark.parametrize("width", [1280, 800])
@pytest.mark.parametrize("plane", ["axial", "sagittal"])
def test_report_is_whole_in_a_browser(plane, width, tmp_path):
    page = tmp_path / "report.html"
    write_report(crowded(plane), page)
    found = measure(page, tmp_path, width)
    folder = Path(os.environ.get("BTS_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    screenshot = folder / f"report-{plane}-{width}.png"
    browse(page, tmp_path, width, found["height"], f"--screenshot={screenshot}")
    assert screenshot.stat().st_size > 50_000
    assert found["images"] == 39  # 30 slices, 4 projections, 2 of clusters, 1 of curves, 2 of breasts
    assert found["width"] == found["page"] == width
    assert (found["console"], found["broken"], found["cut"]) == ([], [], [])


@pytest.mark.parametrize("width", [1280, 800])
def test_report_without_contrast_is_whole_in_a_browser(width, tmp_path):
    page = tmp_path / "report.html"
    write_noncontrast_report(noncontrast_result(2), page)
    found = measure(page, tmp_path, width)
    assert found["images"] == 14  # three slices and three maps of each lesion, 2 of breasts
    assert found["width"] == found["page"] == width
    assert (found["console"], found["broken"], found["cut"]) == ([], [], [])


def test_the_measurement_can_fail(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        '<body><div class="wide" style="width: 2000px">x</div><table><tr><td style="max-width: 20px">'
        '<div style="width: 90px">cut</div></td></tr></table><img alt="gone" src="data:image/png;base64,AAAA">'
        '<script>console.error("bad")</script></body>'
    )
    found = measure(page, tmp_path, 800)
    assert found["page"] > 800 and found["broken"] == ["gone"] and "bad" in found["console"][0]
    assert any(name.startswith("DIV.wide") for name in found["cut"])
    assert any(name.startswith("TD.") for name in found["cut"])
