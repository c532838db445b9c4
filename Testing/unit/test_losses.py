"""The losses, against values worked out by hand and against MONAI."""

import monai.losses
import pytest
import torch
from pydantic import BaseModel, TypeAdapter, ValidationError
from torch.nn import functional

from BreastTumorSegLib.training.losses import (
    BoundaryConfig,
    DiceBCEConfig,
    DiceCEConfig,
    DiceConfig,
    FocalTverskyConfig,
    LossConfig,
    TverskyConfig,
    boundary_distance,
    build_loss,
    deep_supervision_loss,
    lesion_weights,
    signed_distance,
    soft_label,
)

EACH = [
    DiceConfig(),
    DiceCEConfig(),
    DiceBCEConfig(),
    DiceBCEConfig(lesion_voxels=4),
    TverskyConfig(),
    FocalTverskyConfig(),
    BoundaryConfig(),
]
each = pytest.mark.parametrize("config", EACH, ids=lambda config: config.name)


def row(*values):
    """A sample of one line of voxels, (1, 1, 1, 1, X)."""
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, 1, -1)


def logit(probability):
    return torch.logit(probability, eps=1e-7)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# True positives .75 + .5 = 1.25, false positives .25 + .25 = .5, false negatives .25 + .5 = .75.
PROBABILITY, TARGET = row(0.75, 0.5, 0.25, 0.25), row(1, 1, 0, 0)
DICE = 1 / 3  # 1 - 2 x 1.25 / (1.75 + 2)
BCE = 0.3890483  # (3 x -ln .75 - ln .5) / 4 = (3 x .2876821 + .6931472) / 4


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (DiceConfig(), DICE),
        (DiceCEConfig(), DICE + BCE),
        (DiceBCEConfig(), DICE + 5 * BCE),
        (DiceBCEConfig(bce_weight=2), DICE + 2 * BCE),
        # 1 - 1.25 / (1.25 + .3 x .5 + .7 x .75) = 1 - 1.25 / 1.925
        (TverskyConfig(bce_weight=0), 0.3506494),
        # 1 - 1.25 / (1.25 + .7 x .5 + .3 x .75) = 1 - 1.25 / 1.825
        (TverskyConfig(alpha=0.7, beta=0.3, bce_weight=0), 0.3150685),
        (TverskyConfig(), 0.3506494 + BCE),
        # .3506494 ** .75: its third power is .0431140, of which the root is .2076391, of which the root is .4556743
        (FocalTverskyConfig(bce_weight=0), 0.4556743),
        (FocalTverskyConfig(gamma=1, bce_weight=0), 0.3506494),
        (BoundaryConfig(bce_weight=0), DICE),
    ],
)
def test_values_worked_out_by_hand(config, expected):
    assert build_loss(config)(logit(PROBABILITY), TARGET).item() == pytest.approx(expected, abs=2e-5)


def test_the_boundary_term_grows_with_the_progress():
    loss = build_loss(BoundaryConfig(bce_weight=0, boundary_weight=0.5))
    # Distances -1.5, -.5, .5, 1.5 times p - g of -.25, -.5, .25, .25: (.375 + .25 + .125 + .375) / 4 = .28125
    for progress, expected in ((0.0, DICE), (0.5, DICE + 0.25 * 0.28125), (1.0, DICE + 0.5 * 0.28125)):
        assert loss(logit(PROBABILITY), TARGET, progress).item() == pytest.approx(expected, abs=2e-5)


def test_the_other_losses_ignore_the_progress():
    for config in EACH[:-1]:
        loss = build_loss(config)
        assert loss(logit(PROBABILITY), TARGET, 1.0) == loss(logit(PROBABILITY), TARGET)


def test_cross_entropy_of_one_logit_is_that_of_two_classes():
    logits, target = torch.randn(2, 1, 3, 4, 5), (torch.rand(2, 1, 3, 4, 5) > 0.5).float()
    two = torch.cat([torch.zeros_like(logits), logits], 1)
    expected = functional.cross_entropy(two, target[:, 0].long())
    got = build_loss(DiceCEConfig())(logits, target) - build_loss(DiceConfig())(logits, target)
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)


