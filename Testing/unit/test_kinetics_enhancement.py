import numpy as np
import pytest

from BreastTumorSegLib.core.result import CURVE_TYPES
from BreastTumorSegLib.kinetics import curve_types, kinetic_maps, percent_enhancement, signal_enhancement_ratio
from BreastTumorSegLib.kinetics.enhancement import early_late, enhancing_voxels, noise_floor

NONE, PERSISTENT, PLATEAU, WASHOUT = range(4)
TIMES = (0.0, 150.0, 300.0, 450.0)

# One voxel a column: name, signal at each of TIMES, then what must come out (PE in percent at the first phase after).
VOXELS = [
    ("persistent", (100, 160, 180, 200), 60.0, 0.6, PERSISTENT),
    ("slow persistent", (100, 120, 140, 160), 20.0, 1 / 3, PERSISTENT),
    ("plateau rising", (100, 200, 205, 210), 100.0, 100 / 110, PLATEAU),
    ("plateau falling", (100, 200, 195, 190), 100.0, 100 / 90, PLATEAU),
    ("washout", (100, 300, 260, 200), 200.0, 2.0, WASHOUT),
    ("washout below baseline", (100, 160, 120, 90), 60.0, 0.0, WASHOUT),
    ("washout to baseline", (100, 160, 120, 100), 60.0, 0.0, WASHOUT),
    ("washout almost to baseline", (100, 160, 120, 101), 60.0, 10.0, WASHOUT),
    ("dips first", (100, 90, 120, 160), -10.0, 0.0, PERSISTENT),
    ("flat", (100, 100, 100, 100), 0.0, 0.0, NONE),
    ("just under the gate", (100, 149, 120, 100), 49.0, 0.0, NONE),
    ("at the gate", (100, 150, 150, 150), 50.0, 1.0, PLATEAU),
    ("background", (1, 50, 50, 50), 0.0, 0.0, NONE),
    ("air", (0, 10, 20, 30), 0.0, 0.0, NONE),
    ("flow", (100, 5000, 5000, 5000), 1000.0, 1.0, PLATEAU),
    ("signal lost", (100, 0, 0, 0), -100.0, 0.0, NONE),
]


def exam_of(*curves):
    return np.array(curves, np.float32).T[:, None, None, :]


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint16])
@pytest.mark.parametrize(("curve", "pe", "ser", "kind_of_curve"), [v[1:] for v in VOXELS], ids=[v[0] for v in VOXELS])
def test_maps_of_curves_worked_out_by_hand(curve, pe, ser, kind_of_curve, kind):
    # the other voxels set the floor: 5 % of about 100
    data = exam_of(curve, *[(100, 100, 100, 100)] * 99).astype(kind)
    maps = kinetic_maps(data, TIMES)
    assert maps.pe[0, 0, 0] == pytest.approx(pe, abs=1e-4)
    assert maps.ser[0, 0, 0] == pytest.approx(ser, rel=1e-5)
    assert CURVE_TYPES[maps.curve_type[0, 0, 0]] == CURVE_TYPES[kind_of_curve]
    assert [array.dtype for array in (maps.pe, maps.ser, maps.curve_type)] == [np.float32, np.float32, np.uint8]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ((0, 150, 450), (1, 2)),
        ((0, 130), None),
        ((0, 20, 40), None),  # no phase late enough to show contrast but the last
        ((0, 60, 120, 180, 240, 300, 400, 500), (2, 6)),
        ((0, 20, 100, 170), (2, 3)),
        ((0, 390, 700), (1, 2)),
        ((0, 442, 560, 800), (1, 2)),
        ((0, 145, 220, 300, 380, 460, 600, 900), (1, 5)),
        ((0, 1371, 1492.4, 1615.1, 1736.6), (1, 4)),  # the injection was 121 s before the first of these
    ],
)
def test_early_and_late_phase_are_chosen_by_seconds(times, expected):
    assert early_late(times) == expected


def test_ratios_of_maps_alone():
    pre, early, late = (np.array(values, np.float32) for values in ([10, 10, 10, 10], [30, 30, 5, 30], [20, 10, 5, 4]))
    assert signal_enhancement_ratio(pre, early, late).tolist() == [2.0, 0.0, 0.0, 0.0]
    assert percent_enhancement(np.full((1, 1, 2), 50.0), np.array([[[75.0, 25.0]]])).tolist() == [[[50.0, -50.0]]]
    assert percent_enhancement(np.zeros((1, 2, 2)), np.ones((1, 2, 2))).tolist() == [[[0.0, 0.0], [0.0, 0.0]]]


def test_one_post_contrast_phase_has_no_curve_type():
    data = exam_of((100, 200), (100, 100))
    assert not curve_types(data, (0, 120)).any()
    maps = kinetic_maps(data, (0, 120))
    assert maps.pe[0, 0].tolist() == [100.0, 0.0]
    assert not maps.ser.any()
    assert enhancing_voxels(data, (0, 120))[0, 0].tolist() == [True, False]


@pytest.mark.parametrize("deviation", [1.0, 5.0, 20.0])
def test_floor_is_five_deviations_of_noise(deviation):
    noisy = np.random.default_rng(0).normal(200, deviation, (8, 64, 64))
    noisy[:, :, :32] = 0  # masked away, no noise to measure
    assert noise_floor(noisy) == pytest.approx(max(5 * deviation, 0.05 * 200), rel=0.08)


@pytest.mark.parametrize("tissue", [0.0, 100.0])
def test_noise_alone_does_not_enhance(tissue):
    random = np.random.default_rng(1)
    real, imaginary = random.normal(tissue, 8, (5, 16, 64, 64)), random.normal(0, 8, (5, 16, 64, 64))
    data = np.hypot(real, imaginary).astype(np.float32)
    maps = kinetic_maps(data, (0, 90, 180, 270, 450))
    assert np.mean(maps.curve_type > 0) < 1e-3
    assert np.isfinite(maps.pe).all()
    assert np.mean(maps.pe > 50) < 1e-3


def test_an_exam_of_zeros_gives_zeros():
    maps = kinetic_maps(np.zeros((4, 5, 6, 7), np.float32), TIMES)
    assert not any(array.any() for array in vars(maps).values() if isinstance(array, np.ndarray))


def test_slices_make_no_difference():
    data = np.random.default_rng(2).uniform(50, 300, (4, 11, 6, 7)).astype(np.float32)
    maps = kinetic_maps(data, TIMES)
    types = curve_types(data, TIMES)
    assert np.array_equal(maps.curve_type, types)
    assert np.array_equal(maps.pe, percent_enhancement(data[0], data[1]))
    assert np.array_equal(maps.ser, np.where(types, signal_enhancement_ratio(data[0], data[1], data[3]), 0))
