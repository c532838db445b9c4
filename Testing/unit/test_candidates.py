"""Which of the candidates are lesions, by more than how sure a network is of them."""

import numpy as np
import pytest
from pydantic import ValidationError

import training_runs
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.networks.bundle import LesionWeights, ModelDescription
from BreastTumorSegLib.segmentation.candidates import FEATURES, Candidate, features, judged, surroundings
from BreastTumorSegLib.segmentation.tumor import grow, grown_candidates
from BreastTumorSegLib.training.calibrate import FEWEST, Seen, fitting_weights

GRID = Geometry((60, 20, 20), (2.0, 1.0, 1.0), (0.0, 0.0, 0.0))
EVERYWHERE = np.ones(GRID.shape, bool)


def weights(**given):
    return LesionWeights(**dict.fromkeys(("bias", *FEATURES), 0.0) | given)


def block(x, size):
    mask = np.zeros(GRID.shape, bool)
    mask[5 : 5 + size, 5 : 5 + size, x : x + size] = True
    return mask


def test_the_features_of_a_candidate():
    """Two of 2 x 3 x 4 voxels of 2 mm3: 0.048 ml, 8 mm long; in the second one half of the voxels are less likely."""
    probability = np.full(GRID.shape, 0.8)
    probability[10] = 0.2
    boxes = [(slice(top, top + 2), slice(4, 7), slice(8, 12)) for top in (2, 10)]
    pair = [Candidate(0.9, box, np.ones((2, 3, 4), bool)) for box in boxes]
    found = features(pair, probability, np.full(GRID.shape, 50.0), EVERYWHERE, GRID)
    shared = [np.log(0.048), np.log(8), 1.0]
    assert found == pytest.approx(np.array([[np.log(9), np.log(4), *shared], [np.log(9), 0, *shared]]))
    assert features([], probability, probability, EVERYWHERE, GRID).shape == (0, 5)


def test_surroundings_are_the_breast_two_to_eight_millimetres_away_as_a_share():
    """One voxel of 2 x 1 x 1 mm enhances by 200; what is 2 mm away and less, or more than 8, does not count."""
    z, y, x = np.indices(GRID.shape) - np.array([10, 10, 30])[:, None, None, None]
    away = np.sqrt(z**2 + y**2 + 4.0 * x**2)
    one = Candidate(0.9, (slice(10, 11), slice(10, 11), slice(30, 31)), np.ones((1, 1, 1), bool))
    ring = (away > 2) & (away <= 8)
    enhancement = np.select([away == 0, away <= 2, ring & (x > 0), ring], [200.0, 900.0, 80.0, 40.0], 700.0)
    assert surroundings(one, enhancement, x > 0, GRID) == pytest.approx(0.4)
    assert surroundings(one, enhancement, x < 0, GRID) == pytest.approx(0.2)
    assert surroundings(one, np.where(ring, -40.0, 200.0), EVERYWHERE, GRID) == 0
    assert surroundings(one, np.where(ring, 400.0, 200.0), EVERYWHERE, GRID) == 1


def test_surroundings_at_the_edge_of_the_volume():
    """In the second voxel of a row; those at 3, 4 and 5 are 4, 6 and 8 mm away, the next is too far."""
    x = np.indices(GRID.shape)[2]
    one = Candidate(0.9, (slice(10, 11), slice(10, 11), slice(1, 2)), np.ones((1, 1, 1), bool))
    row = np.zeros(GRID.shape, bool)
    row[10, 10] = True
    enhancement = np.select([x == 1, x < 4, x < 6], [200.0, 60.0, 100.0], 900.0)
    assert surroundings(one, enhancement, row, GRID) == pytest.approx((60 + 100 + 100) / 3 / 200)


def test_surroundings_of_what_does_not_enhance_or_has_no_breast_around_it_are_none():
    corner = Candidate(0.9, (slice(0, 1),) * 3, np.ones((1, 1, 1), bool))
    assert surroundings(corner, np.full(GRID.shape, -1.0), EVERYWHERE, GRID) == 0
    assert surroundings(corner, np.full(GRID.shape, 9.0), ~EVERYWHERE, GRID) == 0
    assert surroundings(corner, np.full(GRID.shape, 9.0), EVERYWHERE, GRID) == 1


def test_every_feature_has_its_own_weight():
    """The logits of 0.9 and 0.8, 0.016 ml, 4 mm, surroundings that enhance a quarter as much."""
    one = Candidate(0.9, (slice(0, 2), slice(0, 2), slice(0, 2)), np.ones((2, 2, 2), bool))
    enhancement = np.full(GRID.shape, 25.0)
    enhancement[one.box] = 100.0
    told = {"sureness": np.log(9), "mean": np.log(4), "volume": np.log(0.016), "extent": np.log(4)}
    for name, value in (told | {"surroundings": 0.25}).items():
        by_one = weights(**{name: 1.0})
        (found,) = judged([one], np.full(GRID.shape, 0.8), enhancement, EVERYWHERE, GRID, by_one)
        assert found.likely == pytest.approx(1 / (1 + np.exp(-value))), name


