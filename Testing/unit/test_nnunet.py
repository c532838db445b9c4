"""Data sets for nnU-Net v2, and its trained models as bundles; what needs nnunetv2 is skipped where it is missing."""

import hashlib
import json
import pickle
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from BreastTumorSegLib.cli import app
from BreastTumorSegLib.core.errors import (
    Cancelled,
    DependencyError,
    InputError,
    ModelError,
    OutOfMemoryError,
    OutputError,
)
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import Exam, Phase, PhaseTable, TimeSource
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import read_volume, write_volume
from BreastTumorSegLib.io.cohort import Case, Cohort
from BreastTumorSegLib.networks.nnunet import channel_images, joint_statistics, parse_channels
from BreastTumorSegLib.segmentation import nnunet
from BreastTumorSegLib.segmentation.engine import EngineOptions
from BreastTumorSegLib.segmentation.nnunet_models import (
    CHECKPOINT,
    NnunetBundle,
    NnunetDescription,
    add_nnunet,
    load_checkpoint,
    load_tumor_model,
)
from BreastTumorSegLib.segmentation.pipeline import _find_tumor
from BreastTumorSegLib.training.nnunet import Form, export_nnunet, leave_one_site_out

GRID = Geometry((4, 3, 2), (0.5, 0.5, 2.0), (5.0, 6.0, 7.0))
CPU = torch.device("cpu")
needs_nnunet = pytest.mark.skipif(find_spec("nnunetv2") is None, reason="nnunetv2 is not installed")


def volume(path, value, dtype=np.int16):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(np.broadcast_to(np.asarray(value, dtype), GRID.shape).copy(), GRID, path)
    return path


def a_case(folder, name, site="A", split="", masks=(1,)):
    """Three phases of 10, 30 and 20 at 0, 30 and 90 s: the last is the first that can show contrast."""
    phases = tuple(volume(folder / name / f"{index}.nii.gz", value) for index, value in enumerate((10, 30, 20)))
    tumors = tuple(volume(folder / name / f"mask{i}.nii.gz", value, np.uint8) for i, value in enumerate(masks))
    return Case(name, site, phases, (0.0, 30.0, 90.0), tumors, None, split)


def exported(tmp_path, *cases, form=None):
    folder = export_nnunet(Cohort(cases), tmp_path / "raw", 7, "Breast", form)
    return folder, json.loads((folder / "dataset.json").read_text())


# Channels.


def test_channels_by_hand():
    pre, post = np.array([[[10, 20]]], np.uint16), np.array([[[5, 60]]], np.uint16)
    first, second, third = channel_images(pre, post, ("pre", "first_post", "subtraction"))
    assert first.tolist() == [[[10, 20]]] and second.tolist() == [[[5, 60]]]
    assert third.tolist() == [[[-5, 40]]]
    # Mean 10 and deviation 5: (5 - 10) / 5 and (60 - 10) / 5; differences are not shifted.
    post_scaled, gain = channel_images(pre, post, ("first_post", "subtraction"), (10.0, 5.0))
    assert post_scaled.tolist() == [[[-1, 10]]] and gain.tolist() == [[[-1, 8]]]


def test_joint_statistics_are_those_of_all_phases_together():
    # 1, 3 and 5, 7: mean 4, variance ((-3)^2 + (-1)^2 + 1 + 3^2) / 4 = 5.
    mean, deviation = joint_statistics(np.array(pair, np.int16) for pair in ([1, 3], [5, 7]))
    assert (mean, deviation) == (4.0, pytest.approx(5**0.5))


def test_channels_that_are_none():
    with pytest.raises(InputError, match="no channel t2"):
        parse_channels(["pre", "t2"])
    with pytest.raises(InputError, match="no channel named"):
        parse_channels([])


# Export.


