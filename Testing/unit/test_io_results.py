"""The results folder: whole or not there, and nothing of the user's destroyed."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from BreastTumorSegLib.core.errors import Cancelled, OutputError
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import results_folder, write_volume

GRID = Geometry((40, 30, 20), (0.7, 0.8, 1.1))
SPEAKS_LIMITS = pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")


def test_results_are_renamed_into_place(tmp_path):
    with results_folder(tmp_path / "new" / "out", overwrite=False) as folder:
        (folder / "result.json").write_text("{}")
        assert folder.parent == tmp_path / "new"
        assert folder.name == f".out.partial-{os.getpid()}"
        assert not (tmp_path / "new" / "out").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]
    assert (tmp_path / "new" / "out" / "result.json").read_text() == "{}"


@pytest.mark.parametrize("error", [Cancelled(), KeyboardInterrupt(), ValueError("x"), OSError(errno.EIO, "x")])
def test_any_exception_leaves_nothing(tmp_path, error):
    with pytest.raises(type(error)), results_folder(tmp_path / "out", overwrite=False) as folder:
        (folder / "half").write_text("")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_existing_results_are_kept_without_overwrite(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    with pytest.raises(OutputError, match="already there"), results_folder(tmp_path / "out", overwrite=False):
        pytest.fail("must refuse before any work")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_no_result(tmp_path):
    (tmp_path / "out").mkdir()
    with results_folder(tmp_path / "out", overwrite=False) as folder:
        (folder / "a").write_text("")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_overwrite_keeps_the_old_results_beside(tmp_path):
    for content in ("first", "second", "third"):
        with results_folder(tmp_path / "out", overwrite=True) as folder:
            (folder / "a").write_text(content)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert (tmp_path / "out" / "a").read_text() == "third"
    assert all(re.fullmatch(r"out(-previous-\d{8}-\d{6}(-\d+)?)?", name) for name in kept)
    assert {(tmp_path / name / "a").read_text() for name in kept} == {"first", "second", "third"}


def test_overwrite_that_fails_changes_nothing(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    with pytest.raises(ValueError, match="bug"), results_folder(tmp_path / "out", overwrite=True):
        raise ValueError("bug")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["out", "out/old"]


def test_results_that_appear_meanwhile_are_kept(tmp_path):
    with pytest.raises(OutputError, match="already there"), results_folder(tmp_path / "out", overwrite=False):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").write_text("")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["out", "out/theirs"]


def test_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be written"), results_folder(tmp_path / "file" / "out", False):
        pytest.fail("must refuse before any work")


def test_out_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(OutputError, match="already there"), results_folder(tmp_path / "out", overwrite=False):
        pytest.fail("must refuse before any work")
    assert (tmp_path / "out").read_text() == "precious"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_parent_that_is_not_writable(tmp_path, monkeypatch, code):
    def refuse(self, *args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match=re.escape(str(tmp_path / "out"))), results_folder(tmp_path / "out", False):
        pytest.fail("must refuse before any work")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG])
def test_full_disk(tmp_path, code):
    with pytest.raises(OutputError, match="disk is full") as caught, results_folder(tmp_path / "out", False) as folder:
        (folder / "a").write_text("")
        raise OSError(code, os.strerror(code))
    assert caught.value.remedy
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


LIMITED = """
import resource, sys
import numpy as np
from pathlib import Path
from BreastTumorSegLib.core.errors import OutputError
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import results_folder, write_volume
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
noise = np.random.default_rng(0).random((20, 30, 40)).astype(np.float32)
try:
    with results_folder(Path(sys.argv[1]), overwrite=False) as folder:
        write_volume(noise, Geometry((40, 30, 20), (1.0, 1.0, 1.0)), folder / sys.argv[2])
except OutputError as error:
    print("OutputError", error)
"""


@SPEAKS_LIMITS
@pytest.mark.parametrize("name", ["map.nii.gz", "map.nii", "map.nrrd"])
def test_disk_that_fills_up_while_a_volume_is_written(tmp_path, name):
    """ITK writes half a NIfTI file and says nothing; a real limit of the file size shows it."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "out"), name], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("OutputError")
    assert list(tmp_path.iterdir()) == []


@SPEAKS_LIMITS
def test_a_killed_process_leaves_only_a_hidden_folder(tmp_path):
    code = (
        "import os, signal, sys; from BreastTumorSegLib.io import results_folder\n"
        "with results_folder(sys.argv[1], overwrite=False) as folder:\n"
        "    (folder / 'a').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.name.startswith(".out.partial-") for path in tmp_path.iterdir()] == [True]


def test_volume_in_a_folder_that_is_missing(tmp_path):
    with pytest.raises(OutputError, match=r"a\.nii\.gz"):
        write_volume(np.zeros(GRID.shape, np.uint8), GRID, tmp_path / "missing" / "a.nii.gz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_pipe_or_device_is_never_moved(tmp_path, overwrite):
    os.mkfifo(tmp_path / "out")
    with pytest.raises(OutputError, match="no folder"), results_folder(tmp_path / "out", overwrite):
        pytest.fail("must refuse before any work")
    assert (tmp_path / "out").is_fifo() and len(list(tmp_path.iterdir())) == 1


def test_the_root_of_a_disk_is_refused():
    with pytest.raises(OutputError, match="whole disk"), results_folder(Path(Path.cwd().anchor), overwrite=True):
        pytest.fail("must refuse before any work")


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "place").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "place")
    with results_folder(tmp_path / "out", overwrite=False) as folder:
        (folder / "a").write_text("")
    assert (tmp_path / "out").is_symlink() and (tmp_path / "place" / "a").is_file()


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(OutputError, match="can't be written"), results_folder(tmp_path / ("x" * 300), overwrite=False):
        pytest.fail("must refuse before any work")
