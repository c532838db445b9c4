"""VQ-VAE of time-intensity curves, after Xie et al., section 2.1; see docs/heterogeneity.md. Needs PyTorch.

A 1D encoder, a codebook of K vectors, a decoder. What the paper leaves open is chosen here: two convolutions of 16 and
32 channels, codes of 8 numbers, the amplitude beside the min-max curve, and the straight-through and commitment terms
without which such a codebook doesn't learn (van den Oord et al. 2017).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from BreastTumorSegLib.kinetics.codebooks import GRID, VqVaeCodebook, numbered, on_grid
from BreastTumorSegLib.kinetics.curves import AMPLITUDE_WEIGHT, read_at
from BreastTumorSegLib.kinetics.enhancement import ENHANCING_PE

CODE_SIZE = 8
BETA = 0.25
EPOCHS, LEARNING_RATE, HALVED_EVERY = 300, 0.005, 50
BATCH = 4096
LEAST_POST = 2
"""Fewest post-contrast phases that training leaves of a curve."""


class VqVae(nn.Module):
    """Encoder, codebook and decoder.

    Args:
        k: Codes.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        length = len(GRID)
        self.conv1 = nn.Conv1d(2, 16, 3, padding=1)
        self.conv2 = nn.Conv1d(16, 32, 3, stride=2, padding=1)
        self.linear = nn.Linear(32 * (length // 2) + 1, CODE_SIZE)
        self.decoder = nn.Sequential(nn.Linear(CODE_SIZE, 64), nn.ReLU(), nn.Linear(64, length + 1))
        self.codes = nn.Parameter(torch.zeros(k, CODE_SIZE))

    def encode(self, inputs: Tensor, amplitude: Tensor) -> Tensor:
        """Codes before quantization, (N, CODE_SIZE), of what `on_grid` gives."""
        hidden = functional.relu(self.conv2(functional.relu(self.conv1(inputs))))
        return self.linear(torch.cat([hidden.flatten(1), amplitude[:, None]], dim=1))

    def nearest(self, points: Tensor) -> Tensor:
        """Index of the nearest code, (N,)."""
        return torch.cdist(points, self.codes).argmin(dim=1)

    def loss(self, inputs: Tensor, amplitude: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Reconstruction of `target` (N, G + 1) where `weight` is, codebook and commitment terms."""
        points = self.encode(inputs, amplitude)
        codes = self.codes[self.nearest(points)]
        out = self.decoder(points + (codes - points).detach())  # straight through: the gradient skips the choice
        rebuilt = (weight * (out - target) ** 2).sum(dim=1).mean()
        codebook = functional.mse_loss(codes, points.detach())
        return rebuilt + codebook + BETA * functional.mse_loss(points, codes.detach())


class VqVaeClusterer:
    """The VQ-VAE as a method of clustering.

    Args:
        drop_phases: Leave post-contrast phases out at random in training, as a population's codebook needs it.
        epochs: Of training.
    """

    def __init__(self, drop_phases: bool = False, epochs: int = EPOCHS) -> None:
        self._drop, self._epochs = drop_phases, epochs

    def fit(self, curves: np.ndarray, seconds: np.ndarray, k: int, seed: int = 0) -> VqVaeCodebook:
        """See `Clusterer`. On the CPU, so that one seed gives one codebook."""
        k = min(k, len(np.unique(curves.T, axis=0)))
        random = np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = VqVae(k)
            self._train(network, curves.astype(np.float32), np.asarray(seconds, np.float64), random)
        return _codebook(network)

    def _train(self, network: VqVae, curves: np.ndarray, seconds: np.ndarray, random: np.random.Generator) -> None:
        target, weight = _targets(curves, seconds)
        _spread_codes(network, curves, seconds, random)
        optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, HALVED_EVERY, 0.5)
        for epoch in range(self._epochs):
            for batch in _batches(curves.shape[1], random):
                keep = self._phases(len(seconds), random)
                inputs, amplitude = map(torch.from_numpy, on_grid(curves[:, batch][keep], seconds[keep]))
                loss = network.loss(inputs, amplitude, target[batch], weight)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
            if epoch < self._epochs // 2 and epoch % 5 == 4:
                _revive(network, curves, seconds, random)

    def _phases(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Indices of the phases that a batch shows, the pre-contrast one among them."""
        if not self._drop or random.random() < 0.5:
            return np.arange(count)
        post = int(random.integers(LEAST_POST, count))
        return np.r_[0, 1 + np.sort(random.choice(count - 1, post, replace=False))]


def _targets(curves: np.ndarray, seconds: np.ndarray) -> tuple[Tensor, Tensor]:
    """What the decoder is to give, (N, G + 1): shape on the grid, then weighted amplitude; and weights, (G + 1,).

    Weights are 1 / (number of known seconds) where the exam knows the curve, 0 elsewhere, and 1 for the amplitude: the
    squared distance of `curve_features`.
    """
    inputs, amplitude = on_grid(curves, seconds)
    mask = torch.from_numpy(inputs[0, 1])
    target = np.hstack([inputs[:, 0], AMPLITUDE_WEIGHT * amplitude[:, None]])
    return torch.from_numpy(target), torch.cat([mask / mask.sum(), torch.ones(1)])


def _batches(count: int, random: np.random.Generator) -> list[np.ndarray]:
    order = random.permutation(count)
    return [order[start : start + BATCH] for start in range(0, count, BATCH)]


@torch.no_grad()
def _points(network: VqVae, curves: np.ndarray, seconds: np.ndarray, random: np.random.Generator) -> Tensor:
    some = random.choice(curves.shape[1], min(BATCH, curves.shape[1]), replace=False)
    return network.encode(*map(torch.from_numpy, on_grid(curves[:, some], seconds)))


@torch.no_grad()
def _spread_codes(network: VqVae, curves: np.ndarray, seconds: np.ndarray, random: np.random.Generator) -> None:
    """Put the codes where voxels are, each far from the others (k-means++)."""
    points = _points(network, curves, seconds, random)
    chosen = [points[0]]
    while len(chosen) < len(network.codes):
        distance = torch.cdist(points, torch.stack(chosen)).amin(dim=1).double().square().numpy()
        share = distance / distance.sum() if distance.sum() > 0 else None
        chosen.append(points[int(random.choice(len(points), p=share))])
    network.codes.copy_(torch.stack(chosen))


@torch.no_grad()
def _revive(network: VqVae, curves: np.ndarray, seconds: np.ndarray, random: np.random.Generator) -> None:
    """Move codes that hardly any voxel has onto random voxels: nothing else would ever move them."""
    points = _points(network, curves, seconds, random)
    count = torch.bincount(network.nearest(points), minlength=len(network.codes))
    for dead in torch.nonzero(count < 0.002 * len(points)).flatten().tolist():
        network.codes[dead] = points[int(random.integers(len(points)))]


@torch.no_grad()
def _codebook(network: VqVae) -> VqVaeCodebook:
    """Encoder, numbered codes and their curves as arrays."""
    out = network.decoder(network.codes).double().numpy()
    shape, mean = out[:, :-1], ENHANCING_PE * np.exp(out[:, -1:] / AMPLITUDE_WEIGHT)
    knots = np.r_[0.0, GRID]
    curves = np.hstack([np.zeros((len(out), 1)), shape * mean / np.maximum(shape.mean(axis=1, keepdims=True), 0.1)])
    order = numbered(knots, curves)
    names = [f"{layer}.{kind}" for layer in ("conv1", "conv2", "linear") for kind in ("weight", "bias")]
    weights = {name: network.get_parameter(name).numpy().copy() for name in names}
    weights["codes"] = network.codes.numpy()[order].copy()
    return VqVaeCodebook(weights, read_at(knots, knots, curves[order]))