def test_a_data_set_as_nnunet_wants_it(tmp_path):
    folder, described = exported(
        tmp_path,
        a_case(tmp_path, "A_1", split="train"),
        a_case(tmp_path, "B_1", "B"),
        a_case(tmp_path, "B_2", "B", "test"),
    )
    assert folder == tmp_path / "raw" / "Dataset007_Breast"
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert files == {
        "dataset.json",
        "splits_final.json",
        "imagesTr/A_1_0000.nii.gz",
        "imagesTr/A_1_0001.nii.gz",
        "imagesTr/B_1_0000.nii.gz",
        "imagesTr/B_1_0001.nii.gz",
        "imagesTs/B_2_0000.nii.gz",
        "imagesTs/B_2_0001.nii.gz",
        "labelsTr/A_1.nii.gz",
        "labelsTr/B_1.nii.gz",
        "labelsTs/B_2.nii.gz",
    }
    assert described == {
        "channel_names": {"0": "pre", "1": "first_post"},
        "labels": {"background": 0, "tumor": 1},
        "numTraining": 2,
        "file_ending": ".nii.gz",
        "name": "Breast",
        "breast_tumor_seg": {"channels": ["pre", "first_post"], "joint_z_score": False},
    }
    pre, grid = read_volume(folder / "imagesTr/A_1_0000.nii.gz")
    post, _ = read_volume(folder / "imagesTr/A_1_0001.nii.gz")
    assert grid.difference(GRID) is None
    assert (pre == 10).all() and (post == 20).all() and post.dtype == np.int16
    assert json.loads((folder / "splits_final.json").read_text()) == [
        {"train": ["B_1"], "val": ["A_1"]},
        {"train": ["A_1"], "val": ["B_1"]},
    ]


def test_one_site_needs_no_splits(tmp_path):
    folder, _ = exported(tmp_path, a_case(tmp_path, "A_1"))
    assert sorted(place.name for place in folder.iterdir()) == ["dataset.json", "imagesTr", "labelsTr"]
    assert leave_one_site_out(Cohort(())) == []


def test_phases_normalised_together(tmp_path):
    form = Form(("first_post", "subtraction"), joint_z_score=True)
    folder, described = exported(tmp_path, a_case(tmp_path, "A_1"), form=form)
    # Of 10, 30 and 20: mean 20, variance 200 / 3.
    post, _ = read_volume(folder / "imagesTr/A_1_0000.nii.gz")
    gain, _ = read_volume(folder / "imagesTr/A_1_0001.nii.gz")
    assert np.allclose(post, 0, atol=1e-6)
    assert np.allclose(gain, 10 / (200 / 3) ** 0.5)
    assert described["channel_names"] == {"0": "noNorm", "1": "noNorm"}
    assert described["breast_tumor_seg"] == {"channels": ["first_post", "subtraction"], "joint_z_score": True}


@pytest.mark.parametrize(("masks", "tumour"), [((3,), 1), ((1, 0), 1), ((1, 0, 0), 0), ((2, 1, 0), 1)])
def test_what_half_of_the_annotators_marked(tmp_path, masks, tumour):
    folder, _ = exported(tmp_path, a_case(tmp_path, "A_1", masks=masks))
    label, _ = read_volume(folder / "labelsTr/A_1.nii.gz")
    assert (label == tumour).all() and label.dtype == np.uint8


@pytest.mark.parametrize(
    ("number", "name", "words"),
    [(0, "X", "0 is no id"), (1000, "X", "no id"), (1, "a/b", "no name"), (1, "", "no name")],
)
def test_names_that_nnunet_can_not_have(tmp_path, number, name, words):
    with pytest.raises(InputError, match=words):
        export_nnunet(Cohort((a_case(tmp_path, "A_1"),)), tmp_path, number, name)


def test_cohorts_that_are_refused(tmp_path):
    case = a_case(tmp_path, "A_1", split="test")
    with pytest.raises(InputError, match="test cases only"):
        export_nnunet(Cohort((case,)), tmp_path / "raw", 1, "X")
    case.phases[0].unlink()
    with pytest.raises(InputError, match="does not exist"):
        export_nnunet(Cohort((case,)), tmp_path / "raw", 1, "X")
    assert not (tmp_path / "raw").exists()


def test_a_data_set_that_is_there_stays(tmp_path):
    case = a_case(tmp_path, "A_1")
    exported(tmp_path, case)
    with pytest.raises(OutputError):
        exported(tmp_path, case)


