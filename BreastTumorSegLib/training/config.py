"""Configuration of a training run."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from BreastTumorSegLib.networks.bundle import ModelDescription

TRAINING_SEEDS = 1_000_000
"""Exams for training have seeds from here on; those below are for validation, tests and demonstrations."""


class TrainingConfig(BaseModel):
    """Everything that decides a run; kept beside the weights.

    Attributes:
        model: The bundle to make.
        sites: Where the simulated exams come from, evenly.
        steps: Optimiser steps, one patch each.
        learning_rate: At the start; it falls polynomially with power 1.5, as in the ResUNet's paper.
        patch: Size (Z, Y, X) in voxels; without one, a sample is a whole volume.
        patches_per_exam: How often a simulated exam is used.
        spread: Extra variation of tissues, see `phantom.tissues.draw`.
        seed: First training seed is `TRAINING_SEEDS` + this x 100 000.
        save_every: Steps between saved bundles.
        start_from: Name of a bundle of the same size whose weights to go on from; random weights without one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelDescription
    sites: tuple[str, ...] = Field(("DUKE", "ISPY1", "ISPY2", "NACT"), min_length=1)
    steps: int = Field(gt=0)
    learning_rate: float = Field(2e-3, gt=0)
    patch: tuple[int, int, int] | None = None
    patches_per_exam: int = Field(2, gt=0)
    spread: float = Field(0.25, ge=0)
    seed: int = Field(0, ge=0)
    save_every: int = Field(500, gt=0)
    start_from: str | None = None
    out: Path

    @model_validator(mode="after")
    def _patch_fits_the_network(self) -> TrainingConfig:
        multiple = self.model.network.multiple
        if self.patch and any(size <= 0 or size % multiple for size in self.patch):
            raise ValueError(f"patch {self.patch} must be multiples of {multiple}, the network's strides together")
        return self
