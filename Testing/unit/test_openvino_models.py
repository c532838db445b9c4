"""Converted models in the user's cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.user_cache import cache_folder
from BreastTumorSegLib.networks.bundle import default_model, load_bundle
from BreastTumorSegLib.segmentation import openvino_models
from BreastTumorSegLib.segmentation.openvino_models import load_converted, openvino
from BreastTumorSegLib.segmentation.runtimes import OpenVinoRuntime

pytestmark = pytest.mark.skipif(openvino() is None, reason="OpenVINO is not installed")
LIBRARY = Path(openvino_models.__file__).parents[2]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BREAST_TUMOR_SEG_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(default_model("breast"), "breast")


@pytest.fixture
def conversions(monkeypatch):
    """How often something was converted."""
    counted, convert = [], openvino_models._convert
    monkeypatch.setattr(openvino_models, "_convert", lambda *args: counted.append(1) or convert(*args))
    return counted


def entries(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def answer(bundle):
    image = torch.linspace(-1, 1, 16**3).view(1, 1, 16, 16, 16)
    return OpenVinoRuntime(bundle).logits(image, None, Events())


def test_a_model_is_converted_once_and_its_entry_names_weights_and_version(bundle, conversions, tmp_path):
    first, second = answer(bundle), answer(bundle)
    assert torch.equal(first, second)
    assert len(conversions) == 1
    (entry,) = entries(tmp_path)
    assert bundle.sha256[:32] in entry.name
    assert openvino().get_version().split("-")[0] in entry.name


def cut(data):
    return data[: len(data) // 2]


def flip(data):
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


@pytest.mark.parametrize("damage", [cut, flip, lambda _: b"", lambda _: b"PK other"])
def test_a_damaged_entry_is_made_again(bundle, conversions, tmp_path, damage):
    expected = answer(bundle)
    (entry,) = entries(tmp_path)
    entry.write_bytes(damage(entry.read_bytes()))
    assert torch.equal(answer(bundle), expected)
    assert torch.equal(answer(bundle), expected)
    assert len(conversions) == 2


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs a file in a folder's place to be an error")
def test_a_cache_that_cannot_be_written_is_done_without(bundle, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    expected = answer(bundle)
    monkeypatch.setenv("BREAST_TUMOR_SEG_CACHE", str(tmp_path / "file"))
    assert torch.equal(answer(bundle), expected)


def test_processes_that_convert_at_once_leave_one_whole_entry(tmp_path):
    code = (
        "from BreastTumorSegLib.networks.bundle import load_bundle, default_model\n"
        "from BreastTumorSegLib.segmentation.openvino_models import load_converted\n"
        "load_converted(load_bundle(default_model('breast'), 'breast'), 'live')\n"
    )
    runs = [subprocess.Popen([sys.executable, "-c", code], cwd=LIBRARY) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    assert len(entries(tmp_path)) == 1


def test_the_model_takes_volumes_of_any_size(bundle):
    shape = load_converted(bundle, "live").inputs[0].partial_shape
    assert all(dimension.is_dynamic for dimension in list(shape)[2:])


def test_openvino_sends_no_telemetry():
    """Its telemetry package, if it is there, is never imported: OpenVINO takes its own stand-in."""
    code = (
        "import sys\n"
        "from BreastTumorSegLib.segmentation.openvino_models import openvino\n"
        "assert openvino() is not None\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "assert telemetry_utils.tm.__name__.endswith('telemetry_stub')\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=LIBRARY)


@pytest.mark.parametrize(
    ("platform", "variable", "parts"),
    [
        ("linux", "XDG_CACHE_HOME", ("BreastTumorSeg",)),
        ("win32", "LOCALAPPDATA", ("BreastTumorSeg", "Cache")),
    ],
)
def test_the_cache_is_where_the_platform_keeps_such(monkeypatch, tmp_path, platform, variable, parts):
    monkeypatch.delenv("BREAST_TUMOR_SEG_CACHE")
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(tmp_path / "place"))
    assert cache_folder() == tmp_path.joinpath("place", *parts)