def test_the_command_line_exports(tmp_path):
    a_case(tmp_path, "A_1")
    (tmp_path / "cohort.csv").write_text(
        "case,phases,times,tumor\nA_1,A_1/0.nii.gz;A_1/2.nii.gz,0;90,A_1/mask0.nii.gz\n"
    )
    arguments = ["nnunet", "export", str(tmp_path / "cohort.csv"), str(tmp_path), "--id", "3", "--name", "X"]
    done = CliRunner().invoke(app, [*arguments, "--channels", "subtraction"])
    assert done.exit_code == 0, done.output
    gain, _ = read_volume(tmp_path / "Dataset003_X" / "imagesTr" / "A_1_0000.nii.gz")
    assert (gain == 10).all()


# Checkpoints.

WEIGHTS = {"conv.weight": torch.arange(6.0)}


def checkpoint(**changes):
    """As nnU-Net v2 saves it, with the numbers of numpy that it logs."""
    return {
        "network_weights": WEIGHTS,
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5)], "train_losses": [np.float32(0.25)], "lrs": [0.01]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1,
        "init_args": {"configuration": "3d_fullres", "fold": 0, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    } | changes


class Evil:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_as_nnunet_saves_it(tmp_path):
    torch.save(checkpoint(), tmp_path / "c.pth")
    loaded = load_checkpoint(tmp_path / "c.pth")
    assert loaded["network_weights"]["conv.weight"].tolist() == [0, 1, 2, 3, 4, 5]
    assert loaded["logging"]["mean_fg_dice"] == [0.5]


def test_nothing_in_a_checkpoint_is_run(tmp_path):
    trap = Evil(tmp_path / "trap")
    torch.save(checkpoint(logging=trap), tmp_path / "c.pth")
    with pytest.raises(ModelError, match="holds more than weights and plain values; it was not loaded"):
        load_checkpoint(tmp_path / "c.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(trap))
    with pytest.raises(ModelError):
        load_checkpoint(tmp_path / "plain.pth")
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize(
    "content", [{"state_dict": WEIGHTS}, [1], checkpoint(init_args={}), checkpoint(network_weights=1)]
)
def test_what_is_no_checkpoint_of_nnunet(tmp_path, content):
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(ModelError, match="no checkpoint of nnU-Net v2"):
        load_checkpoint(tmp_path / "c.pth")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more"])
def test_damaged_checkpoints(tmp_path, content):
    (tmp_path / "c.pth").write_bytes(content)
    with pytest.raises(ModelError):
        load_checkpoint(tmp_path / "c.pth")
    with pytest.raises(ModelError):
        load_checkpoint(tmp_path / "missing.pth")


# Models.

PLANS = {
    "dataset_name": "Dataset007_Breast",
    "plans_name": "nnUNetPlans",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "image_reader_writer": "SimpleITKIO",
    "foreground_intensity_properties_per_channel": {"0": {}, "1": {}},
    "configurations": {
        "3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": [16, 16, 16],
            "spacing": [2.0, 1.0, 1.0],
            "normalization_schemes": ["ZScoreNormalization", "ZScoreNormalization"],
            "use_mask_for_norm": [False, False],
            "resampling_fn_data": "resample_data_or_seg_to_shape",
            "resampling_fn_seg": "resample_data_or_seg_to_shape",
            "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
            "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
            "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {
                    "n_stages": 2,
                    "features_per_stage": [4, 8],
                    "conv_op": "torch.nn.modules.conv.Conv3d",
                    "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
                    "strides": [[1, 1, 1], [2, 2, 2]],
                    "n_conv_per_stage": [1, 1],
                    "n_conv_per_stage_decoder": [1],
                    "conv_bias": True,
                    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                    "dropout_op": None,
                    "dropout_op_kwargs": None,
                    "nonlin": "torch.nn.LeakyReLU",
                    "nonlin_kwargs": {"inplace": True},
                },
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
        }
    },
}
DATASET = {
    "channel_names": {"0": "pre", "1": "first_post"},
    "labels": {"background": 0, "tumor": 1},
    "numTraining": 1,
    "file_ending": ".nii.gz",
}


def described(**changes):
    values = {"name": "tiny", "channels": ("pre", "first_post"), "trainer": "nnUNetTrainer", "folds": ("fold_0",)}
    return NnunetDescription(**(values | {"configuration": "3d_fullres", "plans": PLANS, "dataset": DATASET} | changes))


