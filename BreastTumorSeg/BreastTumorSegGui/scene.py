"""Between MRML nodes and arrays. Slicer's RAS meets the library's LPS here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import slicer
import vtk
import vtk.util.numpy_support

from BreastTumorSegLib.core.boxes import Box
from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.geometry import Geometry

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
BEYOND_ANY_VALUE = 1e30
LABELMAP = "Binary labelmap"  # vtkSegmentationConverter::GetBinaryLabelmapRepresentationName


@dataclass(frozen=True)
class SegmentStyle:
    """How a label becomes a segment.

    Attributes:
        label: Its value in the labelmap.
        segment_id: Stays the same when a user renames the segment.
        name: As shown.
        color: Red, green, blue, 0 to 1.
        terminology: Slicer's terminology entry as text.
        fill: Opacity of its inside in slice views, 0 to 1.
        surface: Opacity of its surface in 3D views, 0 to 1.
    """

    label: int
    segment_id: str
    name: str
    color: tuple[float, float, float]
    terminology: str
    fill: float
    surface: float


def ras(position_lps: Sequence[float]) -> tuple[float, float, float]:
    """A position in RAS from LPS, millimetres."""
    left, posterior, superior = position_lps
    return (-left, -posterior, superior)


def matrix_of(geometry: Geometry) -> vtk.vtkMatrix4x4:
    """Voxel index (i, j, k) to RAS millimetres."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy((LPS_TO_RAS @ geometry.matrix).ravel().tolist())
    return matrix


def geometry_of(volume: slicer.vtkMRMLVolumeNode) -> Geometry:
    """The grid of a volume, in LPS, without its parent transform; see `is_moved`."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    to_lps = LPS_TO_RAS @ _array_of(matrix)
    spacing = np.linalg.norm(to_lps[:3, :3], axis=0)
    direction = to_lps[:3, :3] / spacing
    size = volume.GetImageData().GetDimensions()
    return Geometry(
        tuple(size), tuple(spacing.tolist()), tuple(to_lps[:3, 3].tolist()), tuple(direction.ravel().tolist())
    )


def is_moved(volume: slicer.vtkMRMLVolumeNode) -> bool:
    """True when a transform moves the volume: its voxels are then not where its own grid says."""
    return volume.GetParentTransformNode() is not None


def voxels(volume: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
    """Voxels (Z, Y, X) of a volume, (Z, Y, X, C) where it has several components; not a copy."""
    return slicer.util.arrayFromVolume(volume)


def add_volume(
    array: np.ndarray,
    geometry: Geometry,
    name: str,
    window: tuple[float, float] | None = None,
    color_id: str = "vtkMRMLColorTableNodeGrey",
    smooth: bool = True,
    shown_from: float | None = None,
) -> slicer.vtkMRMLScalarVolumeNode:
    """Add a volume that shares the array's memory.

    Args:
        array: Voxels (Z, Y, X).
        window: Values shown as darkest and brightest; by default from the voxels.
        color_id: Colour node.
        smooth: Interpolate between voxels; not for labels.
        shown_from: Values below are transparent.
    """
    node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
    node.UnRegister(None)
    node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
    node.SetIJKToRASMatrix(matrix_of(geometry))
    node.SetAndObserveImageData(_image(array))
    slicer.mrmlScene.AddNode(node)
    display = _show_with(node, window or _window(array), color_id, smooth)
    if shown_from is not None:
        show_from(display, shown_from)
    return node


def show_from(display: slicer.vtkMRMLScalarVolumeDisplayNode, value: float) -> None:
    """Make values below one transparent."""
    display.SetThreshold(value, BEYOND_ANY_VALUE)
    display.SetApplyThreshold(True)


def share_volume(volume: slicer.vtkMRMLScalarVolumeNode, name: str) -> slicer.vtkMRMLScalarVolumeNode:
    """Add a volume with the voxels of one outside the scene, such as an item of a sequence; nothing is copied."""
    return add_volume(voxels(volume), geometry_of(volume), name)


def add_segmentation(name: str, reference: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLSegmentationNode:
    """Add an empty segmentation on the grid of a volume; its segments bring the grid, where that was taken away."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", slicer.mrmlScene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    if reference.GetScene() is not None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    return node


def add_segments(
    segmentation: slicer.vtkMRMLSegmentationNode, labels: np.ndarray, geometry: Geometry, styles: Iterable[SegmentStyle]
) -> None:
    """Add one segment a label; they share the labelmap, as a layer does in Slicer, and so nothing is copied.

    Args:
        labels: uint8 (Z, Y, X).
    """
    _add_segments(segmentation, _oriented(labels, geometry), styles)


