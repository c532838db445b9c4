"""What tumour models report in the two real exams beside the project: the first half of the rule in docs/weights.md.

    python Testing/benchmarks/real_exams.py MODEL... [--data ../shared/data]

A MODEL is the name or the folder of a tumour model's bundle.
"""

from __future__ import annotations

import argparse
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from held_out import say
from scipy import ndimage

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import Exam
from BreastTumorSegLib.io.exam import load_exam
from BreastTumorSegLib.networks.bundle import Bundle, default_model, find_bundle, load_bundle
from BreastTumorSegLib.segmentation.breast import BreastMask, segment_breast
from BreastTumorSegLib.segmentation.lesions import label_lesions
from BreastTumorSegLib.segmentation.refinement import load_refinement, outlined
from BreastTumorSegLib.segmentation.tumor import tumor_probability

DATA = Path(__file__).parents[3] / "shared" / "data"
OFFICIAL = ((60, 78), (46, 82), (89, 124))
"""The known lesion of Duke-Breast-Cancer-MRI 153: the official box as array indices (Z, Y, X), first and behind the
last. Its table counts slices from the head, and all from 1."""
SECONDS = 90.0
"""Between phases of TCGA-AO-A03M, which its files don't tell."""


@dataclass(frozen=True)
class Seen:
    """A real exam and its breasts."""

    exam: Exam
    breast: BreastMask

    def lesions(self, bundle: Bundle) -> np.ndarray:
        """Lesions (Z, Y, X), numbered from 1, that a model reports."""
        device, refinement = torch.device("cpu"), load_refinement(bundle)
        probability = tumor_probability(self.exam, self.breast, bundle, device, Events())
        likely = outlined(probability, self.exam, self.breast, bundle.description, refinement, device, Events())
        return label_lesions(likely > 0, self.exam.geometry)


def real_exams(data: Path = DATA) -> tuple[Seen, Seen]:
    """Duke 153 and TCGA-AO-A03M right; only what is computed of them leaves this process."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(data / "duke_153" / "dicom.tar.xz") as archive:
            archive.extractall(folder, filter="data")
        duke = load_exam([Path(folder)])
    files = sorted((data / "tcga_a03m_right").glob("*.nii.gz"))
    return _seen(duke), _seen(load_exam(files, times=tuple(SECONDS * number for number in range(len(files)))))


def _seen(exam: Exam) -> Seen:
    bundle = load_bundle(default_model("breast"), "breast")
    return Seen(exam, segment_breast(exam.pre, exam.geometry, bundle, torch.device("cpu"), Events()))


def overlap(labels: np.ndarray) -> float:
    """Intersection over union of the official box and the lesion's whose box fits it best; 0 without any."""
    boxes = [[(part.start, part.stop) for part in box] for box in ndimage.find_objects(labels)]
    return max((box_iou(box, OFFICIAL) for box in boxes), default=0.0)


def box_iou(a: Sequence[tuple[int, int]], b: Sequence[tuple[int, int]]) -> float:
    """Intersection over union of two boxes: first index and the one behind the last, axis by axis."""
    shared = np.prod([max(0, min(p[1], q[1]) - max(p[0], q[0])) for p, q in zip(a, b, strict=True)])
    both = sum(np.prod([end - start for start, end in box]) for box in (a, b))
    return float(shared / (both - shared))


def told(duke: np.ndarray, tcga: np.ndarray) -> str:
    """Cells of a table: the known lesion's box, other lesions, lesions of the exam without a known one."""
    best = overlap(duke)
    return f"{best:.2f} | {duke.max() - (best > 0)} | {tcga.max()}"


def main() -> None:
    """A line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    duke, tcga = real_exams(options.data)
    say("| | Duke 153: box of the known lesion | others | TCGA-AO-A03M right: lesions |\n|---|---|---|---|")
    for name in options.models:
        bundle = find_bundle(name, "tumor")
        say(f"| {name} | {told(duke.lesions(bundle), tcga.lesions(bundle))} |")


if __name__ == "__main__":
    main()
