import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.review.edits import fill_holes, from_probability, keep_lesion, lesion_at, remove_lesion
from BreastTumorSegLib.review.shapes import resize, smooth, split

MILLIMETRE = (1.0, 1.0, 1.0)


def grid(labels, spacing_zyx=MILLIMETRE):
    return Geometry(labels.shape[::-1], spacing_zyx[::-1])


def flat(*rows):
    """One slice of labels, a string of digits a row."""
    return np.array([[list(map(int, row)) for row in rows]], np.uint8)


def rows(labels):
    return ["".join(map(str, row)) for row in labels[0].tolist()]


def ball(radius, spacing_zyx=MILLIMETRE, shift=(0.0, 0.0, 0.0), room=4.0):
    """A ball in mm around the middle of an array, shifted by mm, as labels."""
    counts = [2 * int((radius + room) / step) + 1 for step in spacing_zyx]
    axes = [(np.arange(n) - n // 2) * step for n, step in zip(counts, spacing_zyx, strict=True)]
    z, y, x = np.ix_(*(axis - by for axis, by in zip(axes, shift, strict=True)))
    return (z**2 + y**2 + x**2 <= radius**2).astype(np.uint8)


def radius_of(mask, spacing_zyx):
    """Of a ball of the mask's volume, in mm."""
    return (np.count_nonzero(mask) * np.prod(spacing_zyx) * 3 / (4 * np.pi)) ** (1 / 3)


@st.composite
def lesions(draw):
    """Blobs of three lesions, some of which may touch; lesion 1 is there."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = tuple(draw(st.tuples(*[st.integers(6, 14)] * 3)))
    noise = ndimage.gaussian_filter(random.normal(size=(3, *shape)), (0, 1, 1.5, 1.5))
    labels = np.where(noise.max(axis=0) > 0.15, 1 + noise.argmax(axis=0), 0).astype(np.uint8)
    labels[tuple(size // 2 for size in shape)] = 1
    return labels


EDITS = {
    "grow": lambda labels: resize(labels, 1, grid(labels, (2.0, 0.7, 0.9)), 1.0),
    "shrink": lambda labels: resize(labels, 1, grid(labels, (2.0, 0.7, 0.9)), -0.5),
    "fill": lambda labels: fill_holes(labels, 1),
    "smooth": lambda labels: smooth(labels, 1, grid(labels, (2.0, 0.7, 0.9)), 1.0),
    "split": lambda labels: split(labels, 1, grid(labels, (2.0, 0.7, 0.9))),
    "remove": lambda labels: remove_lesion(labels, 1),
}


@settings(max_examples=25, deadline=None)
@given(labels=lesions(), edit=st.sampled_from(sorted(EDITS)))
@example(labels=flat("11100111022"), edit="split")  # the second part becomes 3
def test_edits_leave_other_lesions_and_their_input_alone(labels, edit):
    before = labels.copy()
    try:
        after = EDITS[edit](labels)
    except InputError:
        after = before
    np.testing.assert_array_equal(labels, before)
    there = set(np.unique(before).tolist())
    for other in there - {0, 1}:
        np.testing.assert_array_equal(after == other, before == other)
    if edit != "split":  # which numbers the second part anew
        assert set(np.unique(after).tolist()) <= there | {0}
    assert after.dtype == np.uint8
    if edit in ("shrink", "split", "remove"):
        assert not np.any((after > 0) & (before == 0))
    if edit in ("grow", "fill", "split"):
        assert not np.any((after == 0) & (before > 0))
    if edit == "smooth":
        assert np.count_nonzero(after == 1) == np.count_nonzero(before == 1)


@settings(max_examples=25, deadline=None)
@given(labels=lesions())
def test_remove_and_keep_are_the_two_parts_of_a_mask(labels):
    removed, kept = remove_lesion(labels, 1), keep_lesion(labels, 1)
    np.testing.assert_array_equal(removed + kept, labels)
    assert not np.any((removed > 0) & (kept > 0))
    assert set(np.unique(kept)) == {0, 1}


@pytest.mark.parametrize("edit", [remove_lesion, keep_lesion, fill_holes])
@pytest.mark.parametrize("label", [0, 3])
def test_a_lesion_that_is_not_there(edit, label):
    with pytest.raises(InputError, match=f"There is no lesion {label}"):
        edit(flat("0120"), label)


@pytest.mark.parametrize(
    ("index", "label"),
    [
        ((0, 0, 0), 1),
        ((0, 0, 2), 1),
        ((0, 0, 3), 1),  # 3 mm
        ((0, 0, 4), 0),  # 4 mm from 1 and from 2
        ((0, 0, 5), 2),
        ((0, 0, 9), 2),
        ((0, 0, 12), 0),
        ((0, -2, 0), 1),
    ],
)
def test_the_lesion_at_a_click(index, label):
    labels = flat("1000000020000")
    assert lesion_at(labels, index, grid(labels)) == label


def test_a_click_counts_in_millimetres():
    labels = np.zeros((5, 5, 9), np.uint8)
    labels[4, 2, 2], labels[2, 2, 7] = 1, 2
    # Two slices of 2 mm are farther than five voxels of 0.5 mm.
    assert lesion_at(labels, (2, 2, 2), grid(labels, (2.0, 0.5, 0.5))) == 2


@pytest.mark.parametrize(
    ("mm", "expected"),
    [
        (0.4, ["000000020", "000110020", "000110020", "000000020"]),
        (1.0, ["001111020", "001111020", "001111020", "001111020"]),
        (1.5, ["001111020", "011111120", "011111120", "001111020"]),
        (2.5, ["011111120", "111111120", "111111120", "011111120"]),
    ],
)
def test_a_square_grows_up_to_the_next_lesion(mm, expected):
    """Half a voxel from the surface is the next voxel's centre; diagonal ones are 1.41 - 0.5 = 0.91 mm away."""
    labels = flat("000000020", "000110020", "000110020", "000000020")
    assert rows(resize(labels, 1, grid(labels), mm)) == expected


def test_one_millimetre_changes_one_layer_of_two_millimetre_voxels():
    labels = np.zeros((7, 7, 7), np.uint8)
    labels[2:5, 2:5, 2:5] = 1
    shrunk = resize(labels, 1, grid(labels, (2.0, 2.0, 2.0)), -1.0)
    assert np.argwhere(shrunk).tolist() == [[3, 3, 3]]
    grown = resize(shrunk, 1, grid(labels, (2.0, 2.0, 2.0)), 1.0)
    assert np.count_nonzero(grown) == 7


@pytest.mark.parametrize("spacing", [(1.0, 0.75, 0.75), (2.0, 0.7, 0.7)])
@pytest.mark.parametrize("radius", [5.0, 9.0, 13.0])
@pytest.mark.parametrize("mm", [1.0, -1.0])
def test_a_ball_changes_its_radius(spacing, radius, mm):
    labels = ball(radius, spacing, shift=(0.3, 0.1, -0.2))
    changed = radius_of(resize(labels, 1, grid(labels, spacing), mm), spacing) - radius_of(labels, spacing)
    assert changed == pytest.approx(mm, abs=0.2)


def test_a_ball_that_grows_and_shrinks_is_the_same_but_for_its_surface():
    labels = ball(9.0, (1.0, 0.75, 0.75))
    there = resize(labels, 1, grid(labels, (1.0, 0.75, 0.75)), 2.0)
    back = resize(there, 1, grid(labels, (1.0, 0.75, 0.75)), -2.0)
    assert np.count_nonzero(back != labels) < 0.05 * np.count_nonzero(labels)


def test_shrinking_to_nothing_is_refused():
    labels = flat("00000", "02220", "02220", "00000")
    with pytest.raises(InputError, match=r"Nothing would be left of lesion 2, shrunk by 3 mm\. Shrink it by less"):
        resize(labels, 2, grid(labels), -3.0)


def test_holes_within_a_slice_are_filled_and_other_lesions_stay():
    labels = flat("0111110", "0100010", "0102010", "0111110", "0000000", "1111000", "1001000")
    assert rows(fill_holes(labels, 1)) == ["0111110", "0111110", "0112110", "0111110", "0000000", "1111000", "1001000"]


def test_a_cavity_is_filled():
    labels = np.ones((5, 5, 5), np.uint8)
    labels[1:4, 1:4, 1:4] = 0
    np.testing.assert_array_equal(fill_holes(labels, 1), np.ones((5, 5, 5)))


def test_smoothing_takes_a_spike_off_a_ball_and_keeps_the_volume():
    labels = ball(6.0)
    middle = labels.shape[0] // 2
    spiky = labels.copy()
    spiky[middle, middle, middle + 7 :] = 1
    smoothed = smooth(spiky, 1, grid(labels), 1.5)
    assert np.count_nonzero(smoothed) == np.count_nonzero(spiky)
    assert not smoothed[middle, middle, middle + 9 :].any()


def test_a_single_voxel_stays_when_smoothed():
    labels = flat("00000", "00100", "00000")
    np.testing.assert_array_equal(smooth(labels, 1, grid(labels), 3.0), labels)


@pytest.mark.parametrize("spacing", [MILLIMETRE, (2.0, 0.8, 0.8)])
def test_two_balls_with_a_neck_are_parted_at_it(spacing):
    large, small = (ball(8.0, spacing, (0, 0, -8.0), room=14.0), ball(6.0, spacing, (0, 0, 4.0), room=16.0))
    labels = large | small
    parts = split(labels, 1, grid(labels, spacing))
    # The balls' surfaces meet where x² - (x - 12)² = 8² - 6², 7.2 mm from the large ball's centre.
    border = labels.shape[2] // 2 + (7.2 - 8.0) / spacing[2]
    assert np.argwhere(parts == 1)[:, 2].max() <= border + 1.5
    assert np.argwhere(parts == 2)[:, 2].min() >= border - 1.5
    np.testing.assert_array_equal(parts > 0, labels > 0)
    np.testing.assert_array_equal(parts, split(labels, 1, grid(labels, spacing)))


@pytest.mark.parametrize("radius", [3.0, 6.0, 10.0])
@pytest.mark.parametrize("spacing", [MILLIMETRE, (2.0, 0.7, 0.7)])
def test_a_ball_has_no_neck(radius, spacing):
    labels = ball(radius, spacing)
    with pytest.raises(InputError, match="Lesion 1 has no neck to split it at"):
        split(labels, 1, grid(labels, spacing))


def test_separate_parts_are_split():
    labels = flat("11000", "11030", "00000", "20001")
    assert rows(split(labels, 1, grid(labels))) == ["11000", "11030", "00000", "20004"]


def test_no_label_above_255_is_given():
    labels = flat("1010", "0002")
    labels[labels == 2] = 255
    with pytest.raises(InputError, match="Lesion 255 is there"):
        split(labels, 1, grid(labels))


def test_lesions_of_another_threshold_keep_their_labels():
    labels = flat("300000000000", "330005500000", "330005500000")
    probability = np.array(
        [
            [
                [0.9, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.6, 0.6, 0.0, 0.5],
                [0.9, 0.9, 0.0, 0.0, 0.0, 0.9, 0.9, 0.0, 0.6, 0.6, 0.0, 0.5],
                [0.9, 0.9, 0.0, 0.0, 0.7, 0.9, 0.9, 0.0, 0.6, 0.6, 0.0, 0.5],
            ]
        ]
    )
    # Three voxels are no lesion.
    expected = ["330000001100", "330005501100", "330055501100"]
    assert rows(from_probability(labels, probability, 0.5)) == expected
    assert rows(from_probability(labels, probability, 0.8)) == ["330000000000", "330005500000", "330005500000"]


def test_of_two_parts_the_one_with_more_of_the_lesion_keeps_its_label():
    labels = flat("2222222222")
    probability = np.array([[[0.9] * 5 + [0.1] + [0.9] * 4]])
    assert rows(from_probability(labels, probability, 0.5)) == ["2222201111"]


def test_of_two_lesions_that_merge_the_larger_share_names_the_whole():
    probability = np.full((1, 1, 9), 0.9)
    assert rows(from_probability(flat("111002222"), probability, 0.5)) == ["222222222"]


def test_a_threshold_that_leaves_no_lesion_is_refused():
    with pytest.raises(InputError, match=r"probability of 0\.9\. Choose a lower one; the highest in this exam is 0\.8"):
        from_probability(flat("1111"), np.full((1, 1, 4), 0.8), 0.9)


def test_more_than_255_lesions_are_refused():
    probability = np.zeros((1, 256 * 2, 4))
    probability[:, ::2] = 1
    with pytest.raises(InputError, match="That would make 256 lesions; 255 is the most"):
        from_probability(np.zeros(probability.shape, np.uint8), probability, 0.5)
