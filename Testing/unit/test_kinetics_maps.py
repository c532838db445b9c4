"""Readings at seconds, time to peak, washout slope and damaged voxels, each against numbers worked out by hand."""

import math

import numpy as np
import pytest

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.result import CURVE_TYPES
from BreastTumorSegLib.kinetics import KineticOptions, curve_types, kinetic_maps
from BreastTumorSegLib.kinetics.maps import told
from BreastTumorSegLib.kinetics.options import USUAL
from BreastTumorSegLib.kinetics.readings import early_and_late, signal_at

TIMES = (0.0, 100.0, 200.0, 300.0, 500.0)  # early is half way from 100 to 200 s, late three quarters from 300 to 500 s


def maps_of(*curves, times=TIMES, options=USUAL, kind=np.float32):
    """Maps of an exam with these voxels beside each other, and flat ones that set the noise floor to 5."""
    flat = [(100.0,) * len(times)] * 99
    return kinetic_maps(np.array([*curves, *flat], kind).T[:, None, None, :], times, options)


@pytest.mark.parametrize(
    ("times", "early", "late"),
    [
        ((0, 150, 450), (150, (150,)), (450, (450,))),
        ((0, 100, 200, 300, 500), (150, (100, 200)), (450, (300, 500))),
        ((0, 120, 240, 360), (150, (120, 240)), (360, (360,))),  # it ends before 450 s
        ((0, 241, 400, 560), (241, (241,)), (450, (400, 560))),  # the first phase after contrast is late
        ((0, 20, 100, 170), (100, (100,)), (170, (170,))),  # 150 and 170 s would be too near to each other
        ((0, 390, 700), (390, (390,)), (700, (700,))),  # so would 390 and 450 s
        ((0, 442, 560, 800), (442, (442,)), (560, (560,))),
        ((0, 150, 150, 450, 450), (150, (150,)), (450, (450,))),  # phases at the same time
        ((0, 140, 140, 160, 450), (150, (140, 160)), (450, (450,))),
        # the patient was out for 1250 s; the injection was one interval of 121 s before the first phase after contrast
        ((0, 1371, 1492, 1613, 1734), (150, (121, 242)), (450, (363, 484))),
    ],
)
def test_seconds_that_are_really_read(times, early, late):
    found = early_and_late(times)
    assert [(reading.used_s, reading.phases_s) for reading in found] == [early, late]
    assert [reading.wanted_s for reading in found] == [150, 450]


@pytest.mark.parametrize(("times", "used"), [((0, 90), 90), ((0, 150), 150), ((0, 500), 500), ((0, 20, 40), 40)])
def test_one_post_contrast_phase_has_an_early_reading_only(times, used):
    early, late = early_and_late(times)
    assert (early.used_s, late) == (used, None)


def test_signal_between_two_phases():
    early, late = early_and_late((0, 140, 160, 400, 600))
    data = np.array([[100], [200], [300], [500], [900]], np.uint16)
    assert signal_at(data, early).tolist() == [250.0]
    assert signal_at(data, late).tolist() == [600.0]  # 50 of 200 s after 500, on the way to 900


def test_other_seconds_may_be_asked_for():
    early, late = early_and_late(TIMES, KineticOptions(early_s=120, late_s=300))
    assert (early.used_s, early.phases_s, late.used_s, late.phases_s) == (120, (100, 200), 300, (300,))


def test_maps_of_interpolated_curves():
    # early signal (200 + 300) / 2 = 250; late signal 280 - 0.75 * 80 = 220
    maps = maps_of((100, 200, 300, 280, 200))
    assert maps.pe[0, 0, 0] == pytest.approx(150)
    assert maps.pe_late[0, 0, 0] == pytest.approx(120)
    assert maps.ser[0, 0, 0] == pytest.approx(150 / 120)
    assert CURVE_TYPES[maps.curve_type[0, 0, 0]] == "washout"  # 220 < 0.9 * 250
    assert maps.time_to_peak[0, 0, 0] == 200


@pytest.mark.parametrize(
    ("curve", "peak_s"),
    [
        ((100, 300, 200, 200, 200), 100),
        ((100, 200, 300, 300, 300), 200),  # the first of those that are as high
        ((100, 120, 140, 160, 180), 500),
        ((300, 200, 100, 100, 100), 0),  # never above the gate
        ((100, 100, 100, 100, 100), 0),
    ],
)
def test_time_to_peak(curve, peak_s):
    assert maps_of(curve).time_to_peak[0, 0, 0] == peak_s


