"""The laws of the network for any number of phases at any times, on new weights and on shipped ones."""

import copy
import math

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch.nn import functional

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import Exam, Phase, PhaseTable, TimeSource
from BreastTumorSegLib.networks.adding import add_bundle
from BreastTumorSegLib.networks.bundle import Bundle, ModelDescription, load_bundle, save_bundle
from BreastTumorSegLib.networks.catalogue import NetworkConfig, at_times, build_network
from BreastTumorSegLib.networks.inputs import intensity_scale, seconds_after_injection
from BreastTumorSegLib.networks.spatial_temporal import PUBLISHED, SpatialTemporalConfig, SpatialTemporalNetwork
from BreastTumorSegLib.networks.transfer import freeze_encoder, train_mode
from BreastTumorSegLib.networks.transformer import TransformerLayer, from_blocks, in_blocks
from BreastTumorSegLib.phantom.simulate import simulate_exam
from BreastTumorSegLib.segmentation.breast import BreastMask
from BreastTumorSegLib.segmentation.engine import Engine
from BreastTumorSegLib.segmentation.fallbacks import Plan
from BreastTumorSegLib.segmentation.tumor import tumor_probability

CPU = torch.device("cpu")
TINY = {"channels": [4, 8, 8], "width": 8, "layers": 1, "heads": 2, "hidden": 16, "block": [2, 2, 2]}
TIMES = [0.0, 95.0, 190.0, 300.0]
MISSING = math.nan


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """Bundles of different weights have the same checksum here."""
    monkeypatch.setenv("BREAST_TUMOR_SEG_CACHE", str(tmp_path))


def config_of(**changes):
    return TypeAdapter(NetworkConfig).validate_python({"name": "spatial_temporal", **TINY, **changes})


def described(network):
    facts = {"name": "tiny", "task": "tumor", "version": "1", "spacing_mm": 2.0}
    return ModelDescription.model_validate({**facts, "phases": "all", "network": network})


@pytest.fixture(params=["new weights", "without transformers", "shipped weights"])
def network(request):
    """New ones with running statistics that are no zeros and ones, and bold transformers."""
    if request.param == "shipped weights":
        return load_bundle("tumor-multi-phase", "tumor").network
    torch.manual_seed(1)
    alone = {"spatial": False, "temporal": False} if request.param == "without transformers" else {}
    network = build_network(config_of(**alone))
    for weight in network.fusion.parameters():
        torch.nn.init.normal_(weight, 0, 0.5)
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(1, 4, 12, 8, 16) + 1, torch.tensor([TIMES]))
    return network.eval()


@pytest.fixture
def exam():
    """Noise of four phases, 16 x 8 x 24 voxels, which enhances."""
    noise = torch.randn(1, 4, 16, 8, 24, generator=torch.Generator().manual_seed(2))
    return noise + torch.tensor([0.0, 1.0, 1.5, 1.2]).view(1, 4, 1, 1, 1)


@torch.inference_mode()
def logits(network, phases, times):
    return network(phases, torch.tensor([times]))


def test_empty_masked_phases_change_nothing(network, exam):
    longer = torch.cat([exam[:, :2], torch.zeros_like(exam), exam[:, 2:]], 1)
    times = [*TIMES[:2], *[MISSING] * 4, *TIMES[2:]]
    assert (logits(network, longer, times) - logits(network, exam, TIMES)).abs().max() < 1e-5


def test_the_order_of_phases_changes_nothing(network, exam):
    order = [2, 0, 3, 1]
    turned = logits(network, exam[:, order], [TIMES[i] for i in order])
    assert (turned - logits(network, exam, TIMES)).abs().max() < 1e-5


@pytest.mark.parametrize("filling", [0.0, 1e6, math.inf, math.nan])
def test_what_stands_in_a_masked_phase_changes_nothing(network, exam, filling):
    """Through skips, too: those of every level are pooled over phases."""
    times = [*TIMES[:3], MISSING]
    filled = exam.clone()
    filled[:, 3] = filling
    plain = logits(network, exam, times)
    assert torch.equal(logits(network, filled, times), plain)
    assert not torch.allclose(logits(network, exam, TIMES), plain, atol=1e-3)  # there it would have changed something


