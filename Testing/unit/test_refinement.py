"""The second look at candidates: windows, what counts as one, and what a network for it learns from."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import training_runs
from BreastTumorSegLib.core.errors import ModelError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import Exam, Phase, PhaseTable, TimeSource
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.core.models import refinement_of
from BreastTumorSegLib.networks.bundle import Bundle, LesionWeights, ModelDescription, save_bundle
from BreastTumorSegLib.networks.catalogue import build_network
from BreastTumorSegLib.segmentation import runtimes
from BreastTumorSegLib.segmentation.breast import BreastMask
from BreastTumorSegLib.segmentation.refinement import load_refinement, outlined, refined
from BreastTumorSegLib.segmentation.tumor import grow
from BreastTumorSegLib.training.config import TrainingConfig
from BreastTumorSegLib.training.simulated import SimulatedSource

CPU = torch.device("cpu")
GRID = Geometry((60, 50, 40), (1.5, 1.0, 2.0), (-20.0, 5.0, 7.0))
NETWORK = {"name": "resunet", "in_channels": 3, "out_channels": 1, "channels": [4, 8, 8], "strides": [2, 2], "head": 2}


def described(**changes):
    fields = training_runs.model(task="refinement", network=NETWORK, spacing_mm=1.0, field="breast")
    return ModelDescription(**fields | changes)


class Agrees(torch.nn.Module):
    """Says what the first network says; keeps what it sees."""

    def __init__(self, seen):
        super().__init__()
        self._see = seen.append

    def forward(self, image):
        self._see(image)
        return torch.logit(image[:, 2:].clamp(1e-6, 1 - 1e-6))


@pytest.fixture
def look(monkeypatch):
    """Runs `refined` with a network that agrees; returns its answer, and the inputs that it got."""
    monkeypatch.setattr(runtimes, "openvino", lambda: None)
    along_x = np.broadcast_to(np.arange(GRID.size[0]) * GRID.spacing[0], GRID.shape)
    phases = tuple(Phase(f"phase {n}", (), 100.0 * n, TimeSource.MAMA_MIA, GRID) for n in range(2))
    exam = Exam(PhaseTable(phases), np.stack([along_x, 2 * along_x]).astype(np.float32))

    def run(probability, inside=None):
        seen = []
        inside = np.ones(GRID.shape, bool) if inside is None else inside
        breast = BreastMask(inside.astype(np.uint8), inside, GRID)
        bundle = Bundle(described(), "", Agrees(seen))
        return refined(probability, exam, breast, bundle, 0.5, 0.8, CPU, Events()), seen

    return run


def blob(centre, radius, height):
    """A ball of a probability, radius in mm, soft at its edge."""
    z, y, x = np.meshgrid(*(np.arange(n) * s for n, s in zip(GRID.shape, GRID.spacing_zyx, strict=True)), indexing="ij")
    distance = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
    return (height * np.clip((radius - distance) / 4 + 0.5, 0, 1)).astype(np.float32)


def test_the_answer_lies_where_the_candidate_lies(look):
    probability = blob((40, 25, 45), 8, 0.95)
    answer, seen = look(probability)
    assert answer.dtype == np.float32 and len(seen) == 1 and seen[0].shape == (1, 3, 48, 48, 48)
    assert np.abs(answer - probability).max() < 0.15  # to 1 mm and back blurs the edge
    assert np.abs(answer - probability).mean() < 0.002


def test_the_network_sees_the_phases_where_the_candidate_is(look):
    """Signals are millimetres along x, and twice as many after contrast; every other voxel tells the scale."""
    _, ((image,),) = look(blob((40, 25, 45), 8, 0.95))
    pre = 1.5 * np.arange(0, 60, 2)
    mean, deviation = np.mean([pre, 2 * pre]), np.std([pre, 2 * pre], ddof=0)
    steps = image[:2].diff(dim=3).flatten(1)
    assert steps[0].numpy() == pytest.approx(1 / deviation, rel=1e-2) and steps[1] == pytest.approx(
        2 * steps[0], rel=1e-3
    )
    assert image[:2].diff(dim=1).abs().max() < 1e-4 and image[:2].diff(dim=2).abs().max() < 1e-4
    middle = image[2] > 0.9 * image[2].max()
    assert image[0][middle].mean() == pytest.approx((45 - mean) / deviation, abs=0.5 / deviation)
    assert image[1][middle].mean() == pytest.approx((90 - mean) / deviation, abs=1 / deviation)


def test_a_candidate_that_the_first_network_is_not_sure_of_is_not_looked_at(look):
    answer, seen = look(np.maximum(blob((40, 25, 70), 6, 0.95), blob((40, 25, 15), 6, 0.75)))
    assert len(seen) == 1 and answer[:, :, :22].max() == 0 and answer.max() > 0.9
    nothing, seen = look(blob((40, 25, 70), 6, 0.75))
    assert not seen and not nothing.any()


def test_the_window_grows_with_the_candidate_and_stays_within_the_field(look):
    _, seen = look(blob((40, 25, 45), 22, 0.95))
    assert all(size >= 48 for size in seen[0].shape[2:]) and seen[0].shape[4] > 48
    _, seen = look(blob((2, 2, 2), 6, 0.95))
    assert seen[0].shape == (1, 3, 48, 48, 48)


def test_beyond_the_field_a_probability_is_zero(look):
    """The field is 50 mm along y: a large candidate's window is as large, and filled up to a multiple of 4."""
    _, ((image,),) = look(blob((40, 25, 45), 22, 0.95))
    assert image.shape[2] == 52 and float(image[2].min()) >= 0 and not image[2, :, 50:].any()


