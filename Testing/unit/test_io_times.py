"""Order and times of phases, from literal clock values."""

import pytest

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.exam import TimeSource
from BreastTumorSegLib.io.clocks import frame_clocks
from BreastTumorSegLib.io.nrrd import frame_clocks as nrrd_clocks
from BreastTumorSegLib.io.privacy import without_identity
from BreastTumorSegLib.io.times import choose, given, late_first_post

NAMES = ("a", "b", "c")


def clocks(**values):
    """One dictionary a phase from one list a source."""
    return [
        {TimeSource[source]: value[i] for source, value in values.items() if value[i] is not None}
        for i in range(len(next(iter(values.values()))))
    ]


@pytest.mark.parametrize(
    ("read", "source", "times", "order"),
    [
        (clocks(ACQUISITION_TIME=[100, 200, 330]), "ACQUISITION_TIME", (0, 100, 230), (0, 1, 2)),
        # A better source stands first.
        (
            clocks(ACQUISITION_TIME=[100, 200, 330], ACQUISITION_DATE_TIME=[5, 6, 7]),
            "ACQUISITION_DATE_TIME",
            (0, 1, 2),
            (0, 1, 2),
        ),
        # View sharing: the clock is wrong, TT= is right.
        (
            clocks(ACQUISITION_TIME=[1, 2, 3], SERIES_DESCRIPTION=[17.9, 190.2, 608.1]),
            "SERIES_DESCRIPTION",
            (0, 172.3, 590.2),
            (0, 1, 2),
        ),
        # The pre-contrast phase of its own has no TT=.
        (
            clocks(ACQUISITION_TIME=[1, 2, 3], SERIES_DESCRIPTION=[None, 20.0, 40.0]),
            "SERIES_DESCRIPTION",
            (0, 20, 40),
            (0, 1, 2),
        ),
        # One phase lacks TT= in the middle: not used, never mixed.
        (
            clocks(ACQUISITION_TIME=[1, 2, 3], SERIES_DESCRIPTION=[5.0, None, 40.0]),
            "ACQUISITION_TIME",
            (0, 1, 2),
            (0, 1, 2),
        ),
        # One series: AcquisitionTime is equal for all, TriggerTime tells them apart (GE).
        (clocks(ACQUISITION_TIME=[9, 9, 9], TRIGGER_TIME=[0, 90, 181]), "TRIGGER_TIME", (0, 90, 181), (0, 1, 2)),
        (clocks(CONTENT_TIME=[5, 5, 7], SERIES_TIME=[1, 2, 3]), "SERIES_TIME", (0, 1, 2), (0, 1, 2)),
        (clocks(MAMA_MIA=[0, 165, 288]), "MAMA_MIA", (0, 165, 288), (0, 1, 2)),
        # Falling: put in order of time.
        (clocks(ACQUISITION_TIME=[100, 330, 200]), "ACQUISITION_TIME", (0, 100, 230), (0, 2, 1)),
        # Past midnight, without a date.
        (clocks(ACQUISITION_TIME=[86280, 30, 150]), "ACQUISITION_TIME", (0, 150, 270), (0, 1, 2)),
        # Dates stripped from one phase, with the time of day kept.
        (
            clocks(ACQUISITION_TIME=[700000 * 86400 + 100, 220, 700000 * 86400 + 340]),
            "ACQUISITION_TIME",
            (0, 120, 240),
            (0, 1, 2),
        ),
        # Nothing known: order kept, an interval assumed.
        (clocks(ACQUISITION_TIME=[None, None, None]), "ASSUMED", (0, 90, 180), (0, 1, 2)),
        (clocks(ACQUISITION_TIME=[4, 4, 4]), "ASSUMED", (0, 90, 180), (0, 1, 2)),
        (clocks(TRIGGER_TIME=[0, float("nan"), 4]), "ASSUMED", (0, 90, 180), (0, 1, 2)),
    ],
)
def test_first_usable_source_gives_all_times(read, source, times, order):
    timing = choose(NAMES, read, 90.0)
    assert timing.source is TimeSource[source]
    assert timing.times == pytest.approx(times)
    assert timing.order == order


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (clocks(ACQUISITION_TIME=[100, 330, 200]), ["times fall", "'c' is 130.0 s before 'b'", "AcquisitionTime"]),
        (clocks(ACQUISITION_TIME=[100, 200, 200], SERIES_TIME=[1, 2, 3]), ["equal for 'b' and 'c'", "AcquisitionTime"]),
        (clocks(SERIES_TIME=[None, None, None]), ["unknown", "120 s"]),
        (clocks(SERIES_DESCRIPTION=[None, 20.0, 40.0]), ["'a' has no TT= in SeriesDescription"]),
    ],
)
def test_doubtful_times_are_told(read, words):
    (problem,) = choose(NAMES, read, 120.0).problems
    assert all(word in problem.message for word in words)
    assert problem.remedy
    assert not problem.fatal


def test_good_times_bring_no_problem():
    assert choose(NAMES, clocks(ACQUISITION_TIME=[9, 9, 9], TRIGGER_TIME=[0, 90, 181]), 120.0).problems == ()


