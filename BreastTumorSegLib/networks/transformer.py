"""Pre-norm transformer layers with true padding masks, on PyTorch's fused attention.

MONAI's block needs einops, and with fused attention drops out attention while it predicts, too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class TransformerLayer(nn.Module):
    """Self-attention and a perceptron, each behind a layer normalisation (Dosovitskiy et al., arXiv 2010.11929).

    Args:
        width: Features of a token.
        heads: That share them out.
        hidden: Features inside the perceptron.
        dropout: Of attention weights and of both branches, while training.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.before_attention = nn.LayerNorm(width)
        self.projections = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width)
        )

    def forward(self, tokens: Tensor, keys: Tensor | None = None) -> Tensor:
        """Tokens (B, L, width) after the layer.

        Args:
            tokens: (B, L, width).
            keys: bool (B, L), which tokens may be attended to; all of them without it. Each row has at least one.
        """
        tokens = tokens + self._dropped(self.output(self._attended(self.before_attention(tokens), keys)))
        return tokens + self._dropped(self.perceptron(tokens))

    def _attended(self, tokens: Tensor, keys: Tensor | None) -> Tensor:
        batch, length, width = tokens.shape
        shared = self.projections(tokens).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = shared.permute(2, 0, 3, 1, 4)
        mask = None if keys is None else keys[:, None, None, :].expand(batch, 1, length, length)
        dropout = self.dropout if self.training else 0.0
        answer = functional.scaled_dot_product_attention(query, key, value, mask, dropout)
        return answer.transpose(1, 2).reshape(batch, length, width)

    def _dropped(self, branch: Tensor) -> Tensor:
        return functional.dropout(branch, self.dropout, self.training)


class Transformer(nn.Module):
    """Layers, and a last normalisation; arguments as for `TransformerLayer`."""

    def __init__(self, layers: int, width: int, heads: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(width, heads, hidden, dropout) for _ in range(layers))
        self.last = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, keys: Tensor | None = None) -> Tensor:
        """See `TransformerLayer.forward`."""
        for layer in self.layers:
            tokens = layer(tokens, keys)
        return self.last(tokens)


def in_blocks(tokens: Tensor, block: tuple[int, int, int]) -> tuple[Tensor, Tensor | None]:
    """Cut a grid of tokens into blocks, the last ones along each axis filled up.

    Args:
        tokens: (T, Z, Y, X, width).
        block: Tokens a block along each axis.

    Returns:
        (T * B, L, width) with L tokens in each of B blocks, and bool (T * B, L), which of them are real; None where all
        are.
    """
    count, *sizes, _ = tokens.shape
    lacking = [-size % edge for size, edge in zip(sizes, block, strict=True)]
    if not any(lacking):
        return _cut(tokens, block), None
    real = torch.ones(count, *sizes, 1, dtype=torch.bool, device=tokens.device)
    pads = [0, 0, *(pad for lack in reversed(lacking) for pad in (0, lack))]
    return _cut(functional.pad(tokens, pads), block), _cut(functional.pad(real, pads), block)[..., 0]


def from_blocks(blocks: Tensor, block: tuple[int, int, int], shape: tuple[int, int, int]) -> Tensor:
    """Undo `in_blocks` for a grid of `shape` (Z, Y, X); what was filled up is cut off."""
    (a, b, c), (z, y, x) = block, (-(-size // edge) for size, edge in zip(shape, block, strict=True))
    grid = blocks.view(-1, z, y, x, a, b, c, blocks.shape[-1]).permute(0, 1, 4, 2, 5, 3, 6, 7)
    return grid.reshape(-1, z * a, y * b, x * c, blocks.shape[-1])[:, : shape[0], : shape[1], : shape[2]]


def _cut(grid: Tensor, block: tuple[int, int, int]) -> Tensor:
    count, z, y, x, width = grid.shape
    a, b, c = block
    cut = grid.view(count, z // a, a, y // b, b, x // c, c, width).permute(0, 1, 3, 5, 2, 4, 6, 7)
    return cut.reshape(-1, a * b * c, width)
