"""What the panels look like at the width of Slicer's module panel, what they say, and what they install."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from BreastTumorSegLib.core.geometry import Geometry

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytestmark = pytest.mark.xdist_group("module")

WIDTH = 350


@pytest.fixture
def pictures(tmp_path):
    """Folder for screenshots: `BTS_SCREENSHOTS`, or one of the test's own."""
    return Path(os.environ.get("BTS_SCREENSHOTS", tmp_path))


def child_widgets(desktop):
    from PySide6 import QtWidgets

    return [widget for widget in desktop._parent.findChildren(QtWidgets.QWidget) if widget.isVisible()]


def picture(desktop, folder, name):
    from desktop import wrap

    desktop.screenshot(wrap(desktop._parent), folder / f"{name}.png", WIDTH)
    check_layout(desktop)


def check_layout(desktop):
    """Texts have room, nothing sticks out of what it is in, and nothing lies over its neighbour."""
    from PySide6 import QtWidgets

    assert desktop._parent.width() == WIDTH
    for widget in child_widgets(desktop):
        name = widget.objectName() or type(widget).__name__
        if isinstance(widget, QtWidgets.QPushButton):
            assert widget.width() >= widget.minimumSizeHint().width(), name
        if isinstance(widget, QtWidgets.QLabel):
            room = widget.heightForWidth(widget.width()) if widget.wordWrap() else widget.sizeHint().height()
            assert widget.height() >= room, f"{name}: {widget.text()}"
            assert widget.wordWrap() or widget.width() >= widget.sizeHint().width(), f"{name}: {widget.text()}"
        if isinstance(widget, QtWidgets.QTableWidget):
            check_table(widget)
        layout = widget.layout()
        if layout is not None and not getattr(widget, "_collapsed", False):
            check_items([layout.itemAt(index) for index in range(layout.count())], widget)


def check_items(items, parent):
    shown = [item.geometry() for item in items if not item.isEmpty()]
    for index, one in enumerate(shown):
        assert parent.rect().contains(one), parent.objectName()
        assert not any(one.intersects(other) for other in shown[:index]), parent.objectName()


def check_table(table):
    """Every word of a cell or a header fits into its column."""
    metrics = table.fontMetrics()
    for column in range(table.columnCount()):
        if table.isColumnHidden(column):
            continue
        title = table.horizontalHeaderItem(column).text()
        assert metrics.horizontalAdvance(title) <= table.columnWidth(column), title
        for row in range(table.rowCount()):
            item = table.item(row, column)
            room = table.columnWidth(column) if table.columnSpan(row, column) == 1 else table.viewport().width()
            for word in re.split(r"[\s\u200b]+", item.text() if item else ""):
                assert metrics.horizontalAdvance(word) + 6 <= room, word


def add_exam(module, problem=False):
    from BreastTumorSegGui import scene
    from BreastTumorSegGui.exam import row_of
    from BreastTumorSegLib.core.exam import TimeSource

    grid = Geometry((448, 448, 4), (0.759, 0.759, 1.1))
    rows = []
    for index, name in enumerate(("2: ax dyn pre", "4: ax dyn 1st pass", "7: ax dyn 2nd pass", "12: ax dyn 3rd pass")):
        node = scene.add_volume(np.full(grid.shape, index, np.int16), grid, name)
        rows.append(row_of(node, 131.135 * index, TimeSource.ACQUISITION_TIME))
    if problem:
        rows[2] = row_of(rows[2].node, 5.0, TimeSource.ASSUMED)
    note = "Series left out, subtractions, projections, localisers, T2 or diffusion images: 1: loc; 3: t2 fs."
    module.logic.exam.set_rows(rows, [note])


def test_the_panels_at_their_start(module, desktop, pictures):
    picture(desktop, pictures, "start")


def test_the_exam_panel(module, desktop, pictures):
    add_exam(module)
    module.panels.exam.ui.sceneSection.collapsed = False
    picture(desktop, pictures, "exam")


def test_the_exam_panel_with_problems(module, desktop, pictures):
    add_exam(module, problem=True)
    picture(desktop, pictures, "exam-problems")


def test_the_exam_panel_while_loading(module, desktop, pictures):
    def endless():
        from BreastTumorSegGui.tasks import WAIT, Progress

        yield Progress("load", 0.4)
        while True:
            yield WAIT

    module.panels.exam.load(endless())
    desktop.wait_until(lambda: module.panels.exam.ui.loadingBar.value == 40)
    picture(desktop, pictures, "exam-loading")


