"""A reader's store: what was acknowledged is there, whatever happens."""

import os
import random
import resource
import shutil
import signal
import sqlite3
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
import pytest

from BreastTumorSegLib.core.errors import InputError, OutputError
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import read_volume
from BreastTumorSegLib.review import schema
from BreastTumorSegLib.review.database import Damaged, StoreError
from BreastTumorSegLib.review.masks import Edits, sha256_of
from BreastTumorSegLib.review.merge import merge
from BreastTumorSegLib.review.records import Change, Exclusion, Item, Place, Score
from BreastTumorSegLib.review.recover import recover
from BreastTumorSegLib.review.store import MERGED, Store, read_study

GRID = Geometry((12, 10, 8), (1.0, 1.5, 2.0), (5.0, -3.0, 7.0))
CHANGE = Change(2, 1, 0.006, 0.003, 0.03, 0.033, 0.8, 2.5)
ITEMS = [Item(f"item{index}", f"CASE_{index}", "model", "SITE", "rest", 0.25 * index) for index in range(3)]
PLACES = [Place(0, "item1"), Place(1, "item0"), Place(2, "item1", True), Place(3, "item2")]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "stores" / "ann.sqlite"


@pytest.fixture
def store(path):
    opened = Store(path, "ann")
    opened.add(ITEMS, PLACES)
    yield opened
    opened.close()


def labels_of(number):
    """A mask that nobody else has: a bar whose length is the number."""
    labels = np.zeros(GRID.shape, np.uint8)
    labels.flat[: number % labels.size] = 1
    return labels


def correct(store, place, number=5):
    return store.save_correction(place, labels_of(number), GRID, "auto", CHANGE, 3.5)


def test_what_was_saved_is_read_again(store, path):
    score = store.save_score(PLACES[0], Score.POOR, "spills into the muscle", 12.5)
    excluded = store.save_score(PLACES[3], Exclusion.ARTEFACTS)
    correction = correct(store, PLACES[0])
    store.close()
    study = read_study(path)
    assert study.items == {item.id: item for item in ITEMS}
    assert study.scores == (score, excluded)
    assert (score.score, score.exclusion, score.comment, score.seconds) == (
        Score.POOR,
        None,
        "spills into the muscle",
        12.5,
    )
    assert (excluded.score, excluded.exclusion) == (None, Exclusion.ARTEFACTS)
    assert study.corrections == (correction,)
    assert (correction.change, correction.automatic_sha256, correction.seconds) == (CHANGE, "auto", 3.5)
    again = Store(path, "ann")
    assert again.places() == tuple(PLACES)
    again.close()


def test_numbers_that_are_none_come_back(store):
    empty = Change(0, 0, 0.0, 0.0, 0.0, 0.0, float("nan"), float("inf"))
    store.save_correction(PLACES[0], labels_of(0), GRID, "auto", empty)
    change = store.study().corrections[0].change
    assert np.isnan(change.dice)
    assert change.hd95_mm == float("inf")


def test_a_corrected_mask_has_the_exams_grid_and_every_version_stays(store):
    first, second = correct(store, PLACES[0], 5), correct(store, PLACES[0], 9)
    for record, count in ((first, 5), (second, 9)):
        labels, grid = read_volume(store.masks / record.file)
        assert (int(labels.sum()), grid.difference(GRID)) == (count, None)
        assert sha256_of(store.masks / record.file) == record.sha256


def test_autosaved_edits_come_back_and_go_with_the_save(store):
    store.unsaved.keep(2, Edits("item1", labels_of(400)))
    store.unsaved.keep(0, Edits("item1", labels_of(0)))
    assert store.unsaved.positions() == (0, 2)
    edits = store.unsaved.restore(2)
    assert (edits.item, edits.labels.tolist()) == ("item1", labels_of(400).tolist())
    assert not store.unsaved.restore(0).labels.any()
    correct(store, PLACES[2])
    assert store.unsaved.positions() == (0,)


def test_damaged_edits_are_told(store):
    store.unsaved.keep(2, Edits("item1", labels_of(400)))
    file = store.unsaved.folder / "2.npz"
    content = file.read_bytes()
    told = 0
    for position in range(0, len(content), 7):
        file.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        try:
            store.unsaved.restore(2)
        except InputError as error:
            told += "2.npz is damaged" in str(error)
    assert told > len(content) / 7 / 4
    file.write_bytes(content[:100])
    with pytest.raises(InputError, match=r"2\.npz is damaged"):
        store.unsaved.restore(2)
    assert store.unsaved.set_aside(2).name == "2-kept-1.npz"
    assert store.unsaved.positions() == ()


