"""The Slicer extension: its description, and what CMake builds and installs of it.

Slicer's own build macros are not at hand where the tests run. A stand-in of a few lines puts files where Slicer's puts
them, and installs whole folders as Slicer's does.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import pytest
from PIL import Image

from BreastTumorSegLib.core.requirements import REQUIRED

ROOT = Path(__file__).parents[2]
NAME = "BreastTumorSeg"
MODULE, LIBRARY, MODELS = ROOT / NAME, ROOT / "BreastTumorSegLib", ROOT / "models"
REPOSITORY = "https://github.com/BreastTumorSeg/SlicerBreastTumorSeg"
RAW = "https://raw.githubusercontent.com/BreastTumorSeg/SlicerBreastTumorSeg/main/"
MODULES = Path("lib/Slicer-5.12/qt-scripted-modules")
MAX_PICTURE_BYTES = 60_000

STAND_IN = f"""
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR {MODULES.as_posix()})
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR ./{MODULES.as_posix()})
set(Slicer_USE_FILE ${{CMAKE_CURRENT_LIST_DIR}}/use.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${{CMAKE_CURRENT_LIST_DIR}}/nothing.cmake)
set(Slicer_EXTENSION_CPACK ${{CMAKE_CURRENT_LIST_DIR}}/nothing.cmake)
"""

MACROS = """
enable_testing()

function(slicer_add_python_unittest)
  cmake_parse_arguments(GIVEN "" "SCRIPT" "" ${ARGN})
  add_test(NAME unittest:${GIVEN_SCRIPT} COMMAND ${CMAKE_COMMAND} -E true)
endfunction()

function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(GIVEN "WITH_SUBDIR;WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(GIVEN_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "Unknown: ${GIVEN_UNPARSED_ARGUMENTS}")
  endif()
  set(to ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR})
  set(installed ${to}/)
  if(GIVEN_WITH_SUBDIR)
    get_filename_component(subdir ${CMAKE_CURRENT_SOURCE_DIR} NAME)
    set(to ${to}/${subdir})
    set(installed ${to})
  endif()
  foreach(file IN LISTS GIVEN_SCRIPTS GIVEN_RESOURCES)
    set(from ${CMAKE_CURRENT_SOURCE_DIR}/${file})
    add_custom_command(OUTPUT ${to}/${file} DEPENDS ${from} COMMAND ${CMAKE_COMMAND} -E copy ${from} ${to}/${file})
    list(APPEND made ${to}/${file})
  endforeach()
  add_custom_target(${GIVEN_NAME} ALL DEPENDS ${made})
  install(DIRECTORY ${installed} DESTINATION ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR} COMPONENT RuntimeLibraries)
  if(GIVEN_WITH_GENERIC_TESTS)
    add_test(NAME generic:${GIVEN_NAME} COMMAND ${CMAKE_COMMAND} -E true)
  endif()
endfunction()
"""


def files_in(folder):
    """Every file by its path in the folder, but for what a Python that ran there left."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if "__pycache__" not in path.parts}


def sources(folder):
    """What of a source folder must reach the user."""
    return files_in(folder) - {"CMakeLists.txt"}


def metadata():
    """EXTENSION_... of the top CMakeLists.txt, read as the Extensions Index reads them."""
    return dict(re.findall(r'^set\(EXTENSION_(\w+) "([^"]+)"\)', cmake_file(), re.MULTILINE))


def cmake_file():
    return (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")


def catalogue():
    return json.loads((ROOT / f"{NAME}.json").read_bytes())


def run(*command, **kwargs):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python_in(folder, code):
    """Run code with a folder first in the search path, as a worker that starts in it has it."""
    environment = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "BREASTTUMORSEG_MODELS")
    }
    return run(sys.executable, "-B", "-c", code, cwd=folder, env=environment)


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """The extension's build tree and install tree."""
    for tool in ("cmake", "cc", "c++"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} on the path")
    slicer, build, installed = (tmp_path_factory.mktemp(name) for name in ("slicer", "build", "installed"))
    (slicer / "SlicerConfig.cmake").write_text(STAND_IN)
    (slicer / "use.cmake").write_text(MACROS)
    (slicer / "nothing.cmake").touch()
    places = [f"-DSlicer_DIR={slicer}", f"-DCMAKE_INSTALL_PREFIX={installed}", "-DBUILD_TESTING=ON"]
    run("cmake", "-S", ROOT, "-B", build, *places)
    run("cmake", "--build", build)
    run("cmake", "--install", build)
    return build, installed


def test_the_name_is_the_same_everywhere():
    assert re.search(r"^project\((\w+)\)$", cmake_file(), re.MULTILINE)[1] == NAME
    assert (
        re.search(r"^class (\w+)\(ScriptedLoadableModule\)", (MODULE / f"{NAME}.py").read_text(), re.MULTILINE)[1]
        == NAME
    )
    assert catalogue()["scm_url"] == metadata()["HOMEPAGE"] == REPOSITORY


def test_cmake_reads_every_entry_as_one_value():
    """Slicer hands them on unquoted: a semicolon would cut them."""
    entries = metadata()
    assert set(entries) == {"HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"}
    assert not [name for name, value in entries.items() if ";" in value or "\n" in value]


