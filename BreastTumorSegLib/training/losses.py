"""Losses for one logit and soft targets, and one for classes.

Each loss is the mean over the samples of a region term (Dice or Tversky), plus a cross-entropy, plus a distance to the
boundary, as far as its configuration names them. Two rules hold for all:

A region term is left out of a sample without foreground: it would say that one wrong voxel is as bad as a thousand,
and hold back every prediction. So a loss without cross-entropy learns nothing from a sample without tumour. The mean is
over all samples, those included; a batch that is split over processes has the same mean.

Region terms take soft targets as the Dice semimetric loss does (Wang et al. 2023, arXiv 2303.16296): true positives
are sum(min(p, g)), false positives sum(max(p - g, 0)), false negatives sum(max(g - p, 0)), so that p = g is the
minimum. With hard targets this is the ordinary Dice. The usual sum(p * g) would push every soft label to 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal, Protocol

import numpy as np
import torch
from monai.losses import DiceLoss, TverskyLoss
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.ndimage import distance_transform_edt, label
from torch import Tensor
from torch.nn import functional


class SegmentationLoss(Protocol):
    """What `build_loss` gives."""

    def __call__(self, logits: Tensor, target: Tensor, progress: float = 0.0) -> Tensor:
        """The loss, a float32 scalar, whatever the logits' type.

        Args:
            logits: (N, 1, Z, Y, X).
            target: (N, 1, Z, Y, X) in [0, 1].
            progress: Share of the training that is done, 0 to 1.
        """


class _Config(BaseModel):
    """What all losses have.

    Attributes:
        label_smoothing: The cross-entropy sees target * (1 - s) + s / 2. Region terms see the target itself: smoothed,
            a patch's background would outweigh the tumour in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _smoothing_has_an_effect(self) -> _Config:
        if self.label_smoothing and not getattr(self, "bce_weight", 0):
            raise ValueError("label_smoothing is for the cross-entropy, which this loss doesn't have")
        return self


class DiceConfig(_Config):
    """Dice alone."""

    name: Literal["dice"] = "dice"
    bce_weight: ClassVar[float] = 0.0


class DiceCEConfig(_Config):
    """Dice plus cross-entropy, evenly, as nnU-Net has it.

    For one logit x the softmax cross-entropy over (0, x) is the binary cross-entropy, and Dice is of the tumour alone.
    """

    name: Literal["dice_ce"] = "dice_ce"
    bce_weight: ClassVar[float] = 1.0


class DiceBCEConfig(_Config):
    """Dice plus weighted binary cross-entropy (KIS-Net, equation 5).

    Attributes:
        bce_weight: The paper's lambda, 5.
        lesion_voxels: In the cross-entropy a smaller lesion counts as much as one of so many voxels; 0: every voxel the
            same. Beside a large lesion a second one of 8 voxels would hardly matter to Dice or cross-entropy. A lesion
            that the patch cuts is as large as what is in it, and levels of deep supervision count their own voxels.
    """

    name: Literal["dice_bce"] = "dice_bce"
    bce_weight: float = Field(default=5.0, gt=0)
    lesion_voxels: int = Field(default=0, ge=0)


class _TverskyIndex(_Config):
    """The index TP / (TP + alpha FP + beta FN), as Salehi et al. 2017 (arXiv 1706.05721) and MONAI have it.

    alpha weighs FALSE POSITIVES, beta FALSE NEGATIVES; beta > alpha makes a missed voxel cost more. Abraham and Khan's
    paper on the focal loss has them the other way round.

    Attributes:
        bce_weight: Weight of the binary cross-entropy; the papers have none (0).
    """

    alpha: float = Field(default=0.3, ge=0)
    beta: float = Field(default=0.7, ge=0)
    bce_weight: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _errors_cost(self) -> _TverskyIndex:
        if not self.alpha + self.beta:
            raise ValueError("alpha and beta are both 0: no error would cost anything")
        return self


class TverskyConfig(_TverskyIndex):
    """1 - Tversky index; alpha weighs false positives, beta false negatives."""

    name: Literal["tversky"] = "tversky"


