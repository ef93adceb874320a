import errno
import os
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest

from bitloom.errors import OutputError
from bitloom.journal import KEPT_RUNS, SMALL, Journal


def test_a_finished_step_is_not_run_again(tmp_path):
    ran = []

    def work():
        ran.append(1)
        return {"x": 3}

    assert Journal(tmp_path, quiet=True).step("a", "k", work) == {"x": 3}
    again = Journal(tmp_path, quiet=True)
    assert again.step("a", "k", work) == {"x": 3}
    assert len(ran) == 1
    assert again.records[0].resumed


def test_another_key_runs_anew(tmp_path):
    journal = Journal(tmp_path, quiet=True)
    assert journal.step("a", "1", lambda: 1) == 1
    assert journal.step("a", "2", lambda: 2) == 2


def test_a_truncated_file_is_not_believed(tmp_path):
    Journal(tmp_path, quiet=True).step("a", "k", lambda: list(range(1000)))
    (path,) = tmp_path.glob("a-*.step")
    path.write_bytes(path.read_bytes()[:100])
    assert Journal(tmp_path, quiet=True).step("a", "k", lambda: [7]) == [7]


@pytest.mark.parametrize("damaged", [b"\x80\xf3.", b"\x80\x04\x8c\x02\xd7\xd7.", b"\x80\x05\x96" + b"\xff" * 8 + b"."])
def test_a_damaged_file_is_not_believed(tmp_path, damaged):
    """Of another protocol, no text, a length beyond memory: each is another type of exception."""
    Journal(tmp_path, quiet=True).step("a", "k", lambda: 1)
    (path,) = tmp_path.glob("a-*.step")
    path.write_bytes(damaged)
    assert Journal(tmp_path, quiet=True).step("a", "k", lambda: [7]) == [7]


@pytest.mark.parametrize("at", [0, 40, -30, -1])
def test_a_changed_byte_is_not_believed(tmp_path, at):
    """Of the same length, and for some of them still a pickle: only the checksum tells."""
    Journal(tmp_path, quiet=True).step("a", "k", lambda: np.arange(1000.0))
    (path,) = tmp_path.glob("a-*.step")
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert Journal(tmp_path, quiet=True).step("a", "k", lambda: [7]) == [7]
    assert Journal(tmp_path, quiet=True).step("a", "k", lambda: [8]) == [7]


def test_a_step_without_a_checksum_is_made_again(tmp_path):
    Journal(tmp_path, quiet=True).step("a", "k", lambda: 1)
    (path,) = tmp_path.glob("a-*.step")
    path.write_bytes(path.read_bytes()[:-4])
    assert Journal(tmp_path, quiet=True).step("a", "k", lambda: [7]) == [7]


def test_an_interrupted_step_leaves_nothing(tmp_path):
    def work():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Journal(tmp_path, quiet=True).step("a", "k", work)
    assert list(tmp_path.glob("*.step")) == []


class _Full:
    """A result that cannot be written: the disk is full, or the user interrupts, half way."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error


def test_what_cannot_be_written_takes_no_space(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OutputError, match=r"a-\w+.step: cannot be written \(No space left on device\); free space"):
        Journal(tmp_path, quiet=True).step("a", "k", lambda: [b"x" * 100_000, _Full(full)])
    with pytest.raises(KeyboardInterrupt):
        Journal(tmp_path, quiet=True).step("a", "k", lambda: [b"x" * 100_000, _Full(KeyboardInterrupt())])
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_is_removed(tmp_path):
    """Not what a process that lives, or wrote a moment ago, may still rename; and nothing else."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    old = {f"a-1.{gone.pid}": False, f"a-2.{os.getpid()}": True, "a-3.step": True, "train-1-0.pt": True}
    for name in old:
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / f"b-1.{gone.pid}").write_text("x")
    Journal(tmp_path, quiet=True)
    assert {p.name for p in tmp_path.iterdir()} == {n for n, stays in old.items() if stays} | {f"b-1.{gone.pid}"}


def test_peak_memory_is_seen(tmp_path):
    journal = Journal(tmp_path, quiet=True)

    def work():
        block = b"x" * (200 << 20)
        time.sleep(0.2)
        return len(block)

    journal.step("a", "k", work)
    assert journal.records[0].peak_rss_mib > 150


def test_unwritable_output_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match=r"cannot be written .*choose another --out"):
        Journal(blocked / "out", quiet=True)


def test_results_are_plain_pickles(tmp_path):
    Journal(tmp_path, quiet=True).step("a", "k", lambda: 5)
    (path,) = tmp_path.glob("a-*.step")
    assert pickle.loads(path.read_bytes())[0] == 5


LARGE = SMALL + 1


def whole_run(folder, *names, tidy=True):
    """A run of steps with a large result each; which of them it made, in order."""
    time.sleep(0.02)  # a step and a run of one moment would be told apart by nothing
    made = []

    def work(name):
        made.append(name)
        return b"x" * (1 if name == "small" else LARGE)

    journal = Journal(folder, quiet=True)
    for name in names:
        journal.step("a", name, lambda name=name: work(name))
    if tidy:
        journal.tidy()
    return made


def test_steps_that_the_last_runs_have_not_used_are_removed(tmp_path, capsys):
    whole_run(tmp_path, "shared", "own", "small")
    for number in range(KEPT_RUNS - 1):
        assert whole_run(tmp_path, "shared", str(number)) == [str(number)]
    assert len(list(tmp_path.glob("a-*.step"))) == 3 + KEPT_RUNS - 1
    time.sleep(0.02)
    journal = Journal(tmp_path)
    journal.step("a", "last", lambda: b"")
    journal.tidy()
    assert "1 MiB of steps that the last 4 runs have not used are removed" in capsys.readouterr().err
    assert whole_run(tmp_path, "shared", "own", "small", "0", tidy=False) == ["own"]


def test_going_back_and_forth_loses_nothing(tmp_path):
    whole_run(tmp_path, "shared", "three bits")
    whole_run(tmp_path, "shared", "four bits")
    for number in range(2 * KEPT_RUNS):
        assert whole_run(tmp_path, "shared", "three bits") == []
        assert whole_run(tmp_path, "shared", "four bits", f"with another option {number}") != ["four bits"]
    assert whole_run(tmp_path, "shared", "three bits", "four bits") == []


def test_repeating_one_command_never_costs_anothers_steps(tmp_path):
    whole_run(tmp_path, "rare")
    for _ in range(2 * KEPT_RUNS):
        whole_run(tmp_path, "often")
    assert whole_run(tmp_path, "rare") == []


def test_an_interrupted_run_keeps_what_it_has_done(tmp_path):
    for number in range(KEPT_RUNS):
        whole_run(tmp_path, "shared", str(number))
    whole_run(tmp_path, "shared", "half", tidy=False)
    for number in range(KEPT_RUNS - 1):
        whole_run(tmp_path, "shared", f"more {number}")
    assert whole_run(tmp_path, "shared", "half", "rest") == ["rest"]


def test_other_files_stay_and_a_damaged_list_removes_nothing(tmp_path):
    (tmp_path / "mine-x.step").mkdir()
    (tmp_path / "train-1.pt").write_bytes(b"x" * LARGE)
    for number in range(2 * KEPT_RUNS):
        whole_run(tmp_path, "shared", str(number))
        (tmp_path / "runs.json").write_text('{"a": 1}')
    assert len(list(tmp_path.glob("a-*.step"))) == 1 + 2 * KEPT_RUNS
    assert (tmp_path / "train-1.pt").is_file()
