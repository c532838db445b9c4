"""Training in processes of its own: killed, stopped by a signal, and two of them under torchrun."""

import csv
import json
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

import training_runs
from BreastTumorSegLib.core.errors import Cancelled
from BreastTumorSegLib.training.config import TrainingConfig, read_config

CASES = [("DUKE", 100), ("ISPY2", 102), ("ISPY2", 103)]
COMMAND = [sys.executable, "-m", "BreastTumorSegLib", "train"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return training_runs.write_cohort(tmp_path_factory.mktemp("processes") / "cohort", CASES)


@pytest.fixture
def written(cohort, tmp_path):
    """Writes a configuration of a run in a folder of its own, and gives the file."""

    def write(name, **changes):
        given = {"epochs": 30, "steps_per_epoch": 10, "checkpoint_steps": 7, "average": 0.9, **changes}
        content = training_runs.fields(cohort, out=str(tmp_path / name), **given)
        return training_runs.write_yaml(tmp_path / f"{name}.yaml", content)

    return write


def start(file, *words):
    return subprocess.Popen(
        [*COMMAND, str(file), "--device", "cpu", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(file):
    process = start(file)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def weights(file):
    return load_file(file.with_suffix("") / "models" / "tiny" / "weights.safetensors")


def losses(folder):
    with (folder / "steps.csv").open(newline="") as table:
        return [float(row["loss"]) for row in csv.DictReader(table)]


@pytest.mark.slow
def test_a_run_killed_five_times_ends_with_the_weights_of_one_left_alone(written):
    alone, killed = written("alone"), written("killed")
    finish(alone)
    chance = random.Random(7)
    for _ in range(5):
        process = start(killed)
        checkpoint = killed.with_suffix("") / "checkpoint.pt"
        begun = checkpoint.stat().st_mtime_ns if checkpoint.is_file() else 0
        while process.poll() is None and not (checkpoint.is_file() and checkpoint.stat().st_mtime_ns > begun):
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.5))
        process.kill()
        process.communicate()
    assert not (killed.with_suffix("") / "models").exists()  # it was killed before its end
    finish(killed)
    one, other = weights(alone), weights(killed)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert losses(alone.with_suffix("")) == losses(killed.with_suffix(""))


@pytest.mark.slow
def test_a_signal_ends_the_run_with_a_checkpoint(written):
    file = written("stopped")
    process = start(file, "--progress", "json")
    for line in process.stdout:
        if '"train"' in line and '"done": 20,' in line:
            process.send_signal(signal.SIGTERM)
            break
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "checkpoint of step" in rest.splitlines()[-1]
    state = torch.load(file.with_suffix("") / "checkpoint.pt", weights_only=True)
    assert 20 <= state["engine"]["iteration"] < 300


def torchrun(*words):
    """Two processes of the command line."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command = [*launcher, "BreastTumorSegLib", *map(str, words), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def threads_of_a_new_process():
    """Tests before may have changed this process's number, and another one adds up in another order."""
    before = torch.get_num_threads()
    asked = [sys.executable, "-c", "import torch; print(torch.get_num_threads())"]
    torch.set_num_threads(int(subprocess.check_output(asked)))
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_two_processes_learn_as_one_does_and_go_on_where_one_was(written, threads_of_a_new_process):
    """Same samples, shared out: only the order of summation differs."""
    one, two = written("one", epochs=4), written("two", epochs=4)
    finish(one)
    with pytest.raises(Cancelled):
        training_runs.run(read_config(two, TrainingConfig), training_runs.CancelAt(7))
    torchrun("train", two)
    starts = json.loads((two.with_suffix("") / "run.json").read_text())
    assert [start["processes"] for start in starts] == [1, 2]
    curves = [torch.tensor(losses(file.with_suffix(""))) for file in (one, two)]
    assert len(curves[0]) == len(curves[1]) == 40
    assert torch.equal(curves[0][:7], curves[1][:7])
    assert torch.allclose(curves[0][7:12], curves[1][7:12], rtol=1e-4)
    assert torch.allclose(*curves, rtol=0.02)


@pytest.mark.slow
def test_two_processes_hold_every_site_out(cohort, tmp_path):
    training = training_runs.fields(cohort, epochs=1, validation={"share": 0.5})
    content = {"out": str(tmp_path / "out"), "data": training.pop("data"), "held_out": ["DUKE"]}
    training.pop("out")
    file = training_runs.write_yaml(tmp_path / "experiment.yaml", content | {"training": training})
    torchrun("leave-one-out", file)
    with (tmp_path / "out" / "table1.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [(row["breast_masking"], row["set"], row["cases"]) for row in rows] == [
        (masking, name, "1") for masking in ("none", "breast") for name in ("validation", "validation ISPY2", "test")
    ]
    assert (tmp_path / "out" / "table1.png").is_file()