class FocalTverskyConfig(_TverskyIndex):
    """(1 - Tversky index) ** (1 / gamma), Abraham and Khan 2019 (arXiv 1810.07842), best with their gamma of 4/3.

    gamma > 1 keeps the gradient up where the overlap is already good.
    """

    name: Literal["focal_tversky"] = "focal_tversky"
    gamma: float = Field(default=4 / 3, ge=1, le=3)


class BoundaryConfig(_Config):
    """Dice and cross-entropy, plus the distance to the boundary (Kervadec et al. 2019, arXiv 1812.07032).

    Distances are in voxels, and computed on the CPU: 0.05 s for a sample of 64 x 64 x 64, 0.6 s for 128 x 128 x 128.

    Attributes:
        bce_weight: Weight of the binary cross-entropy.
        boundary_weight: Weight of the distance at the end of the training; it rises linearly from 0. At full
            weight from the start it could hold the network at an empty prediction.
    """

    name: Literal["boundary"] = "boundary"
    bce_weight: float = Field(default=1.0, ge=0)
    boundary_weight: float = Field(default=1.0, gt=0)


class DiceWCEConfig(_Config):
    """Dice plus class-weighted cross-entropy, for classes (HCNet, equations 2 to 4, as a softmax over the classes).

    Attributes:
        most_weight: A class counts by the inverse of its frequency in the batch, at most so many times as much as if
            all were equally frequent, and at least that much less; the paper leaves it open.
    """

    name: Literal["dice_wce"] = "dice_wce"
    most_weight: float = Field(default=10.0, ge=1)


LossConfig = Annotated[
    DiceConfig | DiceCEConfig | DiceBCEConfig | TverskyConfig | FocalTverskyConfig | BoundaryConfig | DiceWCEConfig,
    Field(discriminator="name"),
]
"""The type of a configuration's field that holds a loss; `name` tells which."""


def build_loss(config: LossConfig) -> SegmentationLoss:
    """The loss that a configuration describes; see the module for what holds for all."""
    if isinstance(config, DiceWCEConfig):
        return _class_loss(config.most_weight)
    region = _region_term(config)
    final_weight = config.boundary_weight if isinstance(config, BoundaryConfig) else 0.0
    lesion_voxels = config.lesion_voxels if isinstance(config, DiceBCEConfig) else 0

    def loss(logits: Tensor, target: Tensor, progress: float = 0.0) -> Tensor:
        # Half precision can't add up the voxels of a patch.
        logits, target = logits.float(), target.float()
        probability = logits.sigmoid()
        foreground = target.flatten(1).amax(1) > 0
        total = (region(probability, target).flatten() * foreground).mean()
        if config.bce_weight:
            smooth = target * (1 - config.label_smoothing) + config.label_smoothing / 2
            weight = lesion_weights(target, lesion_voxels) if lesion_voxels else None
            total = total + config.bce_weight * functional.binary_cross_entropy_with_logits(logits, smooth, weight)
        if final_weight * progress:
            total = total + final_weight * progress * boundary_distance(probability, target)
        return total

    return loss


def _class_loss(most_weight: float) -> SegmentationLoss:
    """Takes logits (N, K, Z, Y, X) and a target (N, 1, Z, Y, X) of whole numbers from 0 to K - 1."""

    def loss(logits: Tensor, target: Tensor, progress: float = 0.0) -> Tensor:
        logits, classes = logits.float(), target[:, 0].long()
        truth = functional.one_hot(classes, logits.shape[1]).movedim(-1, 1).float()
        weights = class_weights(truth.mean((0, 2, 3, 4)), most_weight)
        return class_dice_loss(logits.softmax(1), truth) + functional.cross_entropy(logits, classes, weights)

    return loss


def class_weights(shares: Tensor, most_weight: float) -> Tensor:
    """Weights (K,) of classes with these shares of the voxels: 1 for 1 / K, inverse to the share, bounded."""
    return (1 / (len(shares) * shares.clamp_min(1e-9))).clamp(1 / most_weight, most_weight)


def class_dice_loss(probability: Tensor, truth: Tensor) -> Tensor:
    """1 - Dice, the mean over the classes that are there; both (N, K, Z, Y, X)."""
    both, each = (probability * truth).sum((0, 2, 3, 4)), (probability + truth).sum((0, 2, 3, 4))
    there = truth.sum((0, 2, 3, 4)) > 0
    return (1 - 2 * both / each)[there].mean()


