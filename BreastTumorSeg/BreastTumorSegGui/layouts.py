"""View layouts for breast MR: three planes with 3D, and the phases side by side."""

from __future__ import annotations

from collections.abc import Sequence

import slicer

BREAST_ID = 21040
CURVES_ID = 21041
READING_ID = 21042
COMPARE_ID = 21050
"""Slicer's own layouts have ids below 100; each number of phases has an id of its own from here."""
COLUMNS = 3
PLANES = {"Red": ("Axial", "#F34A33"), "Yellow": ("Sagittal", "#EDD54C"), "Green": ("Coronal", "#6EB04B")}
"""Slicer's three slice views, their planes and colours."""


def show_breast() -> None:
    """A large axial view; sagittal, coronal and 3D beside it."""
    side = "".join(f"<item>{view}</item>" for view in (_plane("Yellow"), _plane("Green"), _three_d()))
    _show(
        BREAST_ID,
        f'<layout type="horizontal" split="true"><item splitSize="600">{_plane("Red")}</item>'
        f'<item splitSize="400"><layout type="vertical" split="true">{side}</layout></item></layout>',
    )


def show_reading() -> None:
    """A large axial view; sagittal and coronal beside it."""
    side = "".join(f"<item>{_plane(name)}</item>" for name in ("Yellow", "Green"))
    _show(
        READING_ID,
        f'<layout type="horizontal" split="true"><item splitSize="600">{_plane("Red")}</item>'
        f'<item splitSize="400"><layout type="vertical" split="true">{side}</layout></item></layout>',
    )


def show_chart(chart: slicer.vtkMRMLPlotChartNode) -> None:
    """Three planes, and a chart in the place of the 3D view."""
    top = "".join(f"<item>{_plane(name)}</item>" for name in ("Red", "Yellow"))
    bottom = f"<item>{_plane('Green')}</item><item>{_plot()}</item>"
    rows = "".join(f'<item><layout type="horizontal" split="true">{row}</layout></item>' for row in (top, bottom))
    _show(CURVES_ID, f'<layout type="vertical" split="true">{rows}</layout>')
    slicer.app.layoutManager().plotWidget(0).mrmlPlotViewNode().SetPlotChartNodeID(chart.GetID())


def show_comparison(volumes: Sequence[slicer.vtkMRMLVolumeNode]) -> None:
    """Axial views, one a volume, that scroll and zoom together."""
    names = [f"BreastPhase{index}" for index in range(len(volumes))]
    rows = [names[start : start + COLUMNS] for start in range(0, len(names), COLUMNS)]
    text = "".join(f'<item><layout type="horizontal">{"".join(map(_phase_item, row))}</layout></item>' for row in rows)
    _show(COMPARE_ID + len(volumes), f'<layout type="vertical">{text}</layout>')
    for name, volume in zip(names, volumes, strict=True):
        logic = slicer.app.layoutManager().sliceWidget(name).sliceLogic()
        composite = logic.GetSliceCompositeNode()
        composite.SetLinkedControl(True)
        composite.SetBackgroundVolumeID(volume.GetID())
        logic.FitSliceToAll()


def show_projections(projections: dict[str, slicer.vtkMRMLVolumeNode]) -> None:
    """Each projection in the view that looks along it. Keys are planes in lower case."""
    show_breast()
    for name, (plane, _color) in PLANES.items():
        logic = slicer.app.layoutManager().sliceWidget(name).sliceLogic()
        logic.GetSliceCompositeNode().SetBackgroundVolumeID(projections[plane.lower()].GetID())
        logic.FitSliceToAll()


def _show(layout_id: int, description: str) -> None:
    manager = slicer.app.layoutManager()
    node = manager.layoutLogic().GetLayoutNode()
    if node.IsLayoutDescription(layout_id):
        node.SetLayoutDescription(layout_id, description)
    else:
        node.AddLayoutDescription(layout_id, description)
    manager.setLayout(layout_id)


def _plane(name: str) -> str:
    plane, color = PLANES[name]
    return _slice_view(name, plane, name[0], color)


def _phase_item(name: str) -> str:
    number = name.removeprefix("BreastPhase")
    return f"<item>{_slice_view(name, 'Axial', number, '#F34A33')}</item>"


def _slice_view(name: str, plane: str, label: str, color: str) -> str:
    return (
        f'<view class="vtkMRMLSliceNode" singletontag="{name}">'
        f'<property name="orientation" action="default">{plane}</property>'
        f'<property name="viewlabel" action="default">{label}</property>'
        f'<property name="viewcolor" action="default">{color}</property></view>'
    )


def _plot() -> str:
    return (
        '<view class="vtkMRMLPlotViewNode" singletontag="BreastCurves">'
        '<property name="viewlabel" action="default">C</property></view>'
    )


def _three_d() -> str:
    return (
        '<view class="vtkMRMLViewNode" singletontag="1"><property name="viewlabel" action="default">1</property></view>'
    )
