"""What a lesion is made of: the share of each cluster of curves."""

from __future__ import annotations

import numpy as np

from BreastTumorSegLib.core.result import Clusters


def composition(clusters: Clusters, mask: np.ndarray) -> dict[int, np.ndarray]:
    """Share of each cluster among the enhancing voxels of every label of a mask.

    Args:
        mask: Labels (Z, Y, X), 0 outside.

    Returns:
        By label, (K,); sums to 1, or to 0 where nothing of a label enhances.
    """
    kinds = len(clusters.curves) + 1
    labels = mask[mask > 0].astype(np.int64)
    if not labels.size:
        return {}
    counts = np.bincount(labels * kinds + clusters.labels[mask > 0], minlength=(labels.max() + 1) * kinds)
    counts = counts.reshape(-1, kinds)
    return {
        int(label): counts[label, 1:] / max(counts[label, 1:].sum(), 1) for label in np.flatnonzero(counts.sum(axis=1))
    }