def test_time_to_peak_counts_from_the_injection():
    maps = maps_of((100, 200, 300, 250), times=(0, 1371, 1492, 1613))  # injected at 1250 s
    assert maps.time_to_peak[0, 0, 0] == 242


@pytest.mark.parametrize(
    ("curve", "slope"),
    [
        ((100, 300, 300, 300), 0.0),
        ((100, 300, 280, 260), -10.0),  # 20 of 200 lost every minute
        ((100, 160, 180, 200), 20.0),  # 20 of 100 gained
        ((100, 300, 200, 300), 0.0),
        ((100, 300, 240, 270), -7.5),  # the line through 300, 240, 270 falls by 15 a minute, of 200
        ((100, 300, 100, -300), -100.0),  # no more than all of it in a minute
        ((100, 120, 110, 100), 0.0),  # does not enhance
    ],
)
def test_washout_slope_in_percent_of_the_peak_enhancement_a_minute(curve, slope):
    assert maps_of(curve, times=(0, 150, 210, 270)).washout_slope[0, 0, 0] == pytest.approx(slope, abs=1e-4)


def test_washout_slope_leaves_out_what_is_before_the_early_phase():
    assert maps_of((100, 100, 300, 280), times=(0, 70, 140, 200)).washout_slope[0, 0, 0] == pytest.approx(-10, abs=1e-4)


def test_phases_at_the_same_time_have_no_slope_but_a_type():
    maps = maps_of((100, 300, 200), times=(0, 200, 200))
    assert not maps.washout_slope.any()
    assert CURVE_TYPES[maps.curve_type[0, 0, 0]] == "washout"
    assert told(maps, (0, 200, 200))["washout_slope"] is None


def test_thresholds_are_options():
    curve = (100, 140, 140, 132, 132)
    assert not maps_of(curve).curve_type.any()
    low = KineticOptions(least_pe=40)
    assert CURVE_TYPES[maps_of(curve, options=low).curve_type[0, 0, 0]] == "plateau"  # -5.7 %
    strict = KineticOptions(least_pe=40, curve_change=5)
    assert CURVE_TYPES[maps_of(curve, options=strict).curve_type[0, 0, 0]] == "washout"
    data = np.array([curve], np.float32).T[:, None, None, :]
    assert CURVE_TYPES[curve_types(data, TIMES, floor=5, options=strict)[0, 0, 0]] == "washout"


@pytest.mark.parametrize("wrong", [{"early_s": 450}, {"least_pe": -1}, {"ftv_pe": math.nan}, {"late_s": math.inf}])
def test_options_that_make_no_sense(wrong):
    with pytest.raises(InputError):
        KineticOptions(**wrong)


@pytest.mark.parametrize("phase", range(5))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.filterwarnings("error")
def test_what_is_not_a_number_is_background(phase, value):
    curve = [100.0, 300.0, 300.0, 300.0, 300.0]
    curve[phase] = value
    maps = maps_of(curve, (100, 300, 300, 300, 300))
    for name in ("pe", "pe_late", "ser", "curve_type", "time_to_peak", "washout_slope"):
        assert np.isfinite(getattr(maps, name)).all(), name
    assert maps.curve_type[0, 0, :2].tolist() == [0, 2]
    assert maps.pe[0, 0, 1] == 200


@pytest.mark.parametrize("pre", [0.0, -100.0, 4.9])
@pytest.mark.filterwarnings("error")
def test_no_signal_before_contrast_is_background(pre):
    maps = maps_of((pre, 300, 300, 200, 200))
    assert not any(getattr(maps, name)[0, 0, 0] for name in ("pe", "pe_late", "ser", "curve_type", "washout_slope"))


def test_one_post_contrast_phase_has_early_enhancement_alone():
    maps = maps_of((100, 220), times=(0, 90))
    assert maps.pe[0, 0, 0] == pytest.approx(120)
    assert not any(
        getattr(maps, name).any() for name in ("pe_late", "ser", "curve_type", "time_to_peak", "washout_slope")
    )
    assert told(maps, (0, 90)) == {
        "injection_s": 0.0,
        "early": {"wanted_s": 150.0, "used_s": 90, "phases_s": [90]},
        "late": None,
        "washout_slope": None,
        "options": vars(KineticOptions()),
    }


def test_what_the_manifest_tells():
    times = (0, 120, 240, 360)
    found = told(maps_of((100, 200, 200, 200), times=times), times)
    assert found["early"] == {"wanted_s": 150.0, "used_s": 150.0, "phases_s": [120, 240]}
    assert found["late"] == {"wanted_s": 450.0, "used_s": 360, "phases_s": [360]}
    assert found["washout_slope"] == {"from_s": 120, "to_s": 360}