def test_a_second_process_is_told_and_reads_only(store, path):
    store.save_score(PLACES[0], Score.GOOD)
    second = Store(path, "ann")
    assert "open in another Slicer" in second.reason_against_writing
    assert [record.score for record in second.study().scores] == [Score.GOOD]
    store.save_score(PLACES[1], Score.MISSED)
    assert len(second.study().scores) == 2
    with pytest.raises(OutputError, match="open in another"):
        second.save_score(PLACES[1], Score.POOR)
    with pytest.raises(OutputError, match="open in another"):
        correct(second, PLACES[1])
    assert not store.masks.exists()
    second.close()
    store.close()
    third = Store(path, "ann")
    assert third.reason_against_writing == ""
    third.close()


def test_another_readers_store_is_refused(store, path):
    store.close()
    with pytest.raises(StoreError, match="of the reader 'ann', not of 'bob'"):
        Store(path, "bob")
    Store(path, "ann").close()  # the refusal let go of the lock


def test_a_quote_in_a_name_is_no_command(tmp_path):
    opened = Store(tmp_path / "o.sqlite", "o'brien'); DROP TABLE scores; --")
    opened.save_score(PLACES[0], Score.GOOD, "'; DROP TABLE scores; --")
    assert opened.study().scores[0].comment == "'; DROP TABLE scores; --"
    opened.close()


def test_a_store_of_a_newer_version_is_refused_and_not_touched(store, path):
    store.close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    before = path.read_bytes()
    for attempt in (lambda: Store(path, "ann"), lambda: read_study(path)):
        with pytest.raises(StoreError, match="newer version of BreastTumorSeg"):
            attempt()
    assert path.read_bytes() == before


def test_an_older_store_is_brought_to_this_version_and_kept_as_it_was(store, path, monkeypatch):
    store.save_score(PLACES[0], Score.GOOD)
    store.close()
    more = "ALTER TABLE places ADD COLUMN note TEXT NOT NULL DEFAULT 'none';"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, more))
    monkeypatch.setattr(schema, "VERSION", 2)
    newer = Store(path, "ann")
    assert [record.score for record in newer.study().scores] == [Score.GOOD]
    newer.close()
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT DISTINCT note FROM places").fetchall() == [("none",)]
        assert database.execute("PRAGMA user_version").fetchone() == (2,)
    database.close()
    monkeypatch.undo()
    assert len(read_study(path.with_name("ann.sqlite.version1")).scores) == 1


def test_a_migration_that_fails_leaves_the_store_as_it_was(store, path, monkeypatch):
    store.save_score(PLACES[0], Score.GOOD)
    store.close()
    broken = "ALTER TABLE places ADD COLUMN note TEXT; ALTER TABLE nowhere ADD COLUMN x TEXT;"
    with monkeypatch.context() as newer:
        newer.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
        newer.setattr(schema, "VERSION", 2)
        with pytest.raises(OutputError, match="nowhere"):
            Store(path, "ann")
    again = Store(path, "ann")
    assert len(again.study().scores) == 1
    assert again.places() == tuple(PLACES)
    again.close()


def test_a_damaged_store_is_told_and_what_can_be_read_is_recovered(store, path):
    store.save_score(PLACES[0], Score.GOOD)
    correction = correct(store, PLACES[0])
    store.close()
    Store(path, "ann").close()  # its backup holds the two
    late = Store(path, "ann")
    kept = [late.save_score(Place(position, "item2"), Score.POOR, "x" * 400) for position in range(100)]
    late.close()
    content = bytearray(path.read_bytes())
    content[-3 * 4096 : -2 * 4096] = b"\xff" * 4096  # one page of the scores
    path.write_bytes(content)
    with pytest.raises(Damaged, match="is damaged"):
        Store(path, "ann")
    aside = recover(path, "ann")
    assert aside.read_bytes() == bytes(content)
    study = read_study(path)
    assert study.corrections == (correction,)
    assert study.scores[0].score is Score.GOOD
    assert len(study.scores) > 80  # of 101; a page holds some seven
    assert set(study.scores[1:]) <= set(kept)
    reopened = Store(path, "ann")
    assert reopened.places() == tuple(PLACES)
    reopened.close()


def test_of_a_store_that_is_all_rubbish_the_backup_is_left(store, path):
    store.save_score(PLACES[0], Score.GOOD)
    store.close()
    Store(path, "ann").close()
    path.write_bytes(b"rubbish" * 1000)
    with pytest.raises(Damaged):
        Store(path, "ann")
    recover(path, "ann")
    assert [record.score for record in read_study(path).scores] == [Score.GOOD]


