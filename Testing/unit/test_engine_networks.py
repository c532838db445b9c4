"""Every network of the catalogue in the inference engine: windows, statistics, OpenVINO."""

import pytest
import torch
from torch import nn

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.networks.bundle import Bundle, ModelDescription
from BreastTumorSegLib.networks.catalogue import build_network
from BreastTumorSegLib.segmentation import engine
from BreastTumorSegLib.segmentation.engine import Engine
from BreastTumorSegLib.segmentation.fallbacks import Plan
from BreastTumorSegLib.segmentation.normalisation import ExamNetwork, feature_count
from BreastTumorSegLib.segmentation.openvino_models import openvino
from BreastTumorSegLib.segmentation.runtimes import OpenVinoRuntime, TorchRuntime

CPU = torch.device("cpu")
needs_openvino = pytest.mark.skipif(openvino() is None, reason="OpenVINO is not installed")

TINY = {
    "resunet": {"channels": [4, 8], "strides": [2], "head": 4},
    "dynunet": {"channels": [4, 6, 8], "strides": [2, 2], "deep_supervision": 1},
    "segresnet": {"features": 16, "blocks": [1, 1]},
    "mednext": {"features": 4, "blocks": [1, 1, 1], "expansion": [2, 3, 2], "deep_supervision": 2},
    "swinunetr": {"features": 12, "depths": [2, 1, 1, 1], "heads": [1, 2, 2, 2], "window": 4},
    "uxnet": {"features": [4, 6], "depths": [1, 1], "kernel": 3},
    "vnet": {},
    "kisnet": {"in_channels": 2, "channels": [4, 8], "strides": [2], "features": 4, "embedding": 2},
}
NORMS = (nn.InstanceNorm3d, nn.GroupNorm, nn.LayerNorm, nn.BatchNorm3d)
convolutional = pytest.mark.parametrize("name", [name for name in TINY if name != "swinunetr"])
near_sighted = pytest.mark.parametrize("name", [name for name in TINY if name not in ("swinunetr", "vnet")])


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("BREAST_TUMOR_SEG_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def bundle_of(name):
    """New weights; those of the normalisations are no ones and zeros."""
    torch.manual_seed(0)
    network = {"name": name, "in_channels": 1, "out_channels": 1, **TINY[name]}
    facts = {"name": name, "task": "tumor", "version": "1", "phases": ("pre",), "spacing_mm": 2.0}
    facts["maps"] = "clusters" if name == "kisnet" else None
    description = ModelDescription.model_validate({**facts, "network": network})
    built = build_network(description.network).eval()
    for layer in built.modules():
        if isinstance(layer, NORMS) and layer.weight is not None:
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
        if isinstance(layer, nn.BatchNorm3d):
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return Bundle(description, name.ljust(64, "0"), built)


def image_for(bundle, *shape):
    """`uneven` for a network, (C, Z, Y, X)."""
    return uneven(bundle.description.network.in_channels, *shape)


def uneven(*shape):
    """Noise that grows brighter and stronger along the last axis, so that no window has the whole's statistics."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.5, 2, shape[-1]) + (
        torch.linspace(0, 3, shape[-1])
    )


def test_groups_share_mean_and_variance():
    """Two groups of two features: 1, 3 and 5, 7; then 0, 0 and 0, 4."""
    norm = nn.GroupNorm(2, 4, eps=0)
    image = torch.tensor([[1.0, 3], [5, 7], [0, 0], [0, 4]]).view(1, 4, 1, 1, 2)
    network = ExamNetwork(norm)
    logits, statistics = network.measure(image)
    # Means 4 and 1; variances (9 + 1 + 1 + 9) / 4 and (1 + 1 + 1 + 9) / 4.
    assert statistics.tolist() == [[4, 4, 1, 1], [5, 5, 3, 3]]
    assert torch.equal(logits, norm(image))
    assert torch.allclose(network(image, statistics), logits, atol=1e-6)
    part = network(image[..., :1], statistics)
    assert part.flatten().tolist() == pytest.approx([-3 / 5**0.5, 1 / 5**0.5, -1 / 3**0.5, -1 / 3**0.5])


@pytest.mark.parametrize("name", TINY)
def test_frozen_statistics_change_nothing_in_any_network(name):
    bundle = bundle_of(name)
    multiple = bundle.description.network.multiple
    image, runtime = image_for(bundle, multiple, multiple, 2 * multiple)[None], TorchRuntime(bundle, CPU)
    with torch.inference_mode():
        plain = bundle.network(image)
    logits, statistics = runtime.measure(image, Events())
    assert torch.equal(logits, plain)
    assert statistics.shape == (2, feature_count(bundle.network))
    assert (runtime.logits(image, statistics, Events()) - plain).abs().max() < 1e-4


@near_sighted
def test_windows_of_each_network_give_the_same_answer_as_the_whole(name, monkeypatch):
    """A halo of 28 voxels is more than any of these tiny networks can see."""
    bundle = bundle_of(name)
    image = image_for(bundle, 8, 8, 128)
    wanted = torch.ones(image.shape[1:], dtype=torch.bool)
    job = Engine(bundle, CPU, Events(), runtime_of=TorchRuntime)
    whole = job.predict(image, wanted)
    monkeypatch.setattr(engine, "HALO_SHARE", 28 / 64)
    monkeypatch.setattr(Engine, "_first_plan", lambda *_: Plan(CPU, 64))
    monkeypatch.setattr(Engine, "_reference_scale", lambda *_: 1.0)
    assert (job.predict(image, wanted) - whole).abs().max() < 1e-3 * whole.std()
    monkeypatch.setattr(Engine, "_measure", lambda self, _: (None, None))  # each window with its own statistics
    assert (job.predict(image, wanted) - whole).abs().max() > 0.1 * whole.std()


@needs_openvino
@convolutional
def test_openvino_agrees_with_pytorch_on_each_network(name):
    bundle = bundle_of(name)
    reference, runtime = TorchRuntime(bundle, CPU), OpenVinoRuntime(bundle)
    image = image_for(bundle, 16, 32, 48)[None]
    expected, statistics = reference.measure(image, Events())
    logits, measured = runtime.measure(image, Events())
    assert (logits - expected).abs().max() < 1e-3
    assert torch.allclose(measured, statistics, rtol=0, atol=1e-3)
    for given in (None, statistics):
        assert (runtime.logits(image, given, Events()) - expected).abs().max() < 1e-3


@needs_openvino
def test_a_swin_unetr_goes_through_pytorch_with_a_warning():
    bundle, events = bundle_of("swinunetr"), Events()
    image = uneven(1, 64, 64, 64)
    with torch.inference_mode():
        expected = bundle.network(image[None])[0]
    answer = Engine(bundle, CPU, events).predict(image, torch.ones(image.shape[1:], dtype=torch.bool))
    assert torch.allclose(answer, expected, atol=1e-5)
    assert events.warnings == [
        "OpenVINO can't run swinunetr, PyTorch was used: a Swin UNETR is converted for one size of volume only."
    ]
