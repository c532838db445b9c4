"""Draws pictures of simulated exams:

python docs/simulated_exams.py docs/pictures/simulated.jpg
python docs/simulated_exams.py docs/pictures/varied.jpg --varied
"""

import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from matplotlib.figure import Figure

from BreastTumorSegLib.phantom.simulate import simulate_exam
from BreastTumorSegLib.phantom.variation import varied

EXAMS = [(site, seed) for seed in (40, 41, 43) for site in ("DUKE", "ISPY1", "ISPY2", "NACT")]


def upright(exam, volume):
    """A volume as (Z, Y, X) from feet to head, front to back, right to left, in 0.8 mm voxels."""
    image = sitk.DICOMOrient(exam.geometry.image(volume), "LPS")
    size = [round(n * step / 0.8) for n, step in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    return sitk.GetArrayFromImage(
        sitk.Resample(
            image, size, sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), [0.8] * 3, image.GetDirection()
        )
    )


def draw(axes, site, seed, change):
    """One column: pre, post, difference with outline, and the difference's maximum from the front."""
    exam = simulate_exam(site, seed, phases=2, change=change)
    pre, post = (upright(exam, phase.numpy()) for phase in exam.data)
    tumor = upright(exam, exam.tumor.numpy().astype(np.float32))
    z = int(tumor.sum((1, 2)).argmax()) if tumor.any() else pre.shape[0] // 2
    white = np.percentile(post, 99.7)
    axes[0].imshow(pre[z], cmap="gray", vmin=0, vmax=0.8 * white)
    axes[1].imshow(post[z], cmap="gray", vmin=0, vmax=white)
    axes[2].imshow(post[z] - pre[z], cmap="gray", vmin=-0.1 * white, vmax=0.7 * white)
    if tumor[z].max() > 0.5:
        axes[2].contour(tumor[z], [0.5], colors="red", linewidths=0.5)
    axes[3].imshow((post - pre).max(1)[::-1], cmap="gray", vmin=0, vmax=white)
    axes[0].set_title(f"{site} {seed}", color="white", fontsize=8)


def main(path, change):
    """Draw all exams into one picture."""
    figure = Figure(figsize=(24, 8.4), facecolor="black", layout="tight")
    axes = figure.subplots(4, len(EXAMS))
    for column, (site, seed) in enumerate(EXAMS):
        draw(axes[:, column], site, seed, change)
    for panel in axes.flat:
        panel.axis("off")
    figure.savefig(path, dpi=80, facecolor="black", pil_kwargs={"quality": 85})


if __name__ == "__main__":
    main(Path(sys.argv[1]), varied if "--varied" in sys.argv else None)
