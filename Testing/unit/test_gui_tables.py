"""The module's own logic that needs no Slicer: the phase table, subtraction and projections, the time left."""

import numpy as np
import pytest

from BreastTumorSegGui import derived, exam_table, time_left
from BreastTumorSegGui.exam_table import Row
from BreastTumorSegLib.core.exam import TimeSource
from BreastTumorSegLib.core.geometry import Geometry

GRID = Geometry((4, 3, 2), (1.0, 2.0, 3.0), (10.0, 20.0, 30.0))


def row(name, time, source=TimeSource.ACQUISITION_TIME, geometry=GRID, moved=False):
    return Row(name, name, geometry, time, source, moved)


def three(source=TimeSource.ACQUISITION_TIME):
    return [row("pre", 0.0, source), row("post 1", 120.0, source), row("post 2", 240.0, source)]


def test_a_good_table_has_no_problems():
    assert exam_table.problems_of(three()) == [[], [], []]
    assert exam_table.reason_against(three()) == ""


@pytest.mark.parametrize(
    ("changed", "where", "words"),
    [
        (row("x", 5.0), 0, "not at 0 s"),
        (row("x", 0.0), 1, "Not later"),
        (row("x", 300.0), 1, None),
        (row("x", float("nan")), 1, "Not later"),
        (row("x", 120.0, geometry=Geometry((4, 3, 1), (1, 2, 3))), 1, "size 4 x 3 x 2 against 4 x 3 x 1"),
        (row("x", 120.0, moved=True), 1, "transform"),
    ],
)
def test_what_makes_a_table_unusable_stands_at_its_row(changed, where, words):
    rows = three()
    rows[where] = changed
    found = exam_table.problems_of(rows)
    if words is None:  # the phase after it is then not later
        assert found[where] == []
        assert "Not later" in str(found[where + 1][0])
    else:
        assert words in str(found[where][0])
        assert found[where][0].fatal
    assert exam_table.reason_against(rows)


def test_too_few_phases_are_told():
    assert "Load the phases" in exam_table.reason_against([])
    assert exam_table.reason_against(three()[:1]) == ""
    assert "at least one phase after" in exam_table.reason_against_curves(three()[:1])
    assert exam_table.reason_against_curves(three()[:2]) == ""
    (note,) = exam_table.notes_of(three()[:1])
    assert "one phase only" in note and "without contrast" in note
    assert exam_table.notes_of(three()) == []


def test_doubtful_times_are_told_and_can_be_confirmed():
    rows = [row("pre", 0.0), row("post 1", 0.019), row("post 2", 700.0, TimeSource.ASSUMED)]
    found = exam_table.problems_of(rows)
    assert "Only 0.019 s" in str(found[1][0])
    assert "assumed" in str(found[2][0])
    assert exam_table.reason_against(rows) == ""


def test_a_late_first_post_contrast_phase_is_told():
    found = exam_table.problems_of([row("pre", 0.0), row("post", 900.0)])
    assert "15.0 minutes" in str(found[1][0])


def test_a_moved_phase_takes_its_time_along_unless_times_are_assumed():
    known = exam_table.moved(three(), 2, -1)
    assert [(r.name, r.time) for r in known] == [("pre", 0.0), ("post 2", 240.0), ("post 1", 120.0)]
    assumed = exam_table.moved(three(TimeSource.ASSUMED), 2, -1)
    assert [(r.name, r.time) for r in assumed] == [("pre", 0.0), ("post 2", 120.0), ("post 1", 240.0)]


@pytest.mark.parametrize(("text", "time"), [("90", 90.0), (" 90.5 s ", 90.5), ("90,5", 90.5)])
def test_a_typed_time_is_the_users(text, time):
    changed = exam_table.with_time(three(), 1, text)[1]
    assert (changed.time, changed.source) == (time, TimeSource.USER)


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf"])
def test_a_typed_text_that_is_no_time_is_refused(text):
    with pytest.raises(ValueError):
        exam_table.with_time(three(), 1, text)


def finish(generator):
    fractions = []
    while True:
        try:
            fractions.append(next(generator))
        except StopIteration as end:
            assert fractions == sorted(fractions)
            assert fractions[-1] == 1.0
            return end.value


def test_subtraction_of_unsigned_numbers_goes_below_zero():
    pre = np.full((2, 3, 4), 7, np.uint16)
    post = np.full((2, 3, 4), 5, np.uint16)
    assert finish(derived.subtract(post, pre)).tolist() == np.full((2, 3, 4), -2.0).tolist()


@pytest.mark.parametrize(
    ("axis", "expected"),
    [(0, [[[9, 2], [3, 8]]]), (1, [[[3, 2]], [[9, 8]]]), (2, [[[2], [3]], [[9], [8]]])],
)
def test_projections(monkeypatch, axis, expected):
    monkeypatch.setattr(derived, "SLAB_VOXELS", 1)  # one slice a slab
    volume = np.array([[[1, 2], [3, 0]], [[9, 1], [0, 8]]])
    assert finish(derived.project(volume, axis)).tolist() == expected


def test_a_projection_lies_in_the_middle_and_is_as_thick_as_the_volume():
    thick = derived.projected(GRID, 0)
    assert thick.size == (4, 3, 1)
    assert thick.spacing == (1.0, 2.0, 6.0)
    assert thick.origin == (10.0, 20.0, 31.5)


