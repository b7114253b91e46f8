"""What the test command makes of tests that fail: by themselves, beside others, or everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from nautilus.cli.output import CommandError
from nautilus.cli.testing import Step, Tier, run_tier

_UNSTEADY = """
from pathlib import Path

def test_second_time_lucky():
    seen = Path(__file__).with_suffix(".seen")
    was_there = seen.exists()
    seen.touch()
    assert was_there
"""
_BROKEN = "def test_never():\n    assert not 'this'\n"
_FINE = "from pathlib import Path\n\ndef test_fine():\n    Path(__file__).with_suffix('.runs').open('a').write('x')\n"


def tier(*steps: Step) -> Tier:
    return Tier("small", 60, steps)


def step_of(root: Path, **files: str) -> Step:
    for name, content in files.items():
        (root / f"test_{name}.py").write_text(content)
    return Step("tests", ("-m", "pytest", "-q", str(root)), alone=(str(root),))


def test_a_test_that_passes_by_itself_is_named_and_fails_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_tier(tmp_path, tier(step_of(tmp_path, unsteady=_UNSTEADY, fine=_FINE)))
    said = capfd.readouterr().err
    assert (
        "unsteady: test_unsteady.py::test_second_time_lucky failed beside others and passed by itself" in said
    )
    assert (tmp_path / "test_fine.runs").read_text() == "x", "what passed is not run again"


def test_a_test_that_fails_again_fails_the_tier(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="tests failed"):
        run_tier(tmp_path, tier(step_of(tmp_path, unsteady=_UNSTEADY, broken=_BROKEN)))


def test_many_files_that_fail_are_not_chance(tmp_path: Path) -> None:
    files = {f"unsteady{number}": _UNSTEADY for number in range(4)}
    with pytest.raises(CommandError, match="tests failed"):
        run_tier(tmp_path, tier(step_of(tmp_path, **files)))


def test_what_is_no_test_is_run_once(tmp_path: Path) -> None:
    count = "import pathlib, sys; pathlib.Path('runs').open('a').write('x'); sys.exit(1)"
    with pytest.raises(CommandError, match="lint failed"):
        run_tier(tmp_path, tier(Step("lint", ("-c", count))))
    assert (tmp_path / "runs").read_text() == "x"


def test_a_file_that_cannot_be_read_is_no_chance(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"exit code 2"):
        run_tier(tmp_path, tier(step_of(tmp_path, wrong="import nothing_of_this_name\n")))
