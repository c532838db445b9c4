"""Networks by name: shapes, deep supervision, bundles and encoders of each."""

import copy
import json
import re

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from BreastTumorSegLib.core.errors import ModelError
from BreastTumorSegLib.networks.bundle import Bundle, ModelDescription, load_bundle, save_bundle
from BreastTumorSegLib.networks.catalogue import NetworkConfig, build_network, encoder, supervised_logits, takes_maps
from BreastTumorSegLib.networks.swinunetr import _rearrange
from BreastTumorSegLib.networks.transfer import freeze_encoder, load_encoder
from BreastTumorSegLib.networks.uxnet import PUBLISHED as UXNET_PUBLISHED
from BreastTumorSegLib.segmentation.memory import bytes_per_voxel

TINY = {
    "resunet": {"channels": [4, 8, 8], "strides": [2, 2]},
    "dynunet": {"channels": [4, 6, 8, 8], "strides": [2, 2, 2]},
    "segresnet": {"features": 8, "blocks": [1, 1, 1, 1]},
    "mednext": {"features": 4, "blocks": [1, 1, 1], "expansion": [2, 3, 4]},
    "swinunetr": {"features": 12, "depths": [2, 1, 1, 1], "heads": [1, 2, 2, 2], "window": 4},
    "uxnet": {"features": [4, 8], "depths": [1, 2], "kernel": 3},
    "vnet": {},
    "kisnet": {"channels": [4, 8, 8], "strides": [2, 2], "features": 4, "embedding": 3},
}
MULTIPLE = {
    **{"resunet": 4, "dynunet": 8, "segresnet": 8, "mednext": 4, "swinunetr": 32},
    **{"uxnet": 4, "vnet": 16, "kisnet": 4},
}
every_network = pytest.mark.parametrize("name", TINY)


def config_of(name, **changes):
    values = {"name": name, "in_channels": 2, "out_channels": 1, **TINY[name], **changes}
    return TypeAdapter(NetworkConfig).validate_python(values)


def description(config, name="tiny"):
    facts = {"name": name, "task": "tumor", "version": "1", "spacing_mm": 2.0}
    if takes_maps(config):
        facts |= {"phases": ("pre",), "maps": "clusters"}
    else:
        facts["phases"] = ("pre", "first_post")[: config.in_channels]
    return ModelDescription(network=config, **facts)


def image_for(config):
    """Two voxels at the bottom along one axis and one along the others."""
    return torch.randn(1, config.in_channels, config.multiple, config.multiple, 2 * config.multiple)


@every_network
def test_sizes_are_multiples_and_logits_have_the_images_size(name):
    config = config_of(name, out_channels=3)
    assert config.multiple == MULTIPLE[name]
    network, image = build_network(config).eval(), image_for(config)
    with torch.no_grad():
        assert network(image).shape == (1, 3, *image.shape[2:])
        assert [logits.shape[1] for logits in supervised_logits(network, image)] == [3]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "unet"}, "'unet' found using 'name' does not match any of the expected tags: 'resunet', 'dynunet'"),
        ({"name": "segresnet", "features": 12, "blocks": [1, 1]}, "multiple of 8"),
        ({"name": "dynunet", "channels": [4, 8], "strides": [2]}, "three levels or more"),
        (
            {"name": "mednext", "features": 4, "blocks": [1, 1], "expansion": [2] * 3},
            "blocks has 2 levels, expansion 3",
        ),
        ({"name": "swinunetr", "features": 12, "heads": [1, 2, 5, 8]}, "48 features of stage 2 can't be shared by 5"),
        ({"name": "uxnet", "features": [4, 8], "depths": [1] * 3}, "features has 2 stages, depths 3"),
        ({"name": "vnet", "in_channels": 3}, "1, 2, 4, 8 or 16"),
        ({"name": "kisnet", **TINY["kisnet"], "in_channels": 1}, "greater than or equal to 2"),
        ({"name": "resunet", **TINY["resunet"], "deep_supervision": 1}, "can have none"),
        ({"name": "swinunetr", "features": 24, "deep_supervision": 1}, "can have none"),
        ({"name": "segresnet", **TINY["segresnet"], "deep_supervision": 3}, "at most 2 coarser outputs"),
        ({"name": "mednext", **TINY["mednext"], "deep_supervision": 1}, "at no or all of 2 levels"),
        ({"name": "segresnet", **TINY["segresnet"], "strides": [2]}, "Extra inputs are not permitted"),
    ],
)
def test_a_config_that_is_none_says_why(values, words):
    with pytest.raises(ValidationError, match=words):
        TypeAdapter(NetworkConfig).validate_python({"in_channels": 2, "out_channels": 1, **values})