def test_the_catalogue_entry_is_what_the_index_takes():
    content = (ROOT / f"{NAME}.json").read_bytes()
    entry = catalogue()
    schema = entry.pop("$schema")
    assert b"\r" not in content
    assert schema.endswith("/slicer-extension-catalog-entry-schema-v1.0.2.json#")
    assert entry == {
        "build_dependencies": metadata()["DEPENDS"].split(),
        "build_subdirectory": ".",
        "category": "Segmentation",
        "scm_revision": "main",
        "scm_url": REPOSITORY,
        "tier": 1,
    }
    assert entry["build_dependencies"] == ["PyTorch"]


def test_the_pictures_that_the_catalogue_shows_are_here():
    entries = metadata()
    urls = [entries["ICONURL"], *entries["SCREENSHOTURLS"].split()]
    assert [urlparse(url).scheme for url in urls] == ["https"] * 3
    assert all(url.startswith(RAW) for url in urls)
    assert [url for url in urls if not (ROOT / url.removeprefix(RAW)).is_file()] == []


@pytest.mark.parametrize(
    ("path", "size"),
    [
        (f"Resources/{NAME}.png", (128, 128)),
        (f"{NAME}/Resources/Icons/{NAME}.png", (128, 128)),
        (f"{NAME}/Resources/Icons/SimulatedBreastDCE.png", (260, 280)),
    ],
)
def test_icons_have_the_size_that_slicer_shows(path, size):
    with Image.open(ROOT / path) as picture:
        assert (picture.format, picture.size) == ("PNG", size)
    assert (ROOT / path).stat().st_size < MAX_PICTURE_BYTES


def test_slicer_installs_the_projects_packages_without_torch():
    lines = (MODULE / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if not line.startswith("#")]
    tomllib = pytest.importorskip("tomllib", reason="Python before 3.11 can't read pyproject.toml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert lines[0].startswith("#")
    assert wanted == [name for name in project["dependencies"] if not name.startswith("torch>")]
    assert len(wanted) == len(REQUIRED) - 1


def test_pip_takes_the_same_files_of_the_library_as_slicer():
    """What is no Python is named in both places."""
    tomllib = pytest.importorskip("tomllib", reason="Python before 3.11 can't read pyproject.toml")
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    patterns = tools["package-data"]["BreastTumorSegLib"]
    data = {path.relative_to(LIBRARY).as_posix() for pattern in patterns for path in LIBRARY.glob(pattern)}
    assert data == {path for path in sources(LIBRARY) if not path.endswith(".py")}
    listed = (LIBRARY / "CMakeLists.txt").read_text(encoding="utf-8")
    assert [pattern for pattern in patterns if f"\n  {pattern}\n" not in listed] == []


@pytest.mark.xdist_group("packaging")
@pytest.mark.parametrize("tree", [0, 1], ids=["built", "installed"])
def test_the_extension_is_whole_and_nothing_else(trees, tree):
    """No file of the module, the library or the models is forgotten; no stray one comes along."""
    expected = sources(MODULE)
    expected |= {f"BreastTumorSegLib/{path}" for path in sources(LIBRARY)}
    expected |= {f"BreastTumorSegLib/models/{path}" for path in sources(MODELS)}
    assert files_in(trees[tree] / MODULES) == expected
    assert f"{NAME}.py" in expected
    assert {"BreastTumorSegLib/models/registry.json", "BreastTumorSegLib/report/report.css"} < expected


@pytest.mark.xdist_group("packaging")
def test_nothing_is_installed_outside_the_modules_folder(trees):
    _, installed = trees
    assert files_in(installed) == {f"{MODULES.as_posix()}/{path}" for path in files_in(installed / MODULES)}


@pytest.mark.xdist_group("packaging")
def test_slicer_gets_the_modules_tests(trees):
    build, _ = trees
    listed = json.loads(run("ctest", "--show-only=json-v1", cwd=build))
    assert {test["name"] for test in listed["tests"]} == {f"generic:{NAME}", f"unittest:{NAME}.py"}


@pytest.mark.xdist_group("packaging")
def test_the_installed_library_works_with_the_models_in_it(trees):
    folder = trees[1] / MODULES
    code = "import BreastTumorSegLib.cli as cli\nfrom BreastTumorSegLib.networks import bundle\n"
    code += "for name in bundle.registry(): bundle.verify_bundle(name); print(name)\n"
    code += "print(cli.__file__); print(bundle.models_folder())"
    *names, library, models = python_in(folder, code).splitlines()
    assert names == list(json.loads((MODELS / "registry.json").read_bytes()))
    assert Path(library) == folder / "BreastTumorSegLib" / "cli.py"
    assert Path(models) == folder / "BreastTumorSegLib" / "models"


@pytest.mark.xdist_group("packaging")
def test_the_installed_module_finds_the_library_beside_it(trees):
    folder = trees[1] / MODULES
    assert Path(found_from(folder)) == folder


def test_the_module_of_the_source_tree_finds_the_library_one_folder_up():
    assert Path(found_from(MODULE)) == ROOT


def found_from(folder):
    code = "from BreastTumorSegGui.library import library_parent; print(library_parent())"
    return python_in(folder, code).strip()