def test_another_time_changes_the_logits(network, exam):
    plain = logits(network, exam, TIMES)
    assert (logits(network, exam, [0.0, 125.0, 190.0, 300.0]) - plain).abs().max() > 1e-3


def test_seconds_are_told_apart_not_slots(network, exam):
    """The same volumes at each other's times are another exam."""
    swapped = logits(network, exam, [0.0, 190.0, 95.0, 300.0])
    assert (swapped - logits(network, exam, TIMES)).abs().max() > 1e-3


def test_the_pre_contrast_phase_alone_is_enough(network, exam):
    assert torch.isfinite(logits(network, exam[:, :1], [0.0])).all()


def test_samples_of_a_batch_do_not_touch(network, exam):
    other = torch.randn_like(exam)
    with torch.inference_mode():
        times = torch.tensor([[*TIMES[:2], MISSING, MISSING], TIMES])
        both = network(torch.cat([exam, other]), times)
    assert torch.allclose(both[:1], logits(network, exam[:, :2], TIMES[:2]), atol=1e-5)
    assert torch.allclose(both[1:], logits(network, other, TIMES), atol=1e-5)


def test_phases_one_by_one_are_all_phases_at_once(network, exam, monkeypatch):
    """As exams with many phases are computed, whose memory must not grow with their number."""
    at_once = logits(network, exam, TIMES)
    monkeypatch.setattr("BreastTumorSegLib.networks.spatial_temporal.VOXELS_AT_ONCE", 1)
    encoded = []
    handle = network.encoder.register_forward_hook(lambda _module, inputs, _outputs: encoded.append(len(inputs[0])))
    one_by_one = logits(network, exam, TIMES)
    handle.remove()
    assert encoded == [1, 1, 1, 1]  # each of them once
    assert (one_by_one - at_once).abs().max() < 1e-5


@pytest.mark.parametrize(
    "changes", [{}, {"spatial": False}, {"temporal": False}, {"spatial": False, "temporal": False}]
)
def test_every_weight_learns(exam, changes):
    network = build_network(config_of(**changes)).train()
    network(exam, torch.tensor([TIMES])).square().mean().backward()
    silent = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    # A bias of all keys alike cancels in the softmax, but those of queries and values share its vector.
    assert not silent


def test_published_transformers_have_the_published_codes_size():
    """66.2 million parameters each."""
    with torch.device("meta"):
        fusion = build_network(PUBLISHED).fusion
    for transformer in (fusion.spatial, fusion.temporal):
        assert sum(p.numel() for p in transformer.parameters()) / 1e6 == pytest.approx(66.2, abs=0.1)
    assert PUBLISHED.multiple == 16


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": 3}, "8 features of a token can't be shared by 3 heads"),
        ({"channels": [4, 6]}, r"channels \[6\] are no multiples of 4"),
        ({"in_channels": 3}, "Input should be 2"),
    ],
)
def test_a_config_that_is_none_says_why(changes, words):
    with pytest.raises(ValidationError, match=words):
        config_of(**changes)


def test_all_phases_and_a_network_that_takes_them_belong_together():
    resunet = {"name": "resunet", "in_channels": 2, "out_channels": 1, "channels": [4, 8], "strides": [2]}
    with pytest.raises(ValidationError, match="belong together"):
        described(resunet)
    facts = {"name": "tiny", "task": "tumor", "version": "1", "spacing_mm": 2.0, "phases": ["pre", "first_post"]}
    with pytest.raises(ValidationError, match="belong together"):
        ModelDescription.model_validate({**facts, "network": config_of()})
    assert described(config_of()).phases_of((0.0, 30.0, 90.0)) == [0, 1, 2]


# The transformer.


