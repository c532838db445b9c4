import base64
import io
from dataclasses import replace
from html.parser import HTMLParser
from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from BreastTumorSegLib.core.errors import Cancelled, OutputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import Exam, PhaseTable, Problem, TimeSource
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.core.result import NONCONTRAST_NOTICE, Clusters, ExamResult
from BreastTumorSegLib.report.display import AXIAL, CORONAL, SAGITTAL, Display
from BreastTumorSegLib.report.figures import Figures
from BreastTumorSegLib.report.html import summary, write_report
from BreastTumorSegLib.report.noncontrast import write_noncontrast_report
from Testing.results import noncontrast_result, simulated_result

SIGNED_PERMUTATIONS = [
    np.eye(3)[list(order)] * signs for order in permutations(range(3)) for signs in product((1, -1), repeat=3)
]


class Page(HTMLParser):
    """The text, tables, images, tags and attributes of a report."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.rows, self.images, self.tags, self.attributes = "", [], [], [], []
        self.in_cell = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "img":
            self.images.append(dict(attrs))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        self.in_cell &= tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self.in_cell:
            self.rows[-1][-1] += data.strip()


def page(result: ExamResult, tmp_path) -> Page:
    write_report(result, tmp_path / "report.html")
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def picture(source: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB")).astype(int)


def red(source: str) -> np.ndarray:
    """Rows and columns of the red pixels of a picture."""
    pixels = picture(source)
    return np.argwhere(pixels[..., 0] - pixels[..., 1:].max(-1) > 100)


def test_lesion_table_has_the_values(tmp_path):
    rows = page(simulated_result(), tmp_path).rows
    assert rows[1] == ["1", "right", "7.24", "24.6", "> 20 to ≤ 50 mm", "218", "1.26", "washout", "6.13", "0.91"]
    assert rows[2] == ["2", "left", "3.62", "12.3", "≤ 20 mm", "218", "1.26", "washout", "3.06", "0.91"]


@pytest.mark.parametrize(("confidence", "told"), [(0.9949, "0.99"), (0.9951, "> 0.99"), (1.0, "> 0.99")])
def test_confidence_is_never_told_as_certainty(confidence, told, tmp_path):
    result = simulated_result()
    lesions = tuple(replace(lesion, confidence=confidence) for lesion in result.lesions)
    assert [row[-1] for row in page(replace(result, lesions=lesions), tmp_path).rows[1:3]] == [told, told]


def test_kinetics_are_told_with_their_seconds(tmp_path):
    report = page(simulated_result(phases=5), tmp_path)
    assert ["Early enhancement read", "150 s after injection, between the phases at 120 s and 241 s"] in report.rows
    assert ["Late enhancement read", "450 s after injection, between the phases at 362 s and 482 s"] in report.rows
    assert ["FTV of the right breast", "8.1 ml"] in report.rows and ["FTV of the left breast", "2.3 ml"] in report.rows
    bars = [value for name, value in report.attributes if name == "aria-label"]
    assert bars[0] == "not enhancing 5 %, persistent 15 %, plateau 20 %, washout 60 %"
    assert bars[2] == "cluster 1 100 %, cluster 2 0 %"  # lesion 1 has nothing but cluster 1


def test_an_exam_that_ends_early_says_so(tmp_path):
    rows = page(simulated_result(phases=4), tmp_path).rows
    assert ["Late enhancement read", "362 s after injection, instead of 450 s, as this exam's phases come"] in rows


def test_phase_table_and_provenance(tmp_path):
    report = page(simulated_result(phases=3), tmp_path)
    assert ["2", "phase 1", "120", "AcquisitionTime", "first post-contrast"] in report.rows
    assert ["breast-unet", "1", "0123456789ab"] in report.rows
    assert ["breast", "9.8"] in report.rows
    assert "cpu, 2 threads" in report.text and "torch 2.13.0" in report.text


@pytest.mark.parametrize(
    ("lesions", "sentence"),
    [
        (0, "No lesion found."),
        (1, "1 lesion found, 25 mm in the right breast."),
        (2, "2 lesions found, the largest 25 mm in the right breast."),
    ],
)
def test_summary(lesions, sentence, tmp_path):
    assert sentence in page(simulated_result(lesions), tmp_path).text


def test_summary_names_the_longest_and_no_unknown_side():
    first, second = simulated_result(2).lesions
    second = replace(second, diameter_mm=41.4, side="")
    assert summary((first, second)) == "2 lesions found, the largest 41 mm."


def test_everything_is_escaped(tmp_path):
    result = simulated_result()
    phase = replace(result.exam.table.phases[0], name="<script>alert(1)</script>")
    table = PhaseTable((phase, *result.exam.table.phases[1:]), (Problem("<u>bad</u>", "<u>fix</u>"),))
    result = replace(result, exam=Exam(table, result.exam.data), warnings=("<u>odd</u>",))
    report = page(result, tmp_path)
    assert not {"script", "u"} & set(report.tags)
    for text in ("<script>alert(1)</script>", "<u>bad</u>", "<u>fix</u>", "<u>odd</u>"):
        assert text in report.text


def test_needs_no_other_file(tmp_path):
    report = page(simulated_result(), tmp_path)
    sources = [value for name, value in report.attributes if name in ("src", "href", "srcset", "action")]
    assert sources and all(source.startswith("data:") for source in sources)
    assert not {"script", "iframe", "object"} & set(report.tags)
    assert not any(word in report.text for word in ("http", "url(", "@import"))


def test_every_image_has_its_own_alternative_text(tmp_path):
    texts = [image["alt"] for image in page(simulated_result(), tmp_path).images]
    assert all(texts) and len(set(texts)) == len(texts)


def test_holds_nothing_of_the_patient(tmp_path):
    result = simulated_result()
    text = "The file /exams/Doe_Jane/19700101/exam.nii.gz in /exams/Doe_Jane is odd."
    table = replace(result.exam.table, problems=(Problem(text, text),))
    report = page(replace(result, exam=Exam(table, result.exam.data), warnings=(text,)), tmp_path)
    assert "Doe" not in report.text and "1970" not in report.text
    assert report.text.count("The file .../exam.nii.gz in ... is odd.") == 3


def test_assumed_times_and_notice_are_told(tmp_path):
    result = simulated_result()
    phases = tuple(replace(phase, source=TimeSource.ASSUMED) for phase in result.exam.table.phases)
    report = page(replace(result, exam=Exam(PhaseTable(phases), result.exam.data)), tmp_path)
    assert ["1", "phase 0", "0", "unknown, assumed", "pre-contrast"] in report.rows
    assert "Not a medical device." in report.text


def test_one_post_contrast_phase_has_no_curve_type(tmp_path):
    result = simulated_result(phases=2)
    nan = float("nan")
    lesions = tuple(replace(lesion, ser=nan, ftv_ml=nan) for lesion in result.lesions)
    report = page(replace(result, lesions=lesions, ftv_ml={"right": nan, "left": nan}), tmp_path)
    assert report.rows[1][6:9] == ["–", "–", "–"] and "nan" not in report.text
    assert [
        "Early enhancement read",
        "120 s after injection, instead of 150 s, as this exam's phases come",
    ] in report.rows
    assert not any(row[0].startswith(("Late", "FTV")) for row in report.rows)
    assert "Curve types, SER and FTV need at least two post-contrast phases" in report.text


def test_no_lesion_no_cluster_no_breast(tmp_path):
    result = simulated_result(0)
    report = page(replace(result, breast=np.zeros_like(result.breast)), tmp_path)
    assert "No lesion was found" in report.text and "No breast was found" in report.text
    assert "No voxel enhances enough" in report.text
    assert [image["alt"].split()[0] for image in report.images] == ["Axial", "Coronal"]


def test_ten_largest_of_twelve_lesions_have_figures(tmp_path):
    report = page(simulated_result(12), tmp_path)
    assert sum("slice through lesion" in image["alt"] for image in report.images) == 30
    assert "Slices are shown for the 10 largest of 12 lesions." in report.text
    assert report.rows[12][0] == "12"


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 3), (1, 40, 1)])
def test_tiny_arrays(shape, tmp_path):
    geometry = Geometry(shape[::-1], (1.0, 2.0, 3.0))
    source = simulated_result(1, phases=2)
    phases = tuple(replace(phase, geometry=geometry) for phase in source.exam.table.phases)
    full, flat = np.ones(shape, np.uint8), np.zeros(shape, np.float32)
    clusters = Clusters(full, np.zeros((1, 2)), np.zeros((1, 2)), np.array([full.size]))
    exam = Exam(PhaseTable(phases), np.zeros((2, *shape), np.float32))
    maps = replace(source.maps, pe=flat, pe_late=flat, ser=flat, curve_type=full, time_to_peak=flat, washout_slope=flat)
    result = ExamResult(exam, full, full, flat, maps, full, {"right": 0.0}, clusters, source.lesions)
    assert len(page(result, tmp_path).images) > 6


@pytest.mark.parametrize("direction", SIGNED_PERMUTATIONS)
def test_turned_arrays_run_as_radiologists_look(direction):
    geometry = Geometry((4, 3, 2), (1.0, 2.0, 3.0), direction=tuple(direction.ravel()))
    z, y, x = np.indices(geometry.shape)
    patient = np.stack([x, y, z, np.ones_like(x)], axis=-1) @ geometry.matrix.T
    left, posterior, superior = (Display(geometry).turn(patient[..., axis]) for axis in range(3))
    assert (np.diff(superior, axis=0) < 0).all()
    assert (np.diff(posterior, axis=1) > 0).all()
    assert (np.diff(left, axis=2) > 0).all()


@pytest.mark.parametrize("direction", [matrix for matrix in SIGNED_PERMUTATIONS if np.linalg.det(matrix) > 0])
def test_turned_arrays_are_simpleitks(direction):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    image = Geometry((4, 3, 2), (1.0, 2.0, 3.0), direction=tuple(direction.ravel())).image(array)
    display, expected = Display(Geometry.of(image)), sitk.DICOMOrient(image, "LPI")
    assert np.array_equal(display.turn(array), sitk.GetArrayFromImage(expected))
    assert display.spacing == expected.GetSpacing()[::-1]


def test_oblique_grid_takes_the_nearest_axes():
    c, s = np.cos(0.3), np.sin(0.3)
    geometry = Geometry((4, 3, 2), (1.0, 2.0, 3.0), direction=(0, 0, -1, c, -s, 0, -s, -c, 0))
    assert Display(geometry).spacing == (2.0, 1.0, 3.0)


def test_position_is_read_in_patient_space():
    geometry = Geometry((10, 10, 10), (1.0, 2.0, 3.0), (-50.0, -20.0, 10.0))
    display = Display(geometry)
    assert display.position(AXIAL, 0) == "S 37 mm"  # the first slice of a turned array is the most superior
    assert display.position(CORONAL, 1) == "A 18 mm"
    assert display.position(SAGITTAL, 9) == "R 41 mm"


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal"])
def test_lesion_right_and_superior_is_at_left_and_top(plane):
    result = simulated_result(1, plane=plane)  # right breast, superior to the middle
    for panel in Figures(result).lesion(1):
        height, width = picture(panel.source).shape[:2]
        row, column = red(panel.source).mean(0) / (height, width)
        assert column < 0.5 or panel.view is SAGITTAL
        assert row < 0.5 or panel.view is AXIAL
        assert panel.view.letters[0] == ("A" if panel.view is SAGITTAL else "R")
        assert width / height == pytest.approx(panel.width_mm / panel.height_mm, rel=0.02)


def test_marker_voxel_lands_at_left_and_top():
    result = simulated_result(1)
    tumor = np.zeros_like(result.tumor)
    tumor[-2, 2, 3] = 1  # slices run to the superior, rows to the posterior, columns to the patient's left
    axial, sagittal, coronal = Figures(replace(result, tumor=tumor)).lesion(1)
    for panel, (row, column) in (
        (axial, (2.5 / 60, 3.5 / 100)),
        (sagittal, (1.5 / 30, 2.5 / 60)),
        (coronal, (1.5 / 30, 3.5 / 100)),
    ):
        size = picture(panel.source).shape[:2]
        assert red(panel.source).mean(0) / size == pytest.approx((row, column), abs=0.005)


def test_slices_go_through_the_largest_extent():
    result = simulated_result(1)
    tumor = np.zeros_like(result.tumor)
    tumor[5:8, 20, 20:22] = 1
    tumor[6, 20:24, 20:30] = 1
    axial, sagittal, coronal = Figures(replace(result, tumor=tumor)).lesion(1)
    assert axial.caption == "Axial, I 45 mm"
    assert coronal.caption == "Coronal, A 50 mm"
    assert sagittal.caption == "Sagittal, R 90 mm"


def test_heart_does_not_darken_the_lesion():
    axial, _, _ = Figures(simulated_result(1)).lesion(1)
    outline = red(axial.source)
    row, column = outline.mean(0).round().astype(int)
    assert picture(axial.source)[row, column].min() > 240


def test_projection_leaves_the_heart_out():
    axial = Figures(simulated_result(1)).projections()[0]
    assert axial.height_mm < 110  # the breasts are 90 mm deep, and a small margin


def test_breast_window_without_breast_is_the_bodys():
    result = simulated_result(1)
    assert len(Figures(replace(result, breast=np.zeros_like(result.breast))).lesion(1)) == 3


def test_cancelling_leaves_the_old_report(tmp_path):
    (tmp_path / "report.html").write_text("old")
    events = Events()
    events.cancel()
    with pytest.raises(Cancelled):
        write_report(simulated_result(), tmp_path / "report.html", events)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "old"


def test_unwritable_place_is_a_typed_error(tmp_path):
    with pytest.raises(OutputError, match="missing"):
        write_report(simulated_result(), tmp_path / "missing" / "report.html")


def test_progress_ends_at_its_total(tmp_path):
    class Steps(Events):
        def show(self, event):
            steps.append((event["stage"], event["done"], event["total"]))

    steps = []
    write_report(simulated_result(2), tmp_path / "report.html", Steps())
    assert steps == [("report", 0, 3), ("report", 1, 3), ("report", 2, 3), ("report", 3, 3)]


def test_a_report_without_contrast_shows_lesion_prediction_and_uncertainty(tmp_path):
    write_noncontrast_report(noncontrast_result(2), tmp_path / "report.html")
    report = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert NONCONTRAST_NOTICE in report.text and report.text.index(NONCONTRAST_NOTICE) < report.text.index("Lesions")
    assert report.rows[1] == ["1", "right", "7.24", "24.6", "> 20 to ≤ 50 mm", "0.91"]
    bars = [value for name, value in report.attributes if name == "aria-label"]
    assert bars[0] == "not enhancing 10 %, cluster 1 20 %, cluster 2 30 %, cluster 3 40 %, cluster 4 0 %"
    texts = [image["alt"] for image in report.images]
    assert len(set(texts)) == len(texts) == 2 * 6 + 2
    blue, orange = (
        picture(next(i["src"] for i in report.images if what in i["alt"])) for what in ("clusters", "uncertainty")
    )
    assert ((blue[..., 2] - blue[..., 0]) > 100).any(), "cluster 1"
    brown = (orange[..., 0] - orange[..., 2] > 100) & (orange[..., 1] > 70)
    assert brown.any(), "an uncertainty of 0.8"
    assert "kinetics" not in report.text.lower()


def test_a_report_without_contrast_and_lesion_does_not_rule_one_out(tmp_path):
    write_noncontrast_report(noncontrast_result(0, phases=3), tmp_path / "report.html")
    report = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "That does not exclude one, least of all without contrast." in report.text
    assert "those after the pre-contrast one were not looked at" in report.text
