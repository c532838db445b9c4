"""Training runs: the same weights whatever happens on the way, and clear errors before hours are spent."""

import csv
import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import training_runs
from BreastTumorSegLib.core.errors import Cancelled, InputError, ModelError, OutOfMemoryError, OutputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.io.cohort import Cohort, read_cohort
from BreastTumorSegLib.networks.bundle import load_bundle
from BreastTumorSegLib.training import engine
from BreastTumorSegLib.training.run import split_cases
from BreastTumorSegLib.training.validation import Validation

CASES = [("DUKE", 100), ("DUKE", 101), ("ISPY2", 102), ("ISPY2", 103)]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return training_runs.write_cohort(tmp_path_factory.mktemp("runs") / "cohort", CASES)


def weights(config):
    return load_file(config.out / "models" / "tiny" / "weights.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def alone(cohort, tmp_path_factory):
    """A run that nothing happened to."""
    config = training_runs.config(cohort, out=str(tmp_path_factory.mktemp("alone") / "run"), average=0.9)
    training_runs.run(config)
    return config


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_what_it_was_made_with_and_a_bundle_that_loads(alone):
    bundle = load_bundle("tiny", "tumor", alone.out / "models")
    assert bundle.description.network == alone.model.network
    (about,) = json.loads((alone.out / "run.json").read_text())
    assert about["seed"] == 0 and {"BreastTumorSeg", "torch", "monai"} <= about["versions"].keys()
    assert [row["step"] for row in rows(alone.out / "steps.csv")] == [str(step) for step in range(1, 13)]
    assert {row["set"] for row in rows(alone.out / "validations.csv")} > {"all"}
    card = (alone.out / "models" / "tiny" / "CARD.md").read_text()
    assert "research use only" in card and "Dice" in card and "adam, learning rate 0.01" in card
    assert sorted(row["set"] for row in rows(alone.out / "split.csv")) == ["training"] * 3 + ["validation"]


def test_the_bundle_names_the_exams_it_learned_from(alone):
    sites = [row["site"] for row in rows(alone.out / "split.csv") if row["set"] == "training"]
    said = load_bundle("tiny", "tumor", alone.out / "models").description.trained_on
    assert said == "3 simulated exams: " + ", ".join(f"{sites.count(site)} {site}" for site in sorted(set(sites)))


@pytest.mark.parametrize("step", [2, 4, 7, 9])
def test_a_run_that_was_stopped_ends_with_the_same_weights(alone, cohort, tmp_path, step):
    config = training_runs.config(cohort, out=str(tmp_path / "run"), average=0.9)
    with pytest.raises(Cancelled, match=f"step {step}: the same command goes on"):
        training_runs.run(config, training_runs.CancelAt(step))
    training_runs.run(config)
    assert same(weights(config), weights(alone))
    for name in ("steps.csv", "validations.csv"):
        assert (config.out / name).read_text() == (alone.out / name).read_text()


def test_a_network_for_all_phases_trains_stops_and_goes_on(cohort, tmp_path):
    """Running statistics, phases that were dropped and times that jittered are the same after an interruption."""
    changes = {
        "model": training_runs.model(phases="all", network=training_runs.MULTI_PHASE | {"dropout": 0.1}),
        "samples": {"patch": [8, 8, 8], "batch": 2, "phase_dropout": 0.5, "time_jitter": 10.0},
        "average": 0.9,
    }
    through, stopped = (training_runs.config(cohort, out=str(tmp_path / name), **changes) for name in ("one", "two"))
    training_runs.run(through)
    with pytest.raises(Cancelled):
        training_runs.run(stopped, training_runs.CancelAt(7))
    training_runs.run(stopped)
    assert same(weights(through), weights(stopped))
    assert load_bundle("tiny", "tumor", through.out / "models").description.phases == "all"
    assert "all phases with their times" in (through.out / "models" / "tiny" / "CARD.md").read_text()


def test_another_seed_gives_other_weights(alone, cohort, tmp_path):
    config = training_runs.config(cohort, out=str(tmp_path / "run"), average=0.9, seed=1)
    training_runs.run(config)
    assert not same(weights(config), weights(alone))


def test_a_finished_run_is_not_done_again(alone, monkeypatch):
    monkeypatch.setattr(engine.Trainer, "run", lambda _: pytest.fail("trained again"))
    assert training_runs.run(alone) == alone.out / "models"


def test_a_run_can_be_moved(alone, cohort, tmp_path, monkeypatch):
    shutil.copytree(alone.out, tmp_path / "moved")
    monkeypatch.setattr(engine.Trainer, "run", lambda _: pytest.fail("trained again"))
    training_runs.run(training_runs.config(cohort, out=str(tmp_path / "moved"), average=0.9))


def test_a_folder_with_another_run_is_left_alone(alone, cohort):
    soft = {**training_runs.fields(cohort)["data"], "soft_labels": True}
    for name, changes in {"epochs": {"epochs": 5}, "data": {"data": soft}}.items():
        config = training_runs.config(cohort, out=str(alone.out), average=0.9, **changes)
        with pytest.raises(InputError, match=f"another {name}"):
            training_runs.run(config)


def test_training_lowers_the_loss(cohort, tmp_path):
    config = training_runs.config(
        cohort, out=str(tmp_path / "run"), epochs=10, samples={"patch": [8, 8, 8], "batch": 2, "tumor_share": 1.0}
    )
    training_runs.run(config)
    losses = [float(row["loss"]) for row in rows(config.out / "steps.csv")]
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


def test_the_learning_rate_falls_as_the_schedule_says(cohort, tmp_path):
    optimizer = {"learning_rate": 0.01, "schedule": "step", "step_epochs": 1, "factor": 0.5}
    config = training_runs.config(cohort, out=str(tmp_path / "run"), optimizer=optimizer)
    training_runs.run(config)
    rates = [float(row["learning_rate"]) for row in rows(config.out / "steps.csv")]
    assert rates == [0.01] * 4 + [0.005] * 4 + [0.0025] * 4


def test_a_polynomial_schedule_falls_with_its_power(alone):
    rates = [float(row["learning_rate"]) for row in rows(alone.out / "steps.csv")]
    assert rates == pytest.approx([0.01 * (1 - step / 12) ** 1.5 for step in range(12)])


def test_training_ends_early_where_validation_gets_no_better(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("BreastTumorSegLib.training.validation.dice", lambda *_, **__: 0.5)
    config = training_runs.config(
        cohort, out=str(tmp_path / "run"), epochs=10, validation={"share": 0.25, "patience": 2}
    )
    training_runs.run(config)
    assert len(rows(config.out / "steps.csv")) == 12  # the first epoch is the best, two more are waited for


def test_the_best_validation_becomes_the_bundle(cohort, tmp_path, monkeypatch):
    scores = iter([0.0, 0.1, 0.9, 0.2, 0.3])  # the first one is the rehearsal
    monkeypatch.setattr("BreastTumorSegLib.training.validation.dice", lambda *_, **__: next(scores))
    config = training_runs.config(cohort, out=str(tmp_path / "run"), epochs=4)
    training_runs.run(config)
    assert "those of step 8" in (config.out / "models" / "tiny" / "CARD.md").read_text()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains(cohort, tmp_path, precision):
    config = training_runs.config(cohort, out=str(tmp_path / "run"), precision=precision, epochs=1)
    training_runs.run(config)
    assert all(torch.isfinite(value).all() for value in weights(config).values())


@pytest.mark.parametrize("name", ["dynunet", "segresnet"])
def test_deep_supervision_trains(cohort, tmp_path, name):
    sizes = {
        "dynunet": {"channels": [4, 8, 8], "strides": [2, 2], "deep_supervision": 1},
        "segresnet": {"features": 8, "blocks": [1, 1, 1], "deep_supervision": 1},
    }
    network = {"name": name, "in_channels": 2, "out_channels": 1, **sizes[name]}
    config = training_runs.config(
        cohort, out=str(tmp_path / "run"), model=training_runs.model(network=network), epochs=1
    )
    training_runs.run(config)
    assert (config.out / "models" / "tiny" / "CARD.md").is_file()


def test_a_frozen_encoder_stays_as_it_was(alone, cohort, tmp_path):
    start = {"bundle": str(alone.out / "models" / "tiny"), "frozen": True}
    config = training_runs.config(cohort, out=str(tmp_path / "run"), encoder=start, epochs=1)
    training_runs.run(config)
    before, after = weights(alone), weights(config)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    # Of MONAI's U-Net, what goes down is "model.0" and what lies at the bottom "model.1.submodule".
    encoder = {key for key in before if "model.0." in key or "submodule" in key}
    assert encoder and changed and not changed & encoder


def test_a_run_may_start_from_a_bundle(alone, cohort, tmp_path):
    config = training_runs.config(
        cohort, out=str(tmp_path / "run"), start_from=str(alone.out / "models" / "tiny"), epochs=1
    )
    fresh = training_runs.config(cohort, out=str(tmp_path / "fresh"), epochs=1)
    for each in (config, fresh):
        training_runs.run(each)
    first = [float(rows(each.out / "steps.csv")[0]["loss"]) for each in (config, fresh)]
    assert first[0] < 0.9 * first[1]


def test_the_card_names_what_the_run_started_from(alone, cohort, tmp_path):
    start = str(alone.out / "models" / "tiny")
    config = training_runs.config(cohort, out=str(tmp_path / "run"), start_from=start, epochs=1)
    training_runs.run(config)
    assert (
        "started from tiny (3 simulated exams"
        in load_bundle("tiny", "tumor", config.out / "models").description.trained_on
    )


def test_exams_may_be_simulated_on_the_fly(cohort, tmp_path):
    data = {"kind": "simulated", "sites": ["ISPY2"], "validation": 1}
    config = training_runs.config(cohort, out=str(tmp_path / "run"), data=data, epochs=1)
    training_runs.run(config)
    bundle = load_bundle("tiny", "tumor", config.out / "models")
    assert bundle.description.trained_on == "simulated exams only"


class CancelInValidation(Events):
    """Asks to stop after the first case of a validation, but for the rehearsal."""

    def __init__(self):
        super().__init__()
        self._seen = 0

    def show(self, event):
        self._seen += event.get("stage") == "validate"
        if self._seen == 2:
            self.cancel()


def test_a_validation_that_was_stopped_is_made_up_for(cohort, tmp_path):
    half = {"validation": {"share": 0.5}}  # two cases
    alone = training_runs.config(cohort, out=str(tmp_path / "alone"), **half)
    stopped = training_runs.config(cohort, out=str(tmp_path / "stopped"), **half)
    training_runs.run(alone)
    with pytest.raises(Cancelled, match="step 4: the same command"):
        training_runs.run(stopped, CancelInValidation())
    training_runs.run(stopped)
    assert same(weights(stopped), weights(alone))
    assert (stopped.out / "validations.csv").read_text() == (alone.out / "validations.csv").read_text()


def test_a_run_that_never_had_a_checkpoint_begins_its_tables_again(alone, cohort, tmp_path):
    config = training_runs.config(cohort, out=str(tmp_path / "run"), average=0.9)
    config.out.mkdir()
    (config.out / "steps.csv").write_text("step,epoch,loss,learning_rate\n1,1,9.0,9.0\n")
    training_runs.run(config)
    assert (config.out / "steps.csv").read_text() == (alone.out / "steps.csv").read_text()


def test_sites_may_have_any_name(cohort, tmp_path):
    lines = ["case,site,phases,times,tumor,breast"]
    for case in read_cohort(cohort).cases[:2]:
        times = ";".join(map(str, case.times))
        lines.append(f"{case.name},Köln,{case.phases[0].parent},{times},{case.tumors[0]},{case.breast}")
    (tmp_path / "cohort.csv").write_text("\n".join(lines), encoding="utf-8")
    data = {**training_runs.fields(cohort)["data"], "path": str(tmp_path / "cohort.csv")}
    config = training_runs.config(cohort, out=str(tmp_path / "run"), data=data, validation={"share": 0.5})
    training_runs.run(config)
    assert "Köln" in (config.out / "validations.csv").read_text(encoding="utf-8")


# -- what ends a run before it begins --------------------------------------------------------------------------------


def test_every_problem_of_the_cohort_is_told_at_once(tmp_path):
    cohort = training_runs.write_cohort(tmp_path / "cohort", CASES[:2])
    (cohort / "segmentations" / "expert" / "DUKE_S000100.nii.gz").unlink()
    (cohort / "images" / "DUKE_S000101" / "DUKE_S000101_0001.nii.gz").write_bytes(b"damaged")
    with pytest.raises(InputError) as caught:
        training_runs.run(training_runs.config(cohort))
    assert "DUKE_S000100" in str(caught.value) and "DUKE_S000101" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_cohort_that_has_changed_is_refused(tmp_path):
    """Another number of cases draws another split: what trained would validate."""
    cohort = training_runs.write_cohort(tmp_path / "cohort", CASES)
    config = training_runs.config(cohort, epochs=1)
    training_runs.run(config)
    training_runs.write_cohort(cohort, [("ISPY2", 104)])
    with pytest.raises(InputError, match=r"other cases.*split\.csv"):
        training_runs.run(config)


def test_cases_of_an_official_test_split_are_not_touched(cohort, tmp_path):
    official = read_cohort(cohort)
    marked = [replace(case, split="test" if case.site == "ISPY2" else "") for case in official]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("BreastTumorSegLib.training.run.open_cohort", lambda *_: Cohort(tuple(marked)))
        config = training_runs.config(cohort, out=str(tmp_path / "run"), validation={"share": 0.5}, epochs=1)
        training_runs.run(config)
    assert {row["site"] for row in rows(config.out / "split.csv")} == {"DUKE"}


def test_a_bundle_of_another_size_to_start_from_is_told_before_the_exams_are_prepared(alone, cohort, tmp_path):
    network = {**training_runs.model()["network"], "channels": [4, 16]}
    start = str(alone.out / "models" / "tiny")
    data = {**training_runs.fields(cohort)["data"], "cache": str(tmp_path / "cache")}
    model = training_runs.model(network=network)
    config = training_runs.config(cohort, out=str(tmp_path / "run"), model=model, start_from=start, data=data)
    with pytest.raises(ModelError, match="another network"):
        training_runs.run(config)
    assert not (tmp_path / "cache").exists()


def test_the_largest_case_is_rehearsed(cohort, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(Validation, "_dice", lambda _, network, volume: seen.append(volume.label.numel()) or 0.5)
    config = training_runs.config(cohort, out=str(tmp_path / "run"), epochs=1, validation={"share": 0.5})
    training_runs.run(config)
    assert len(seen) == 3 and seen[0] == max(seen)


def test_memory_that_runs_out_is_told_as_that(cohort, tmp_path, monkeypatch):
    def out_of_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Validation, "_dice", out_of_memory)
    with pytest.raises(OutOfMemoryError, match=r"samples\.patch"):
        training_runs.run(training_runs.config(cohort, out=str(tmp_path / "run")))


def test_too_little_space_is_told_before_training(cohort, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OutputError, match="MB are free"):
        training_runs.run(training_runs.config(cohort, out=str(tmp_path / "run")))


def test_a_disk_too_small_for_the_cache_is_told_before_it_is_filled(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("BreastTumorSegLib.training.cache.ContentCache.free_bytes", lambda _: 1000)
    data = {**training_runs.fields(cohort)["data"], "cache": str(tmp_path / "empty")}
    with pytest.raises(OutputError, match=r"4 exams.*data\.cache"):
        training_runs.run(training_runs.config(cohort, out=str(tmp_path / "run"), data=data))
    assert not list(tmp_path.rglob("*.npy"))


def test_a_disk_that_fills_up_while_training_keeps_the_last_checkpoint(alone, cohort, tmp_path, monkeypatch):
    resource = pytest.importorskip("resource", reason="only Unix limits a file's size")
    config = training_runs.config(cohort, out=str(tmp_path / "run"), average=0.9)
    real, calls = torch.save, []

    def full(state, file):
        calls.append(1)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        if len(calls) == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))  # less than a checkpoint
        try:
            real(state, file)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match="disk is full"):
        training_runs.run(config)
    monkeypatch.setattr(torch, "save", real)
    training_runs.run(config)
    assert same(weights(config), weights(alone))