def test_nothing_is_said_outside_the_breasts(look):
    inside = np.zeros(GRID.shape, bool)
    inside[:, :, :30] = True
    answer, _ = look(blob((40, 25, 45), 10, 0.95), inside)
    assert answer[:, :, 25].max() > 0.8 and not answer[:, :, 30:].any()


def test_a_network_for_refinement_takes_a_probability_behind_the_phases():
    with pytest.raises(ValidationError, match="a network for 3 channels"):
        described(network=NETWORK | {"in_channels": 2})
    with pytest.raises(ValidationError, match="not all of them"):
        described(phases="all", network=training_runs.MULTI_PHASE)


def fields(tmp_path, **data):
    simulated = {"kind": "simulated", "varied": True, "bank": 2, "validation": 0, "coarse": ["tumor-resunet"]}
    return {
        "out": str(tmp_path / "run"),
        "model": described().model_dump(),
        "data": simulated | {"sites": ["ISPY2"], "cache": str(tmp_path / "cache"), "patches_per_exam": 1} | data,
        "samples": {"patch": [8, 8, 8], "batch": 1},
        "epochs": 1,
        "steps_per_epoch": 2,
    }


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"coarse": []}, "data.coarse of simulated exams belong together"),
        ({"varied": False}, "varied must be true"),
        ({"bank": None, "cache": None}, "varied must be true"),
    ],
)
def test_what_can_not_be_learned_from_is_told(tmp_path, data, said):
    with pytest.raises(ValidationError, match=said):
        TrainingConfig.model_validate(fields(tmp_path, **data))


def test_candidates_of_a_tumour_model_are_learned_from(tmp_path):
    config = TrainingConfig.model_validate(fields(tmp_path, bank=4))
    source = SimulatedSource(config.data, config.model, 1_000_000, "cpu")
    volumes = [source.volume(number) for number in range(3)]
    assert volumes[0].phases.shape[1:] == volumes[0].label.shape == volumes[0].maps.shape[1:]
    shares = []
    for volume in volumes:
        assert volume.maps.shape[0] == 1 and volume.maps.dtype == torch.uint8
        assert not volume.maps[0][~torch.nn.functional.max_pool3d(volume.breast[None].float(), 5, 1, 2)[0].bool()].any()
        candidates = int((volume.maps[0] >= 26).sum())
        tumor = (volume.label >= 128) & ~volume.unknown
        if candidates and tumor.any():
            shares.append(float(tumor.flatten()[volume.tumor_voxels].float().mean()))
    assert shares and min(shares) >= 0.5  # half are of the tumour, and so are some candidates
    assert min(shares) < 1  # and some are not
    assert any(volume.maps.max() > 200 for volume in volumes)


def test_candidates_are_drawn_by_the_second_network_or_grown_without_one(monkeypatch):
    monkeypatch.setattr(runtimes, "openvino", lambda: None)
    probability = blob((40, 25, 45), 8, 0.95)
    gain = 50 * (blob((40, 25, 45), 10, 1) > 0.5)
    phases = tuple(Phase(f"phase {n}", (), 100.0 * n, TimeSource.MAMA_MIA, GRID) for n in range(2))
    exam = Exam(PhaseTable(phases), np.stack([np.full(GRID.shape, 100.0), 100.0 + gain]).astype(np.float32))
    inside = np.ones(GRID.shape, bool)
    breast = BreastMask(inside.astype(np.uint8), inside, GRID)
    first = ModelDescription(**training_runs.model(threshold=0.5, peak=0.8))
    given = (probability, exam, breast, first)
    grown = outlined(*given, None, CPU, Events())
    assert np.array_equal(grown, grow(probability, gain, inside, GRID, 0.5, 0.8))
    for bias, found in ((-9.0, False), (9.0, True)):
        weights = LesionWeights(bias=bias, sureness=0, mean=0, volume=0, extent=0, surroundings=0)
        told = first.model_copy(update={"lesion_weights": weights})
        assert outlined(*given[:3], told, None, CPU, Events()).any() == found
    second = Bundle(described(threshold=0.3), "", Agrees([]))
    drawn = outlined(*given, second, CPU, Events())
    close = refined(*given[:3], second, 0.5, 0.8, CPU, Events())
    assert drawn.dtype == np.float32 and np.array_equal(drawn, np.where(close >= 0.3, close, 0))
    assert 0 < np.count_nonzero(drawn) != np.count_nonzero(grown)


def test_a_tumour_model_names_the_network_that_draws_what_it_finds(tmp_path, monkeypatch):
    network = build_network(described().network)
    save_bundle(network, described(name="second"), tmp_path)
    first = ModelDescription(**training_runs.model(refined_by="second"))
    save_bundle(build_network(first.network), first, tmp_path)
    assert load_refinement(Bundle(first, "", network), tmp_path).description.name == "second"
    assert load_refinement(Bundle(ModelDescription(**training_runs.model()), "", network), tmp_path) is None
    monkeypatch.setenv("BREASTTUMORSEG_MODELS", str(tmp_path))
    assert refinement_of(first.name) == "second" and refinement_of("second") is None
    (tmp_path / "second" / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match="the weights are missing"):
        load_refinement(Bundle(first, "", network), tmp_path)
    with pytest.raises(ValidationError, match="tumour models with contrast"):
        described(refined_by="second")
