"""Tofts, Parker and the gradient echo, against dcmri."""

import dcmri
import numpy as np
import pytest
import torch

from BreastTumorSegLib.phantom.tofts import HEMATOCRIT, RELAXIVITY, Sequence, parker_aif, tofts_concentration

TIMES = np.arange(0.0, 900.0, 0.1)


def test_parker_aif_is_that_of_dcmri_in_plasma():
    blood = 1000 * dcmri.aif_parker(TIMES[1:])
    assert parker_aif(TIMES[1:]) * (1 - HEMATOCRIT) == pytest.approx(blood, abs=1e-5)


def test_no_contrast_before_the_injection():
    assert parker_aif(np.array([-60.0, 0.0])).tolist() == [0.0, 0.0]
    assert tofts_concentration(torch.tensor([0.3]), torch.tensor([1.0]), torch.tensor([0.1]), 0.0).tolist() == [0.0]


@pytest.mark.parametrize("ktrans", [0.01, 0.1, 0.385])
@pytest.mark.parametrize("ve", [0.1, 0.4])
@pytest.mark.parametrize("vp", [0.0, 0.2])
@pytest.mark.parametrize("seconds", [60, 145, 241, 442, 850])
def test_tofts_concentration_is_that_of_dcmri(ktrans, ve, vp, seconds):
    """dcmri's high-flow model is the extended Tofts model with PS for Ktrans and blood for plasma."""
    expected = 1000 * dcmri.conc_tissue(
        dcmri.aif_parker(TIMES), t=TIMES, kinetics="HF", H=HEMATOCRIT, vb=vp / (1 - HEMATOCRIT), vi=ve, PS=ktrans / 60
    )
    computed = tofts_concentration(*(torch.tensor([v]) for v in (ktrans, ktrans / ve, vp)), seconds)
    assert float(computed) == pytest.approx(expected[seconds * 10], rel=3e-3)


@pytest.mark.parametrize("t1", [0.3, 1.2, 2.0])
@pytest.mark.parametrize("concentration", [0.0, 0.5, 3.0])
def test_signal_is_that_of_dcmri(t1, concentration):
    sequence = Sequence(tr=0.005, flip=12.0)
    rate = 1 / t1 + RELAXIVITY * concentration
    expected = dcmri.signal_ss(1.0, rate, 0.005, 12.0)
    assert float(sequence.signal(torch.tensor(1.0), torch.tensor(t1), concentration)) == pytest.approx(
        expected, rel=1e-5
    )