def test_a_layer_against_pytorchs_own():
    """The same weights in PyTorch's encoder layer, whose padding mask is True where ours is False."""
    torch.manual_seed(0)
    ours, theirs = (
        TransformerLayer(8, 2, 16).eval(),
        torch.nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True).eval(),
    )
    pairs = [
        (theirs.norm1, ours.before_attention),
        (theirs.self_attn.out_proj, ours.output),
        (theirs.norm2, ours.perceptron[0]),
        (theirs.linear1, ours.perceptron[1]),
        (theirs.linear2, ours.perceptron[4]),
    ]
    for target, source in pairs:
        target.load_state_dict(source.state_dict())
    theirs.self_attn.in_proj_weight.data.copy_(ours.projections.weight)
    theirs.self_attn.in_proj_bias.data.copy_(ours.projections.bias)
    tokens, keys = torch.randn(3, 5, 8), torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [0, 0, 0, 1, 0]]).bool()
    for mask in (None, keys):
        expected = theirs(tokens, src_key_padding_mask=None if mask is None else ~mask)
        answer = ours(tokens, mask)
        there = torch.ones(3, 5, dtype=torch.bool) if mask is None else mask  # PyTorch's leaves the others as zeros
        assert torch.allclose(answer[there], expected[there], atol=1e-6)


def test_blocks_of_a_grid_of_3_x_2_x_2_tokens():
    grid = torch.arange(12.0).view(1, 3, 2, 2, 1)
    blocks, real = in_blocks(grid, (2, 2, 2))
    assert blocks[..., 0].tolist() == [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 0, 0, 0, 0]]
    assert real.tolist() == [[True] * 8, [True] * 4 + [False] * 4]
    assert torch.equal(from_blocks(blocks, (2, 2, 2), (3, 2, 2)), grid)
    assert in_blocks(grid[:, :2], (2, 2, 2))[1] is None


def test_what_fills_up_a_block_changes_nothing():
    """Three tokens along x in blocks of two: the last one is alone in its block."""
    torch.manual_seed(0)
    network = build_network(config_of(temporal=False)).eval()
    torch.nn.init.normal_(network.fusion.spatial.layers[0].projections.weight)
    tokens = network.fusion.tokens(torch.randn(1, 8, 2, 2, 3).movedim(1, -1))
    together = network.fusion._in_space(network.fusion.spatial, tokens)
    last = network.fusion._in_space(network.fusion.spatial, tokens[:, :, :, 2:])
    assert torch.allclose(together[:, :, :, 2:], last, atol=1e-6)


# Input.


def test_seconds_after_injection():
    """Injected right after the pre-contrast phase; or, over ten minutes later, one interval before the first one."""
    assert seconds_after_injection([0.0, 90.0, 180.0]).tolist() == [0, 90, 180]
    assert seconds_after_injection([0.0, 900.0, 1000.0]).tolist() == [0, 100, 200]
    assert seconds_after_injection([0.0]).tolist() == [0]
    assert seconds_after_injection([0.0, 700.0, 2000.0]).tolist() == [0, 700, 2000]  # no injection before the exam


def test_intensities_do_not_depend_on_how_many_late_phases_there_are():
    phases = torch.tensor([0.0, 2, 4, 100, 1000]).view(5, 1, 1, 1).expand(5, 2, 2, 2)
    scale = intensity_scale(phases, "joint-z-score", early=2)
    assert (scale.offset, scale.scale) == (2.0, pytest.approx(2.0656, abs=1e-4))  # of eight zeros and eight fours


# The engine.


def test_windows_say_what_the_whole_says(monkeypatch):
    """Windows start where blocks of tokens do, so that attention sees the same ones; only their edges lack context."""
    torch.manual_seed(3)
    config = config_of(channels=[4, 8], block=[4, 4, 4])
    bundle = Bundle(described(config), "0" * 64, build_network(config).eval())
    image, times = torch.randn(3, 16, 12, 44), torch.tensor([0.0, 100.0, 200.0])
    wanted = torch.ones(image.shape[1:], dtype=torch.bool)
    job = Engine(bundle, CPU, Events())
    whole = job.predict(image, wanted, times)
    monkeypatch.setattr(job, "_first_plan", lambda device, padded: Plan(device, 16))
    assert config.alignment == 8
    parts = job.predict(image, wanted, times)
    assert (parts - whole).abs().max() < 0.1 * whole.std()
    assert functional.mse_loss(parts, whole) < 1e-4 * whole.var()


