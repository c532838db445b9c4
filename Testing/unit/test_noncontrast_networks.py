"""The networks for images without contrast agent, against what is worked out by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from BreastTumorSegLib.networks.kisnet import KineticFusion, KISNetConfig, kisnet
from BreastTumorSegLib.networks.transfer import freeze_encoder, train_mode
from BreastTumorSegLib.networks.uxnet import FeatureNorm, UXBlock
from BreastTumorSegLib.networks.vnet import VNetConfig, vnet

TINY_KISNET = KISNetConfig(in_channels=4, out_channels=1, channels=(4, 8), strides=(2,), features=3, embedding=2)
VNET = VNetConfig(in_channels=1, out_channels=2)


# 3D UX-Net.


def literal_block(image, weights):
    """A UX-Net block on (C, Z, Y, X), voxel by voxel; `weights` by their names in the block."""
    answer = np.zeros_like(image)
    for place in np.ndindex(*image.shape[1:]):
        around = np.array([literal_sum(image[c], place, weights["around.weight"][c, 0]) for c in range(len(image))])
        around += weights["around.bias"]
        mean = sum(around) / len(around)
        variance = sum((value - mean) ** 2 for value in around) / len(around)
        normed = (around - mean) / math.sqrt(variance + 1e-5) * weights["norm.weight"] + weights["norm.bias"]
        for c in range(len(image)):
            total = image[(c, *place)] + weights["narrow.bias"][c]
            for j in range(4):  # feature c's own four
                wide = weights["widen.weight"][4 * c + j].item() * normed[c] + weights["widen.bias"][4 * c + j]
                gelu = wide * (1 + math.erf(wide / math.sqrt(2))) / 2
                total += weights["narrow.weight"][c, j].item() * gelu
            answer[(c, *place)] = total
    return answer


def literal_sum(feature, place, kernel):
    """One feature (Z, Y, X) around a voxel, weighted; nothing lies outside the volume."""
    total, reach = 0.0, len(kernel) // 2
    for offset in np.ndindex(*kernel.shape):
        at = tuple(p + o - reach for p, o in zip(place, offset, strict=True))
        if all(0 <= a < n for a, n in zip(at, feature.shape, strict=True)):
            total += kernel[offset] * feature[at]
    return total


@pytest.mark.parametrize("kernel", [3, 7])
def test_a_ux_block_is_the_written_out_sum_of_every_voxel(kernel):
    torch.manual_seed(0)
    block = UXBlock(3, kernel).double()
    nn.init.uniform_(block.norm.weight, 0.5, 1.5)
    nn.init.uniform_(block.norm.bias, -0.5, 0.5)
    image = torch.randn(1, 3, 4, 2, 3, dtype=torch.float64)
    weights = {name: value.detach().numpy() for name, value in block.named_parameters()}
    with torch.no_grad():
        found = block(image)[0].numpy()
    np.testing.assert_allclose(found, literal_block(image[0].numpy(), weights), rtol=1e-10, atol=1e-10)


def test_a_voxels_features_are_normalised_by_themselves():
    """Features 1 and 3, then 10 and 50: the mean of each voxel is in the middle, its deviation half the difference."""
    image = torch.tensor([[1.0, 10], [3, 50]]).view(1, 2, 1, 1, 2)
    assert FeatureNorm(2)(image).flatten().tolist() == pytest.approx([-1, -1, 1, 1], abs=1e-4)


# V-Net.


def test_a_vnet_drops_nothing_out():
    torch.manual_seed(0)
    network, image = vnet(VNET).train(), torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(image), network(image))


def test_a_patch_moves_running_statistics_by_a_fiftieth_but_not_those_of_a_frozen_encoder():
    network = vnet(VNET)
    first, image = network.in_tr.conv_block, torch.randn(1, 1, 32, 32, 32)
    train_mode(network)
    with torch.no_grad():
        mean = first.conv(image).mean((0, 2, 3, 4))
        network(image)
        moved = first.adn.N.running_mean.clone()
        assert torch.allclose(moved, mean / 50, atol=1e-6)
        freeze_encoder(network, VNET)
        train_mode(network)
        network(image + 1)
    assert torch.equal(first.adn.N.running_mean, moved)
    assert not torch.equal(network.up_tr32.bn1.running_mean, torch.zeros(16))


# KIS-Net.


def test_a_label_is_its_vector_and_a_mixture_of_labels_their_mean():
    fusion = KineticFusion(labels=3, embedding=2, features=1, out_channels=1)
    fusion.embed.weight.data = torch.tensor([[1.0, 2, 3], [4, 5, 6]]).view(2, 3, 1, 1, 1)
    probabilities = torch.tensor([[0, 0.5], [1, 0.5], [0, 0]]).view(1, 3, 1, 1, 2)
    assert fusion.embed(probabilities)[0, :, 0, 0].tolist() == [[2, 1.5], [5, 4.5]]


@torch.no_grad()
def test_a_fusion_worked_out_by_hand():
    """Kernels of which only the middle counts. Label 0 is 3, of which the sigmoid is .952574. Label 1 is -2, by the
    PReLU -.5, sigmoid .377541. Image plus twice that goes through PReLU, normalisation by 0 and 1, PReLU and 10 x + 1.
    """
    fusion = KineticFusion(labels=2, embedding=1, features=1, out_channels=1).eval()
    for layer in fusion.modules():
        if isinstance(layer, nn.Conv3d) and layer.kernel_size == (3, 3, 3):
            layer.weight.zero_()[:, :, 1, 1, 1] = 1
        if isinstance(layer, nn.Conv3d) and layer.bias is not None:
            layer.bias.zero_()
        if isinstance(layer, nn.PReLU):
            layer.weight.fill_(0.25)
    fusion.embed.weight.copy_(torch.tensor([3.0, -2]).view(1, 2, 1, 1, 1))
    fusion.fused[0].weight[0, 1, 1, 1, 1] = 2
    fusion.fused[-1].weight.fill_(10)
    fusion.fused[-1].bias.fill_(1)
    image = torch.tensor([0.5, -3.0]).view(1, 1, 1, 1, 2)
    labels = torch.eye(2).view(1, 2, 1, 1, 2)
    # .5 + 1.905148 = 2.405148; -3 + .755082 = -2.244918, a sixteenth of it is -.140307.
    assert fusion(image, labels).flatten().tolist() == pytest.approx([25.0515, -0.40307], abs=1e-3)


@torch.no_grad()
def test_a_label_counts_four_voxels_around_and_no_farther():
    """Four convolutions of 3 x 3 x 3."""
    torch.manual_seed(0)
    fusion = KineticFusion(labels=3, embedding=4, features=4, out_channels=1).eval()
    labels = torch.zeros(1, 3, 3, 3, 21)
    labels[:, 0] = 1
    other = labels.roll(1, 1)
    changed = torch.where(torch.arange(21) == 10, other, labels)
    image = torch.randn(1, 4, 3, 3, 21)
    moved = (fusion(image, changed) - fusion(image, labels)).abs().amax((0, 1, 2, 3))
    assert torch.nonzero(moved).flatten().tolist() == list(range(6, 15))


@torch.no_grad()
def test_the_image_goes_through_the_u_net_and_the_maps_do_not():
    torch.manual_seed(0)
    network, features = kisnet(TINY_KISNET).eval(), []
    network.structure.register_forward_hook(lambda _layer, _inputs, answer: features.append(answer))
    image = torch.randn(1, 1, 8, 8, 8)
    answers = [network(torch.cat([image, torch.rand(1, 3, 8, 8, 8)], 1)) for _ in range(2)]
    assert torch.equal(*features)
    assert features[0].shape == (1, 3, 8, 8, 8)
    assert not torch.equal(*answers)
