"""Worklists: what is listed, in which order, and what a reader sees of it."""

import csv
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io.files import write_volume
from BreastTumorSegLib.io.raw import run_through
from BreastTumorSegLib.review.case import read_case
from BreastTumorSegLib.review.masks import Edits
from BreastTumorSegLib.review.records import Item, Score
from BreastTumorSegLib.review.sampling import stratified_sample
from BreastTumorSegLib.review.session import on_result, on_worklist, store_path
from BreastTumorSegLib.review.stopwatch import IDLE_S, Stopwatch
from BreastTumorSegLib.review.store import Store
from BreastTumorSegLib.review.worklist import (
    Entry,
    Worklist,
    from_csv,
    from_results,
    item_id,
    read_worklist,
    write_worklist,
)

GRID = Geometry((8, 7, 6), (1.0, 1.0, 2.0))
ENTRIES = tuple(Entry(Item(f"{index:03}", f"CASE_{index}", "net"), None, None) for index in range(100))


def listed(count=100, seed=1, repeats=0.1):
    return Worklist("study", seed, repeats, ENTRIES[:count])


def write_case(cohort, case, mask_value=1, model="net", grid=GRID):
    """A case of three phases in MAMA-MIA's layout and its results folder."""
    images, result = cohort / "images" / case, cohort / model / case
    images.mkdir(parents=True, exist_ok=True)
    result.mkdir(parents=True)
    for phase in range(3):
        write_volume(np.full(GRID.shape, 100 + 50 * phase, np.int16), GRID, images / f"{case}_000{phase}.nii.gz")
    mask = np.zeros(grid.shape, np.uint8)
    mask[2:4, 2:4, 2:4] = mask_value
    write_volume(mask, grid, result / "tumor.nii.gz")
    models = [{"name": "breast-net", "task": "breast"}, {"name": f"tumor-{model}", "task": "tumor"}]
    (result / "result.json").write_text(json.dumps({"models": models}), encoding="utf-8")
    return result / "tumor.nii.gz"


def test_every_reader_has_an_order_of_his_own_and_always_the_same():
    ann, bob = listed().order("ann"), listed().order("bob")
    assert ann == listed().order("ann")
    assert [place.item for place in ann] != [place.item for place in bob]
    assert [place.item for place in listed(seed=2).order("ann")] != [place.item for place in ann]
    assert {place.item for place in ann} == {entry.item.id for entry in ENTRIES}
    assert [place.position for place in ann] == list(range(110))


@pytest.mark.parametrize(
    ("count", "share", "repeats", "gap"), [(100, 0.1, 10, 20), (100, 0.5, 50, 20), (8, 0.25, 2, 2)]
)
def test_repeats_come_once_and_late(count, share, repeats, gap):
    for reader in "abcdefgh":
        places = listed(count, repeats=share).order(reader)
        again = [place for place in places if place.repeat]
        assert (len(places), len(again)) == (count + repeats, repeats)
        assert max(Counter(place.item for place in places).values()) == 2
        for place in again:
            first = next(other for other in places if other.item == place.item)
            assert (first.repeat, place.position - first.position > gap) == (False, True)


def test_all_repeated_needs_more_than_there_are_early_ones():
    places = listed(8, repeats=1.0).order("ann")
    assert sum(place.repeat for place in places) == 6  # the last two have no room for a gap of two


def test_orders_are_random():
    """Each of four items comes first about as often: 400 readers, 100 expected, 5 standard deviations of 8.7."""
    firsts = Counter(listed(4).order(f"reader{index}")[0].item for index in range(400))
    assert set(firsts) == {"000", "001", "002", "003"}
    assert all(abs(count - 100) < 44 for count in firsts.values())


def test_a_sample_of_twenty_is_the_papers():
    items = [Item(f"{index}", f"CASE_{index}", "net", "SITE", "", index / 200) for index in range(200)]
    sample = stratified_sample(items, 20, seed=3)
    dices = {name: [item.dice for item in sample if item.stratum == name] for name in ("lowest", "rest", "highest")}
    assert {name: len(values) for name, values in dices.items()} == {"lowest": 5, "rest": 10, "highest": 5}
    assert max(dices["lowest"]) < 0.1 <= min(dices["rest"]) <= max(dices["rest"]) < 0.9 <= min(dices["highest"])
    assert len({item.id for item in sample}) == 20
    assert stratified_sample(items, 20, seed=3) == sample != stratified_sample(items, 20, seed=4)
    assert stratified_sample(list(reversed(items)), 20, seed=3) == sample


