"""Gives PySide6 objects PythonQt's ways, and nothing that the real class lacks.

A property is an attribute without parentheses, and shadows the getter of its name; everything else public is a method;
signals are connected by their C++ signature. Reading, writing, calling or connecting what the real class lacks raises.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any
from weakref import WeakValueDictionary

from PySide6 import QtCore
from shiboken6 import Shiboken

from desktop import api

errors: list[BaseException] = []
"""What slots raised: Qt would only print it. Tests look here."""
_proxies: WeakValueDictionary[int, Proxy] = WeakValueDictionary()
PROPERTY_ALIASES = {"name": "objectName"}


class Proxy:
    """One PySide6 object seen as PythonQt shows it."""

    __slots__ = ("__weakref__", "_target")

    def __init__(self, target: Any) -> None:
        object.__setattr__(self, "_target", target)

    def __getattr__(self, name: str) -> Any:
        target = self._target
        name = PROPERTY_ALIASES.get(name, name)
        _check(target, name)
        if _property(target, name) is not None:
            return wrap(target.property(name))
        member = getattr(target, name)
        if isinstance(member, QtCore.SignalInstance):
            return Signal(self, name, member)
        return _method(member) if callable(member) else wrap(member)

    def __setattr__(self, name: str, value: Any) -> None:
        target = self._target
        name = PROPERTY_ALIASES.get(name, name)
        _check(target, name)
        found = _property(target, name)
        if found is None or not found.isWritable():
            raise AttributeError(f"{_class_name(target)} has no writable property {name!r}.")
        value = value.value if isinstance(value, Enum) else unwrap(value)
        if not target.setProperty(name, value):
            raise TypeError(f"{_class_name(target)}.{name} can't be set to {value!r}.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Proxy) and other._target is self._target

    def __hash__(self) -> int:
        return id(self._target)

    def __repr__(self) -> str:
        return f"<{_class_name(self._target)}>"

    def className(self) -> str:
        """Name of the C++ class."""
        return _class_name(self._target)

    def delete(self) -> None:
        """Delete the C++ object at once."""
        Shiboken.delete(self._target)

    def connect(self, signature: str, function: Callable[..., Any]) -> bool:
        """Connect a signal by its C++ signature."""
        slot = _slot(function)
        _kept(self._target)[signature, function] = slot
        _signal(self._target, signature)(slot)
        return True

    def disconnect(self, signature: str, function: Callable[..., Any]) -> bool:
        """Undo `connect`."""
        slot = _kept(self._target).pop((signature, function))
        _signal(self._target, signature, connect=False)(slot)
        return True


class Signal:
    """A signal as an attribute: `button.clicked.connect(function)`."""

    def __init__(self, owner: Proxy, name: str, signal: QtCore.SignalInstance) -> None:
        self._owner = owner
        self._name = name
        self._signal = signal

    def connect(self, function: Callable[..., Any]) -> None:
        """Connect a function; it gets as many arguments as it takes."""
        slot = _slot(function)
        _kept(self._owner._target)[self._name, function] = slot
        self._signal.connect(slot)

    def disconnect(self, function: Callable[..., Any]) -> None:
        """Undo `connect`."""
        self._signal.disconnect(_kept(self._owner._target).pop((self._name, function)))


class QtClass:
    """A class as PythonQt shows it: makes proxies, and has the enums and static methods."""

    def __init__(self, target: type, static: dict[str, Callable[..., Any]] | None = None) -> None:
        self._class = target
        self._static = static or {}

    def __call__(self, *arguments: Any, **properties: Any) -> Proxy:
        return wrap(self._class(*map(unwrap, arguments), **properties))

    def __getattr__(self, name: str) -> Any:
        if name in self._static:
            return self._static[name]
        member = getattr(self._class, name)
        return _method(member) if inspect.isbuiltin(member) or inspect.isroutine(member) else member


def wrap(value: Any) -> Any:
    """The value as PythonQt gives it."""
    if isinstance(value, list | tuple) and not isinstance(value, QtCore.QByteArray):
        return tuple(map(wrap, value))
    if not isinstance(value, Shiboken.Object):
        return value
    known = _proxies.get(id(value))
    if known is None:
        known = _proxies[id(value)] = Proxy(value)
    return known


def unwrap(value: Any) -> Any:
    """The value as PySide6 takes it."""
    if isinstance(value, Proxy):
        return value._target
    if isinstance(value, QtClass):
        return value._class
    return [unwrap(item) for item in value] if isinstance(value, list | tuple) else value


def _check(target: Any, name: str) -> None:
    """Raise where the real class has no such member, or the stand-in has not made it."""
    if name.startswith("_"):
        raise AttributeError(name)
    real = getattr(type(target), "API", None)
    if real is None:
        if not hasattr(type(target), name) and _property(target, name) is None:
            raise AttributeError(f"{type(target).__name__} has no member {name!r}.")
        return
    if name not in api.members(real):
        qt_base = next(base for base in type(target).__mro__ if base.__module__.startswith("PySide6"))
        if not hasattr(qt_base, name) and not _has_property(target.metaObject(), qt_base.__name__, name):
            raise AttributeError(f"{real} has no member {name!r}, by slicer_api.json and {qt_base.__name__}.")
    elif not hasattr(type(target), name):
        raise NotImplementedError(f"{real}.{name} is real, but the stand-in lacks it.")


def _has_property(meta: QtCore.QMetaObject, class_name: str, name: str) -> bool:
    """Whether a class among an object's bases has a property."""
    while meta.className() != class_name:
        meta = meta.superClass()
    return meta.indexOfProperty(name) >= 0


def _property(target: Any, name: str) -> QtCore.QMetaProperty | None:
    if not isinstance(target, QtCore.QObject):
        return None
    index = target.metaObject().indexOfProperty(name)
    return target.metaObject().property(index) if index >= 0 else None


def _class_name(target: Any) -> str:
    return getattr(type(target), "API", None) or type(target).__name__


def _method(member: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **more: Any) -> Any:
        return wrap(member(*map(unwrap, arguments), **more))

    return call


def _signal(target: QtCore.QObject, signature: str, connect: bool = True) -> Callable[..., Any]:
    """Connects to, or disconnects from, a signal of exactly this signature."""
    _check(target, signature.partition("(")[0])
    name = getattr(type(target), "SIGNATURES", {}).get(signature)
    if name is None:
        normalized = bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()
        if target.metaObject().indexOfSignal(normalized) < 0:
            raise AttributeError(f"{_class_name(target)} has no signal {signature}.")
        action = QtCore.QObject.connect if connect else QtCore.QObject.disconnect
        return lambda slot: action(target, QtCore.SIGNAL(normalized), slot)
    signal = getattr(target, name)
    return signal.connect if connect else signal.disconnect


def _slot(function: Callable[..., Any]) -> Callable[..., None]:
    """Calls a function with as many arguments as it takes, and notes what it raises."""
    if isinstance(function, Proxy):
        raise TypeError("Connect a function.")
    taken = _taken(function)

    def call(*arguments: Any) -> None:
        try:
            function(*map(wrap, arguments[:taken]))
        except BaseException as error:
            errors.append(error)
            raise

    return call


def _taken(function: Callable[..., Any]) -> int | None:
    """How many positional arguments a function takes; None for any number."""
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return None
    return sum(kind is not inspect.Parameter.KEYWORD_ONLY for kind in kinds)


def _kept(target: QtCore.QObject) -> dict[Any, Callable[..., None]]:
    """Slots by what was connected: for `disconnect`."""
    if not hasattr(target, "_kept_slots"):
        target._kept_slots = {}
    return target._kept_slots
