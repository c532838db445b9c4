import math

import pytest

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.metrics.challenge import rank_score
from BreastTumorSegLib.metrics.fairness import fairness, fairness_of, members, read_groups

NAN = math.nan


def row(case, dice, norm_hd):
    return {"case": case, "dice": dice, "norm_hd": norm_hd}


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        # means of Dice .7 and .5, of NormHD .2 and .3: 1 - (.2 + .1) / 2
        ({"a": [(0.8, 0.1), (0.6, 0.3)], "b": [(0.5, 0.3)]}, 0.85),
        # the middle group is in neither range
        ({"a": [(0.9, 0.4)], "b": [(0.7, 0.2)], "c": [(0.4, 0.1)]}, 0.6),
        # the worse Dice needn't come with the worse distance
        ({"a": [(0.9, 0.5)], "b": [(0.5, 0.1)]}, 0.6),
        ({"a": [(0.7, 0.2)], "b": [(0.7, 0.2)]}, 1.0),
        ({"a": [(1.0, 0.0)], "b": [(0.0, 1.0)]}, 0.0),
        ({"a": [(0.8, 0.1)]}, NAN),
        ({}, NAN),
    ],
)
def test_fairness_of_a_variable_worked_out_by_hand(groups, expected):
    rows = {name: [row("", *values) for values in cases] for name, cases in groups.items()}
    assert fairness_of(rows) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(("values", "expected"), [([0.9, 0.8, 0.7], 0.8), ([0.9, NAN, 0.7], 0.8), ([NAN] * 3, NAN)])
def test_fairness_is_the_mean_over_known_variables(values, expected):
    assert fairness(values) == pytest.approx(expected, nan_ok=True)


def test_rank_score():
    assert rank_score(0.7, 0.9) == pytest.approx(0.8)


def test_members_leave_out_cases_without_a_group():
    rows = [row("x", 0.1, 0), row("y", 0.2, 0), row("z", 0.3, 0)]
    groups = {"x": {"age": "71+"}, "y": {}, "z": {"age": "0-40"}}
    assert members(rows, groups, "age") == {"0-40": [rows[2]], "71+": [rows[0]]}
    assert members(rows, groups, "breast_density") == {}


def table(tmp_path, text):
    path = tmp_path / "groups.csv"
    path.write_text(text, encoding="utf-8-sig")
    return path


@pytest.mark.parametrize(
    ("age", "group"),
    [
        *(("23", "0-40"), ("40", "0-40"), ("40.5", "41-50"), ("41", "41-50"), ("50", "41-50"), ("51", "51-60")),
        *(("60", "51-60"), ("61.0", "61-70"), ("70", "61-70"), ("71", "71+"), ("101", "71+")),
    ],
)
def test_ages_are_grouped_as_in_the_challenge(tmp_path, age, group):
    assert read_groups(table(tmp_path, f"case,age\nx,{age}\n")) == {"x": {"age": group}}


@pytest.mark.parametrize(
    ("status", "group"),
    [
        *(("pre", "pre"), ("peri", "pre"), ("Perimenopausal", "pre"), ("post", "post"), ("postmenopausal", "post")),
        *(("unknown", "unknown"), ("", "unknown"), ("NaN", "unknown"), ("not asked", "not asked")),
    ],
)
def test_status_is_grouped_as_in_the_challenge(tmp_path, status, group):
    assert read_groups(table(tmp_path, f"menopausal_status,case\n{status},x\n")) == {"x": {"menopausal_status": group}}


def test_missing_ages_and_densities_are_no_groups(tmp_path):
    read = read_groups(table(tmp_path, "case,age,breast_density\nx,,\ny,nan,NA\nz, 50 , C\n"))
    assert read == {"x": {}, "y": {}, "z": {"age": "41-50", "breast_density": "c"}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no groups of cases"),
        ("case,weight\nx,60\n", "has no groups of cases"),
        ("patient,age\nx,60\n", "has no groups of cases"),
        ("case,age\nx,old\n", "groups.csv: x has the age old"),
    ],
)
def test_tables_that_can_not_be_used(tmp_path, text, told):
    with pytest.raises(InputError, match=told):
        read_groups(table(tmp_path, text))


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv"):
        read_groups(tmp_path / "none.csv")
