"""Where windows go, and how they blend."""

import numpy as np
import pytest
import torch

from BreastTumorSegLib.segmentation.windows import Blend, batches, importance, plan_windows


def line(length, *wanted):
    mask = np.zeros((1, 1, length), bool)
    for start, stop in wanted:
        mask[..., start:stop] = True
    return mask


@pytest.mark.parametrize(
    ("length", "wanted", "starts"),
    [
        (32, [], []),
        (16, [(0, 16)], [0]),
        (64, [(30, 34)], [24]),  # around the middle, at a multiple of 4
        (64, [(0, 4)], [0]),  # clamped at the border
        (64, [(60, 64)], [48]),
        (64, [(2, 6), (9, 11)], [0]),  # both in one window: no window twice
        (64, [(0, 64)], [0, 8, 16, 24, 32, 40, 48]),  # each gives its middle 8
        (64, [(0, 4), (60, 64)], [0, 48]),  # nothing between
        (32, [(0, 13)], [0, 8]),  # voxel 12 is in the first one's halo
    ],
)
def test_windows_of_16_with_a_halo_of_4(length, wanted, starts):
    found = plan_windows(line(length, *wanted), (1, 1, 16), 4, 4)
    assert [start[2] for start in found] == starts


def test_every_wanted_voxel_is_deep_inside_a_window_and_no_window_comes_twice():
    random = np.random.default_rng(0)
    for _ in range(20):
        shape = tuple(8 * random.integers(4, 9, 3))
        wanted = np.zeros(shape, bool)
        for _ in range(4):
            middle = random.integers(0, shape)
            wanted[
                tuple(slice(max(m - r, 0), m + r) for m, r in zip(middle, random.integers(1, 20, 3), strict=True))
            ] = 1
        starts = plan_windows(wanted, (32, 32, 32), 8, 8)
        assert len(set(starts)) == len(starts)
        covered = np.zeros(shape, bool)
        for start in starts:
            assert all(s % 8 == 0 and 0 <= s <= n - 32 for s, n in zip(start, shape, strict=True))
            covered[
                tuple(slice(s + 8 * (s > 0), s + 32 - 8 * (s + 32 < n)) for s, n in zip(start, shape, strict=True))
            ] = True
        assert not (wanted & ~covered).any()


def test_the_middle_of_a_window_counts_most():
    weights = importance((1, 1, 5))[0, 0]
    # Sigma is 0.625: a voxel from the middle exp(-1.28), two exp(-5.12).
    assert weights.tolist() == pytest.approx([0.00598, 0.27804, 1.0, 0.27804, 0.00598], abs=1e-5)
    assert importance((1, 1, 160)).min() == pytest.approx(1e-3)


def test_windows_that_agree_blend_to_what_they_say_and_the_rest_is_background():
    blend = Blend((1, 1, 6), torch.device("cpu"))
    for start in (0, 2):
        blend.add((0, 0, start), torch.full((1, 1, 1, 4), 7.0))
    wanted = torch.tensor([1, 1, 1, 1, 0, 0], dtype=torch.bool).view(1, 1, 6)
    assert blend.into(torch.full((1, 1, 1, 6), -1.0), wanted).flatten().tolist() == pytest.approx([7, 7, 7, 7, -1, -1])


def test_of_two_windows_the_one_that_is_deeper_inside_counts_more():
    blend = Blend((1, 1, 5), torch.device("cpu"))
    blend.add((0, 0, 0), torch.full((1, 1, 1, 3), 1.0))
    blend.add((0, 0, 2), torch.full((1, 1, 1, 3), 3.0))
    answer = blend.into(torch.zeros(1, 1, 1, 5), torch.ones(1, 1, 5, dtype=torch.bool))
    assert answer.flatten().tolist() == pytest.approx([1, 1, 2, 3, 3])


def test_no_window_leaves_the_background():
    background = torch.rand(1, 2, 2, 2)
    assert Blend((2, 2, 2), torch.device("cpu")).into(background, torch.ones(2, 2, 2, dtype=torch.bool)) is background


def test_batches_hold_windows_of_one_shape():
    shapes = [3, 3, 3, 2, 2, 3]
    windows = [((n, 0, 0), torch.zeros(1, 4, 4, width)) for n, width in enumerate(shapes)]
    groups = [[start[0] for start, _ in group] for group in batches(windows, 2)]
    assert groups == [[0, 1], [2], [3, 4], [5]]


def test_windows_that_must_start_at_multiples_stick_out_of_the_volume():
    """Along x 22 voxels, windows of 8 with a halo of 2 that start at multiples of 4: the last one holds 20 and 21."""
    wanted = np.ones((8, 8, 22), bool)
    assert sorted(x for _, _, x in plan_windows(wanted, (8, 8, 8), 2, 4)) == [0, 4, 8, 12, 16]
