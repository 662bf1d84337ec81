"""The runner by a small suite: what fails beside others has a second try alone, and nothing is lost over it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALONE, TWICE = "passed only when alone (load)", "failed twice"
GOOD = "def test_good():\n    assert True\n"
BAD = "def test_bad():\n    assert 'bad' == 'good'\n"


def once(folder: Path, name: str) -> str:
    """A test that fails the first time, with its own words, and passes from then on."""
    seen = folder / f"seen-{name}"
    return (
        f"from pathlib import Path\ndef test_{name}():\n    seen = Path({str(seen)!r})\n    first = not seen.exists()\n"
        f"    seen.touch()\n    print('printed by {name}')\n    assert not first, 'too slow: {name}'\n"
    )


def suite(folder: Path, first: str, aside: str, *options: str) -> tuple[int, str]:
    """Exit status and output of both lanes, each of one file."""
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    (folder / "conftest.py").write_text("def pytest_ignore_collect():\n    return None\n")
    for name, text in (("first", first), ("aside", aside)):
        (folder / name).mkdir()
        (folder / name / f"test_{name}.py").write_text(text)
        (folder / name / "conftest.py").write_text("")
    lanes = f"both({list(options)!r}, [Path({str(folder / 'first')!r})], [Path({str(folder / 'aside')!r})])"
    code = f"import os\nfrom pathlib import Path\nfrom tests.run import both\nos._exit({lanes})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_a_good_suite_has_no_second_run(tmp_path: Path) -> None:
    """Nothing is told but what pytest says."""
    status, said = suite(tmp_path, GOOD, GOOD)

    assert status == 0
    assert said.count("1 passed") == 2
    assert "alone" not in said


def test_what_passes_alone_is_told_with_its_first_failure_in_full(tmp_path: Path) -> None:
    """From both lanes. The run is good; what it hides can be read."""
    status, said = suite(tmp_path, once(tmp_path, "one"), GOOD + once(tmp_path, "two"))

    assert status == 0
    told = said.partition(f"{ALONE}: 2")[2]
    for name in ("one", "two"):
        assert f"::test_{name}" in told
        assert f"AssertionError: too slow: {name}" in told
        assert f"printed by {name}" in told
    assert TWICE not in said


def test_what_fails_twice_fails_the_run(tmp_path: Path) -> None:
    """Beside another one that passed alone, which is told as well."""
    status, said = suite(tmp_path, once(tmp_path, "one"), BAD)

    assert status == 1
    assert "::test_one" in said.partition(f"{ALONE}: 1")[2].partition(TWICE)[0]
    assert "::test_bad" in said.partition(f"{TWICE}: 1")[2]


def test_what_a_test_stands_on_counts_as_the_test(tmp_path: Path) -> None:
    """A fixture that fails at its end fails the run, though the test itself has passed."""
    fixture = "import pytest\n@pytest.fixture\ndef it():\n    yield\n    raise RuntimeError('left open')\n"
    status, said = suite(tmp_path, fixture + "def test_it(it):\n    pass\n", GOOD)

    assert status == 1
    assert "teardown" in said.partition(f"{TWICE}: 1")[2]
    assert "left open" in said.partition(f"{TWICE}: 1")[2]


def test_more_than_five_are_no_accident(tmp_path: Path) -> None:
    """Five may pass alone; six fail the run, and no time is spent on them."""
    five, six = tmp_path / "five", tmp_path / "six"
    for folder in (five, six):
        folder.mkdir()
    made = [once(five, f"n{n}") for n in range(5)]
    status, said = suite(five, "".join(made), GOOD)
    assert status == 0
    assert f"{ALONE}: 5" in said

    made = [once(six, f"n{n}") for n in range(6)]
    status, said = suite(six, "".join(made[:3]), "".join(made[3:]))
    assert status == 1
    assert "6 test(s) failed by 6 cause(s); more than 5 are no accident" in said
    assert ALONE not in said
    told = said.rpartition("no accident")[2]  # the last lines of a log say what it was
    for n in range(6):
        assert f"1 × AssertionError: too slow: n{n}" in told


def test_what_one_fixture_failed_is_one_accident(tmp_path: Path) -> None:
    """A server that did not start once fails all that stand on it; they are run again together, and each must pass."""
    seen = tmp_path / "seen"
    fixture = (
        "import pytest\nfrom pathlib import Path\n@pytest.fixture(scope='session')\ndef server():\n"
        f"    seen = Path({str(seen)!r})\n    first = not seen.exists()\n    seen.touch()\n    print('starting')\n"
        "    if first:\n        raise TimeoutError('it did not start')\n"
    )
    tests = "".join(f"def test_on_it_{n}(server):\n    print({n})\n" for n in range(8))
    status, said = suite(tmp_path, fixture + tests, GOOD)
    assert status == 0
    assert "8 test(s) failed by 1 cause(s)" in said
    assert f"{ALONE}: 8" in said


def test_what_failed_test_by_test_is_no_one_accident(tmp_path: Path) -> None:
    """A fixture of a single test was made six times, whatever words it failed with."""
    fixture = "import pytest\n@pytest.fixture\ndef server():\n    raise TimeoutError('it did not start')\n"
    tests = "".join(f"def test_on_it_{n}(server):\n    pass\n" for n in range(6))
    status, said = suite(tmp_path, fixture + tests, GOOD)

    assert status == 1
    assert "6 test(s) failed by 6 cause(s); more than 5 are no accident" in said


def test_of_what_one_fixture_failed_one_that_fails_again_fails_the_run(tmp_path: Path) -> None:
    """The others are told beside it."""
    fixture = "import pytest\n@pytest.fixture(scope='module')\ndef server():\n    raise TimeoutError('never')\n"
    tests = "".join(f"def test_on_it_{n}(server):\n    pass\n" for n in range(7))
    status, said = suite(tmp_path, fixture + tests, GOOD)

    assert status == 1
    assert f"{TWICE}: 7" in said


@pytest.mark.parametrize("lane", ["first", "aside"])
def test_a_lane_that_dies_fails_the_run(tmp_path: Path, lane: str) -> None:
    """It cannot say which tests it never came to, not even when its end looks well."""
    dies = "import os\ndef test_dies():\n    os._exit(0)\n"
    status, said = suite(tmp_path, *((dies, GOOD) if lane == "first" else (GOOD, dies)))

    assert status != 0
    assert "a lane did not come to its end" in said


def test_a_lane_that_cannot_read_its_tests_fails_the_run(tmp_path: Path) -> None:
    """An error in a file is no failure of a test that could be run again."""
    status, said = suite(tmp_path, "def test_(:\n", GOOD)

    assert status != 0
    assert "a lane did not come to its end" in said


def test_a_lane_that_was_told_to_stop_early_fails_the_run(tmp_path: Path) -> None:
    """With -x the tests behind the failure were never run: that it passes alone says nothing of them."""
    status, said = suite(tmp_path, once(tmp_path, "one") + GOOD, GOOD, "-x")

    assert status != 0
    assert "a lane did not come to its end" in said


def test_options_alone_that_choose_no_test_say_so(tmp_path: Path) -> None:
    """As pytest does: 5."""
    status, _ = suite(tmp_path, GOOD, GOOD, "-k", "nothing_of_this_name")

    assert status == 5