def with_architecture(**changes):
    plans = json.loads(json.dumps(PLANS))
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    architecture |= {key: value for key, value in changes.items() if key == "network_class_name"}
    architecture["arch_kwargs"] |= {key: value for key, value in changes.items() if key != "network_class_name"}
    return plans


def an_exam(grid=GRID):
    times = (0.0, 30.0, 90.0)
    phases = tuple(Phase(f"phase {i}", (), time, TimeSource.USER, grid) for i, time in enumerate(times))
    data = np.stack([np.full(grid.shape, value, np.float32) for value in (10, 30, 20)])
    return Exam(PhaseTable(phases), data)


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "registry.json").write_text("{}")
    return folder


@pytest.mark.skipif(find_spec("nnunetv2") is not None, reason="nnunetv2 is installed")
def test_without_nnunet_it_is_told_how_to_install_it(tmp_path, models):
    with pytest.raises(DependencyError, match=r"nnunetv2 is not installed.*-c constraints.txt"):
        add_nnunet(tmp_path, "tiny", models=models)
    breast = SimpleNamespace(labels=np.ones(GRID.shape, np.uint8))
    with pytest.raises(DependencyError):
        nnunet.nnunet_probability(an_exam(), breast, bundle_of(described()), CPU, Events())


def test_info_tells_what_an_nnunet_is(models, monkeypatch):
    monkeypatch.setenv("BREASTTUMORSEG_MODELS", str(models))
    (models / "tiny").mkdir()
    (models / "tiny" / "weights.safetensors").write_bytes(b"weights")
    (models / "tiny" / "model.json").write_text(described().model_dump_json())
    sha256 = hashlib.sha256(b"weights").hexdigest()
    (models / "registry.json").write_text(json.dumps({"tiny": {"task": "tumor", "sha256": sha256}}))
    said = CliRunner().invoke(app, ["models", "info", "tiny"]).output
    assert "nnU-Net v2, 3d_fullres, fold_0" in said and "pre, first_post" in said and "no card" in said


def bundle_of(description, weights=Path("none")):
    return NnunetBundle(description, "0" * 64, weights)


@pytest.fixture
def fake(monkeypatch):
    """In place of nnU-Net, what it is asked; it answers a half everywhere, or raises."""
    asked = SimpleNamespace(calls=[], errors=[])

    def answer(image, spacing, bundle, device, events, mirror):
        asked.calls.append((image, spacing, device.type, mirror))
        if asked.errors:
            raise asked.errors.pop()
        return np.full(image.shape[1:], 0.5, np.float32)

    monkeypatch.setattr(nnunet, "require_nnunet", lambda: None)
    monkeypatch.setattr(nnunet, "_foreground", answer)
    return asked


def test_only_the_breasts_part_of_the_answer_is_kept(fake):
    labels = np.zeros(GRID.shape, np.uint8)
    labels[:, 1] = 2
    breast = SimpleNamespace(labels=labels)
    found = nnunet.nnunet_probability(an_exam(), breast, bundle_of(described()), CPU, Events())
    assert found.dtype == np.float32
    assert (found[:, 1] == 0.5).all() and (found[:, ::2] == 0).all()
    ((image, spacing, _, mirror),) = fake.calls
    assert [np.unique(channel).tolist() for channel in image] == [[10], [20]]  # the phase at 30 s shows no contrast
    assert spacing == (2.0, 0.5, 0.5) and mirror is False


def test_an_exam_as_mama_mias_baseline_wants_it(fake):
    description = described(channels=("first_post",), joint_z_score=True)
    breast = SimpleNamespace(labels=np.ones(GRID.shape, np.uint8))
    exam = an_exam()
    exam.data[2] = 50  # of 10, 30 and 50: mean 30, variance 800 / 3
    nnunet.nnunet_probability(exam, breast, bundle_of(description), CPU, Events())
    assert np.allclose(fake.calls[0][0], 20 / (800 / 3) ** 0.5) and fake.calls[0][0].shape == (1, *GRID.shape)


def test_without_breasts_nothing_is_asked(fake):
    breast = SimpleNamespace(labels=np.zeros(GRID.shape, np.uint8))
    assert not nnunet.nnunet_probability(an_exam(), breast, bundle_of(described()), CPU, Events()).any()
    assert not fake.calls