def test_the_segment_panel_during_a_run_and_after_a_failure(module, desktop, pictures, monkeypatch):
    from BreastTumorSegGui.tasks import Progress
    from BreastTumorSegGui.worker import WorkerError

    def run(_order, _say):
        for fraction in np.linspace(0, 1, 50):
            yield Progress("tumor", float(fraction))
        while going:
            yield None
        log = module.logic.settings.results_folder / "2026-01-01_12-00-00.log"
        raise WorkerError("The memory is too small for this exam.", "Close other programs.", log, 4)

    going = [True]
    monkeypatch.setattr(module.logic.segmentation, "run", run)
    add_exam(module)
    desktop.click(module.panels.exam.ui.confirmButton)
    module.panels.segment.ui.logSection.collapsed = False
    desktop.click(module.panels.segment.ui.runButton)
    desktop.wait_until(lambda: "Finding lesions" in module.panels.segment.ui.stageLabel.text)
    picture(desktop, pictures, "segment-running")
    going.clear()
    desktop.wait_until(lambda: not module.panels.segment.running)
    assert "memory is too small" in module.panels.segment.ui.messageLabel.text
    picture(desktop, pictures, "segment-failed")


def test_the_segment_panel_without_contrast(module, desktop, pictures):
    add_exam(module)
    module.logic.exam.set_rows(module.logic.exam.rows[:1])
    plain = {"name": "kisnet-plain", "task": "tumor", "ok": True, "message": "", "contrast": False}
    module.panels.segment.offer({"models": [plain]})
    picture(desktop, pictures, "segment-without-contrast")


def show_result(module, folder, found, write):
    """Load a made-up result as after a run."""
    from BreastTumorSegGui import results, scene

    folder.mkdir(parents=True)
    found.manifest["lesions"] = [{**vars(lesion), "size_category": lesion.size_category} for lesion in found.lesions]
    write(found, folder)
    (folder / "report.html").write_text("<html>")
    reference = scene.add_volume(found.exam.pre, found.exam.geometry, "pre")
    loading = results.load(folder, reference)
    with pytest.raises(StopIteration) as end:
        while True:
            next(loading)
    module._on_finished(end.value.value)


def test_the_result_panel(module, desktop, pictures, tmp_path):
    from BreastTumorSegLib.io.result_files import write_result
    from Testing.results import simulated_result

    show_result(module, tmp_path / "results" / "2026-01-01_12-00-00", simulated_result(lesions=3), write_result)
    table = module.panels.result.ui.lesionTable
    assert table.rowCount == 3
    # 24.6 and 12.3 mm
    assert [table.item(row, 2).text() for row in (0, 1)] == ["25 mm (≤ 50)", "12 mm (≤ 20)"]
    module.panels.result.ui.overlaySelector.setCurrentIndex(1)
    picture(desktop, pictures, "result")


def test_the_result_panel_without_contrast(module, desktop, pictures, tmp_path):
    from BreastTumorSegLib.io.result_files import write_noncontrast_result
    from Testing.results import noncontrast_result

    found = noncontrast_result()
    found.manifest["contrast"] = False
    show_result(module, tmp_path / "results" / "2026-01-01_12-00-00", found, write_noncontrast_result)
    module.panels.result.ui.overlaySelector.setCurrentIndex(2)
    picture(desktop, pictures, "result-without-contrast")


def test_the_heterogeneity_panel(module, desktop, pictures):
    module.panels.heterogeneity.ui.heterogeneitySection.collapsed = False
    module.panels.heterogeneity._tell("Done: Clusters 2026-01-01_12-00-00. Switch on Curves and click into an image.")
    picture(desktop, pictures, "heterogeneity")


def test_the_set_up_panel(module, desktop, pictures, doctor):
    module.logic.setup.examine = lambda results: doctor(module.logic.setup, results)
    module.panels.setup.examine()
    desktop.wait_until(lambda: module.panels.setup.idle)
    module.panels.setup.ui.setupSection.collapsed = False
    text = module.panels.setup.ui.reportText.plainText
    assert "torch" in text
    assert str(Path.home()) not in text
    desktop.click(module.panels.setup.ui.copyButton)
    from PySide6.QtWidgets import QApplication

    assert QApplication.clipboard().text() == text
    picture(desktop, pictures, "setup")


def test_the_set_up_panel_outlives_the_scene(module, desktop, doctor):
    module.logic.setup.examine = lambda results: doctor(module.logic.setup, results)
    module.panels.setup.examine()
    slicer.mrmlScene.Clear(0)
    desktop.wait_until(lambda: module.panels.setup.idle)
    assert "torch" in module.panels.setup.ui.reportText.plainText
    assert module.panels.setup.ui.installButton.enabled


def _in_editor(widget):
    while widget is not None and widget.objectName() != "editor":
        widget = widget.parent()
    return widget is not None