def test_published_sizes():
    """Parameters in millions as published: nnU-Net at full resolution 31.2, MedNeXt-S 5.6, 3D UX-Net 53.0."""
    dynunet = {"channels": [32, 64, 128, 256, 320, 320], "strides": [2] * 5}
    mednext = {"features": 32, "blocks": [2] * 5, "expansion": [2] * 5}
    sizes = ((config_of("dynunet", **dynunet), 31.2), (config_of("mednext", **mednext), 5.6), (UXNET_PUBLISHED, 53.0))
    for config, millions in sizes:
        with torch.device("meta"):
            assert sum(p.numel() for p in build_network(config).parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


# Deep supervision.


@pytest.mark.parametrize(
    ("name", "count", "edges"),
    [
        ("dynunet", 2, [16, 16, 16]),
        ("segresnet", 2, [16, 8, 4]),
        ("segresnet", 1, [16, 8]),
        ("mednext", 2, [16, 8, 4]),
        ("resunet", 0, [16]),
    ],
)
def test_while_training_all_outputs_come_the_finest_first(name, count, edges):
    network = build_network(config_of(name, deep_supervision=count))
    image = torch.randn(2, 2, 16, 16, 16)
    outputs = supervised_logits(network.train(), image)
    assert [output.shape for output in outputs] == [(2, 1, n, n, n) for n in edges]
    (alone,) = supervised_logits(network.eval(), image)
    assert torch.allclose(outputs[0], alone, atol=1e-6)


def test_dynunets_coarser_outputs_are_constant_over_ever_larger_blocks():
    """They are brought to full size by the nearest voxel: from half of it the second, from a quarter the third."""
    network = build_network(config_of("dynunet", deep_supervision=2)).train()
    outputs = supervised_logits(network, torch.randn(1, 2, 16, 16, 16))
    for output, block in zip(outputs, (1, 2, 4), strict=True):
        coarse = output[..., ::block, ::block, ::block]
        assert torch.equal(nn.functional.interpolate(coarse, size=(16, 16, 16)), output)
        assert not torch.equal(coarse, output.flip(-1)[..., ::block, ::block, ::block])


@pytest.mark.parametrize("name", ["dynunet", "segresnet", "mednext"])
def test_every_weight_gets_a_gradient_and_the_network_can_be_copied_after_it(name):
    network = build_network(config_of(name, deep_supervision=2)).train()
    sum(output.square().mean() for output in supervised_logits(network, torch.randn(1, 2, 16, 16, 16))).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    copy.deepcopy(network)


@pytest.mark.parametrize("name", ["uxnet", "vnet", "kisnet"])
def test_new_weights_give_finite_logits_and_a_gradient_at_every_kernel(name):
    torch.manual_seed(0)
    network = build_network(config_of(name, out_channels=3)).train()
    logits = network(torch.randn(1, 2, 32, 32, 32))
    assert torch.isfinite(logits).all()
    assert 0.03 < logits.std() < 30
    (logits * torch.randn_like(logits)).mean().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        if parameter.ndim > 1:  # a bias in front of a normalisation has none
            assert (parameter.grad.flatten(1).abs().amax(1) > 0).all(), key


@pytest.mark.parametrize(("name", "edge"), [("uxnet", 8), ("mednext", 8), ("resunet", 8), ("vnet", 32)])
def test_gradients_in_bfloat16_are_right_where_images_are_smaller_than_kernels(name, edge):
    """At the bottom images of two voxels meet kernels of three or five, all with channels last, as the trainer has."""
    torch.manual_seed(0)
    last = torch.channels_last_3d
    network = build_network(config_of(name)).train().to(memory_format=last)
    image = torch.randn(1, 2, edge, edge, edge).contiguous(memory_format=last)
    gradients = []
    for enabled in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = network(image)
        (logits.float() * torch.linspace(-1, 1, edge)).mean().backward()
        kernels = [layer.weight for layer in network.modules() if isinstance(layer, nn.Conv3d)]
        gradients.append([kernel.grad.flatten() for kernel in kernels])
    alike = [torch.nn.functional.cosine_similarity(*pair, dim=0) for pair in zip(*gradients, strict=True)]
    assert min(alike) > 0.9


# Bundles.


@every_network
def test_a_saved_bundle_of_each_gives_the_same_answer(name, tmp_path):
    config = config_of(name)
    network = build_network(config).half().float().eval()
    save_bundle(network, description(config), tmp_path)
    bundle = load_bundle("tiny", "tumor", tmp_path)
    assert bundle.description.network == config
    image = image_for(config)
    with torch.no_grad():
        assert torch.equal(bundle.network(image), network(image))
    weights = (tmp_path / "tiny" / "weights.safetensors").stat().st_size
    numbers = sum(parameter.numel() for parameter in network.parameters())
    assert weights < 2 * numbers + 250 * len(network.state_dict())  # half precision, nothing twice


def test_a_description_without_a_name_is_of_a_resunet():
    written = {"in_channels": 2, "out_channels": 1, "channels": [4, 8], "strides": [2], "head": 4}
    facts = {"name": "old", "task": "tumor", "version": "1", "phases": ["pre", "first_post"], "spacing_mm": 2.0}
    config = ModelDescription.model_validate_json(json.dumps({**facts, "network": written})).network
    assert (config.name, config.channels, config.head) == ("resunet", (4, 8), 4)


# Encoders.

ENCODERS = {
    "resunet": r"model\.(1\.submodule\.)*(0\.|conv\.|residual\.)",
    "dynunet": r"(input_block|downsamples|bottleneck)\.",
    "segresnet": r"encoder\.",
    "mednext": r"(stem|enc_stages|down_blocks|bottleneck)\.",
    "swinunetr": r"swinViT\.",
    "uxnet": r"stages\.",
    "vnet": r"(in_tr|down_tr\d+)\.",
    "kisnet": r"structure\.0\.model\.(1\.submodule\.)*(0\.|conv\.|residual\.)",
}
"""How the names of an encoder's weights begin."""


def bundle_of(config, fill):
    network = build_network(config).requires_grad_(False)
    for parameter in network.parameters():
        parameter.fill_(fill)
    return Bundle(description(config, "source"), "0" * 64, network)


@every_network
def test_exactly_the_encoder_is_copied_and_frozen(name):
    config = config_of(name)
    network = bundle_of(config, 1.0).network.requires_grad_(True)
    count = load_encoder(network, config, bundle_of(config, 7.0))
    freeze_encoder(network, config)
    inside = {key for key, _ in network.named_parameters() if re.match(ENCODERS[name], key)}
    assert 0 < len(inside) < len(list(network.parameters()))
    for key, parameter in network.named_parameters():
        assert (parameter == (7.0 if key in inside else 1.0)).all(), key
        assert parameter.requires_grad == (key not in inside), key
    assert count == sum(v.numel() for key, v in network.state_dict().items() if re.match(ENCODERS[name], key))


def test_a_resunet_with_a_head_has_the_encoder_of_one_without():
    plain, headed = config_of("resunet"), config_of("resunet", head=4)
    network = build_network(headed)
    assert load_encoder(network, headed, bundle_of(plain, 7.0)) > 0
    assert all((p == 7.0).all() for p in encoder(network, headed).parameters())


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("segresnet", {}, "it has a segresnet, and a dynunet is wanted"),
        ("dynunet", {"in_channels": 1}, r"\(4, 1, 3, 3, 3\), wanted \(4, 2, 3, 3, 3\)"),
        ("dynunet", {"channels": [4, 6, 8], "strides": [2, 2]}, "missing, wanted"),
        ("dynunet", {"channels": [4, 6, 8, 8, 8], "strides": [2, 2, 2, 2]}, "wanted none"),
    ],
)
def test_an_encoder_that_does_not_fit_is_told_and_left(name, changes, words):
    config = config_of("dynunet")
    network = build_network(config)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ModelError, match=words):
        load_encoder(network, config, bundle_of(config_of(name, **changes), 7.0))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