def test_where_memory_runs_out(fake):
    breast = SimpleNamespace(labels=np.ones(GRID.shape, np.uint8))
    arguments = (an_exam(), breast, bundle_of(described()))
    fake.errors = [RuntimeError("CUDA out of memory. Tried")]
    events = Events()
    assert (nnunet.nnunet_probability(*arguments, torch.device("cuda"), events) == 0.5).all()
    assert [call[2] for call in fake.calls] == ["cuda", "cpu"] and "the CPU was used" in events.warnings[0]
    fake.errors = [MemoryError()]
    with pytest.raises(OutOfMemoryError):
        nnunet.nnunet_probability(*arguments, CPU, Events())
    fake.errors = [RuntimeError("a bug")]
    with pytest.raises(RuntimeError, match="a bug"):
        nnunet.nnunet_probability(*arguments, CPU, Events())


def test_an_nnunet_draws_the_edge_itself(fake, monkeypatch):
    """Nothing is grown, even where all enhances alike."""
    monkeypatch.setattr(nnunet, "_foreground", lambda *_: np.where(np.indices(GRID.shape)[2] == 1, 0.5, 0.49))
    breast = SimpleNamespace(labels=np.ones(GRID.shape, np.uint8))
    probability, likely = _find_tumor(an_exam(), breast, bundle_of(described()), None, CPU, None, Events())
    assert probability.max() == 0.5
    assert (likely[:, :, 1] == 0.5).all() and np.count_nonzero(likely) == 6


def test_mirroring_is_off_unless_asked_for(fake):
    breast = SimpleNamespace(labels=np.ones(GRID.shape, np.uint8))
    for options in (None, EngineOptions(), EngineOptions(mirror=True)):
        _find_tumor(an_exam(), breast, bundle_of(described()), None, CPU, options, Events())
    assert [mirror for *_, mirror in fake.calls] == [False, False, True]


# With nnU-Net itself.


@pytest.fixture
def trained(tmp_path):
    """A folder as nnU-Net leaves it, with random weights of two folds."""
    folder = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    for fold in range(2):
        (folder / f"fold_{fold}").mkdir(parents=True)
        torch.manual_seed(fold)
        network = nnunet.build_network(described()).network
        torch.save(checkpoint(network_weights=network.state_dict()), folder / f"fold_{fold}" / CHECKPOINT)
    (folder / "plans.json").write_text(json.dumps(PLANS))
    (folder / "dataset.json").write_text(json.dumps(DATASET))
    return folder


@needs_nnunet
def test_adding_a_trained_model(trained, models):
    made = add_nnunet(trained, "tiny", models=models)
    assert (made.channels, made.folds, made.joint_z_score) == (("pre", "first_post"), ("fold_0", "fold_1"), False)
    assert sorted(file.name for file in models.rglob("*") if file.is_file()) == [
        "model.json",
        "registry.json",
        "weights.safetensors",
    ]
    bundle = load_tumor_model("tiny", models)
    assert bundle.description == made
    original = load_checkpoint(trained / "fold_1" / CHECKPOINT)["network_weights"]
    kept = load_file(bundle.weights)
    encoder = "encoder.stages.0.0.convs.0.conv.weight"  # also decoder.encoder..., and each as ...all_modules.0.weight
    assert torch.equal(kept[f"fold_1/{encoder}"], original[encoder])
    assert sum(key.startswith("fold_1/") for key in kept) == len({value.data_ptr() for value in original.values()})
    assert bundle.weights.stat().st_mode == (models / "tiny" / "model.json").stat().st_mode
    with pytest.raises(OutputError, match="There is a model 'tiny'"):
        add_nnunet(trained, "tiny", models=models)


@needs_nnunet
def test_the_note_of_the_export_comes_back(trained, models):
    note = {"channels": ["subtraction", "pre"], "joint_z_score": True}
    names = {"0": "noNorm", "1": "noNorm"}
    (trained / "dataset.json").write_text(json.dumps(DATASET | {"channel_names": names, "breast_tumor_seg": note}))
    made = add_nnunet(trained, "tiny", folds=["1"], models=models)
    assert (made.channels, made.joint_z_score, made.folds) == (("subtraction", "pre"), True, ("fold_1",))