def test_every_control_has_a_tooltip(module, desktop):
    from PySide6 import QtWidgets

    kinds = (QtWidgets.QAbstractButton, QtWidgets.QComboBox, QtWidgets.QAbstractItemView, QtWidgets.QPlainTextEdit)
    for panel in module.panels.all:
        for name, widget in vars(panel.ui).items():
            named = not name.startswith(("label", "qt_"))
            if name == "editor" or _in_editor(widget._target):
                continue  # Slicer's own
            ending = name.endswith(("Slider", "Selector", "Edit", "Label", "Bar"))
            if named and (ending or isinstance(widget._target, kinds)):
                assert widget.toolTip, name


def test_devices_and_models_are_offered_and_remembered(module, desktop):
    ui = module.panels.segment.ui
    report = {
        "devices": [
            {"id": "cpu", "name": "cpu", "memory_free_mb": 2048},
            {"id": "cuda", "name": "RTX", "memory_free_mb": 8192},
        ],
        "models": [
            {"name": "small", "task": "tumor", "ok": True, "message": "", "contrast": True},
            {"name": "broken", "task": "tumor", "ok": False, "message": "checksum differs", "contrast": True},
            {"name": "breast", "task": "breast", "ok": True, "message": "", "contrast": True},
        ],
    }
    module.panels.segment.offer(report)
    assert [ui.deviceSelector.itemText(i) for i in range(3)] == ["Automatic", "cpu, 2.0 GB free", "RTX, 8.0 GB free"]
    assert [ui.modelSelector.itemText(i) for i in range(3)] == ["Default", "small", "broken (checksum differs)"]
    ui.deviceSelector.setCurrentIndex(2)
    ui.deviceSelector._target.activated.emit(2)
    module.panels.segment.offer(report)
    assert ui.deviceSelector.currentData == "cuda"
    assert module.logic.settings.device == "cuda"


class Recorder:
    """Notes calls."""

    def __init__(self, fails=None):
        self.calls = []
        self._fails = fails

    def __call__(self, *arguments, **more):
        self.calls.append((arguments, more))
        if self._fails:
            raise self._fails


@pytest.fixture
def torch_extension(monkeypatch):
    """Slicer's PyTorch extension, where torch is not installed yet."""
    install = Recorder()
    logic = SimpleNamespace(
        torchInstalled=lambda: False, installTorch=lambda torchVersionRequirement=None: install(torchVersionRequirement)
    )
    monkeypatch.setitem(sys.modules, "PyTorchUtils", SimpleNamespace(PyTorchUtilsLogic=lambda: logic))
    return install


def press_install(module, desktop, agree=True):
    from desktop import dialogs

    module.panels.setup.ui.setupSection.collapsed = False
    dialogs.answers.append(agree)
    desktop.click(module.panels.setup.ui.installButton)
    desktop.wait_until(lambda: module.panels.setup.idle)


def test_installing_asks_first(module, desktop, torch_extension, monkeypatch):
    from desktop import dialogs

    pip = Recorder()
    monkeypatch.setattr(slicer.util, "pip_install", pip)
    press_install(module, desktop, agree=False)
    assert "downloaded from the internet" in dialogs.messages[-1]
    assert (pip.calls, torch_extension.calls) == ([], [])


def test_installing_before_slicer_5_12(module, desktop, torch_extension, monkeypatch):
    pip = Recorder()
    monkeypatch.setattr(slicer.util, "pip_install", pip)
    press_install(module, desktop)
    assert torch_extension.calls == [((">=2.8",), {})]
    ((arguments, _more),) = pip.calls
    assert arguments[0][0] == "-r"
    assert "monai" in Path(arguments[0][1]).read_text()


def test_installing_from_slicer_5_12_on(module, desktop, torch_extension, monkeypatch):
    ensure = Recorder()
    packaging = SimpleNamespace(load_requirements=lambda path: Path(path).name, pip_ensure=ensure)
    monkeypatch.setattr(slicer, "packaging", packaging, raising=False)
    press_install(module, desktop)
    assert ensure.calls == [(("requirements.txt",), {"prompt_install": False, "requester": "BreastTumorSeg"})]


def test_an_old_torch_is_told(module, desktop, monkeypatch):
    from BreastTumorSegGui import setup

    logic = SimpleNamespace(torchInstalled=lambda: True)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", SimpleNamespace(PyTorchUtilsLogic=lambda: logic))
    monkeypatch.setattr(setup, "version", lambda _name: "2.1.0+cu118")
    press_install(module, desktop)
    assert "PyTorch 2.1.0+cu118 is too old" in module.panels.setup.ui.messageLabel.text