# Memory, and what MONAI takes from einops.


@pytest.mark.parametrize(
    ("name", "values"),
    [
        # in + out + four sets of: features over the cube of their voxels' edge.
        ("dynunet", 3 + 4 * (4 + 6 / 8 + 8 / 64 + 8 / 512)),
        ("segresnet", 3 + 4 * (8 + 16 / 8 + 32 / 64 + 64 / 512)),
        ("mednext", 3 + 4 * (4 * 3 + 8 * 4 / 8 + 16 * 5 / 64)),  # a block widens by 2, 3 and 4
        ("swinunetr", 3 + 4 * (24 + 12 / 8 + 24 / 64 + 48 / 512 + 96 / 4096 + 192 / 32768)),
        ("uxnet", 3 + 4 * (8 + 4 / 8 + 8 / 64 + 16 / 64)),
        ("vnet", 3 + 4 * (32 + 64 / 8 + 128 / 64 + 256 / 512 + 256 / 4096)),
        ("kisnet", 3 + 4 * (7 + 4 / 8 + 8 / 64 + 8 / 64)),
    ],
)
def test_bytes_a_voxel_of_each(name, values):
    assert bytes_per_voxel(config_of(name)) == pytest.approx(4 * values)


def test_axes_in_another_order():
    assert _rearrange(torch.zeros(1, 2, 3, 4, 5), "b c d h w -> b d h w c").shape == (1, 3, 4, 5, 2)
    values = torch.arange(6).view(2, 3)
    assert _rearrange(values, "a b -> b a").tolist() == [[0, 3], [1, 4], [2, 5]]