def test_each_model_and_site_is_sampled_and_small_groups_give_all_they_have():
    items = [
        Item(f"{model}{site}{index}", "", model, site, "", index / 10)
        for model in "ab"
        for site in "XY"
        for index in range(8)
    ]
    sample = stratified_sample([*items, Item("none", "", "a", "X")], 20, seed=0)
    assert Counter((item.model, item.site) for item in sample) == dict.fromkeys(
        [("a", "X"), ("a", "Y"), ("b", "X"), ("b", "Y")], 8
    )
    assert [len(stratified_sample(items[:count], 20, 0)) for count in (0, 1, 2)] == [0, 1, 2]


def test_results_of_two_models_become_entries(tmp_path):
    masks = [write_case(tmp_path, case, 1, model) for model in ("one", "two") for case in ("DUKE_1", "ISPY1_2")]
    table = tmp_path / "evaluation.csv"
    table.write_text("case,dice\nDUKE_1,0.5\nISPY1_2,nan\n", encoding="utf-8")
    entries = from_results([tmp_path / "one", tmp_path / "two"], tmp_path, table)
    assert {entry.mask for entry in entries} == set(masks)
    found = {(entry.item.case, entry.item.model, entry.item.site, entry.item.dice) for entry in entries}
    assert found == {
        (case, model, site, dice)
        for model in ("tumor-one", "tumor-two")
        for case, site, dice in (("DUKE_1", "DUKE", 0.5), ("ISPY1_2", "ISPY1", None))
    }
    assert [entry.item.id for entry in entries] == sorted(entry.item.id for entry in entries)


def test_every_problem_is_told_at_once(tmp_path):
    write_case(tmp_path, "A_1")
    write_case(tmp_path, "A_2")
    for file in (tmp_path / "images" / "A_1").iterdir():
        file.unlink()
    (tmp_path / "images" / "A_1").rmdir()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as error:
        from_results([tmp_path / "net", tmp_path / "empty"], tmp_path)
    assert "2 problems" in str(error.value)
    assert [text in str(error.value) for text in ("A_1", "A_2", "empty")] == [True, False, True]


def test_a_table_lists_masks_with_paths_relative_to_it(tmp_path):
    write_case(tmp_path, "A_1")
    table = tmp_path / "list.csv"
    rows = [("A_1", "images/A_1", "net/A_1/tumor.nii.gz", "m", "0.25")]
    write_table(table, ("case", "images", "mask", "model", "dice"), rows)
    (entry,) = from_csv(table)
    assert entry == Entry(replace(entry.item, case="A_1", model="m", dice=0.25), *paths(tmp_path))
    write_table(table, ("case", "images", "mask", "model", "dice"), [*rows, ("B", "", "none.nii.gz", "", "x"), *rows])
    with pytest.raises(InputError) as error:
        from_csv(table)
    for text in ("line 3: B: no images", "none.nii.gz is missing", "line 3: the Dice 'x'", "A_1", "listed twice"):
        assert text in str(error.value)
    write_table(table, ("case", "mask"), [("A", "B")])
    with pytest.raises(InputError, match="no column images"):
        from_csv(table)


def paths(folder):
    return folder / "images" / "A_1", folder / "net" / "A_1" / "tumor.nii.gz"


def write_table(path, columns, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def test_a_worklist_moves_with_its_folder(tmp_path):
    write_case(tmp_path / "here", "A_1")
    entries = from_results([tmp_path / "here" / "net"], tmp_path / "here")
    write_worklist(Worklist("study", 5, 0.25, tuple(entries)), tmp_path / "here" / "worklist.json")
    (tmp_path / "here").rename(tmp_path / "there")
    worklist = read_worklist(tmp_path / "there" / "worklist.json")
    assert (worklist.name, worklist.seed, worklist.repeats) == ("study", 5, 0.25)
    assert worklist.entries == (Entry(entries[0].item, *paths(tmp_path / "there")),)


@pytest.mark.parametrize(
    ("content", "said"),
    [("nothing", "is no worklist"), ('{"format": 1}', "is no worklist"), ('{"format": 9}', "newer version")],
)
def test_a_file_that_is_no_worklist_is_told(tmp_path, content, said):
    file = tmp_path / "worklist.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read_worklist(file)
    with pytest.raises(InputError, match="already there"):
        write_worklist(listed(2), file)
    assert file.read_text(encoding="utf-8") == content


def test_what_a_reader_is_told_names_neither_case_nor_model(tmp_path):
    (entry,) = from_results([write_case(tmp_path, "DUKE_77").parents[1]], tmp_path)
    said = entry.blinded(
        f"{entry.mask} of DUKE_77 by tumor-net is on another grid than {entry.images}/DUKE_77_0000.nii"
    )
    assert said == "the mask of … by … is on another grid than the images"


def test_ids_say_nothing_and_depend_on_all_that_counts():
    ids = {item_id(*key) for key in [("a", "b", "c"), ("x", "b", "c"), ("a", "x", "c"), ("a", "b", "x")]}
    assert [len(ids), {len(found) for found in ids}] == [4, {12}]


def test_a_case_is_read_with_its_first_post_contrast_phase(tmp_path):
    (entry,) = from_results([write_case(tmp_path, "A_1").parents[1]], tmp_path)
    case = run_through(read_case(entry))
    assert (case.pre.max(), case.first_post.min(), case.automatic.sum()) == (100, 150, 8)
    assert (case.breast, case.probability, case.geometry.difference(GRID)) == (None, None, None)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda mask: write_volume(np.zeros((6, 7, 9), np.uint8), Geometry((9, 7, 6), GRID.spacing), mask),
            "another grid",
        ),
        (lambda mask: write_volume(np.full(GRID.shape, 300, np.int16), GRID, mask), "from 300 to 300"),
        (lambda mask: mask.write_bytes(mask.read_bytes()[:60]), "tumor.nii.gz"),
        (lambda mask: mask.unlink(), "tumor.nii.gz"),
        (lambda mask: [file.unlink() for file in (mask.parents[2] / "images" / "A_1").iterdir()], "A_1"),
    ],
)
def test_a_case_that_can_not_be_read_is_told(tmp_path, spoil, said):
    mask = write_case(tmp_path, "A_1")
    (entry,) = from_results([mask.parents[1]], tmp_path)
    spoil(mask)
    with pytest.raises(InputError, match=said):
        run_through(read_case(entry))