def test_without_the_pytorch_extension_it_is_told_how_to_get_it(module, desktop, monkeypatch):
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    press_install(module, desktop)
    assert "Extensions Manager" in module.panels.setup.ui.messageLabel.text


def test_a_failing_pip_is_told(module, desktop, torch_extension, monkeypatch):
    monkeypatch.setattr(slicer.util, "pip_install", Recorder(subprocess.CalledProcessError(1, "pip")))
    press_install(module, desktop)
    assert "Not installed" in module.panels.setup.ui.messageLabel.text


def test_installing_from_a_folder_of_wheels(module, desktop, tmp_path, monkeypatch):
    from desktop import dialogs

    pip = Recorder()
    monkeypatch.setattr(slicer.util, "pip_install", pip)
    ui = module.panels.setup.ui
    ui.setupSection.collapsed = False
    assert not ui.installWheelsButton.enabled
    ui.wheelsFolderEdit.setCurrentPath(str(tmp_path))
    dialogs.answers += [True, True]
    desktop.click(ui.installWheelsButton)
    assert "holds no wheels" in ui.messageLabel.text
    (tmp_path / "monai-1.6.1-py3-none-any.whl").write_bytes(b"")
    desktop.click(ui.installWheelsButton)
    desktop.wait_until(lambda: module.panels.setup.idle)
    assert pip.calls[0][0][0][:3] == ["--no-index", "--find-links", str(tmp_path)]


def test_the_sample_exam_is_registered_and_simulated_with_a_dialog(module, desktop, monkeypatch):
    import SampleData

    import BreastTumorSeg
    from BreastTumorSegGui.exam_sources import Loaded
    from BreastTumorSegGui.tasks import Progress

    source = SampleData.sources[-1]
    assert (source.category, source.sampleName) == ("BreastTumorSeg", "SimulatedBreastDCE")
    assert Path(source.thumbnailFileName).is_file()

    def work():
        yield Progress("simulate", 0.5)
        return Loaded([], [], ["a volume"])

    monkeypatch.setattr(module.logic.simulation, "work", work)
    monkeypatch.setattr(BreastTumorSeg, "BreastTumorSegLogic", lambda: module.logic)
    assert source.download(source) == ["a volume"]


def test_opening_the_module_installs_and_imports_nothing_heavy(module):
    """Slicer's own process stays without PyTorch; the first look at the installation is a process of its own."""
    code = (
        "import sys; sys.path[:0] = ['Testing', 'BreastTumorSeg', '.']\n"
        "from pathlib import Path\n"
        "from desktop import Desktop\n"
        "desktop = Desktop(); desktop.reset()\n"
        "desktop.open_module(Path('BreastTumorSeg/BreastTumorSeg.py').resolve())\n"
        "heavy = {'torch', 'monai', 'sklearn', 'pydantic', 'typer', 'matplotlib'} & set(sys.modules)\n"
        "desktop.close()\n"
        "assert not heavy, heavy\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, capture_output=True, timeout=60)


def review_shown(module, desktop, tmp_path):
    from integration.test_module_review import make_worklist, open_worklist

    module.panels.exam.ui.examSection.collapsed = True
    module.panels.segment.ui.segmentSection.collapsed = True
    module.panels.result.ui.resultSection.collapsed = True
    open_worklist(module, desktop, make_worklist(tmp_path / "study", 12, repeats=0.25))


def test_the_score_panel(module, desktop, pictures, tmp_path):
    review_shown(module, desktop, tmp_path)
    module.panels.score.ui.scoreSection.collapsed = False
    module.panels.score.ui.guidelinesSection.collapsed = False
    picture(desktop, pictures, "score")


def test_the_score_panel_when_nothing_can_be_saved(module, desktop, pictures, tmp_path):
    from BreastTumorSegLib.review.store import Store

    review_shown(module, desktop, tmp_path)
    path = tmp_path / "study" / "study.json"
    desktop.click(module.panels.review.ui.closeButton)
    other = Store(path.parent / "stores" / "study-ann.sqlite", "ann")
    module.panels.review.open_worklist(path)
    desktop.wait_until(lambda: module.logic.reading.subject is not None)
    module.panels.score.ui.scoreSection.collapsed = False
    picture(desktop, pictures, "score-read-only")
    other.close()


def test_the_correct_panel(module, desktop, pictures, tmp_path):
    review_shown(module, desktop, tmp_path)
    panel = module.panels.correct
    panel.ui.correctSection.collapsed = False
    desktop.click(panel.ui.growButton)
    desktop.wait_until(lambda: not panel._changes_timer.active)
    desktop.click(panel.ui.saveButton)
    panel.ui.guidelinesSection.collapsed = False
    picture(desktop, pictures, "correct")