def test_how_likely_a_candidate_is_a_lesion():
    """The mean probability of 0.5 has a logit of 0."""
    one = Candidate(0.9, (slice(0, 1),) * 3, np.ones((1, 1, 1), bool))
    half, dark = np.full(GRID.shape, 0.5), np.pad([[[9.0]]], [(0, size - 1) for size in GRID.shape])
    told = judged([one], half, dark, EVERYWHERE, GRID, weights(bias=0.5, sureness=2.0, mean=7.0, surroundings=7.0))
    assert [each.likely for each in told] == pytest.approx([1 / (1 + np.exp(-0.5) / 81)])
    assert told[0].box == one.box and told[0].mask is one.mask


def test_a_sure_speck_can_be_less_likely_than_a_large_part_that_is_less_sure():
    speck, large = block(5, 3), block(30, 8)
    probability = np.select([speck, large], [0.97, 0.7], 0.0)
    given = probability, np.where(speck | large, 100.0, 0.0), EVERYWHERE, GRID, 0.5
    assert np.array_equal(grow(*given, 0.65) > 0, large)  # smoothing takes the speck's sureness
    by_size = weights(bias=2.0, volume=1.0)  # even at 0.135 ml
    assert np.array_equal(grow(*given, 0.5, by_size) > 0, large)
    assert np.array_equal(grow(*given, 0.5, weights(bias=-2.0, volume=-1.0)) > 0, speck)
    assert not grow(*given, 0.99, by_size).any()


def test_growing_tells_how_likely_each_part_is_a_lesion():
    """By their 0.432 and 1.024 ml, of which the logits are logarithms; without weights, how sure the network is."""
    small, large = block(5, 6), block(30, 8)
    given = np.where(small | large, 0.9, 0.0), np.where(small | large, 100.0, 0.0), EVERYWHERE, GRID, 0.5
    likely = grow(*given, 0.1, weights(volume=1.0))
    assert likely.dtype == np.float32 and not likely[~(small | large)].any()
    assert np.allclose(likely[small], 0.432 / 1.432) and np.allclose(likely[large], 1.024 / 2.024)
    assert np.allclose(grow(*given, 0.1)[large], 0.9, atol=0.01)


def test_what_is_hardly_sure_is_no_candidate():
    sure, unsure = block(5, 8), block(30, 2)
    probability = np.select([sure, unsure], [0.9, 0.6], 0.0)
    given = probability, np.where(sure | unsure, 100.0, 0.0), EVERYWHERE, GRID, 0.5
    assert len(grown_candidates(*given)) == 2
    (told,) = grown_candidates(*given, weights=weights(bias=1.0))
    assert told.sure > 0.6 and told.likely == pytest.approx(1 / (1 + np.exp(-1)))


def test_a_grown_part_without_voxels_is_no_candidate():
    seed = block(5, 8)
    assert grown_candidates(np.where(seed, 0.9, 0.0), np.where(seed, 100.0, 0.0), ~EVERYWHERE, GRID, 0.5) == []


def seen(size, tumor):
    mask = block(10, size)
    logits = np.where(mask, 3.0, -8.0).astype(np.float32)
    return Seen(logits, 100.0 * mask, EVERYWHERE, mask & tumor, mask & tumor, GRID)


def fit(exams, **changes):
    return fitting_weights(ModelDescription(**training_runs.model(**changes)), exams, 1.0, Events())


def test_weights_tell_what_is_larger_where_lesions_are_larger():
    exams = [seen(size, size >= 8) for size in (6, 7, 8, 9) for _ in range(FEWEST)]
    fitted = fit(exams)
    for size, least, most in ((6, 0, 0.2), (9, 0.8, 1)):
        (found,) = seen(size, False).candidates(1.0, 0.5, weights=fitted)
        assert least <= found.likely <= most
    assert fit(exams[FEWEST : 3 * FEWEST]) is not None
    assert fit(exams[FEWEST + 1 : 3 * FEWEST]) is None  # one too few that are no lesion
    assert fit(exams, refined_by="fine") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"refined_by": "fine"},
        {"phases": ["pre"], "network": training_runs.model()["network"] | {"in_channels": 1}},
        {"task": "breast"},
    ],
)
def test_weights_are_for_lesions_that_are_grown(changes):
    told = training_runs.model(lesion_weights=weights().model_dump())
    assert ModelDescription(**told).lesion_weights == weights()
    with pytest.raises(ValidationError, match="lesion_weights"):
        ModelDescription(**told | changes)