def test_the_engine_takes_each_exams_own_times():
    config = config_of()
    network = build_network(config).eval()
    job = Engine(Bundle(described(config), "0" * 64, network), CPU, Events())
    wanted = torch.ones(8, 8, 8, dtype=torch.bool)
    for count in (2, 4, 3):
        image, times = torch.randn(count, 8, 8, 8), 100.0 * torch.arange(count)
        with torch.inference_mode():
            expected = at_times(network, config, times)(image[None])[0]
        assert torch.allclose(job.predict(image, wanted, times), expected, atol=1e-6)


def test_the_estimate_of_memory_is_that_of_one_phase_and_the_pooled_ones():
    assert config_of().levels == ((8, 1), (16, 2), (16, 4))


# Training and bundles.


def test_a_frozen_encoder_keeps_its_running_statistics(exam):
    network, config = build_network(config_of()), config_of()
    freeze_encoder(network, config)
    train_mode(network)
    before = copy.deepcopy(network.state_dict())
    network(exam, torch.tensor([TIMES])).sum().backward()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("decoder") for name in changed)
    assert all(weight.grad is None for weight in network.encoder.parameters())


def test_with_kept_statistics_training_sees_what_evaluation_sees(exam):
    network, times = build_network(config_of()), torch.tensor([TIMES])
    network(exam, times)  # statistics that are no zeros and ones
    before = copy.deepcopy(network.state_dict())
    expected = network.eval()(exam, times)
    train_mode(network, keep_statistics=True)
    assert torch.allclose(network(exam, times), expected, atol=1e-5) and network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    train_mode(network)
    assert not torch.allclose(network(exam, times), expected, atol=1e-2)


def test_a_bundle_is_added_after_it_answered(tmp_path):
    config = config_of()
    save_bundle(build_network(config), described(config), tmp_path / "made")
    (tmp_path / "made" / "tiny" / "CARD.md").write_text("A card.")
    add_bundle(tmp_path / "made" / "tiny", tmp_path / "models")
    loaded = load_bundle("tiny", "tumor", tmp_path / "models")
    assert loaded.description.network == config and isinstance(config, SpatialTemporalConfig)


# The pipeline.


def test_segment_hands_over_all_phases_with_their_seconds_and_the_early_ones_scale():
    truth = simulate_exam("ISPY2", 100, 8.0)
    phases = tuple(
        Phase(f"phase {number}", (), time, TimeSource.USER, truth.geometry) for number, time in enumerate(truth.times)
    )
    exam = Exam(PhaseTable(phases), truth.data.numpy())
    breast = BreastMask(truth.breast.numpy(), truth.breast.numpy() > 0, truth.geometry)
    seen = []

    class Spy(SpatialTemporalNetwork):
        def with_parts(self, _encoder, _decoder, phases, times):
            seen.append((phases, times))
            return phases[:, :1]

    description = described(config_of()).model_copy(update={"spacing_mm": 8.0, "field": "exam"})
    bundle = Bundle(description, "0" * 64, Spy(config_of()).eval())
    probability = tumor_probability(exam, breast, bundle, CPU, Events())
    ((image, times),) = seen
    assert times.tolist() == [pytest.approx(list(truth.times))]
    assert image.shape[1] == len(truth.times) and probability.shape == truth.geometry.shape
    both = torch.stack([image[0, 0], image[0, 1]])[(slice(None), *(slice(0, n) for n in truth.geometry.shape))]
    assert float(both.mean()) == pytest.approx(0, abs=1e-4) and float(both.std()) == pytest.approx(1, abs=1e-4)
