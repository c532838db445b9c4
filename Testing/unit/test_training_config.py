"""Configurations of training runs and experiments."""

from pathlib import Path

import pytest
from pydantic import ValidationError

import training_runs
from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.networks.catalogue import build_network
from BreastTumorSegLib.networks.spatial_temporal import PUBLISHED
from BreastTumorSegLib.training.augmentation import FLIPS, WIDE
from BreastTumorSegLib.training.config import LeaveOneOutConfig, TrainingConfig, read_config, write_config


@pytest.fixture
def written(tmp_path):
    def write(**changes):
        return training_runs.write_yaml(tmp_path / "run.yaml", training_runs.fields(tmp_path / "cohort", **changes))

    return write


def test_a_configuration_survives_being_written(tmp_path, written):
    config = read_config(written(), TrainingConfig)
    write_config(config, tmp_path / "again.yaml")
    assert read_config(tmp_path / "again.yaml", TrainingConfig) == config


def test_paths_are_relative_to_the_file(tmp_path, written):
    config = read_config(written(out="here/run"), TrainingConfig)
    assert config.out == tmp_path / "here" / "run"


def test_every_wrong_field_is_named_at_once(written):
    file = written(epochs=0, learningrate=1, samples={"patch": [8, 8, 8], "batch": -1})
    with pytest.raises(InputError) as caught:
        read_config(file, TrainingConfig)
    assert all(name in str(caught.value) for name in (str(file), "epochs", "learningrate", "samples.batch"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"samples": {"patch": [7, 8, 8]}}, "multiples of 2"),
        ({"samples": {"patch": None, "batch": 2}}, "batch must be 1"),
        ({"samples": {"patch": None, "batch": 1}}, 'windows must be "whole"'),
        ({"data": {"kind": "simulated"}, "steps_per_epoch": None}, "steps_per_epoch is needed"),
        ({"loss": {"name": "dicee"}}, "dice_ce"),
        ({"model": training_runs.model(task="breast", field="breast")}, "whole exam"),
        ({"model": training_runs.model(task="breast"), "data": {"kind": "cohort", "path": "c"}}, "masks of the cohort"),
        ({"model": training_runs.model(network={"name": "unet"})}, "resunet"),
    ],
)
def test_what_does_not_fit_together_is_refused(written, changes, words):
    with pytest.raises(InputError, match=words):
        read_config(written(**changes), TrainingConfig)


@pytest.mark.parametrize("text", ["a: [", "- 1", ""])
def test_what_is_no_configuration_is_told(tmp_path, text):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(InputError, match=r"bad\.yaml"):
        read_config(tmp_path / "bad.yaml", TrainingConfig)


CONFIGS = sorted((Path(__file__).parents[2] / "docs" / "configs").glob("*.yaml"))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_the_configurations_of_the_docs_are_sound(file):
    kind = LeaveOneOutConfig if file.stem.startswith("leave-one-out") else TrainingConfig
    assert read_config(file, kind).out.is_relative_to(file.parent)


def test_the_papers_network_and_recipe_are_those_published():
    config = read_config(CONFIGS[0].with_name("resunet-mama-mia.yaml"), TrainingConfig)
    parameters = sum(value.numel() for value in build_network(config.model.network).parameters())
    assert round(parameters / 1e6, 2) == 31.56
    assert (config.samples.batch, config.samples.patch, config.epochs) == (12, (128, 128, 128), 100)
    assert (config.optimizer.name, config.optimizer.learning_rate, config.optimizer.power) == ("adam", 0.01, 1.5)
    assert config.samples.augmentation == FLIPS
    assert (config.loss.name, config.validation.patience, config.validation.share) == ("dice", 20, 0.2)


def test_the_spatial_temporal_networks_schedule_is_the_papers():
    """Zhang et al., Patterns 2023, "Data pre-processing" and "Training details"."""
    config = read_config(CONFIGS[0].with_name("spatial-temporal-mama-mia.yaml"), TrainingConfig)
    optimizer, samples, model = config.optimizer, config.samples, config.model
    assert (optimizer.name, optimizer.learning_rate, config.epochs) == ("adam", 0.001, 300)
    assert (optimizer.schedule, optimizer.step_epochs, optimizer.factor) == ("step", 50, 0.5)
    assert (samples.patch, samples.tumor_share) == ((48, 96, 96), 1.0)
    assert (config.loss.name, config.loss.bce_weight, model.normalisation) == ("dice_bce", 1, "early-min-max")
    assert (model.spacing_mm, model.network, config.validation.windows) == (1.0, PUBLISHED, "patch")


def test_the_remedy_on_mama_mia_augments_widely():
    config = read_config(CONFIGS[0].with_name("leave-one-out-mama-mia.yaml"), LeaveOneOutConfig)
    assert config.run("as-published", "DUKE").samples.augmentation == FLIPS
    assert config.run("breast-and-wide", "DUKE").samples.augmentation == WIDE


def experiment(cohort, **changes):
    given = training_runs.fields(cohort)
    out, data = given.pop("out"), given.pop("data")
    return LeaveOneOutConfig.model_validate({"out": out, "data": data, "training": given, **changes})


def test_a_variant_changes_what_it_names_and_nothing_else(tmp_path):
    wide = {"model": {"field": "breast"}, "samples": {"augmentation": {"gain": 1.0}}}
    config = experiment(tmp_path / "cohort", variants={"plain": {}, "wide": wide})
    plain, wide = config.run("plain", "DUKE"), config.run("wide", "DUKE")
    assert (plain.model.field, wide.model.field) == ("exam", "breast")
    assert wide.model.network == plain.model.network
    assert (wide.samples.augmentation.gain, wide.samples.augmentation.flip) == (1.0, 0.5)
    assert wide.samples.patch == plain.samples.patch
    assert wide.out == config.out / "wide" / "DUKE"


def test_a_variant_may_have_another_network_and_loss(tmp_path):
    other = {"name": "segresnet", "in_channels": 2, "out_channels": 1, "features": 8, "blocks": [1, 1]}
    variants = {"a": {}, "b": {"model": {"network": other}, "loss": {"name": "tversky"}}}
    config = experiment(tmp_path / "cohort", variants=variants)
    assert (config.run("b", "DUKE").model.network.name, config.run("b", "DUKE").loss.name) == ("segresnet", "tversky")
    assert config.run("b", "DUKE").loss.bce_weight == 1.0  # its own, not that of the loss it replaces
    assert config.run("a", "DUKE").model.network.name == "resunet"


def test_a_wrong_variant_is_named_with_its_field(tmp_path):
    with pytest.raises(ValidationError, match="variant odd: epochs"):
        experiment(tmp_path / "cohort", variants={"odd": {"epochs": -1}})


def test_a_bundle_may_be_a_folder_beside_the_file_or_a_name(tmp_path, written):
    (tmp_path / "mine").mkdir()
    assert read_config(written(start_from="mine"), TrainingConfig).start_from == str(tmp_path / "mine")
    assert read_config(written(encoder={"bundle": "tumor-resunet"}), TrainingConfig).encoder.bundle == "tumor-resunet"


@pytest.mark.parametrize("variants", [{"a/b": {}}, {"..": {}}, {"a": {"epochs": -1}}, {}])
def test_a_senseless_variant_is_refused_before_any_run(tmp_path, variants):
    with pytest.raises(ValidationError):
        experiment(tmp_path / "cohort", variants=variants)
