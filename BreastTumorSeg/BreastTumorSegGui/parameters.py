"""What the module keeps in the scene. Machine paths and devices are settings instead, see `settings`."""

from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


@parameterNodeWrapper
class Parameters:
    """The exam's table and what is shown.

    phases, times, sources: one a phase, in order; seconds after the first, and `TimeSource` values.
    notes: what reading the exam told about it.
    confirmed: whether the user confirmed the table as it is.
    result: the result that is shown.
    threshold: from which probability the overlay shows.
    opacity: of the overlay.
    """

    phases: list[vtkMRMLScalarVolumeNode]
    times: list[float]
    sources: list[str]
    notes: list[str]
    confirmed: bool = False
    result: vtkMRMLSegmentationNode
    threshold: Annotated[float, WithinRange(0.0, 1.0)] = 0.5
    opacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.6
