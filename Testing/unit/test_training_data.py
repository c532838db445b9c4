"""The cache of preprocessed exams, and the samples cut from them."""

import multiprocessing
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

import training_runs
from BreastTumorSegLib.core.errors import InputError, OutputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.io.cohort import Cohort, read_cohort
from BreastTumorSegLib.networks.bundle import ModelDescription
from BreastTumorSegLib.training import simulated
from BreastTumorSegLib.training.cache import ContentCache
from BreastTumorSegLib.training.config import CohortData, SampleConfig, SimulatedData
from BreastTumorSegLib.training.samples import Samples, thinned
from BreastTumorSegLib.training.simulated import SimulatedSource
from BreastTumorSegLib.training.volumes import (
    CohortSource,
    PreparedCohort,
    TrainingVolume,
    open_cohort,
)

CASES = [("DUKE", 100), ("ISPY2", 102)]
ALL_PHASES = {"phases": "all", "network": training_runs.MULTI_PHASE}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return training_runs.write_cohort(tmp_path_factory.mktemp("data") / "cohort", CASES)


def prepared(cohort, cache, **changes):
    data = CohortData(kind="cohort", path=cohort, breast="reference", cache=cache)
    return PreparedCohort(read_cohort(cohort), data, ModelDescription(**training_runs.model(**changes)))


# -- cache -----------------------------------------------------------------------------------------------------------


def test_a_key_follows_the_content_not_the_name_or_the_place(tmp_path):
    cache = ContentCache(tmp_path / "cache")
    for name, text in (("a", "same"), ("b", "same"), ("c", "other")):
        (tmp_path / name).write_text(text)
    key = {name: cache.key([tmp_path / name], {"spacing": 1}) for name in "abc"}
    assert key["a"] == key["b"] != key["c"]
    assert cache.key([tmp_path / "a"], {"spacing": 2}) != key["a"]


def test_a_file_that_changed_has_another_key(tmp_path):
    cache, file = ContentCache(tmp_path / "cache"), tmp_path / "file"
    file.write_text("before")
    before = cache.key([file], {})
    file.write_text("after!")  # as long
    os.utime(file, ns=(1, 2))
    assert cache.key([file], {}) != before


def test_an_entry_is_made_once_and_whole_or_not_at_all(tmp_path):
    cache, made = ContentCache(tmp_path), []

    def make(folder):
        made.append(folder)
        (folder / "x").write_text("1")
        if len(made) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.entry("abcd", make)
    assert not list(tmp_path.rglob("x"))
    assert (cache.entry("abcd", make) / "x").read_text() == "1"
    assert cache.entry("abcd", make) and len(made) == 2


def _make_slowly(cache, number, start):
    def make(folder):
        start.wait()  # so that all of them make it
        (folder / "x").write_text("content")

    assert (ContentCache(cache).entry("abcd", make) / "x").read_text() == "content", number