def test_a_reader_goes_on_where_he_stopped(tmp_path):
    mask = write_case(tmp_path, "A_1")
    for case in ("A_2", "A_3", "A_4"):
        write_case(tmp_path, case)
    file = tmp_path / "worklist.json"
    write_worklist(Worklist("study", 5, 0.5, tuple(from_results([mask.parents[1]], tmp_path))), file)
    session = on_worklist(file, Store(store_path(tmp_path / "stores", "study", "ann"), "ann"))
    assert (len(session), session.index, session.scored, session.next_open()) == (6, 0, 0, 1)
    order = [session.entry(position) for position in range(6)]
    session.heard(session.store.save_score(session.place, Score.GOOD))
    session.go(4)
    session.close()
    again = on_worklist(file, Store(store_path(tmp_path / "stores", "study", "ann"), "ann"))
    assert (again.index, again.scored, again.next_open()) == (4, 1, 5)
    assert [again.entry(position) for position in range(6)] == order
    again.go(99)
    assert (again.index, again.next_open()) == (5, 1)
    again.close()


def test_a_store_goes_with_its_worklist(tmp_path):
    mask = write_case(tmp_path, "A_1")
    entries = tuple(from_results([mask.parents[1]], tmp_path))
    for name in ("one", "two"):
        write_worklist(Worklist(name, 5, 0.0, entries), tmp_path / f"{name}.json")
    on_worklist(tmp_path / "one.json", Store(tmp_path / "ann.sqlite", "ann")).close()
    store = Store(tmp_path / "ann.sqlite", "ann")
    with pytest.raises(InputError, match="another worklist"):
        on_worklist(tmp_path / "two.json", store)
    store.close()


@pytest.mark.parametrize("name", ["", "../ann", "a/b", "a b", "a.b"])
def test_a_readers_name_must_be_a_file_name(tmp_path, name):
    with pytest.raises(InputError, match="can't be used"):
        store_path(tmp_path, "study", name)
    with pytest.raises(InputError, match="can't be used"):
        store_path(tmp_path, name, "ann")


def test_a_result_is_reviewed_without_a_worklist_and_found_again(tmp_path):
    entries = from_results([write_case(tmp_path, case).parents[1] for case in ("A_1",)], tmp_path)
    other = replace(entries[0], item=replace(entries[0].item, id="other"))
    store = Store(tmp_path / "results-ann.sqlite", "ann")
    for entry, position in ((entries[0], 0), (other, 1), (entries[0], 0)):
        session = on_result(entry, store)
        assert (len(session), session.index, session.place.position, session.entry(0)) == (1, 0, position, entry)
        session.heard(store.save_score(session.place, Score.GOOD))
        assert (session.scored, session.next_open()) == (1, None)
    store.unsaved.keep(1, Edits("other", np.zeros((2, 2, 2), np.uint8)))
    assert [on_result(entry, store).unsaved for entry in (entries[0], other)] == [(), (0,)]
    store.close()


def test_the_stopwatch_pauses_when_nobody_acts():
    watch = Stopwatch()
    watch.acted(5.0)
    assert watch.seconds == 0.0  # not started
    watch.start(10.0, seconds=2.0)
    watch.acted(14.0)
    watch.acted(14.0 + IDLE_S + 600.0)
    watch.stop(14.0 + IDLE_S + 601.0)
    watch.acted(5000.0)
    assert watch.seconds == 2.0 + 4.0 + IDLE_S + 1.0