def _add_segments(
    segmentation: slicer.vtkMRMLSegmentationNode, image: slicer.vtkOrientedImageData, styles: Iterable[SegmentStyle]
) -> None:
    for style in styles:
        segment = slicer.vtkSegment()
        segment.SetName(style.name)
        segment.SetColor(*style.color)
        segment.SetTerminology(style.terminology)
        segment.SetLabelValue(style.label)
        segment.AddRepresentation(LABELMAP, image)
        segmentation.GetSegmentation().AddSegment(segment, style.segment_id)
        segmentation.GetDisplayNode().SetSegmentOpacity2DFill(style.segment_id, style.fill)
        segmentation.GetDisplayNode().SetSegmentOpacity3D(style.segment_id, style.surface)


def replace_segments(
    segmentation: slicer.vtkMRMLSegmentationNode,
    labels: np.ndarray,
    box: Box,
    geometry: Geometry,
    styles: Iterable[SegmentStyle],
) -> None:
    """Let a segmentation have these segments and no others.

    Args:
        labels: uint8, of a box of the grid alone: undo keeps many copies. They are copied: editors write in place.
        box: Where in the grid that is.
    """
    modified = segmentation.StartModify()
    try:
        segmentation.GetSegmentation().RemoveAllSegments()
        _add_segments(segmentation, _oriented(labels.copy(), geometry, box), styles)
    finally:
        segmentation.EndModify(modified)


def draw_segment(
    labels: np.ndarray, value: int, segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str, geometry: Geometry
) -> None:
    """Set the voxels of a segment to a value in an array on the exam's grid; nothing where the segment is empty.

    Raises:
        InputError: The segment is on another grid.
    """
    image = segmentation.GetBinaryLabelmapInternalRepresentation(segment_id)
    scalars = image.GetPointData().GetScalars() if image is not None else None
    if scalars is None or scalars.GetNumberOfTuples() == 0:
        return
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    if not np.allclose(_array_of(matrix), _array_of(matrix_of(geometry)), atol=1e-3):
        name = segmentation.GetSegmentation().GetSegment(segment_id).GetName()
        raise InputError(f"Segment {name} is not on the exam's grid.", "Resample the segmentation to the exam.")
    extent = np.array(image.GetExtent()).reshape(3, 2)[::-1]  # of z, y, x: a segment's image is as small as it can be
    part = vtk.util.numpy_support.vtk_to_numpy(scalars).reshape(extent[:, 1] - extent[:, 0] + 1)
    low, high = np.maximum(extent[:, 0], 0), np.minimum(extent[:, 1] + 1, labels.shape)
    target = tuple(map(slice, low, high))
    inside = tuple(map(slice, low - extent[:, 0], high - extent[:, 0]))
    labels[target][part[inside] == segmentation.GetSegmentation().GetSegment(segment_id).GetLabelValue()] = value


