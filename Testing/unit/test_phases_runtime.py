"""Networks that take times on the CPU: OpenVINO for encoder and decoder, PyTorch for what lies between."""

import pytest
import torch
from torch import nn

from BreastTumorSegLib.core.errors import Cancelled
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.networks import spatial_temporal
from BreastTumorSegLib.networks.bundle import Bundle, ModelDescription
from BreastTumorSegLib.networks.catalogue import at_times, build_network
from BreastTumorSegLib.segmentation import openvino_models
from BreastTumorSegLib.segmentation.engine import Engine
from BreastTumorSegLib.segmentation.openvino_models import has_bfloat16, openvino
from BreastTumorSegLib.segmentation.runtimes import PhasesRuntime, TorchRuntime, choose_runtime, runtime_name

pytestmark = pytest.mark.skipif(openvino() is None, reason="OpenVINO is not installed")
CPU = torch.device("cpu")
TINY = {"channels": [4, 8, 8], "width": 8, "layers": 1, "heads": 2, "hidden": 16, "block": [2, 2, 2]}
TIMES = [0.0, 95.0, 190.0, 300.0]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("BREAST_TUMOR_SEG_CACHE", str(tmp_path_factory.getbasetemp() / "phases"))


@pytest.fixture
def conversions(monkeypatch):
    """The forms that were converted."""
    forms, convert = [], openvino_models._convert
    monkeypatch.setattr(openvino_models, "_convert", lambda *args: forms.append(args[-1]) or convert(*args))
    return forms


def bundle_of(sha256="tiny", change=None):
    """Bold weights, the same in every call, and running statistics that are no zeros and ones."""
    torch.manual_seed(1)
    facts = {"name": "tiny", "task": "tumor", "version": "1", "phases": "all", "spacing_mm": 2.0}
    network = {"name": "spatial_temporal", **TINY}
    description = ModelDescription.model_validate({**facts, "network": network, "bfloat16_dice_change": change})
    built = build_network(description.network)
    for weight in built.fusion.parameters():
        nn.init.normal_(weight, 0, 0.5)
    with torch.no_grad():
        for _ in range(3):
            built(torch.randn(1, 4, 12, 8, 16) + 1, torch.tensor([TIMES]))
    return Bundle(description, sha256.ljust(64, "0"), built.eval())


def bound(bundle, count):
    """The bundle for exams of so many phases."""
    network = at_times(bundle.network, bundle.description.network, torch.tensor(TIMES[:count]))
    return Bundle(bundle.description, bundle.sha256, network)


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("samples", "count"), [(1, 1), (1, 4), (2, 3)])
def test_openvino_agrees_with_pytorch(samples, count):
    bundle, phases = bundle_of(), noise(samples, count, 12, 8, 16)
    weights = {name: value.clone() for name, value in bundle.network.state_dict().items()}
    with torch.inference_mode():
        expected = bundle.network(phases, torch.tensor([TIMES[:count]] * samples))
    runtime = choose_runtime(bound(bundle, count), CPU)
    assert isinstance(runtime, PhasesRuntime)
    logits, statistics = runtime.measure(phases, Events())
    assert statistics.shape == (2, 0)
    for answer in (logits, runtime.logits(phases, statistics, Events())):
        assert (answer - expected).abs().max() < 1e-4 < expected.std()
    assert all(torch.equal(value, weights[name]) for name, value in bundle.network.state_dict().items())


def test_parts_are_converted_once_for_all_exams_and_compiled_once_a_shape(conversions, monkeypatch):
    monkeypatch.setattr(spatial_temporal, "VOXELS_AT_ONCE", 1)
    bundle = bundle_of("once")
    for count in (2, 4):
        runtime = PhasesRuntime(bound(bundle, count))
        runtime.logits(noise(1, count, 12, 8, 8 * count), None, Events())
        assert len(runtime._compiled) == 2
    assert conversions == ["encoder", "decoder"]


@pytest.mark.skipif(openvino() is None or not has_bfloat16(), reason="no bfloat16 on this processor")
def test_bfloat16_where_it_was_measured_to_do_no_harm():
    phases, bundles = noise(1, 2, 12, 8, 16), [bundle_of(change=change) for change in (0.002, 0.0)]
    single, half = (PhasesRuntime(bound(bundle, 2)).logits(phases, None, Events()) for bundle in bundles)
    assert 1e-4 * single.std() < (half - single).abs().max() < 0.1 * single.std()
    assert runtime_name(bundles[0], CPU).endswith(", float32; between encoder and decoder PyTorch, float32")
    assert runtime_name(bundles[1], CPU).endswith(", bfloat16; between encoder and decoder PyTorch, float32")


class Strange(nn.Module):
    def forward(self, image):
        return image * torch.special.i0e(image * 0)  # which is 1 of 0


def test_what_openvino_cannot_convert_goes_through_pytorch():
    bundle, events, phases = bundle_of("strange"), Events(), noise(3, 12, 8, 16)
    bundle.network.encoder.blocks[0] = nn.Sequential(bundle.network.encoder.blocks[0], Strange())
    expected = TorchRuntime(bound(bundle, 3), CPU).logits(phases[None], None, Events())[0]
    job, wanted = Engine(bundle, CPU, events), torch.ones(phases.shape[1:], dtype=torch.bool)
    for _ in range(2):
        assert torch.allclose(job.predict(phases, wanted, torch.tensor(TIMES[:3])), expected, atol=1e-6)
    assert len(events.warnings) == 1 and events.warnings[0].startswith("OpenVINO can't run tiny, PyTorch was used")


def test_a_job_stops_between_phases(monkeypatch):
    monkeypatch.setattr(spatial_temporal, "VOXELS_AT_ONCE", 1)
    events, runtime, encoded = Events(), PhasesRuntime(bound(bundle_of(), 4)), []
    infer = runtime._infer

    def infer_then_cancel(form, inputs, asked):
        answer = infer(form, inputs, asked)
        encoded.append(form)
        events.cancel()
        return answer

    monkeypatch.setattr(runtime, "_infer", infer_then_cancel)
    with pytest.raises(Cancelled):
        runtime.logits(noise(1, 4, 12, 8, 16), None, events)
    assert encoded == ["encoder"]