def test_a_damaged_checkpoint_is_told(cohort, tmp_path):
    config = training_runs.config(cohort, out=str(tmp_path / "run"))
    with pytest.raises(Cancelled):
        training_runs.run(config, training_runs.CancelAt(5))
    (config.out / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"checkpoint\.pt"):
        training_runs.run(config)


def test_a_loss_that_is_no_number_ends_the_run(cohort, tmp_path):
    config = training_runs.config(cohort, out=str(tmp_path / "run"), optimizer={"learning_rate": 1e30})
    with pytest.raises(InputError, match=r"optimizer\.learning_rate"):
        training_runs.run(config)


def test_an_encoder_that_does_not_fit_is_told(alone, cohort, tmp_path):
    network = {**training_runs.model()["network"], "channels": [4, 16]}
    config = training_runs.config(
        cohort,
        out=str(tmp_path / "run"),
        model=training_runs.model(network=network),
        encoder={"bundle": str(alone.out / "models" / "tiny")},
    )
    with pytest.raises(Exception, match="wanted"):
        training_runs.run(config)


def test_a_fifth_of_the_cases_validates_and_none_twice():
    class Named:
        def __init__(self, name):
            self.name = name

    cases = [Named(str(i)) for i in range(50)]

    class Config:
        seed = 4

        class validation:
            share = 0.2

    split = split_cases(cases, Config)
    assert len(split.validation) == 10 and len(split.training) == 40
    assert not {case.name for case in split.training} & {case.name for case in split.validation}
