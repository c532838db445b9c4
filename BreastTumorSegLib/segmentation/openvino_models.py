"""Networks as OpenVINO models: converted once, then read from the user's cache."""

from __future__ import annotations

import importlib
import sys
import tempfile
import warnings
import zipfile
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from BreastTumorSegLib.core.user_cache import cache_folder
from BreastTumorSegLib.networks.bundle import Bundle
from BreastTumorSegLib.networks.catalogue import NetworkConfig
from BreastTumorSegLib.networks.spatial_temporal import SpatialTemporalNetwork
from BreastTumorSegLib.networks.swinunetr import SwinUNETRConfig
from BreastTumorSegLib.segmentation.normalisation import ExamNetwork, Measuring, feature_count

Form = Literal["live", "measuring", "fixed", "encoder", "decoder"]
"""The network as it is; one that tells its statistics too; one that takes statistics as a second input; of a network
that takes times, its two convolutional parts."""

CONVERSION = 1
"""Counts up where this file changes what it makes."""

_TELEMETRY = "openvino_telemetry"


@lru_cache(maxsize=1)
def openvino() -> ModuleType | None:
    """OpenVINO; None where it is not installed or can't be loaded.

    Its telemetry package, which pip installs with it, would send an event at every import: it is made absent first.
    """
    sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]
    try:
        return importlib.import_module("openvino")
    except (ImportError, OSError, RuntimeError):
        return None


@lru_cache(maxsize=1)
def core() -> Any:
    """OpenVINO's core, one a process."""
    runtime = openvino()
    assert runtime is not None
    return runtime.Core()


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16, by OpenVINO's own query; it also wants AVX512_BF16 or AMX."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def load_converted(bundle: Bundle, form: Form) -> Any:
    """A bundle's model for volumes of any shape, from the cache or converted now.

    An entry is one zip file named by the weights' checksum and OpenVINO's version. Zip files have checksums of their
    own: a damaged entry is made again. A cache that can't be written is done without.
    """
    path = _entry(bundle, form)
    try:
        return _read(path)
    except (OSError, zipfile.BadZipFile, KeyError, RuntimeError):  # not there yet, or damaged
        pass
    model = _convert(bundle.network, bundle.description.network, form)
    try:
        _write(model, path)
    except OSError:
        return model
    return _read(path)


def _entry(bundle: Bundle, form: Form) -> Path:
    runtime = openvino()
    assert runtime is not None
    version = runtime.get_version().split("-")[0]
    return cache_folder() / "openvino" / f"{bundle.sha256[:32]}-{form}-{version}-{CONVERSION}.zip"


def _read(path: Path) -> Any:
    with zipfile.ZipFile(path) as file:
        return core().read_model(model=file.read("model.xml"), weights=file.read("model.bin"))


def _write(model: Any, path: Path) -> None:
    """Write beside the place and rename: of processes that do it at once, the last one wins with the same content."""
    runtime = openvino()
    assert runtime is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="making-", ignore_cleanup_errors=True) as folder:
        runtime.save_model(model, str(Path(folder, "model.xml")), compress_to_fp16=False)
        made = Path(folder, path.name)
        with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as file:
            for name in ("model.xml", "model.bin"):
                file.write(Path(folder, name), name)
        made.replace(path)


def _convert(network: nn.Module, config: NetworkConfig, form: Form) -> Any:
    """Trace and translate. OpenVINO's `convert_model` does the same and has telemetry in it.

    Raises:
        RuntimeError: OpenVINO does not know one of the network's operations, or the network can't be traced for
            volumes of any size: Swin UNETR lays out its attention windows in Python, for the size it is traced with.
    """
    if isinstance(config, SwinUNETRConfig):
        raise RuntimeError("a Swin UNETR is converted for one size of volume only")
    frontends = importlib.import_module("openvino.frontend")
    decoders = importlib.import_module("openvino.frontend.pytorch.ts_decoder")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated; OpenVINO has nothing else as general
        module, example = _to_trace(network, config, form)
        traced = torch.jit.trace(module.eval(), example, check_trace=False)
    frontend = frontends.FrontEndManager().load_by_framework("pytorch")
    decoder = decoders.TorchScriptPythonDecoder(traced)  # must live until the conversion ends
    try:
        return frontend.convert(frontend.load(decoder))
    except (frontends.OpConversionFailure, frontends.GeneralFailure) as error:  # neither is a RuntimeError
        raise RuntimeError(str(error).rpartition("-- ")[2]) from error


def _to_trace(network: nn.Module, config: NetworkConfig, form: Form) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """What computes a form, and inputs for it."""
    image = torch.randn(1, config.in_channels, *[2 * config.multiple] * 3)
    if isinstance(network, SpatialTemporalNetwork):
        return (network.encoder, (image,)) if form == "encoder" else (network.decoder, network.encoder(image))
    exam_network = ExamNetwork(network)
    if form == "measuring":
        return Measuring(exam_network), (image,)
    return exam_network, (image, torch.ones(2, feature_count(network))) if form == "fixed" else (image,)