@needs_nnunet
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "a/b"}, "no name for a model"),
        ({"channels": ["pre"]}, "has 2 channels, not 1"),
        ({"channels": ["pre", "t2"]}, "no channel t2"),
        ({"folds": ["4"]}, "has no fold 4"),
    ],
)
def test_models_that_are_not_added(trained, models, arguments, words):
    with pytest.raises(InputError, match=words):
        add_nnunet(trained, **({"name": "tiny", "models": models} | arguments))


@needs_nnunet
def test_folders_that_are_no_trained_model(trained, models):
    (trained / "dataset.json").write_text(json.dumps(DATASET | {"channel_names": {"0": "DCE", "1": "T1"}}))
    with pytest.raises(InputError, match=r"named DCE, T1.*--channels"):
        add_nnunet(trained, "tiny", models=models)
    with pytest.raises(InputError, match=r"plans.json is missing"):
        add_nnunet(models, "tiny", models=models)


@needs_nnunet
def test_weights_of_another_network(trained, models):
    torch.save(checkpoint(), trained / "fold_0" / CHECKPOINT)
    with pytest.raises(ModelError, match="does not fit plans"):
        add_nnunet(trained, "tiny", models=models)
    assert json.loads((models / "registry.json").read_text()) == {}


@needs_nnunet
@pytest.mark.parametrize(
    "changes",
    [
        {"network_class_name": "os.system"},
        {"network_class_name": "dynamic_network_architectures.architectures.unet.torch.save"},
        {"conv_op": "subprocess.Popen"},
    ],
)
def test_plans_that_name_other_code_are_refused(changes):
    with pytest.raises(ModelError, match="no part of nnU-Net's networks"):
        nnunet.build_network(described(plans=with_architecture(**changes)))


@needs_nnunet
def test_a_trainer_that_nnunet_lacks():
    with pytest.raises(ModelError, match="can't build this network"):
        nnunet.build_network(described(trainer="SomebodysTrainer"))


@needs_nnunet
def test_the_answer_is_that_of_nnunets_own_prediction(trained, models, capsys):
    """The oracle loads the same folder, and predicts, all by nnU-Net's own means."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    grid = Geometry((24, 20, 10), (1.25, 1.25, 2.5))
    exam = an_exam(grid)
    exam.data[:] = np.random.default_rng(0).normal(100, 20, exam.data.shape)
    add_nnunet(trained, "tiny", models=models)
    events = Counting()
    breast = SimpleNamespace(labels=np.ones(grid.shape, np.uint8))
    capsys.readouterr()
    found = nnunet.nnunet_probability(exam, breast, load_tumor_model("tiny", models), CPU, events)
    assert capsys.readouterr().out == ""
    oracle = nnUNetPredictor(use_mirroring=False, device=CPU, allow_tqdm=False)
    oracle.initialize_from_trained_model_folder(str(trained), (0, 1))
    image = np.stack([exam.data[0], exam.data[2]])
    _, expected = oracle.predict_single_npy_array(image, {"spacing": [2.5, 1.25, 1.25]}, None, None, True)
    assert expected[1].std() > 1e-4
    assert np.abs(found - expected[1]).max() < 1e-5
    # 10 x 20 x 24 voxels of 2.5 x 1.25 x 1.25 mm are 12 x 25 x 30 at 2 x 1 x 1: 1 x 3 x 3 windows of 16, two folds.
    assert events.seen == [("tumor", done, 18) for done in range(18)]


@needs_nnunet
def test_cancelling_between_windows(trained, models):
    add_nnunet(trained, "tiny", models=models)
    events = Events()
    events.cancel()
    breast = SimpleNamespace(labels=np.ones(GRID.shape, np.uint8))
    bundle = load_tumor_model("tiny", models)
    with pytest.raises(Cancelled):
        nnunet.nnunet_probability(an_exam(), breast, bundle, CPU, events)
    # The network is kept for the next exam, and nobody watches it any more.
    assert nnunet.nnunet_probability(an_exam(), breast, bundle, CPU, Events()).shape == GRID.shape


class Counting(Events):
    """Remembers progress."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def show(self, event):
        self.seen.append((event["stage"], event["done"], event["total"]))
