"""Instance normalisation with the statistics of the whole exam, so that a window's answer is the volume's."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional


class ExamNetwork(nn.Module):
    """A network that tells the statistics of its instance normalisations, or uses those of another pass.

    Instance normalisation takes mean and variance over its whole input, so the same voxel gets another answer in a
    window than in the volume. With the statistics of one pass over the volume it is the same linear map everywhere.

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
    """F, the features of all instance normalisations of a network together."""
    return sum(layer.num_features for layer in network.modules() if isinstance(layer, nn.InstanceNorm3d))


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
    """Takes an instance normalisation's place."""

    def __init__(self, norm: nn.InstanceNorm3d, tape: _Tape) -> None:
        super().__init__()
        self._features, self._eps = norm.num_features, norm.eps
        self._weight, self._bias = norm.weight, norm.bias
        self._tape = tape

    def forward(self, image: Tensor) -> Tensor:
        if self._tape.given is not None:
            return self._fixed(image, self._tape.take(self._features))
        if self._tape.measuring:
            mean = image.mean((0, 2, 3, 4), dtype=torch.float32)
            variance = (
                (image - mean.to(image.dtype).view(1, -1, 1, 1, 1)).square().mean((0, 2, 3, 4), dtype=torch.float32)
            )
            self._tape.measured.append(torch.stack([mean, variance]))
        return functional.instance_norm(image, weight=self._weight, bias=self._bias, eps=self._eps)

    def _fixed(self, image: Tensor, statistics: Tensor) -> Tensor:
        scale = torch.rsqrt(statistics[1] + self._eps)
        scale = scale if self._weight is None else scale * self._weight
        shift = -statistics[0] * scale
        shift = shift if self._bias is None else shift + self._bias
        return image * scale.to(image.dtype).view(1, -1, 1, 1, 1) + shift.to(image.dtype).view(1, -1, 1, 1, 1)


def _with_exam_norms(module: nn.Module, tape: _Tape) -> nn.Module:
    """The module with every instance normalisation replaced."""
    if isinstance(module, nn.InstanceNorm3d):
        return _ExamNorm(module, tape)
    for name, child in module.named_children():
        setattr(module, name, _with_exam_norms(child, tape))
    return module
