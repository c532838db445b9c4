"""The stand-in for Slicer's desktop is strict: what the real classes lack raises, in whatever way it is used."""

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytestmark = pytest.mark.xdist_group("module")

UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>Form</class>
 <widget class="qMRMLWidget" name="Form"><layout class="QVBoxLayout">
  <item><widget class="qMRMLNodeComboBox" name="selector">
   <property name="nodeTypes"><stringlist><string>vtkMRMLTextNode</string></stringlist></property>
   <property name="noneEnabled"><bool>true</bool></property>
   <property name="SlicerParameterName" stdset="0"><string>text</string></property></widget></item>
  <item><widget class="ctkSliderWidget" name="slider">
   <property name="maximum"><double>4.0</double></property>
   <property name="SlicerParameterName" stdset="0"><string>size</string></property></widget></item>
 </layout></widget>
 <customwidgets>
  <customwidget><class>qMRMLWidget</class><extends>QWidget</extends><header>qMRMLWidget.h</header></customwidget>
  <customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends><header>qMRMLNodeComboBox.h</header></customwidget>
  <customwidget><class>ctkSliderWidget</class><extends>QWidget</extends><header>ctkSliderWidget.h</header></customwidget>
 </customwidgets>
 <connections><connection><sender>Form</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
  <receiver>selector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>
"""


@pytest.fixture
def desktop():
    from desktop import Desktop

    slicer_desktop = Desktop()
    slicer_desktop.reset()
    return slicer_desktop


@pytest.fixture
def form(desktop, tmp_path):
    """The form above, loaded as a module does."""
    import slicer

    (tmp_path / "form.ui").write_text(UI)
    widget = slicer.util.loadUI(str(tmp_path / "form.ui"))
    widget.setMRMLScene(slicer.mrmlScene)
    return widget, slicer.util.childWidgetVariables(widget)


def test_properties_are_attributes_and_shadow_their_getters(desktop):
    import qt

    button = qt.QPushButton("Run")
    button.toolTip = "why"
    button.enabled = False
    assert (button.text, button.toolTip, button.enabled) == ("Run", "why", False)
    button.setText("Stop")
    assert button.text == "Stop"
    with pytest.raises(TypeError):
        button.text()


@pytest.mark.parametrize(
    "use",
    [
        lambda button: button.tooltip,
        lambda button: setattr(button, "tooltip", "x"),
        lambda button: setattr(button, "note", "x"),
        lambda button: button.setTex("x"),
        lambda button: button.connect("clickd()", print),
        lambda button: button.connect("clicked(int)", print),
        lambda button: setattr(button, "size", 3) or button.sizee,
    ],
)
def test_what_a_qt_class_lacks_raises(desktop, use):
    import qt

    with pytest.raises((AttributeError, TypeError)):
        use(qt.QPushButton("Run"))


def test_what_slicers_classes_lack_raises_and_what_is_not_made_says_so(desktop, form):
    import slicer

    selector = form[1].selector
    with pytest.raises(AttributeError):
        selector.currentNodeName  # noqa: B018
    with pytest.raises(AttributeError):
        selector.connect("currentNodeChanged(vtkMRMLVolumeNode*)", print)
    with pytest.raises(NotImplementedError):
        selector.renameCurrentNode()
    with pytest.raises(AttributeError):
        slicer.app.layoutManager().setTheLayout(3)
    with pytest.raises(NotImplementedError):
        slicer.app.restart()
    with pytest.raises(AttributeError):
        slicer.modules.nothing  # noqa: B018


def test_the_stand_in_itself_makes_nothing_up(desktop):
    """Every public name of the classes that are stood in for is in the table, or Qt's."""
    from desktop import api, application, qt_module, segment_editor_parts, segment_effects, views, widgets

    for kind in (application.Application, views.LayoutManager, views.PlotWidget, application.ModuleManager):
        public = {name for name in vars(kind) if not name.startswith("_")} - {"API", "SIGNALS", "connect", "disconnect"}
        qt_names = set(dir(application.QtWidgets.QApplication)) if kind is application.Application else set()
        assert public - qt_names <= api.members(kind.API), kind
    made = (
        *widgets.CTK.values(),
        *qt_module.SLICER.values(),
        views.SliceWidget,
        views.SliceView,
        segment_effects.Effect,
    )
    for kind in made:
        qt_base = next(base for base in kind.__mro__ if base.__module__.startswith("PySide6"))
        own = {name for name in vars(kind) if not name.startswith("_") and not name.isupper()}
        if kind.API == "qMRMLSegmentEditorWidget":
            own |= {name for name in vars(segment_editor_parts.EditorParts) if not name.startswith("_")}
        made_up = {name for name in own if not hasattr(qt_base, name)} - api.members(kind.API)
        assert made_up - {"staticMetaObject"} == set(), kind