def _array_of(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    return np.reshape([matrix.GetElement(row, column) for row in range(4) for column in range(4)], (4, 4))


def index_of(volume: slicer.vtkMRMLVolumeNode, position_ras: Sequence[float]) -> tuple[int, int, int] | None:
    """The voxel (z, y, x) of a volume at a position in RAS; None outside."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetRASToIJKMatrix(matrix)
    index = tuple(round(value) for value in matrix.MultiplyPoint((*position_ras, 1.0))[:3])
    inside = all(0 <= value < size for value, size in zip(index, volume.GetImageData().GetDimensions(), strict=True))
    return tuple(reversed(index)) if inside else None


def add_color_table(
    name: str, entries: Sequence[tuple[str, tuple[float, float, float]]]
) -> slicer.vtkMRMLColorTableNode:
    """A table of named colours for labels from 0, transparent at 0; the one in the scene where it is there already."""
    known = slicer.mrmlScene.GetFirstNodeByName(name)
    if known is not None and known.IsA("vtkMRMLColorTableNode"):
        return known
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", name)
    node.SetTypeToUser()
    node.SetNumberOfColors(len(entries))
    for index, (label, color) in enumerate(entries):
        node.SetColor(index, label, *color, 0.0 if index == 0 else 1.0)
    return node


def put_in_folder(name: str, nodes: Iterable[slicer.vtkMRMLNode]) -> None:
    """Collect nodes in a new folder of the subject hierarchy."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), name)
    for node in nodes:
        item = hierarchy.GetItemByDataNode(node)
        if item != hierarchy.GetInvalidItemID():  # charts' parts may have none
            hierarchy.SetItemParent(item, folder)


def remove(nodes: Iterable[slicer.vtkMRMLNode | None]) -> None:
    """Take nodes out of the scene, with what displays them."""
    for node in nodes:
        if node is not None and node.GetScene() is not None:
            _take_off_views(node)
            if node.IsA("vtkMRMLDisplayableNode"):
                for index in reversed(range(node.GetNumberOfDisplayNodes())):
                    slicer.mrmlScene.RemoveNode(node.GetNthDisplayNode(index))
            slicer.mrmlScene.RemoveNode(node)


def _take_off_views(node: slicer.vtkMRMLNode) -> None:
    """A view would keep the voxels of a volume that is removed while it is shown."""
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if composite.GetBackgroundVolumeID() == node.GetID():
            composite.SetBackgroundVolumeID(None)
        if composite.GetForegroundVolumeID() == node.GetID():
            composite.SetForegroundVolumeID(None)


@contextmanager
def taken_back(nodes: Iterable[slicer.vtkMRMLNode]) -> Iterator[None]:
    """Where the block fails or is cancelled, the scene stays as it was: what it has put into `nodes` is removed."""
    try:
        yield
    except BaseException:  # closing a generator is one, too
        remove(nodes)
        raise


def show(volume: slicer.vtkMRMLVolumeNode | None, overlay: slicer.vtkMRMLVolumeNode | None = None) -> None:
    """Show a volume in all slice views, and another over it."""
    slicer.util.setSliceViewerLayers(background=volume, foreground=overlay, fit=True)


def set_overlay(volume: slicer.vtkMRMLVolumeNode | None, opacity: float) -> None:
    """Show a volume over what the slice views show; None takes it away."""
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        composite.SetForegroundVolumeID(volume.GetID() if volume is not None else None)
        composite.SetForegroundOpacity(opacity)


def set_background(volume: slicer.vtkMRMLVolumeNode) -> None:
    """Show a volume alone in all slice views, which stay where they are."""
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        composite.SetBackgroundVolumeID(volume.GetID())
        composite.SetForegroundVolumeID(None)
        composite.SetLabelVolumeID(None)


def slice_through(position_ras: Sequence[float]) -> None:
    """Move all slice views to a position, each with its volume in full field of view."""
    manager = slicer.app.layoutManager()
    for name in manager.sliceViewNames():
        logic = manager.sliceWidget(name).sliceLogic()
        logic.FitSliceToAll()
        logic.GetSliceNode().JumpSliceByOffsetting(*position_ras)


def jump_to(position_ras: Sequence[float]) -> None:
    """Centre all slice views on a position and point the 3D views' cameras at it."""
    for slice_node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        slice_node.JumpSliceByCentering(*position_ras)
    for camera in slicer.util.getNodesByClass("vtkMRMLCameraNode"):
        camera.SetFocalPoint(*position_ras)


def _image(array: np.ndarray) -> vtk.vtkImageData:
    """An image that shares the array's memory; VTK keeps the array alive."""
    flat = np.ascontiguousarray(array).reshape(-1)
    image = vtk.vtkImageData()
    image.SetDimensions(*reversed(array.shape))
    image.GetPointData().SetScalars(vtk.util.numpy_support.numpy_to_vtk(flat))
    return image


def _oriented(
    labels: np.ndarray, geometry: Geometry, box: Box = (slice(None), slice(None), slice(None))
) -> slicer.vtkOrientedImageData:
    """An image of the labels in a box of a grid."""
    image = slicer.vtkOrientedImageData()
    image.ShallowCopy(_image(labels))
    starts = [part.start or 0 for part in reversed(box)]
    sizes = reversed(labels.shape)
    image.SetExtent(*(bound for low, size in zip(starts, sizes, strict=True) for bound in (low, low + size - 1)))
    image.SetGeometryFromImageToWorldMatrix(matrix_of(geometry))
    return image


def _window(array: np.ndarray) -> tuple[float, float]:
    """From the 1st to the 99.5th percentile of every 64th voxel: Slicer's own choice would look at all of them."""
    sample = array[::4, ::4, ::4]
    low, high = np.percentile(sample, (1, 99.5)) if sample.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-6))


def _show_with(
    node: slicer.vtkMRMLScalarVolumeNode, window: tuple[float, float], color_id: str, smooth: bool
) -> slicer.vtkMRMLScalarVolumeDisplayNode:
    display = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScalarVolumeDisplayNode")
    display.UnRegister(None)
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(*window)
    display.SetInterpolate(smooth)
    slicer.mrmlScene.AddNode(display)
    display.SetAndObserveColorNodeID(color_id)
    node.SetAndObserveDisplayNodeID(display.GetID())
    return display
