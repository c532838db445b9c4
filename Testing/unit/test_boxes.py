import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from BreastTumorSegLib.core.boxes import NOWHERE, bounding_box, united, widened


@given(st.integers(0, 2**24 - 1))
def test_bounding_box_against_scipy(bits):
    mask = np.array([bits >> at & 1 for at in range(24)], bool).reshape(2, 3, 4)
    assert bounding_box(mask) == (ndimage.find_objects(mask.astype(np.uint8))[0] if bits else NOWHERE)


def test_widened_ends_at_the_border():
    box = (slice(1, 2), slice(0, 3), slice(5, 6))
    assert widened(box, (2, 1, 3), (10, 4, 7)) == (slice(0, 4), slice(0, 4), slice(2, 7))


def test_united():
    a, b = (slice(1, 2),) * 3, (slice(0, 1), slice(4, 5), slice(1, 3))
    assert united(a, b) == (slice(0, 2), slice(1, 5), slice(1, 3))
    assert united(NOWHERE, a) == united(a, NOWHERE) == a
    assert united(NOWHERE, NOWHERE) == NOWHERE
