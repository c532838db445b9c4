"""Random changes of patches: what each changes, and what it must leave alone."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage

from BreastTumorSegLib.training import augmentation
from BreastTumorSegLib.training.augmentation import FLIPS, WIDE, AugmentationConfig, augment

EFFECTS = ["motion", "gain", "bias", "gamma", "thick_slices", "noise", "scale", "shift"]
ALL = AugmentationConfig(flip=1, **dict.fromkeys(EFFECTS, 1.0))
each_effect = pytest.mark.parametrize("effect", EFFECTS)


def only(effect):
    return AugmentationConfig(**{effect: 1.0})


def patch(phases=2, shape=(7, 8, 9), seed=0):
    random = np.random.default_rng(seed)
    image = torch.from_numpy(random.uniform(0.5, 2, (phases, *shape))).float()
    return image, torch.from_numpy(random.random(shape) > 0.8)


def changed(image, config, seed=0, zero=0.0):
    return augment(image, torch.zeros(image.shape[1:]), config, np.random.default_rng(seed), zero)[0]


# -- what holds for all ----------------------------------------------------------------------------------------


def test_switched_off_it_is_the_identity():
    image, label = patch()
    got = augment(image, label, AugmentationConfig(), np.random.default_rng(0))
    assert got[0] is image and got[1] is label


@each_effect
def test_intensity_changes_leave_the_label_and_the_given_patch_alone(effect):
    image, label = patch()
    before = image.clone()
    got_image, got_label = augment(image, label, only(effect), np.random.default_rng(0), zero=0.1)
    assert torch.equal(image, before) and not torch.equal(got_image, before)
    assert torch.equal(got_label, label)


@each_effect
def test_each_seed_has_its_own_result_and_keeps_it(effect):
    image, _ = patch()
    first, again, other = (changed(image, only(effect), seed) for seed in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_global_random_numbers_are_untouched():
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    changed(patch()[0], ALL)
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)


@pytest.mark.parametrize("shape", [(7, 8, 9), (1, 5, 6), (16, 16, 16)])
@pytest.mark.parametrize("phases", [1, 2, 4])
def test_any_shape_and_number_of_phases_will_do(phases, shape):
    image, _ = patch(phases, shape)
    for seed in range(5):
        got = changed(image, ALL, seed)
        assert got.shape == image.shape and got.dtype == torch.float32 and got.isfinite().all()


def test_a_patch_without_signal_stays_finite():
    assert changed(torch.zeros(2, 4, 4, 4), ALL).isfinite().all()


@each_effect
def test_what_counts_is_the_signal_above_zero(effect):
    image, _ = patch()
    torch.testing.assert_close(changed(image - 3, only(effect), zero=-3.0), changed(image, only(effect)) - 3)


@pytest.mark.parametrize("effect", ["gain", "bias", "gamma", "scale"])
def test_factors_leave_signal_zero_where_it_is(effect):
    image, _ = patch()
    image[:, :3] = -1.5
    got = changed(image, only(effect), zero=-1.5)
    torch.testing.assert_close(got[:, :3], image[:, :3])


# -- flips -----------------------------------------------------------------------------------------------------


def test_flips_take_image_and_label_along():
    image, _ = patch()
    label = torch.zeros(image.shape[1:])
    label[1, 2, 3] = 1
    seen = set()
    for seed in range(60):
        got, got_label = augment(image, label, FLIPS, np.random.default_rng(seed))
        assert torch.equal(got[:, got_label > 0], image[:, label > 0])
        seen.add(tuple(torch.nonzero(got_label)[0].tolist()))
    assert seen == {(z, y, x) for z in (1, 5) for y in (2, 5) for x in (3, 5)}


@pytest.mark.parametrize(("axis", "dim"), [("z", 1), ("y", 2), ("x", 3)])
def test_a_flip_is_along_the_axis_that_is_named(axis, dim):
    image, _ = patch()
    got = changed(image, AugmentationConfig(flip=1, flip_axes=(axis,)))
    assert np.array_equal(got.numpy(), np.flip(image.numpy(), dim))


def test_the_wide_preset_keeps_the_chest_wall_behind():
    image, label = patch()
    label[:, :4], label[:, 4:] = False, True
    for seed in range(10):
        assert torch.equal(augment(image, label, WIDE, np.random.default_rng(seed))[1], label)


# -- intensities -----------------------------------------------------------------------------------------------


def test_gain_changes_the_phases_after_the_first_alike():
    image = torch.ones(3, 8, 8, 8)
    gains = [changed(image, only("gain"), seed) for seed in range(200)]
    assert all(torch.equal(got[0], image[0]) and torch.equal(got[1], got[2]) for got in gains)
    means = np.array([got[1].mean() - 1 for got in gains])
    # Even between -.1 and .46, so .18 in the mean; 64 knots of .08 add a standard deviation of about .01.
    assert means.mean() == pytest.approx(0.18, abs=0.04)
    assert -0.15 < means.min() < -0.05 and 0.41 < means.max() < 0.51
    assert all(0.01 < got[1].std() < 0.1 for got in gains)


def test_the_bias_field_is_smooth_and_the_same_for_all_phases():
    image, _ = patch(3, (16, 16, 16))
    got = changed(image, only("bias"))
    factor = (got / image)[0]
    torch.testing.assert_close(got / image, factor.expand(3, -1, -1, -1))
    # Four knots over 16 voxels: a step is a fifth of the way between neighbouring knots.
    assert factor.std() > 0.03 and factor.diff(dim=0).abs().max() < 0.2


def test_gamma_is_a_power_that_keeps_the_brightest_voxel():
    image = torch.tensor([0.0, 0.5, 1.0, 2.0]).view(1, 1, 1, 4)
    exponents = []
    for seed in range(50):
        dark, half, quarter_power, top = changed(image, only("gamma"), seed).flatten().tolist()
        # .5 / 2 and 1 / 2 raised to the same power.
        assert (dark, top) == (0, 2) and (half / 2) == pytest.approx((quarter_power / 2) ** 2, rel=1e-5)
        exponents.append(np.log(quarter_power / 2) / np.log(0.5))
    assert 0.75 <= min(exponents) < 0.85 and 1.2 < max(exponents) <= 1.3


def test_scale_is_one_factor():
    image, _ = patch()
    factors = torch.stack([changed(image, only("scale"), seed) / image for seed in range(50)]).flatten(1)
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors))
    assert 0.8 <= factors.min() < 0.85 and 1.2 < factors.max() <= 1.25


def test_shift_is_one_number():
    image = torch.tensor([0.0, 2.0]).repeat(500).view(1, 10, 10, 10)  # standard deviation 1
    shifts = torch.stack([changed(image, only("shift"), seed) - image for seed in range(50)]).flatten(1)
    torch.testing.assert_close(shifts, shifts[:, :1].expand_as(shifts), rtol=0, atol=1e-6)
    assert -0.201 < shifts.min() < -0.15 and 0.15 < shifts.max() < 0.201


def test_noise_is_that_of_a_magnitude(monkeypatch):
    monkeypatch.setattr(augmentation, "NOISE", (0.1, 0.1))
    image = torch.zeros(1, 32, 32, 32)
    image[:, ::2] = 2  # the mean is 1, so the noise .1
    got = changed(image, only("noise"))
    # Without signal Rayleigh's distribution: mean .1 x sqrt(pi / 2), standard deviation .1 x sqrt(2 - pi / 2).
    assert got[:, 1::2].mean().item() == pytest.approx(0.12533, rel=0.02)
    assert got[:, 1::2].std().item() == pytest.approx(0.06551, rel=0.02)
    # With much of it a normal one, around about sqrt(2 ** 2 + .1 ** 2).
    assert got[:, ::2].mean().item() == pytest.approx(2.0025, rel=0.002)
    assert got[:, ::2].std().item() == pytest.approx(0.1, rel=0.02)


# -- along an axis ---------------------------------------------------------------------------------------------


def test_thick_slices_worked_out_by_hand(monkeypatch):
    monkeypatch.setattr(augmentation, "THICKNESS", (2.0, 2.0))
    ramp = torch.tensor([0.0, 2.0, 4.0, 6.0]).expand(1, 4, 4, 4)
    got = {tuple(changed(ramp, only("thick_slices"), seed)[0, 0, 0].tolist()) for seed in range(20)}
    # Slices across x: means 1 and 5 at .5 and 2.5, the end beyond them, lines between. Others don't change the ramp.
    assert got == {(0, 2, 4, 6), (1, 2, 4, 5)}


def test_thick_slices_blur_along_one_axis_only(monkeypatch):
    monkeypatch.setattr(augmentation, "THICKNESS", (3.0, 3.0))
    image, _ = patch(1, (24, 24, 24))
    blurred = set()
    for seed in range(12):
        got = changed(image, only("thick_slices"), seed)[0]
        got = got - got.mean()
        near = [(got * got.roll(1, dim)).mean() / got.var() for dim in range(3)]  # correlation of neighbours
        assert sorted(value > 0.5 for value in near) == [False, False, True]
        assert sorted(abs(value) < 0.1 for value in near) == [False, True, True]
        blurred.add(int(np.argmax(near)))
    assert blurred == {0, 1, 2}


def test_motion_leaves_the_phase_that_the_label_was_drawn_on():
    image, _ = patch(4)
    got = changed(image, only("motion"))
    assert torch.equal(got[1], image[1])
    assert not any(torch.equal(got[channel], image[channel]) for channel in (0, 2, 3))


def test_motion_is_up_to_two_voxels_along_each_axis():
    z, y, x = np.meshgrid(np.arange(9.0), np.arange(9.0), np.arange(9.0), indexing="ij")
    for values in (z, y, x):
        ramp = torch.from_numpy(values).float().expand(2, 9, 9, 9)
        inside = (0, slice(3, 6), slice(3, 6), slice(3, 6))
        moves = torch.stack([(changed(ramp, only("motion"), seed) - ramp)[inside] for seed in range(100)]).flatten(1)
        torch.testing.assert_close(moves, moves[:, :1].expand_as(moves), rtol=0, atol=1e-5)
        assert -2 <= moves.min() < -1 and 1 < moves.max() <= 2 and moves.abs().median() < 1


@pytest.mark.parametrize("by", [(0.0, 0.0, 0.0), (2.0, -2.0, 1.0), (0.25, -1.75, 1.5)])
def test_a_moved_phase_is_that_of_scipy(by):
    volume = patch()[0][0]
    expected = ndimage.shift(volume.numpy(), [-step for step in by], order=1, mode="nearest")
    np.testing.assert_allclose(augmentation._moved(volume, np.array(by)).numpy(), expected, atol=1e-5)


# -- configuration ---------------------------------------------------------------------------------------------


def test_a_config_survives_its_file():
    assert AugmentationConfig.model_validate_json(WIDE.model_dump_json()) == WIDE


@pytest.mark.parametrize("fields", [{"flip": 1.5}, {"gain": -0.1}, {"flip_axes": ("t",)}, {"rotation": 0.5}])
def test_a_senseless_config_is_refused(fields):
    with pytest.raises(ValidationError):
        AugmentationConfig(**fields)
