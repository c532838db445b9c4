"""What the configs of all networks have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

Widths = Annotated[tuple[PositiveInt, ...], Field(min_length=2)]
"""A number a level, from the finest."""


Levels = tuple[tuple[float, int], ...]
"""Of each level, the values a voxel that one set of features takes there, and the edge of such a voxel in voxels of the
input. Memory is estimated from it."""


class NetworkSize(BaseModel):
    """Size of a network; each network's own config adds what it needs.

    Attributes:
        in_channels: Phases that go in.
        out_channels: Logits that come out.
        deep_supervision: Coarser outputs beside the finest while training; most networks can have some.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    in_channels: PositiveInt
    out_channels: PositiveInt
    deep_supervision: int = Field(default=0, ge=0)

    @property
    def multiple(self) -> int:
        """Sizes along each axis must be a multiple of this."""
        raise NotImplementedError

    @property
    def alignment(self) -> int:
        """Windows of a volume start at multiples of this: there the network does the same as in the volume."""
        return self.multiple

    @property
    def most_supervised(self) -> int:
        """How many coarser outputs the network can have; 0 where it has no deep supervision."""
        return 0

    @model_validator(mode="after")
    def _supervision_fits(self) -> NetworkSize:
        if self.deep_supervision > self.most_supervised:
            most = f"at most {self.most_supervised} coarser outputs" if self.most_supervised else "none"
            raise ValueError(f"deep_supervision is {self.deep_supervision}, but a network of this size can have {most}")
        return self
