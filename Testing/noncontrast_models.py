"""Tiny models of random weights that work without contrast, with those that `segment` needs beside them."""

import shutil
from pathlib import Path

import torch

from BreastTumorSegLib.core.models import models_folder
from BreastTumorSegLib.networks.bundle import CARD, ModelDescription, save_bundle
from BreastTumorSegLib.networks.catalogue import build_network
from BreastTumorSegLib.networks.kisnet import KISNetConfig
from BreastTumorSegLib.networks.resunet import ResUNetConfig

CLUSTERS, NONCONTRAST, USUAL = "plain-clusters", "plain-tumor", "usual-tumor"
CLASSES = 5
"""Outside, not enhancing, and three clusters."""


def described(name: str, **changed: object) -> ModelDescription:
    """The description of one of the models, or of one that differs from it."""
    small = {"channels": (4, 8), "strides": (2,)}
    maps = KISNetConfig(in_channels=1 + CLASSES, out_channels=1, features=4, embedding=4, **small)
    networks = {
        "breast": ("breast", ResUNetConfig(in_channels=1, out_channels=1, **small)),
        USUAL: ("tumor", ResUNetConfig(in_channels=2, out_channels=1, **small)),
        CLUSTERS: ("clusters", ResUNetConfig(in_channels=1, out_channels=CLASSES, **small)),
        NONCONTRAST: ("tumor", maps),
    }
    task, network = networks[name]
    facts = {"name": name, "task": task, "version": "1", "network": network, "spacing_mm": 6.0}
    facts["phases"] = ("pre", "first_post") if name == USUAL else ("pre",)
    facts |= {"maps": CLUSTERS, "threshold": 0.01} if name == NONCONTRAST else {}
    return ModelDescription(**facts | changed)


def write_models(folder: Path, *names: str) -> None:
    """Bundles with their cards in a folder of models, which has the codebooks, too."""
    torch.manual_seed(1)
    shutil.copytree(models_folder() / "tic-codebooks", folder / "tic-codebooks")
    for name in names or ("breast", USUAL, CLUSTERS, NONCONTRAST):
        description = described(name)
        save_bundle(build_network(description.network), description, folder)
        (folder / name / CARD).write_text("A card.\n", encoding="utf-8")