@pytest.mark.parametrize("interval", [0.0, -5.0, float("nan"), float("inf")])
def test_interval_has_to_be_above_zero(interval):
    with pytest.raises(InputError, match="interval"):
        choose(NAMES, [{}, {}, {}], interval)


def test_given_times_replace_the_read_ones_and_keep_the_order():
    timing = given(choose(NAMES, clocks(ACQUISITION_TIME=[100, 330, 200]), 120.0), [0, 60, 120.5])
    assert (timing.order, timing.times, timing.source) == ((0, 2, 1), (0.0, 60.0, 120.5), TimeSource.USER)


@pytest.mark.parametrize(
    "times", [[], [0, 60], [0, 60, 120, 180], [1, 60, 120], [0, 60, 60], [0, 90, 60], [0, 60, float("nan")]]
)
def test_given_times_that_do_not_fit_are_refused(times):
    with pytest.raises(InputError, match="times"):
        given(choose(NAMES, [{}, {}, {}], 120.0), times)


@pytest.mark.parametrize(("first_post", "warned"), [(600.0, False), (601.0, True), (1371.1, True)])
def test_late_first_post_is_told(first_post, warned):
    problems = late_first_post(("pre", "post 1", "post 2"), (0.0, first_post, first_post + 100))
    assert [("'pre' is" in p.message, p.fatal) for p in problems] == ([(True, False)] if warned else [])


@pytest.mark.parametrize(
    ("values", "source", "seconds"),
    [
        ({"AcquisitionTime": "074853.767500"}, "ACQUISITION_TIME", 28133.7675),
        ({"AcquisitionTime": "07:48:53"}, "ACQUISITION_TIME", 28133.0),
        ({"AcquisitionTime": "0748"}, "ACQUISITION_TIME", 28080.0),
        ({"AcquisitionDate": "00010102", "AcquisitionTime": "000001"}, "ACQUISITION_TIME", 2 * 86400 + 1),
        ({"AcquisitionDateTime": "00010101000010.5+0200"}, "ACQUISITION_DATE_TIME", 86410.5),
        ({"FrameAcquisitionDateTime": "00010101000010"}, "ACQUISITION_DATE_TIME", 86410.0),
        ({"TriggerTime": "90500"}, "TRIGGER_TIME", 90.5),
        ({"NominalCardiacTriggerDelayTime": 1500.0}, "TRIGGER_TIME", 1.5),
        ({"TemporalPositionIdentifier": 3, "TemporalResolution": "61000"}, "TEMPORAL_POSITION", 183.0),
        ({"TemporalPositionTimeOffset": 61.5}, "TEMPORAL_OFFSET", 61.5),
        ({"ContentTime": "000130"}, "CONTENT_TIME", 90.0),
        ({"SeriesTime": "000130.25"}, "SERIES_TIME", 90.25),
        ({"SeriesDescription": "twist_20s_dyn_TRA (h20 ex B17)_TT=190.2s"}, "SERIES_DESCRIPTION", 190.2),
    ],
)
def test_seconds_by_source(values, source, seconds):
    assert frame_clocks(values) == {TimeSource[source]: pytest.approx(seconds)}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"AcquisitionTime": ""},
        {"AcquisitionTime": "noon"},
        {"AcquisitionDateTime": "20200101"},
        {"TriggerTime": None},
        {"TemporalPositionIdentifier": 3},
        {"TemporalPositionIdentifier": 3, "TemporalResolution": 0},
        {"RepetitionTime": 4.1, "InstanceNumber": 7},
        {"SeriesDescription": "dyn 60s"},
    ],
)
def test_what_is_no_time_gives_none(values):
    assert frame_clocks(values) == {}


@pytest.mark.parametrize(
    ("header", "times"),
    [
        ({"axis 0 index values": "0 120.5", "NRRD_units[pixel]": "s"}, [0.0, 120.5]),
        ({"axis 3 index values": "0 2", "NRRD_units[pixel]": "min"}, [0.0, 120.0]),
        ({"MultiVolume.FrameLabels": "0,120500", "MultiVolume.FrameIdentifyingDICOMTagUnits": "ms"}, [0.0, 120.5]),
        ({"axis 0 index values": "0 1"}, None),
        ({"axis 0 index values": "pre post", "NRRD_units[pixel]": "s"}, None),
        ({"axis 0 index values": "0 1 2", "NRRD_units[pixel]": "s"}, None),
        ({}, None),
    ],
)
def test_times_in_nrrd_headers(header, times):
    assert nrrd_clocks(header, 2) == ([{TimeSource.NRRD: t} for t in times] if times else [{}, {}])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ax dyn pre", "ax dyn pre"),
        ("DOE ax dyn", "ax dyn"),
        ("dyn_DoeJane_post", "dyn_post"),
        ("Jane^Doe dyn", "dyn"),
        ("dyn P123456", "dyn"),
        ("dyn 20200304 pre", "dyn pre"),
        ("dyn 04.03.2020", "dyn"),
        ("dyn 3/4/20 post", "dyn post"),
        ("Li dyn delayed line", "dyn delayed line"),
        ("twist (h20 ex B17)_TT=190.2s", "twist (h20 ex B17)_TT=190.2s"),
    ],
)
def test_descriptions_lose_the_patient(text, shown):
    assert without_identity(text, ("P123456", "Doe^Jane Li", "19600102")) == shown