def test_focal_tversky_with_even_weights_is_a_root_of_dice():
    logits, target = torch.randn(1, 1, 3, 4, 5), (torch.rand(1, 1, 3, 4, 5) > 0.5).float()
    dice = monai.losses.DiceLoss(sigmoid=True)(logits, target).item()
    loss = build_loss(FocalTverskyConfig(alpha=0.5, beta=0.5, gamma=2, bce_weight=0))
    assert loss(logits, target).item() == pytest.approx(dice**0.5, rel=1e-4)


def test_label_smoothing_moves_the_cross_entropy_alone():
    # A target of 1 becomes .9: -(.9 ln .75 + .1 ln .25) = .2589139 + .1386294; Dice 1 - 2 x .75 / 1.75 = 1 / 7
    loss = build_loss(DiceCEConfig(label_smoothing=0.2))
    assert loss(logit(row(0.75)), row(1)).item() == pytest.approx(0.3975433 + 1 / 7, abs=2e-5)


# -- what the losses mean --------------------------------------------------------------------------------------


@each
def test_the_right_answer_costs_almost_nothing_and_the_wrong_one_much(config):
    loss, target = build_loss(config), row(0, 0, 1, 1, 0, 0)
    right = (target * 2 - 1) * 50
    assert loss(right, target, 1.0).item() == pytest.approx(0, abs=1e-4)
    assert loss(-right, target, 1.0) > 0.99


@each
def test_a_missed_voxel_wants_a_higher_logit_and_a_wrong_one_a_lower(config):
    logits = row(-2.0, 3.0, 2.0, -3.0).requires_grad_()
    build_loss(config)(logits, TARGET, 0.5).backward()
    assert (logits.grad.flatten()[:2] < 0).all() and (logits.grad.flatten()[2:] > 0).all()


@pytest.mark.parametrize("config", [TverskyConfig(bce_weight=0), FocalTverskyConfig(bce_weight=0)])
def test_with_beta_above_alpha_a_false_negative_costs_more(config):
    loss, target = build_loss(config), row(1, 1, 0, 0)
    missed, extra = row(50.0, -50, -50, -50), row(50.0, 50, 50, -50)
    # 1 - 1 / (1 + .7) = .412 against 1 - 2 / (2 + .3) = .130
    assert loss(missed, target) > 2 * loss(extra, target)
    swapped = build_loss(config.model_copy(update={"alpha": 0.7, "beta": 0.3}))
    # 1 - 1 / (1 + .3) = .231 against 1 - 2 / (2 + .7) = .259
    assert swapped(missed, target) < swapped(extra, target)


@each
def test_without_tumour_the_region_term_is_left_out(config):
    empty, logits = torch.zeros(1, 1, 1, 1, 4), row(0.0, 0, 0, 0)
    # The cross-entropy of p = .5 is ln 2.
    assert build_loss(config)(logits, empty, 1.0).item() == pytest.approx(config.bce_weight * 0.6931472, rel=1e-6)


def test_without_tumour_the_loss_grows_with_the_number_of_wrong_voxels():
    target, few = torch.zeros(1, 1, 4, 4, 4), torch.full((1, 1, 4, 4, 4), -10.0)
    many = few.clone()
    few[0, 0, 0, 0, 0] = 10
    many[0, 0, 0] = 10
    loss = build_loss(DiceBCEConfig())
    assert loss(many, target) > 10 * loss(few, target)


@each
def test_a_split_batch_has_the_same_mean(config):
    loss, logits, target = build_loss(config), torch.randn(4, 1, 3, 4, 5), (torch.rand(4, 1, 3, 4, 5) > 0.8).float()
    target[1] = 0
    halves = [loss(logits[part], target[part], 0.5) for part in (slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 4))]
    assert loss(logits, target, 0.5).item() == pytest.approx(sum(halves).item() / 4, rel=1e-5)


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("target", [row(1, 0, 0.5, 0), row(0, 0, 0, 0), row(1, 1, 1, 1)])
def test_extreme_logits_in_half_precision_stay_finite(config, dtype, target):
    for signs in ((1, -1, 1, -1), (-1, 1, -1, 1), (1, 1, 1, 1), (-1, -1, -1, -1)):
        logits = (80 * row(*signs)).to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=dtype):
            value = build_loss(config)(logits, target, 1.0)
        value.backward()
        assert value.dtype == torch.float32 and value.isfinite() and logits.grad.isfinite().all()


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_summed_in_single_precision(config, dtype):
    """In bfloat16 a sum of ones stops at 256."""
    logits, target = torch.randn(1, 1, 16, 16, 16).to(dtype), (torch.rand(1, 1, 16, 16, 16) > 0.9).to(dtype)
    loss = build_loss(config)
    assert loss(logits, target, 0.5) == loss(logits.float(), target.float(), 0.5)


