"""What people type into the form for new experiments."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus.web import forms
from nautilus.web.forms import FormProblem

EMPTY = dict.fromkeys(forms.FIELDS, "")


def read(**values: str) -> Any:
    return forms.submission(EMPTY | {"project": "ada/digits", "command": "true"} | values)


def test_parameters_are_typed() -> None:
    text = 'lr = 0.1\nlayers=2\r\nname = relu\nbig = true\nnone = null\ntext = "1"\npath = a = b\n\n# comment\nempty ='
    assert read(params=text).params == {
        "lr": 0.1, "layers": 2, "name": "relu", "big": True, "none": None, "text": "1", "path": "a = b", "empty": "",
    }  # fmt: skip


def test_a_sweep_is_values_between_commas_or_a_json_list() -> None:
    made = read(sweep='lr = 0.1, 1\nname = "a, b", c\nlist = [1, "x"]')
    assert made.sweep == {"lr": [0.1, 1], "name": ["a, b", "c"], "list": [1, "x"]}


def test_what_is_left_empty_is_not_sent() -> None:
    assert read().model_dump(exclude_unset=True) == {"project": "ada/digits", "command": "true"}


def test_gpus_are_asked_for_as_by_the_api() -> None:
    made = read(gpus="2", gpu_memory="16 GB", gpu_model="A100")
    assert made.resources.model_dump(exclude_defaults=True) == {
        "gpus": 2, "gpu_memory": "16 GB", "gpu_model": "A100",
    }  # fmt: skip


def test_tags_are_separated_by_commas() -> None:
    assert read(tags=" a, b c,, ").tags == ["a", "b c"]


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"command": ""}, "command", "Say what"),
        ({"params": "lr 0.1"}, "params", "Line 1"),
        ({"params": "a = 1\n= 2"}, "params", "Line 2"),
        ({"params": "a = 1\na = 2"}, "params", "a is there twice"),
        ({"sweep": "lr = "}, "sweep", "needs values"),
        ({"sweep": "lr = [1, "}, "sweep", "not a JSON list"),
        ({"seed": "abc"}, "seed", "integer"),
        ({"seed": "-1"}, "seed", "greater"),
        ({"image": "a b"}, "image", ""),
        ({"ref": "x" * 300}, "ref", "255"),
        ({"tags": "x" * 101}, "tags", "100"),
        ({"gpus": "many"}, "gpus", "integer"),
        ({"gpu_memory": "much"}, "gpu_memory", "16GB"),
        ({"gpu_model": "a;b"}, "gpu_model", ""),
        ({"gpus": "0", "gpu_model": "A100"}, "form", "Gpus is 0"),
    ],
)
def test_a_fault_is_said_at_its_field(values: dict[str, str], field: str, words: str) -> None:
    with pytest.raises(FormProblem) as caught:
        read(**values)
    assert words in caught.value.problems[field]


SCALARS = st.one_of(
    st.booleans(),
    st.none(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8")),
)


@given(st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,20}", fullmatch=True), SCALARS, max_size=5))
def test_parameters_shown_in_the_form_are_read_back_the_same(params: dict[str, Any]) -> None:
    assert read(params=forms.lines_of(params)).params == params
