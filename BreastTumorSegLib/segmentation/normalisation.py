"""Normalisation with the statistics of the whole exam, so that a window's answer is the volume's."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

Norm = nn.InstanceNorm3d | nn.GroupNorm
_NORMS = (nn.InstanceNorm3d, nn.GroupNorm)


class ExamNetwork(nn.Module):
    """A network that tells the statistics of its instance and group normalisations, or uses those of another pass.

    They take mean and variance over their whole input, so the same voxel gets another answer in a window than in the
    volume. With the statistics of one pass over the volume they are the same linear map everywhere. Layer
    normalisation, over the features of one voxel, is that by itself.

    The weights are shared with the network that it is made of.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        shared = {id(tensor): tensor for tensor in [*network.parameters(), *network.buffers()]}
        self._tape = _Tape()
        self._network = _with_exam_norms(copy.deepcopy(network, shared), self._tape)

    def forward(self, image: Tensor, statistics: Tensor | None = None) -> Tensor:
        """Logits (N, K, Z, Y, X) of (N, C, Z, Y, X), with the input's own statistics or with given ones, (2, F)."""
        self._tape.begin(statistics)
        return self._network(image)

    def measure(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of one volume (1, C, Z, Y, X), and its statistics: mean and variance of all F features, (2, F)."""
        self._tape.begin(None, measuring=True)
        logits = self._network(image)
        return logits, torch.cat(self._tape.measured, 1) if self._tape.measured else image.new_zeros(2, 0)


class Measuring(nn.Module):
    """`ExamNetwork.measure` as a module, for what converts modules."""

    def __init__(self, network: ExamNetwork) -> None:
        super().__init__()
        self._network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """See `ExamNetwork.measure`."""
        return self._network.measure(image)


def feature_count(network: nn.Module) -> int:
    """F, the features of all instance and group normalisations of a network together."""
    return sum(_features(layer) for layer in network.modules() if isinstance(layer, _NORMS))


def _features(norm: Norm) -> int:
    return norm.num_channels if isinstance(norm, nn.GroupNorm) else norm.num_features


class _Tape:
    """Statistics on their way into or out of the normalisations, in the order in which these run."""

    def begin(self, given: Tensor | None, measuring: bool = False) -> None:
        self.given = given
        self.measuring = measuring
        self.measured: list[Tensor] = []
        self._used = 0

    def take(self, features: int) -> Tensor:
        """The next statistics, (2, features)."""
        assert self.given is not None
        start, self._used = self._used, self._used + features
        return self.given[:, start : self._used]


class _ExamNorm(nn.Module):
    """Takes a normalisation's place. Each feature has its group's statistics; instance normalisation's has its own."""

    def __init__(self, norm: Norm, tape: _Tape) -> None:
        super().__init__()
        self._norm, self._tape = norm, tape
        self._features = _features(norm)
        self._groups = norm.num_groups if isinstance(norm, nn.GroupNorm) else self._features

    def forward(self, image: Tensor) -> Tensor:
        if self._tape.given is not None:
            return self._fixed(image, self._tape.take(self._features))
        if self._tape.measuring:
            self._tape.measured.append(self._statistics(image))
        return self._norm(image)

    def _statistics(self, image: Tensor) -> Tensor:
        """Mean and variance, (2, features), of one volume (1, features, Z, Y, X)."""
        means = image.mean((0, 2, 3, 4), dtype=torch.float32)
        centred = image - means.to(image.dtype).view(1, -1, 1, 1, 1)
        variances = centred.square().mean((0, 2, 3, 4), dtype=torch.float32)
        if self._groups < self._features:
            grouped = means.view(self._groups, -1)
            mean = grouped.mean(1, keepdim=True)
            spread = (grouped - mean).square() + variances.view(self._groups, -1)
            variances = spread.mean(1, keepdim=True).expand_as(grouped).flatten()
            means = mean.expand_as(grouped).flatten()
        return torch.stack([means, variances])

    def _fixed(self, image: Tensor, statistics: Tensor) -> Tensor:
        scale = torch.rsqrt(statistics[1] + self._norm.eps)
        scale = scale if self._norm.weight is None else scale * self._norm.weight
        shift = -statistics[0] * scale
        shift = shift if self._norm.bias is None else shift + self._norm.bias
        return image * scale.to(image.dtype).view(1, -1, 1, 1, 1) + shift.to(image.dtype).view(1, -1, 1, 1, 1)


def _with_exam_norms(module: nn.Module, tape: _Tape) -> nn.Module:
    """The module with every normalisation over voxels replaced, once where a module has two places in the network."""
    if isinstance(module, _NORMS):
        return _ExamNorm(module, tape)
    if not isinstance(module, _ExamNorm):
        for name, child in module.named_children():
            setattr(module, name, _with_exam_norms(child, tape))
    return module