# -- soft targets ----------------------------------------------------------------------------------------------


def test_a_soft_label_is_the_share_of_annotators():
    masks = [torch.tensor([1, 1, 0, 0]), torch.tensor([1, 0, 0, 0]), torch.tensor([1, 1, 1, 0])]
    torch.testing.assert_close(soft_label(masks), torch.tensor([1, 2 / 3, 1 / 3, 0]))


@each
def test_the_soft_target_itself_is_the_best_answer(config):
    """sum(p * g) would make p = (1, 1, 0, 0) the best: Dice 1 - 2 x 1.7 / (2 + 2) at p against 1 - 2 x 1.62 / 4."""
    if config.name == "boundary":
        pytest.skip("its distance is to the boundary of the majority")
    loss, target = build_loss(config), row(0.9, 0.8, 0.2, 0.1)
    best = loss(logit(target), target)
    for worse in (row(0.99, 0.99, 0.01, 0.01), row(0.8, 0.8, 0.2, 0.1), row(0.9, 0.9, 0.2, 0.1), row(0.9, 0.8, 0.3, 0)):
        assert loss(logit(worse), target) > best + 1e-3


def test_soft_dice_worked_out_by_hand():
    # True positives min(.5, .6) + min(1, .5) = 1; 1 - 2 / (1.5 + 1.1)
    assert build_loss(DiceConfig())(logit(row(0.6, 0.5)), row(0.5, 1)).item() == pytest.approx(0.2307692, abs=2e-5)


# -- small lesions ---------------------------------------------------------------------------------------------


def test_a_small_lesion_weighs_as_much_as_one_of_so_many_voxels():
    target = torch.cat([row(1, 1, 0, 1, 1, 1, 1, 1), row(0, 0, 0, 0, 0, 0, 0, 1)])
    expected = torch.cat([row(2, 2, 1, 1, 1, 1, 1, 1), row(1, 1, 1, 1, 1, 1, 1, 4)])
    torch.testing.assert_close(lesion_weights(target, 4), expected)


def test_lesions_that_touch_at_a_corner_are_one():
    target = torch.eye(2).view(1, 1, 1, 2, 2)
    torch.testing.assert_close(lesion_weights(target, 4), torch.tensor([[2.0, 1.0], [1.0, 2.0]]).view(1, 1, 1, 2, 2))


def test_missing_the_smaller_of_two_lesions_costs_as_much_in_cross_entropy():
    target, misses_small = row(1, 0, 1, 1, 1, 1), row(-3, -9, 9, 9, 9, 9)
    misses_large = row(9, -9, -3, -3, -3, -3)
    plain, even = (build_loss(DiceBCEConfig(bce_weight=1, lesion_voxels=voxels)) for voxels in (0, 4))
    dice = build_loss(DiceConfig())
    cost = [
        [(loss(x, target) - dice(x, target)).item() for x in (misses_small, misses_large)] for loss in (plain, even)
    ]
    assert cost[0][1] == pytest.approx(4 * cost[0][0], rel=1e-2)
    assert cost[1][1] == pytest.approx(cost[1][0], rel=1e-2)


# -- the boundary ----------------------------------------------------------------------------------------------


def test_distances_have_the_sign_and_the_half_voxel():
    mask = torch.tensor([0, 0, 1, 1, 1, 0, 0]).bool().view(1, 1, 7)
    expected = torch.tensor([1.5, 0.5, -0.5, -1.5, -0.5, 0.5, 1.5])
    torch.testing.assert_close(signed_distance(mask).flatten(), expected)


def test_distances_are_those_of_monai_but_for_the_half_voxel():
    if not hasattr(monai.losses, "BoundaryLoss"):
        pytest.skip("this MONAI has no boundary loss")
    mask = torch.rand(1, 1, 5, 6, 7) > 0.7
    expected = monai.losses.BoundaryLoss().compute_distance_map(mask.float()) - 0.5
    torch.testing.assert_close(signed_distance(mask[0, 0]), expected[0, 0])