def in_child(work):
    """Run in a process of its own; its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - shown here, told by the status
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_store_that_is_gone_or_empty_is_not_begun_anew(store, path):
    store.save_score(PLACES[0], Score.GOOD)
    store.close()
    Store(path, "ann").close()
    for spoil in (lambda: path.write_bytes(b""), path.unlink):
        spoil()
        with pytest.raises(Damaged, match="empty or gone"):
            Store(path, "ann")
        recover(path, "ann")
        assert [record.score for record in read_study(path).scores] == [Score.GOOD]


def test_a_store_that_is_open_elsewhere_is_not_recovered(store, path):
    store.save_score(PLACES[0], Score.GOOD)
    before = sorted(file.name for file in path.parent.iterdir())
    with pytest.raises(OutputError, match="open in another Slicer"):
        recover(path, "ann")
    assert sorted(file.name for file in path.parent.iterdir()) == before
    store.save_score(PLACES[1], Score.POOR)
    assert len(read_study(path).scores) == 2


def test_a_recovery_that_is_interrupted_finds_as_much_the_next_time(store, path, monkeypatch):
    from BreastTumorSegLib.review import recover as module

    kept = [store.save_score(Place(position, "item2"), Score.POOR, "x" * 400) for position in range(100)]
    store.close()
    content = bytearray(path.read_bytes())
    content[-3 * 4096 : -2 * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(module, "insert", lambda *_row: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            recover(path, "ann")
    with pytest.raises(Damaged):
        Store(path, "ann")
    recover(path, "ann")
    found = read_study(path).scores
    assert len(found) > 80
    assert set(found) <= set(kept)


def test_a_disk_that_is_full_while_recovering_is_told(store, path, monkeypatch):
    from BreastTumorSegLib.review import recover as module

    def full(*_row):
        raise sqlite3.OperationalError("database or disk is full")

    store.save_score(PLACES[0], Score.GOOD)
    store.close()
    Store(path, "ann").close()
    path.write_bytes(b"rubbish" * 1000)
    with monkeypatch.context() as disk:
        disk.setattr(module, "insert", full)
        with pytest.raises(OutputError, match="full"):
            recover(path, "ann")
    recover(path, "ann")
    assert [record.score for record in read_study(path).scores] == [Score.GOOD]


def test_a_row_that_no_store_can_hold_is_left_out(store, path):
    good = store.save_score(PLACES[0], Score.GOOD)
    store.save_score(PLACES[1], Score.POOR)
    store.close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE scores SET score = 'Great' WHERE position = 1")
    database.close()
    with pytest.raises(Damaged, match="Great"):
        read_study(path)
    backup = path.with_name("ann.sqlite.backup")
    backup.unlink(missing_ok=True)
    recover(path, "ann")
    assert read_study(path).scores == (good,)


def test_another_programs_database_is_not_touched(tmp_path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE theirs (x)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program's"):
        merge(path, [])
    assert path.read_bytes() == before


def test_a_share_that_can_not_be_written_is_read_only(store, path):
    """Neither the lock nor SQLite's own files can be made beside the store; its last score is in the log alone."""
    store.save_score(PLACES[0], Score.GOOD)
    share = Path(tempfile.mkdtemp())
    for name in ("ann.sqlite", "ann.sqlite-wal"):
        shutil.copyfile(path.with_name(name), share / name)
    share.chmod(0o555)

    def work():
        if os.geteuid() == 0:  # who may write everywhere
            os.setuid(65534)
        shared = Store(share / "ann.sqlite", "ann")
        assert "can only be read" in shared.reason_against_writing
        assert [record.score for record in shared.study().scores] == [Score.GOOD]
        with pytest.raises(OutputError, match="can only be read"):
            shared.save_score(PLACES[1], Score.GOOD)
        shared.close()
        with pytest.raises(OutputError, match="can only be read"):
            Store(share / "bob.sqlite", "bob")

    try:
        assert in_child(work) == 0
    finally:
        share.chmod(0o755)
        shutil.rmtree(share)