def test_the_view_decides_the_axis_in_sagittal_exams_too():
    sagittal = Geometry((4, 3, 2), (1, 1, 1), (0, 0, 0), (0, 0, -1, 1, 0, 0, 0, -1, 0))
    assert [derived.projection_axis(GRID, plane) for plane in ("axial", "coronal", "sagittal")] == [0, 1, 2]
    assert [derived.projection_axis(sagittal, plane) for plane in ("sagittal", "coronal", "axial")] == [0, 2, 1]


def test_time_left_follows_the_speed_so_far():
    now = [0.0]
    left = time_left.TimeLeft({"a": 10.0, "b": 30.0}, lambda: now[0])
    left.update("a", 0.5)
    assert left.fraction == 0.125
    assert left.seconds is None  # too early to say
    now[0] = 10.0  # twice as slow as usual
    assert left.seconds == pytest.approx(70.0)
    left.update("b", 1.0)
    assert left.fraction == 1.0
    assert left.seconds == 0.0


def test_the_bar_never_goes_back_and_unknown_stages_do_no_harm():
    left = time_left.TimeLeft({"a": 10.0, "b": 30.0}, lambda: 5.0)
    left.update("b", 0.5)
    left.update("a", 0.0)
    left.update("z", 0.3)
    assert left.fraction == 0.625


# Two runs on one real exam, the second while other programs kept the computer busy: second, stage, done/total.
QUIET = """
1.7 headers 0/800, 2.0 headers 200/800, 2.4 headers 400/800, 2.9 headers 600/800, 3.4 headers 800/800, 3.5
load 0/5, 4.9 load 1/5, 6.0 load 2/5, 7.4 load 3/5, 8.3 load 4/5, 9.2 load 5/5, 9.2 models 0/1, 15.4 models
1/1, 15.4 breast 0/1, 24.5 breast 1/1, 24.5 tumor 0/1, 35.7 tumor 1/1, 35.7 kinetics 0/1, 39.9 kinetics 1/1,
39.9 clusters 0/1, 42.1 clusters 1/1, 42.1 lesions 0/1, 42.1 lesions 1/1, 42.1 write 0/11, 42.4 write 3/11,
43.9 write 6/11, 44.9 write 9/11, 45.1 report 0/3, 45.3 report 1/3, 45.5 report 2/3, 46.7 report 3/3
"""
BUSY = """
3.4 headers 0/800, 4.9 headers 200/800, 6.8 headers 400/800, 8.9 headers 600/800, 10.9 headers 800/800, 11.1
load 0/5, 11.9 load 1/5, 13.4 load 2/5, 15.6 load 3/5, 17.6 load 4/5, 19.1 load 5/5, 19.1 models 0/1, 32.7
models 1/1, 32.7 breast 0/1, 54.1 breast 1/1, 54.1 tumor 0/1, 70.6 tumor 1/1, 70.7 tumor 1/1, 70.7 tumor 1/1,
70.7 tumor 1/1, 70.7 tumor 1/1, 70.8 tumor 1/1, 70.8 kinetics 0/1, 83.5 kinetics 1/1, 83.5 clusters 0/1, 90.1
clusters 1/1, 90.1 lesions 0/1, 90.5 lesions 1/1, 90.5 write 0/11, 91.2 write 3/11, 94.2 write 6/11, 95.7
write 9/11, 96.3 report 0/3, 97.0 report 1/3, 97.6 report 2/3, 101.8 report 3/3
"""


def events_of(log):
    rows = [row.split() for row in log.replace("\n", " ").split(",")]
    return [(float(at), stage, *map(int, share.split("/"))) for at, stage, share in rows]


@pytest.mark.parametrize(("learned", "run"), [(QUIET, QUIET), (QUIET, BUSY), (BUSY, QUIET)])
def test_the_estimate_is_within_thirty_percent_from_the_first_quarter_on(learned, run):
    now = [0.0]
    before = time_left.TimeLeft({}, lambda: now[0])
    for at, stage, *_ in events_of(learned):
        now[0] = at
        before.update(stage, 0.0)
    now[0] = 0.0
    left, told = time_left.TimeLeft(before.measured(), lambda: now[0]), events_of(run)
    end = told[-1][0]
    for tenth in range(int(10 * end)):
        now[0] = tenth / 10
        while told[0][0] <= now[0]:
            _, stage, done, total = told.pop(0)
            left.update(stage, done / total)
        if now[0] >= end / 4:
            assert now[0] + left.seconds == pytest.approx(end, rel=0.3), now[0]


def test_stages_are_measured():
    now = [0.0]
    left = time_left.TimeLeft({"a": 1.0, "b": 1.0}, lambda: now[0])
    for stage, at in (("a", 1.0), ("b", 4.0)):
        now[0] = at
        left.update(stage, 0.0)
    now[0] = 9.0
    assert left.measured() == {"a": 3.0, "b": 5.0}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, ""), (2.0, "about 5 s left"), (43.0, "about 45 s left"), (200.0, "about 3 min left")],
)
def test_time_left_in_words(seconds, words):
    assert time_left.text(seconds) == words