def _region_term(config: LossConfig) -> Callable[[Tensor, Tensor], Tensor]:
    """Takes probabilities and target, gives one number a sample."""
    if not isinstance(config, _TverskyIndex):
        return DiceLoss(soft_label=True, reduction="none")
    tversky = TverskyLoss(alpha=config.alpha, beta=config.beta, soft_label=True, reduction="none")
    if not isinstance(config, FocalTverskyConfig):
        return tversky
    # At 0 the root's gradient is infinite.
    return lambda probability, target: tversky(probability, target).clamp_min(1e-6) ** (1 / config.gamma)


def boundary_distance(probability: Tensor, target: Tensor) -> Tensor:
    """How far the predicted boundary is from the target's: the mean over voxels of distance x (p - g), >= 0.

    This is Kervadec's equation 4; equation 5 leaves out the constant distance x g. A sample without a boundary, because
    its target is empty or full, counts as 0.

    Args:
        probability: (N, 1, Z, Y, X).
        target: Same shape; foreground is what is at least 0.5.
    """
    hard = target >= 0.5
    distance = torch.stack([signed_distance(sample[0]) for sample in hard])[:, None]
    return (distance * (probability - hard.float())).mean()


def signed_distance(mask: Tensor) -> Tensor:
    """Voxels from each voxel's centre to the mask's surface (Z, Y, X), negative inside; 0 where there is no surface.

    The surface lies half way between a voxel inside and one outside. Kervadec's code and MONAI put it on the outermost
    voxels inside, so that missing a lesion of one voxel would cost nothing.
    """
    inside = mask.cpu().numpy()
    if inside.all() or not inside.any():
        return torch.zeros(mask.shape, device=mask.device)
    distance = distance_transform_edt(~inside) - distance_transform_edt(inside)
    return torch.from_numpy(distance).float().to(mask.device) - torch.where(mask, -0.5, 0.5)


def lesion_weights(target: Tensor, lesion_voxels: int) -> Tensor:
    """Weights of voxels that let a lesion of few voxels count as much as one of `lesion_voxels`; 1 elsewhere.

    Shirokikh et al. 2020 (arXiv 2007.10033) weigh by the inverse of a lesion's size; here larger lesions keep theirs.

    Args:
        target: (N, 1, Z, Y, X); foreground is what is at least 0.5, and a lesion what is connected in it.
    """
    return torch.stack([_weights_in(sample[0] >= 0.5, lesion_voxels) for sample in target])[:, None]


def _weights_in(mask: Tensor, lesion_voxels: int) -> Tensor:
    """`lesion_weights` of a mask (Z, Y, X)."""
    labels, _ = label(mask.cpu().numpy(), np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())
    sizes[0] = lesion_voxels
    weights = np.maximum(lesion_voxels / sizes, 1).astype(np.float32)
    return torch.from_numpy(weights[labels]).to(mask.device)


def soft_label(masks: Sequence[Tensor]) -> Tensor:
    """The mean of several annotators' masks of equal shape, float32: the share of them who marked each voxel."""
    return torch.stack([mask.float() for mask in masks]).mean(0)


def deep_supervision_loss(
    loss: SegmentationLoss, outputs: Sequence[Tensor], target: Tensor, progress: float = 0.0
) -> Tensor:
    """The loss of the decoder's levels together, with weights 1, 1/2, 1/4 ... divided by their sum, as nnU-Net does.

    Args:
        loss: For one level.
        outputs: Logits (N, 1, Z, Y, X), finest first; a coarse one sees the target averaged to its size, so that no
            small lesion falls through.
        target: (N, 1, Z, Y, X) in [0, 1]; NaN where nobody can know. There the network may say what it likes.
        progress: Share of the training that is done, 0 to 1.
    """
    weights = [0.5**level for level in range(len(outputs))]
    levels = []
    for weight, logits in zip(weights, outputs, strict=True):
        wanted = functional.interpolate(target, size=logits.shape[2:], mode="area")
        known = wanted.isfinite()
        levels.append(weight * loss(torch.where(known, logits, _SURELY_NOT), wanted.nan_to_num(0.0), progress))
    return torch.stack(levels).sum() / sum(weights)


_SURELY_NOT = -20.0
"""The logit and its target, 0, that stand in where nobody can know; it is a number, so nothing is learned from it."""
