"""What the doctor finds, and that it works whatever is missing."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from BreastTumorSegLib import __version__, doctor
from BreastTumorSegLib.cli import app
from BreastTumorSegLib.core import machine
from BreastTumorSegLib.core.events import PREFIX
from BreastTumorSegLib.core.models import models_folder
from BreastTumorSegLib.core.requirements import REQUIRED

ROOT = Path(__file__).parents[2]
EVERYTHING = ("torch", "monai", "SimpleITK", "numpy", "scipy", "pydicom", "safetensors", "sklearn", "matplotlib")
EVERYTHING += ("jinja2", "typer", "pydantic", "PIL", "psutil")


def examined(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "BreastTumorSegLib.doctor", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    assert done.stderr == ""
    return done


@pytest.fixture
def bundles(tmp_path, monkeypatch):
    """A copy of the shipped models, which is the one that is used."""
    folder = tmp_path / "models"
    shutil.copytree(models_folder(), folder)
    monkeypatch.setenv("BREASTTUMORSEG_MODELS", str(folder))
    return folder


def test_required_packages_are_those_of_the_project():
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert set(REQUIRED) == set(re.findall(r'"(.+?)"', listed[1]))


def test_a_complete_installation_is_ready(tmp_path):
    done = examined("--json", "--results", tmp_path / "new" / "results")
    report = json.loads(done.stdout)
    assert (done.returncode, report["ready"], report["remedies"]) == (0, True, [])
    assert report["text"].splitlines()[-1] == "Ready."
    assert {package["name"] for package in report["packages"]} >= {"torch", "SimpleITK", "scikit-learn", "pillow"}
    assert all(package["ok"] for package in report["packages"])
    assert report["devices"][0]["id"] == "cpu" and report["devices"][0]["memory_total_mb"] > 100
    assert {(model["name"], model["task"], model["default"], model["ok"]) for model in report["models"]} == {
        ("breast-unet", "breast", True, True),
        ("clusters-noncontrast", "clusters", True, True),
        ("tumor-multi-phase", "tumor", True, True),
        ("tumor-noncontrast", "tumor", False, True),
        ("tumor-resunet", "tumor", False, True),
    }
    assert [folder["name"] for folder in report["folders"]] == ["results", "temporary"]
    assert not (tmp_path / "new").exists() and report["system"]["BreastTumorSeg"] == __version__


def test_everything_missing(tmp_path):
    lines = ["import sys", *(f"sys.modules[{name!r}] = None" for name in EVERYTHING)]
    (tmp_path / "sitecustomize.py").write_text("\n".join(lines))
    done = examined("--events", PYTHONPATH=str(tmp_path))
    (line,) = done.stdout.splitlines()
    report = json.loads(line.removeprefix(PREFIX))
    assert (done.returncode, report["event"], report["ready"]) == (2, "finished", False)
    assert {(package["installed"], package["ok"]) for package in report["packages"]} == {(None, False)}
    assert [device["id"] for device in report["devices"]] == ["cpu"]
    assert {model["ok"] for model in report["models"]} == {None}
    assert "not checked: needs torch" in report["models"][0]["message"]
    last = report["text"].splitlines()[-1]
    assert last.startswith("Not ready: Install torch>=2.8, monai>=1.5.2") and "Set-up panel" in last


def test_nothing_names_the_user(tmp_path):
    """The home folder holds the temporary folder, the results, and models that are damaged."""
    home = tmp_path / "jane.doe"
    (home / "models" / "m").mkdir(parents=True)
    (home / "models" / "registry.json").write_text(json.dumps({"m": {"task": "tumor", "sha256": "0", "default": True}}))
    done = examined(
        *("--json", "--results", home / "results"),
        HOME=str(home),
        USERPROFILE=str(home),
        TMPDIR=str(home),
        BREASTTUMORSEG_MODELS=str(home / "models"),
    )
    assert "jane" not in done.stdout and done.returncode == 2
    report = json.loads(done.stdout)
    assert {folder["path"] for folder in report["folders"]} == {"~", str(Path("~") / "results")}
    assert report["models"][0]["message"].startswith(str(Path("~") / "models" / "m"))


def test_damaged_weights(bundles):
    """Of a model that the default one is averaged with, too: neither can be used."""
    path = bundles / "tumor-resunet" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    report = doctor.examine()
    found = {model.name: model for model in report.models}
    assert {name: model.ok for name, model in found.items()} == {
        "breast-unet": True,
        "clusters-noncontrast": True,
        "tumor-multi-phase": False,
        "tumor-noncontrast": True,
        "tumor-resunet": False,
    }
    assert all("checksum" in found[name].message for name in ("tumor-multi-phase", "tumor-resunet"))
    remedies = tuple(f"Install the model {name} again." for name in ("tumor-multi-phase", "tumor-resunet"))
    assert report.remedies == remedies
    assert (report.exit_code, report.text.splitlines()[-1]) == (2, f"Not ready: {' '.join(remedies)}")


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {}}'])
def test_a_damaged_registry(bundles, content):
    (bundles / "registry.json").write_text(content)
    report = doctor.examine()
    assert report.models == () and not report.ready
    assert report.remedies[0].startswith("Install the models again") and "registry.json" in report.remedies[0]


def test_no_default_model(bundles):
    content = json.loads((bundles / "registry.json").read_text())
    content["tumor-multi-phase"]["default"] = False
    (bundles / "registry.json").write_text(json.dumps(content))
    assert doctor.examine().remedies == ("Install the models again: none is the default for tumor.",)


def test_a_folder_that_can_not_be_written(tmp_path):
    """Below a file there is no folder, not even for the administrator."""
    (tmp_path / "file").write_text("")
    report = doctor.examine(tmp_path / "file" / "results")
    assert not report.folders[0].writable and report.folders[1].writable
    assert [remedy.startswith("Choose another results folder") for remedy in report.remedies] == [True]


@pytest.mark.parametrize(
    ("installed", "lowest", "enough"),
    [
        ("2.8", "2.8", True),
        ("2.8", "2.8.0", True),
        ("2.13.0+cu130", "2.8", True),
        ("2.7.1", "2.8", False),
        ("1.5.1", "1.5.2", False),
        ("10.0", "9.9", True),
        ("3", "10", False),
        ("2.5.0rc2.dev3", "2.3", True),
        ("unknown", "2.3", True),
    ],
)
def test_versions(installed, lowest, enough):
    assert doctor.at_least(installed, lowest) is enough


def test_a_package_that_is_too_old(monkeypatch):
    real = doctor.metadata.version
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "1.0" if name == "monai" else real(name))
    report = doctor.examine()
    assert [package.name for package in report.packages if not package.ok] == ["monai"]
    assert re.search(r"^  monai +>=1\.5\.2 +1\.0 +too old$", report.text, re.MULTILINE)
    assert report.remedies[0].startswith("Install monai>=1.5.2 ")


def test_a_package_without_metadata(monkeypatch):
    """Slicer builds some of its packages itself."""

    def none(name):
        raise doctor.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "version", none)
    found = {package.name: package.installed for package in doctor.examine().packages}
    assert re.match(r"\d+\.\d+", found["numpy"]) and re.match(r"\d+\.\d+", found["SimpleITK"])


def cuda(available=True, count=1, built_for="13.0"):
    return SimpleNamespace(
        version=SimpleNamespace(cuda=built_for),
        cuda=SimpleNamespace(
            is_available=lambda: available,
            device_count=lambda: count,
            mem_get_info=lambda index: (3 << 30, 8 << 30),
            get_device_name=lambda index: "RTX 1",
        ),
    )


@pytest.mark.parametrize(
    ("torch", "devices", "hint"),
    [
        (cuda(), [doctor.Device("cuda", "RTX 1", 8192, 3072)], None),
        (cuda(count=2), [doctor.Device("cuda", "RTX 1", 8192, 3072)], "2 GPUs"),
        (cuda(available=False, built_for=None), [], "built without CUDA"),
        (cuda(available=False), [], "update its driver, which may be too old for CUDA 13.0"),
    ],
)
def test_gpus(monkeypatch, torch, devices, hint):
    monkeypatch.setattr(doctor, "import_module", lambda name: torch)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    found = doctor._Findings()
    assert doctor._devices(found)[1:] == devices
    assert [hint in said for said in found.hints] == [True] if hint else found.hints == []


@pytest.mark.parametrize("error", [ImportError("no libcudart"), OSError("DLL")])
def test_a_torch_that_can_not_be_loaded(monkeypatch, error):
    def fail(name):
        raise error

    monkeypatch.setattr(doctor, "import_module", fail)
    found = doctor._Findings()
    assert [device.id for device in doctor._devices(found)] == ["cpu"]
    assert [remedy.startswith("Install torch again") for remedy in found.remedies] == [True]


def test_memory_without_psutil(tmp_path):
    """16 GB in all and 2 GB free, as Linux writes it; elsewhere the total alone, or nothing."""
    table = tmp_path / "meminfo"
    table.write_text(
        "MemTotal:       16777216 kB\nMemFree:   99 kB\nMemAvailable:    2097152 kB\nHugePages_Total:  0\n"
    )
    assert machine._memory_on_posix(table) == (16384, 2048)
    total, free = machine._memory_on_posix(tmp_path / "none")
    assert free is None and (total is None or total > 100)


def test_the_command_line_has_it(bundles):
    (bundles / "registry.json").write_text("")
    finished = CliRunner().invoke(app, ["doctor", "--json"])
    assert (finished.exit_code, json.loads(finished.stdout)["ready"]) == (2, False)
    finished = CliRunner().invoke(app, ["doctor"])
    assert finished.stdout.splitlines()[-1].startswith("Not ready: Install the models again")
