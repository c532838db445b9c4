"""`slicer.parameterNodeWrapper`: typed parameters in a node of the scene, for the types that the module uses.

Values are stored under the names that the real wrapper uses: NAME, and for lists NAME.len and NAME.0, NAME.1 and so on.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Annotated, Any

import slicer
import vtk

PROPERTY = "SlicerParameterName"


class WithinRange:
    """The lowest and the highest value of a number."""

    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum = minimum
        self.maximum = maximum


def parameterNodeWrapper(kind: type) -> type:
    """Make a class of annotations into a wrapper of parameter nodes."""
    hints = typing.get_type_hints(kind, include_extras=True)
    defaults = {name: getattr(kind, name, None) for name in hints}
    types = {
        name: typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint for name, hint in hints.items()
    }
    for name, value_type in types.items():
        _codec(value_type)  # raises where the type is not supported
        setattr(kind, name, _property(name, value_type, defaults[name]))
    kind._types = types
    kind.__init__ = _init
    for method in (connectGui, disconnectGui, getValue, setValue):
        setattr(kind, method.__name__, method)
    for name in ("StartModify", "EndModify", "AddObserver", "RemoveObserver", "Modified"):
        setattr(kind, name, _forward(name))
    return kind


def _init(self: Any, node: Any) -> None:
    self.parameterNode = node
    self._guis: dict[int, tuple[int, list[Callable[[], None]]]] = {}


def getValue(self: Any, name: str) -> Any:
    """A parameter by name."""
    return getattr(self, name)


def setValue(self: Any, name: str, value: Any) -> None:
    """Set a parameter by name."""
    setattr(self, name, value)


def connectGui(self: Any, gui: Any) -> int:
    """Connect the widgets whose dynamic property names a parameter, both ways."""
    connections = []
    for widget in vars(gui).values():
        name = widget.property(PROPERTY)
        if name:
            if name not in self._types:
                raise ValueError(f"There is no parameter {name!r}.")
            connections.append(_Connection(self, name, widget))
    tag = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_event: [c.show() for c in connections])
    self._guis[tag] = connections
    return tag


def disconnectGui(self: Any, tag: int) -> None:
    """Undo `connectGui`."""
    self.RemoveObserver(tag)
    for connection in self._guis.pop(tag):
        connection.end()


class _Connection:
    """One widget and one parameter."""

    def __init__(self, wrapper: Any, name: str, widget: Any) -> None:
        self._wrapper, self._name, self._widget = wrapper, name, widget
        self._is_node = widget.className() == "qMRMLNodeComboBox"
        self._signal = "currentNodeChanged(vtkMRMLNode*)" if self._is_node else "valueChanged(double)"
        self.show()
        widget.connect(self._signal, self._changed)

    def show(self) -> None:
        """Let the widget show the parameter."""
        value = getattr(self._wrapper, self._name)
        if self._is_node:
            self._widget.setCurrentNode(value)
        else:
            self._widget.value = value

    def end(self) -> None:
        """Disconnect."""
        self._widget.disconnect(self._signal, self._changed)

    def _changed(self, *_value: Any) -> None:
        setattr(self._wrapper, self._name, self._widget.currentNode() if self._is_node else self._widget.value)


def _forward(name: str) -> Callable[..., Any]:
    return lambda self, *arguments: getattr(self.parameterNode, name)(*arguments)


def _property(name: str, value_type: Any, default: Any) -> property:
    read, write = _codec(value_type)

    def get(self: Any) -> Any:
        known = self.parameterNode.HasParameter(f"{name}.len" if _is_list(value_type) else name)
        return read(self.parameterNode, name) if known or default is None else default

    def put(self: Any, value: Any) -> None:
        with slicer.util.NodeModify(self.parameterNode):
            write(self.parameterNode, name, value)

    return property(get, put)


def _is_list(value_type: Any) -> bool:
    return typing.get_origin(value_type) is list


def _codec(value_type: Any) -> tuple[Callable[[Any, str], Any], Callable[[Any, str, Any], None]]:
    """How a type is read from and written to a node."""
    if _is_list(value_type):
        return _list_codec(*_codec(typing.get_args(value_type)[0]))
    if isinstance(value_type, type) and issubclass(value_type, slicer.vtkMRMLNode):
        return (lambda node, name: node.GetNodeReference(name)), _write_node(value_type)
    if value_type is bool:
        return (lambda node, name: node.GetParameter(name) == "True"), _write_as(bool)
    if value_type in (int, float, str):
        return (lambda node, name: value_type(node.GetParameter(name))), _write_as(value_type)
    raise TypeError(f"Parameters of type {value_type} are not supported.")


def _write_as(value_type: type) -> Callable[[Any, str, Any], None]:
    def write(node: Any, name: str, value: Any) -> None:
        if not isinstance(value, (int, float) if value_type is float else value_type):
            raise ValueError(f"{name}: {value!r} is no {value_type.__name__}.")
        node.SetParameter(name, str(value))

    return write


def _write_node(node_type: type) -> Callable[[Any, str, Any], None]:
    def write(node: Any, name: str, value: Any) -> None:
        if value is not None and not isinstance(value, node_type):
            raise ValueError(f"{name}: {value!r} is no {node_type.__name__}.")
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    return write


def _list_codec(read: Callable, write: Callable) -> tuple[Callable, Callable]:
    def read_list(node: Any, name: str) -> list[Any]:
        count = int(node.GetParameter(f"{name}.len") or 0)
        return [read(node, f"{name}.{index}") for index in range(count)]

    def write_list(node: Any, name: str, values: Any) -> None:
        before = int(node.GetParameter(f"{name}.len") or 0)
        for index, value in enumerate(values):
            write(node, f"{name}.{index}", value)
        for index in range(len(values), before):
            node.UnsetParameter(f"{name}.{index}")
            node.RemoveNodeReferenceIDs(f"{name}.{index}")
        node.SetParameter(f"{name}.len", str(len(values)))

    return read_list, write_list