@pytest.mark.parametrize("fill", [0, 1])
def test_without_a_boundary_there_is_no_distance(fill):
    target = torch.full((1, 1, 1, 1, 4), float(fill))
    assert boundary_distance(PROBABILITY, target) == 0


def test_a_boundary_further_away_costs_more():
    target = row(0, 0, 1, 1, 1, 0, 0)
    # One voxel off: .5 for the voxel missed and .5 for the one too many; two off: (.5 + 1.5) twice.
    for prediction, expected in (
        (target, 0.0),
        (row(0, 0, 0, 1, 1, 1, 0), 1 / 7),
        (row(0, 0, 0, 0, 1, 1, 1), 4 / 7),
    ):
        assert boundary_distance(prediction, target).item() == pytest.approx(expected)


def test_a_missed_lesion_of_one_voxel_costs():
    assert boundary_distance(row(0, 0, 0, 0), row(0, 1, 0, 0)).item() == pytest.approx(0.5 / 4)


# -- deep supervision ------------------------------------------------------------------------------------------


def test_coarse_levels_weigh_less_and_see_the_averaged_target():
    target = row(1, 1, 0, 1)
    outputs = [torch.zeros(1, 1, 1, 1, size) for size in (4, 2, 1)]
    # The last voxel of the target: 1, then (0 + 1) / 2, then 3 / 4; (1 x 1 + .5 x .5 + .25 x .75) / 1.75
    got = deep_supervision_loss(lambda logits, target, progress=0.0: target.flatten()[-1] + progress, outputs, target)
    assert got.item() == pytest.approx(1.4375 / 1.75)


def test_the_progress_reaches_every_level():
    outputs = [torch.zeros(1, 1, 1, 1, size) for size in (4, 2)]
    got = deep_supervision_loss(lambda logits, target, progress=0.0: torch.tensor(progress), outputs, TARGET, 0.25)
    assert got.item() == pytest.approx(0.25)


def test_a_single_output_is_the_loss_itself():
    loss, logits = build_loss(DiceBCEConfig()), logit(PROBABILITY)
    assert deep_supervision_loss(loss, [logits], TARGET).item() == pytest.approx(loss(logits, TARGET).item())


@pytest.mark.parametrize("config", [DiceBCEConfig(), DiceCEConfig(), FocalTverskyConfig()])
def test_what_nobody_can_know_is_not_learned_from(config):
    logits = torch.tensor([2.0, -1.0, 0.5, 3.0], requires_grad=True)
    target = row(1, 0, float("nan"), float("nan"))
    value = deep_supervision_loss(build_loss(config), [logits.view(target.shape)], target)
    value.backward()
    assert torch.isfinite(value) and torch.equal(logits.grad[2:], torch.zeros(2)) and logits.grad[:2].abs().min() > 0
    # As if the network had said there, with certainty, that nothing is there, and had been right.
    sure = torch.cat([logits.detach()[:2], torch.full((2,), -20.0)]).view(target.shape)
    assert value.item() == pytest.approx(build_loss(config)(sure, row(1, 0, 0, 0)).item())


# -- configuration ---------------------------------------------------------------------------------------------


class Training(BaseModel):
    loss: LossConfig


@each
def test_a_config_survives_its_file(config):
    saved = Training(loss=config).model_dump_json()
    assert Training.model_validate_json(saved).loss == config


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "hinge"},
        {"name": "dice", "bce_weight": 1},
        {"name": "dice", "label_smoothing": 0.1},
        {"name": "dice_ce", "alpha": 0.3},
        {"name": "dice_bce", "bce_weight": 0},
        {"name": "dice_bce", "label_smoothing": 1},
        {"name": "tversky", "gamma": 2},
        {"name": "tversky", "alpha": 0, "beta": 0},
        {"name": "tversky", "bce_weight": 0, "label_smoothing": 0.1},
        {"name": "focal_tversky", "gamma": 0.5},
        {"name": "boundary", "boundary_weight": 0},
    ],
)
def test_senseless_fields_are_refused(fields):
    with pytest.raises(ValidationError):
        TypeAdapter(LossConfig).validate_python(fields)