def test_a_full_disk_is_told_and_nothing_is_lost(path):
    """Files that can't grow are what a full disk looks like to the writer."""

    def work():
        store = Store(path, "ann")
        store.add(ITEMS, PLACES)
        store.save_score(PLACES[0], Score.GOOD)
        soft = path.with_name("ann.sqlite-wal").stat().st_size + 2000
        store.unsaved.keep(0, Edits("item1", labels_of(5)))
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))
        with pytest.raises(OutputError, match="can't be written"):
            store.save_score(PLACES[1], Score.POOR, "x" * 20000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
        with pytest.raises(OutputError, match="can't be written"):
            correct(store, PLACES[0])
        with pytest.raises(OutputError, match="can't be written"):
            store.unsaved.keep(0, Edits("item1", labels_of(900)))
        assert [file.name for file in store.masks.iterdir()] == []
        assert store.unsaved.restore(0).labels.sum() == 5
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        store.save_score(PLACES[1], Score.POOR, "again")
        assert [record.comment for record in store.study().scores] == ["", "again"]

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        assert in_child(work) == 0
    finally:
        signal.signal(signal.SIGXFSZ, before)


def test_merging_is_idempotent_and_takes_the_masks_along(tmp_path):
    stores = [tmp_path / f"{name}.sqlite" for name in ("ann", "bob")]
    records = []
    for path, verdict in zip(stores, (Score.GOOD, Score.POOR), strict=True):
        store = Store(path, path.stem)
        store.add(ITEMS, PLACES)
        records.append((store.save_score(PLACES[0], verdict), correct(store, PLACES[0])))
        store.close()
    out = tmp_path / "merged" / "all.sqlite"
    assert merge(out, stores) == []
    once = read_study(out)
    assert merge(out, list(reversed(stores))) == []
    assert merge(out, [*stores, out]) == []
    assert read_study(out) == once
    assert once.scores == tuple(score for score, _correction in records)
    assert {path.name for path in once.masks.iterdir()} == {correction.file for _score, correction in records}
    late = Store(stores[0], "ann")
    late.save_score(PLACES[1], Score.MISSED)
    late.close()
    merge(out, stores)
    assert len(read_study(out).scores) == 3
    with pytest.raises(StoreError, match="merged from several"):
        Store(out, "ann")
    with pytest.raises(StoreError, match="of the reader 'ann'"):
        merge(stores[0], stores[1:])
    Store(out, MERGED).close()


def test_masks_that_went_away_are_told_when_stores_are_merged(tmp_path):
    store = Store(tmp_path / "ann.sqlite", "ann")
    store.add(ITEMS, PLACES)
    gone, changed = correct(store, PLACES[0]), correct(store, PLACES[1])
    (store.masks / gone.file).unlink()
    (store.masks / changed.file).write_bytes(b"other")
    store.close()
    problems = merge(tmp_path / "all.sqlite", [tmp_path / "ann.sqlite"])
    assert [gone.file in problems[0], "missing" in problems[0]] == [True, True]
    assert [changed.file in problems[1], "checksum" in problems[1]] == [True, True]
    assert len(read_study(tmp_path / "all.sqlite").corrections) == 2


KILLS = 200


def work_until_killed(path, heard):
    """Score, edit and correct without end; each acknowledged save is told to the parent at once."""
    store = Store(path, "ann")
    count = len(store.study().scores)
    while True:
        count += 1
        place = Place(count, f"item{count % 3}")
        store.unsaved.keep(count, Edits(place.item, labels_of(count)))
        os.write(heard, f"edits {count} {count}\n".encode())
        record = store.save_score(place, list(Score)[count % 4], f"comment {count}")
        os.write(heard, f"score {record.id} {count}\n".encode())
        if count % 2:
            correction = correct(store, place, count)
            os.write(heard, f"correction {correction.id} {count}\n".encode())
        store.note(position=str(count))


def test_every_acknowledged_save_survives_being_killed(path):
    """Kills the process at 200 random moments and opens the store after each."""
    chance = random.Random(20)
    told = {"edits": {}, "score": {}, "correction": {}}
    for _attempt in range(KILLS):
        inlet, outlet = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                work_until_killed(path, outlet)
            finally:
                os._exit(1)
        os.close(outlet)
        time.sleep(chance.uniform(0.0, 0.12))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        with os.fdopen(inlet) as lines:
            for line in lines:
                if line.endswith("\n"):
                    kind, name, count = line.split()
                    told[kind][name] = int(count)
        store = Store(path, "ann")
        study = store.study()
        assert store.reason_against_writing == ""
        assert {record.id for record in study.scores} >= set(told["score"])
        assert {record.id for record in study.corrections} >= set(told["correction"])
        unsaved = set(store.unsaved.positions())
        corrected = {record.position for record in study.corrections}
        assert unsaved | corrected >= set(told["edits"].values())
        store.close()
    assert len(told["score"]) > KILLS // 4  # most were killed at work, not at the start
    by_id = {record.id: record for record in study.corrections}
    for name, count in told["correction"].items():
        labels, grid = read_volume(path.with_name("ann-masks") / by_id[name].file)
        assert (labels.tolist(), grid.difference(GRID)) == (labels_of(count).tolist(), None)
    store = Store(path, "ann")
    for position in store.unsaved.positions():
        assert store.unsaved.restore(position).labels.tolist() == labels_of(position).tolist()
    comments = {record.id: record.comment for record in study.scores}
    assert all(comments[name] == f"comment {count}" for name, count in told["score"].items())
    store.close()
