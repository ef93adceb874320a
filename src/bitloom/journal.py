"""Named, resumable steps: each result is saved under a key of everything it depends on, with its time and peak memory.

A finished step is loaded instead of run again; an interrupted one leaves nothing behind (files are renamed into place;
what a killed process has written of one is removed by a later run), and one whose file has changed since (a checksum
stands behind the pickle) is run again.
`tidy`, at the end of a whole run, gives back the space of what earlier runs left: large steps that neither the last
KEPT_RUNS runs that made one nor any run begun since the first of these has used. Whatever runs share stays that way,
and so does what an interrupted run has done until others have taken its place.
The key of every step includes the package's own sources, so that a result never outlives the code that made it.
The saved files are this program's own intermediates in the user's own output folder; they are pickles, so do not point
`--out` at a folder of somebody else's.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import sys
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import psutil

from bitloom.errors import OutputError

Result = TypeVar("Result")
KEPT_RUNS = 4  #: whole runs that made steps, whose steps all stay
#: Bytes; steps up to this size stay for good: they take no space, and among them are hours of simulation.
SMALL = 1 << 20
_RUNS = "runs.json"  #: when the last KEPT_RUNS whole runs that made steps began, seconds by the file system's clock
_TRAILER = 4  #: bytes of the checksum (CRC-32) behind a pickle


@dataclass(frozen=True)
class StepRecord:
    """What one step cost: seconds, the process' highest resident memory meanwhile; resumed: loaded from disk."""

    name: str
    seconds: float
    peak_rss_mib: float
    resumed: bool


class Journal:
    """Runs steps in `folder`; `records` tells what each cost (for a resumed step: when it ran first)."""

    def __init__(self, folder: Path, quiet: bool = False) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".writable"
            probe.write_text("")
            self._began = probe.stat().st_mtime  # the clock by which steps are dated
            probe.unlink()
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from None
        _remove_left(folder)
        self.folder = folder
        self.quiet = quiet
        self.records: list[StepRecord] = []

    def step(self, name: str, key: str, work: Callable[[], Result]) -> Result:
        """The result of `work`, from disk when a step of this name and key has finished before."""
        digest = hashlib.sha256(f"{sources_digest()} {key}".encode()).hexdigest()[:16]
        path = self.folder / f"{name}-{digest}.step"
        saved = _load(path)
        if saved is not None:
            result, record = saved
            with suppress(OSError):  # a folder that may only be read
                os.utime(path)  # `tidy` goes by when a step was last used
            self.records.append(StepRecord(**{**record, "resumed": True}))
            self._say(f"{name}: done before ({record['seconds']:.1f} s)")
            return cast(Result, result)
        self._say(f"{name} ...")
        start = time.perf_counter()
        with _PeakMemory() as peak:
            result = work()
        record_now = StepRecord(name, time.perf_counter() - start, peak.mib, False)
        temporary = path.with_suffix(f".{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                summed = _Summed(file)
                pickle.dump((result, asdict(record_now)), summed, protocol=pickle.HIGHEST_PROTOCOL)
                file.write(summed.trailer)
            temporary.replace(path)
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be written ({error.strerror}); free space or choose another --out"
            ) from None
        finally:
            temporary.unlink(missing_ok=True)  # half a step, whose space a full disk gets back
        self.records.append(record_now)
        self._say(f"{name}: {record_now.seconds:.1f} s, {record_now.peak_rss_mib:.0f} MiB")
        return result

    def tidy(self) -> None:
        """Ends a whole run. Removes what the last runs have not used, as the header says, and says how much.

        A run that found every step removes nothing, so that repeating one command never costs another's steps.
        """
        if all(record.resumed for record in self.records):
            return
        runs = [*_runs(self.folder / _RUNS), self._began][-KEPT_RUNS:]
        with suppress(OSError):  # the results are written; space is a courtesy
            (self.folder / _RUNS).write_text(json.dumps(runs))
            if len(runs) == KEPT_RUNS:
                self._remove_before(min(runs))

    def _remove_before(self, moment: float) -> None:
        """Large steps last used before it."""
        size = 0
        for path in self.folder.glob("*-*.step"):
            state = path.stat()
            if state.st_mtime < moment and state.st_size > SMALL:
                path.unlink()
                size += state.st_size
        if size:
            self._say(f"{size / 2**20:.0f} MiB of steps that the last {KEPT_RUNS} runs have not used are removed")

    def _say(self, text: str) -> None:
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)


@cache
def sources_digest() -> str:
    """Hash (hexadecimal) of every source file of the package, for results that are kept outside a journal."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".sv", ".svh", ".cpp", ".h", ".toml")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _remove_left(folder: Path) -> None:
    """Removes halves of steps that killed processes of this machine left more than an hour ago."""
    for path in folder.glob("*-*.*"):
        number = path.suffix[1:]
        with suppress(OSError):
            if number.isdigit() and not psutil.pid_exists(int(number)) and time.time() - path.stat().st_mtime > 3600:
                path.unlink()


def _runs(path: Path) -> list[float]:
    """What `tidy` wrote; nothing where it did not, or the file is damaged: then steps stay a few runs longer."""
    try:
        found = json.loads(path.read_text())
        return [float(moment) for moment in found]
    except (OSError, ValueError, TypeError):
        return []


def _load(path: Path) -> tuple[Any, dict[str, Any]] | None:
    try:
        with path.open("rb") as file:
            if not _intact(file):
                return None
            loaded = pickle.load(file)
    except Exception:  # a damaged pickle raises nearly anything; the step is run again
        return None
    return loaded if isinstance(loaded, tuple) and len(loaded) == 2 else None


def _intact(file: BinaryIO) -> bool:
    """Whether the trailer of a file is that of all before it; leaves the file at its start."""
    left = file.seek(0, os.SEEK_END) - _TRAILER
    file.seek(0)
    crc = 0
    while left > 0:
        block = file.read(min(left, 1 << 20))
        if not block:
            return False
        crc, left = zlib.crc32(block, crc), left - len(block)
    whole = file.read() == crc.to_bytes(_TRAILER, "little")
    file.seek(0)
    return whole


class _Summed:
    """Writes to `file`; `trailer` is the checksum of all that was written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._crc = file, 0

    def write(self, data: bytes) -> int:
        self._crc = zlib.crc32(data, self._crc)
        return self._file.write(data)

    @property
    def trailer(self) -> bytes:
        return self._crc.to_bytes(_TRAILER, "little")


class _PeakMemory:
    """Samples the process' resident memory twenty times a second."""

    def __enter__(self) -> _PeakMemory:
        self._process = psutil.Process()
        self.mib = self._process.memory_info().rss / 2**20
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.mib = max(self.mib, self._process.memory_info().rss / 2**20)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.mib = max(self.mib, self._process.memory_info().rss / 2**20)