def test_processes_that_make_an_entry_at_once_all_have_it(tmp_path):
    context = multiprocessing.get_context("fork")
    start = context.Barrier(4)
    processes = [context.Process(target=_make_slowly, args=(tmp_path, i, start)) for i in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 4
    assert [path.name for path in (tmp_path / "ab").iterdir()] == ["abcd"]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    def full(_folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="disk is full"):
        ContentCache(tmp_path).entry("abcd", full)
    assert not list((tmp_path / "ab").iterdir())


# -- volumes ---------------------------------------------------------------------------------------------------------


def test_a_prepared_case_is_what_the_files_hold(cohort, tmp_path):
    ready = prepared(cohort, tmp_path)
    case = ready.cohort.cases[0]
    volume = ready.volume_of(case)
    from BreastTumorSegLib.io import read_volume

    phases = [read_volume(case.phases[i])[0] for i in (0, 1, 2)]  # on the network's grid already
    mask, breast = read_volume(case.tumors[0])[0] > 0, read_volume(case.breast)[0] > 0
    ratio = volume.phases.numpy().astype(float) / np.maximum(np.stack(phases), 1e-9)
    assert np.ptp(ratio[np.stack(phases) > 20]) < 0.002 * ratio.max()  # one factor for all phases
    assert np.array_equal(volume.label.numpy() == 255, mask)
    assert np.array_equal(volume.breast.numpy(), breast)
    assert np.array_equal(volume.tumor_voxels.numpy(), np.flatnonzero(mask))


def test_preparing_twice_reads_the_cache(cohort, tmp_path, monkeypatch):
    prepared(cohort, tmp_path).prepare(Events())
    monkeypatch.setattr(PreparedCohort, "_make", lambda *_: pytest.fail("made again"))
    prepared(cohort, tmp_path).prepare(Events())


def test_another_spacing_is_another_entry(cohort, tmp_path):
    case = read_cohort(cohort).cases[0]
    assert prepared(cohort, tmp_path).folder(case) != prepared(cohort, tmp_path, spacing_mm=16.0).folder(case)


def test_missing_breast_masks_are_named_with_the_remedy(cohort, monkeypatch):
    without = [replace(case, breast=None) for case in read_cohort(cohort)]
    monkeypatch.setattr("BreastTumorSegLib.training.volumes.read_cohort", lambda *_: Cohort(tuple(without)))
    with pytest.raises(InputError, match=r"DUKE_S000100, ISPY2_S000102.*breast-unet"):
        open_cohort(CohortData(kind="cohort", path=cohort, breast="reference"), Events())


def test_every_case_comes_once_an_epoch_and_epochs_differ(cohort, tmp_path):
    ready = prepared(cohort, tmp_path)
    source = CohortSource(ready, ready.cohort.cases, seed=3)
    sizes = [tuple(source.volume(number).label.shape) for number in range(40)]
    epochs = [tuple(sizes[i : i + 2]) for i in range(0, 40, 2)]
    assert all(len(set(epoch)) == 2 for epoch in epochs) and len(set(epochs)) == 2


def test_simulated_exams_are_new_ones_and_repeatable():
    data = SimulatedData(kind="simulated", sites=("ISPY2",), patches_per_exam=2)
    description = ModelDescription(**training_runs.model())
    first, again = (SimulatedSource(data, description, 1_000_000, "cpu") for _ in range(2))
    assert first.volume(0) is first.volume(1)
    assert not torch.equal(first.volume(0).phases.flatten()[:500], first.volume(2).phases.flatten()[:500])
    assert torch.equal(first.volume(2).phases, again.volume(2).phases)
    assert len(first.volume(0).times) == 3
    all_phases = SimulatedSource(data, ModelDescription(**training_runs.model(**ALL_PHASES)), 1_000_000, "cpu")
    assert len(all_phases.volume(0).times) == len(all_phases.volume(0).phases) >= 6  # ISPY2 has six to eight


def test_a_bank_is_simulated_once_and_used_in_turn(tmp_path, monkeypatch):
    data = SimulatedData(kind="simulated", sites=("ISPY2",), varied=True, bank=2, patches_per_exam=1, cache=tmp_path)
    pair, all_phases = (ModelDescription(**training_runs.model(**kind)) for kind in ({}, ALL_PHASES))
    source = SimulatedSource(data, pair, 1_000_000, "cpu")
    source.fill_bank(Events())
    simulated = source._simulate(1, None)
    monkeypatch.setattr(SimulatedSource, "_simulate", None)  # from here on all comes from the bank
    other = SimulatedSource(data, all_phases, 1_000_000, "cpu")
    for number in (1, 3):
        kept = other.volume(number)
        assert kept.times == simulated.times
        for name in ("phases", "label", "breast", "tumor_voxels", "unknown"):
            assert torch.equal(getattr(kept, name), getattr(simulated, name)), name
    two = source.volume(1)
    assert len(two.times) == len(two.phases) <= 3 and torch.equal(two.phases[0], kept.phases[0])
    with pytest.raises(TypeError):  # other exams are not in it
        SimulatedSource(data.model_copy(update={"without": "decoys"}), pair, 1_000_000, "cpu").volume(0)


def test_a_lesion_that_nobody_can_see_is_not_learned_from(monkeypatch):
    data = SimulatedData(kind="simulated", sites=("ISPY2",), varied=True)
    description = ModelDescription(**training_runs.model())
    monkeypatch.setattr(simulated, "faint", lambda _enhancement, tumor, _breast, _spacing: tumor)
    number, volume = next(
        (n, found)
        for n in range(40)
        if (found := SimulatedSource(data, description, 1_000_000, "cpu").volume(2 * n)).label.any()
    )
    assert len(volume.tumor_voxels) == 0 and volume.unknown.sum() == (volume.label > 0).sum()
    config = SampleConfig(patch=None, batch=1)
    _, _, target = Samples(One(volume), description, config, soft=False, seed=0)[number]
    z, y, x = volume.label.shape
    target = target[0, :z, :y, :x]
    assert torch.equal(target.isnan(), volume.unknown) and not target.nan_to_num(0.0).any()


# -- samples ---------------------------------------------------------------------------------------------------------


class One:
    """A source of one volume."""

    def __init__(self, volume):
        self._volume = volume

    def volume(self, _number):
        return self._volume


def ramp(shape=(12, 30, 30), tumor=(2, 25, 3), breast=None):
    """A volume whose voxels are their own numbers, with one voxel of tumour."""
    numbers = torch.arange(np.prod(shape), dtype=torch.float32).view(shape) / 8
    label = torch.zeros(shape, dtype=torch.uint8)
    label[tumor] = 255
    inside = torch.ones(shape, dtype=torch.bool) if breast is None else breast
    phases = torch.stack([numbers, numbers + 100, numbers + 500]).to(torch.float16)
    return TrainingVolume(phases, label, inside, torch.nonzero(label.flatten())[:, 0], (0.0, 120.0, 240.0))


def samples(volume, description=None, **config):
    settings = SampleConfig(**{"patch": (8, 8, 8), **config})
    return Samples(One(volume), ModelDescription(**(description or training_runs.model())), settings, False, seed=5)


def test_a_number_gives_the_same_sample_whenever_it_is_asked_for(cohort, tmp_path):
    ready = prepared(cohort, tmp_path)
    config = SampleConfig(patch=(8, 8, 8), field_of_view=0.5, augmentation={"flip": 0.5, "noise": 1.0})
    one, other = (
        Samples(CohortSource(ready, ready.cohort.cases, 1), ModelDescription(**training_runs.model()), config, False, 1)
        for _ in range(2)
    )
    drawn = [one[number] for number in range(6)]
    assert all(torch.equal(*pair) for pair in zip(other[4], drawn[4], strict=True))
    assert [part.shape for part in drawn[4]] == [(2, 8, 8, 8), (2,), (1, 8, 8, 8)]
    assert not torch.equal(drawn[0][0], drawn[2][0])


def test_all_patches_around_the_tumour_hold_it_where_it_is():
    drawn = samples(ramp(tumor=(6, 15, 15)), tumor_share=1.0)
    places = set()
    for number in range(50):
        _, _, label = drawn[number]
        assert label.sum() == 1
        places.add(tuple(torch.nonzero(label[0])[0].tolist()))
    assert len(places) > 20  # anywhere in the patch


def test_image_and_label_are_cut_at_the_same_place():
    volume = ramp()
    field = (slice(0, 12), slice(0, 30), slice(0, 30))
    statistics = thinned([volume.phases[0][field], volume.phases[1][field]])
    image, _, label = samples(volume, tumor_share=1.0)[0]
    signal = image * statistics.std() + statistics.mean()
    assert signal[0][label[0] > 0].item() == pytest.approx(float(volume.phases[0][2, 25, 3]), rel=1e-3)
    assert signal[1][label[0] > 0].item() == pytest.approx(float(volume.phases[1][2, 25, 3]), rel=1e-3)


def test_other_patches_are_centred_in_the_breasts():
    breast = torch.zeros(12, 30, 30, dtype=torch.bool)
    breast[:, :10, :10] = True
    volume = replace(ramp(breast=breast), label=255 * breast.to(torch.uint8))  # marked, to be seen in the target
    inside, anywhere = (samples(volume, tumor_share=0.0, inside_breast=where) for where in (True, False))
    assert all(inside[number][2].any() for number in range(40))
    assert sum(bool(anywhere[number][2].any()) for number in range(40)) < 38


def test_a_sample_of_the_breasts_only_is_dark_elsewhere():
    breast = torch.zeros(12, 30, 30, dtype=torch.bool)
    breast[:, :, :4] = True
    only = training_runs.model(field="breast-only", spacing_mm=2.0)
    drawn = samples(ramp(breast=breast), only, tumor_share=0.0, patch=None)
    around = set()
    for number in range(20):
        field = drawn[number][0][..., : 4 + 5]  # 10 mm around the breasts
        dark = (field == field.min()).flatten(0, 2).all(0)
        around.add(int((~dark).nonzero().max()) - 3)
    assert around == {1, 2, 3, 4, 5}


def test_a_patch_larger_than_the_field_is_filled_with_its_darkest():
    image, _, label = samples(ramp(shape=(4, 30, 30)), tumor_share=1.0)[0]
    assert image.shape == (2, 8, 8, 8) and label.sum() == 1
    assert torch.equal(image[0, 4:], torch.full_like(image[0, 4:], float(image[0].min())))


def test_without_a_patch_a_sample_is_the_whole_field_that_the_network_takes():
    image, _, label = samples(ramp(shape=(5, 30, 31)), patch=None)[0]
    assert image.shape == (2, 6, 30, 32) and label.shape == (1, 6, 30, 32)


def test_a_later_phase_stands_in_at_its_share():
    later = [float(samples(ramp(), later_phase=share)[0][0][1].mean()) for share in (0.0, 1.0)]
    assert later[1] > later[0] + 0.25


def test_a_cropped_field_changes_how_the_patch_is_normalised():
    plain, cropped = (samples(ramp(), field_of_view=share, tumor_share=1.0) for share in (0.0, 1.0))
    levels = {round(float(cropped[number][0].std()), 3) for number in range(5)}
    assert len(levels) == 5 and round(float(plain[0][0].std()), 3) not in levels


def test_soft_labels_keep_the_annotators_share():
    volume = ramp()
    volume.label[2, 25, 3] = 102  # two of five
    soft = Samples(
        One(volume), ModelDescription(**training_runs.model()), SampleConfig(patch=(8, 8, 8), tumor_share=1.0), True, 5
    )
    hard = samples(volume, tumor_share=1.0)
    assert float(soft[0][2].max()) == pytest.approx(0.4) and float(hard[0][2].max()) == 0


def test_a_breast_network_learns_the_breasts():
    breast = torch.zeros(12, 30, 30, dtype=torch.bool)
    breast[:, :15] = True
    network = {**training_runs.model()["network"], "in_channels": 1}
    description = training_runs.model(task="breast", phases=["pre"], network=network)
    image, _, label = samples(ramp(breast=breast), description, patch=None)[0]
    assert image.shape == (1, 12, 30, 30) and torch.equal(label[0] > 0, breast)


# -- all phases ------------------------------------------------------------------------------------------------------


def five_phases():
    """Phases of 1, 2, 3, 4 and 5 everywhere, every 100 seconds."""
    volume = ramp()
    phases = torch.arange(1.0, 6).view(5, 1, 1, 1).expand(5, *volume.label.shape).to(torch.float16)
    return replace(volume, phases=phases, times=(0.0, 100.0, 200.0, 300.0, 400.0))


def drawn(number=0, **config):
    """Image and seconds of the phases that are there."""
    image, seconds, _ = samples(five_phases(), training_runs.model(**ALL_PHASES), **config)[number]
    there = torch.isfinite(seconds)
    assert torch.equal(image[~there], torch.zeros_like(image[~there]))
    return image[there], seconds[there]


def test_phases_that_an_exam_lacks_are_empty_and_have_no_time():
    image, seconds, _ = samples(five_phases(), training_runs.model(**ALL_PHASES), most_phases=7)[0]
    assert image.shape == (7, 8, 8, 8)
    assert seconds[:5].tolist() == [0, 100, 200, 300, 400] and torch.isnan(seconds[5:]).all()
    # Of ones and twos: the mean is 1.5, the standard deviation 0.5.
    assert image[:5, 0, 0, 0].tolist() == pytest.approx([-1, 1, 3, 5, 7], rel=1e-2)


def test_of_too_many_phases_the_pre_contrast_one_stays():
    for number in range(20):
        image, seconds = drawn(number, most_phases=3)
        assert len(image) == 3 and seconds[0] == 0 and (seconds.diff() > 0).all()


def test_dropped_phases_are_the_last_ones_or_any():
    kept = [tuple((drawn(number, phase_dropout=1.0)[1] / 100).int().tolist()) for number in range(200)]
    counts = [len(each) for each in kept]
    assert {2, 3, 4, 5} == set(counts) and all(each[0] == 0 for each in kept)
    pairs = [each for each in kept if len(each) == 2]
    assert {(0, 1), (0, 2), (0, 3), (0, 4)} == set(pairs)
    assert pairs.count((0, 1)) > len(pairs) / 2  # half the time as if the scan had ended, and by chance


def test_post_contrast_times_jitter_by_seconds():
    moved = torch.stack([drawn(number, time_jitter=10.0)[1] for number in range(200)])
    assert not moved[:, 0].any()
    assert moved[:, 1:].mean(0).tolist() == pytest.approx([100, 200, 300, 400], abs=3)
    assert moved[:, 1:].std(0).tolist() == pytest.approx([10] * 4, rel=0.25)


def test_a_model_for_all_phases_is_prepared_with_all_of_them(cohort, tmp_path):
    ready = prepared(cohort, tmp_path, **ALL_PHASES)
    for case in ready.cohort:
        volume = ready.volume_of(case)
        assert len(volume.phases) == len(case.phases) and volume.times == case.times
    two_phases = prepared(cohort, tmp_path)
    assert ready.folder(case) != two_phases.folder(case) and len(two_phases.volume_of(case).times) == 3


def test_a_dropped_phase_leaves_the_others_at_their_times():
    """The injection is told by all phases: with the first post-contrast one gone, it must not seem to come later."""
    volume = replace(five_phases(), times=(0.0, 400.0, 700.0, 1000.0, 1300.0))
    described = training_runs.model(**ALL_PHASES)
    for number in range(40):
        seconds = samples(volume, described, phase_dropout=1.0)[number][1]
        assert set(seconds[torch.isfinite(seconds)].tolist()) <= {0.0, 400.0, 700.0, 1000.0, 1300.0}