def test_signals_pass_as_many_arguments_as_are_taken(desktop):
    import qt

    box, heard = qt.QComboBox(), []
    box.addItems(["a", "b"])
    box.connect("currentIndexChanged(int)", lambda: heard.append("none"))
    box.currentIndexChanged.connect(lambda index: heard.append(index))
    box.setCurrentIndex(1)
    assert heard == ["none", 1]


def test_what_a_slot_raises_is_kept(desktop):
    import qt

    button = qt.QPushButton("Run")
    button.connect("clicked()", lambda: 1 / 0)
    button.click()
    with pytest.raises(ZeroDivisionError):
        desktop.check()


def test_a_dialog_that_nobody_expects_fails(desktop):
    import slicer

    from desktop import dialogs

    with pytest.raises(dialogs.UnansweredDialogError):
        slicer.util.confirmOkCancelDisplay("Really?")
    dialogs.answers += [True, False]
    assert slicer.util.confirmOkCancelDisplay("Really?") is True
    assert slicer.util.confirmOkCancelDisplay("Really?") is False


def test_a_form_follows_the_scene_and_parameters_follow_the_form(desktop, form):
    import slicer
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    @parameterNodeWrapper
    class Parameters:
        text: slicer.vtkMRMLTextNode
        size: float = 2.0
        names: list[str]

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    parameters = Parameters(node)
    ui = form[1]
    tag = parameters.connectGui(ui)
    assert ui.slider.value == 2.0
    text = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "a note")
    ui.selector.setCurrentNode(text)
    ui.slider.value = 3.0
    parameters.names = ["x", "y"]
    assert (parameters.text, parameters.size, parameters.names) == (text, 3.0, ["x", "y"])
    slicer.mrmlScene.RemoveNode(text)
    assert ui.selector.currentNode() is None
    parameters.disconnectGui(tag)
    ui.slider.value = 1.0
    assert Parameters(node).size == 3.0
    with pytest.raises(ValueError):
        parameters.size = "large"


def test_types_that_a_parameter_node_can_not_hold_raise(desktop):
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    with pytest.raises(TypeError):

        @parameterNodeWrapper
        class Parameters:
            something: object


def test_scenes_are_saved_and_opened_for_real(desktop, tmp_path):
    import numpy as np
    import slicer

    volume = slicer.util.addVolumeFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4), name="v")
    volume.SetAttribute("kept", "yes")
    file = desktop.save_scene(tmp_path)
    slicer.mrmlScene.Clear(0)
    assert slicer.mrmlScene.GetFirstNodeByName("v") is None
    desktop.open_scene(file)
    again = slicer.util.getNode("v")
    assert slicer.util.arrayFromVolume(again).ravel().tolist() == list(range(24))
    assert again.GetAttribute("kept") == "yes"


def test_layouts_make_the_views_that_they_describe(desktop):
    import slicer

    manager = slicer.app.layoutManager()
    view = '<view class="vtkMRMLSliceNode" singletontag="Extra"><property name="orientation">Sagittal</property></view>'
    manager.layoutLogic().GetLayoutNode().AddLayoutDescription(
        901, f'<layout type="horizontal"><item>{view}</item></layout>'
    )
    manager.setLayout(901)
    assert manager.sliceWidget("Extra").mrmlSliceNode().GetOrientation() == "Sagittal"
    assert slicer.mrmlScene.GetSingletonNode("Extra", "vtkMRMLSliceNode") is not None
    with pytest.raises(ValueError):
        manager.setLayout(902)


def test_the_heartbeat_sees_a_blocked_gui(desktop):
    import time

    import qt

    from desktop import Heartbeat

    with Heartbeat() as heartbeat:
        timer = qt.QTimer()
        timer.connect("timeout()", lambda: time.sleep(0.15))
        timer.setSingleShot(True)
        timer.start(5)
        desktop.wait_until(lambda: heartbeat.longest > 0.1, 5)
    assert 0.15 <= heartbeat.longest < 1.0
