"""Bitloom on a board, from Python: a thin binding of the C driver (libbitloom.so, built by `make` in this folder)."""

from __future__ import annotations

import ctypes
import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int8]


class BoardError(RuntimeError):
    """A failure in the driver's words. status: enum bitloom_status; hardware, layer: registers after a failed run."""

    def __init__(self, text: str, status: int, hardware: int, layer: int) -> None:
        super().__init__(text)
        self.status, self.hardware, self.layer = status, hardware, layer


class _Error(ctypes.Structure):
    """struct bitloom_error."""

    _fields_ = (
        ("status", ctypes.c_int32),
        ("hardware", ctypes.c_uint32),
        ("layer", ctypes.c_uint32),
        ("text", ctypes.c_char * 260),
    )

    def error(self) -> BoardError:
        return BoardError(self.text.decode(errors="replace"), self.status, self.hardware, self.layer)


@dataclass(frozen=True, eq=False)
class Result:
    """codes: int8 (N, C, H, W).  values: their float64 meaning, None without network.json.  counters: by name."""

    codes: Codes
    values: npt.NDArray[np.float64] | None
    counters: dict[str, int]


class Accelerator:
    """A program on the accelerator. Use it in a `with` block, or close() it.

    program: file of `bitloom compile`.  network: its network.json (None: codes in, codes out).  where: the back end's
    devices ("UIO,BUFFER"; None: as bitloom.dtso names them).  library: libbitloom.so (None: beside this file).
    Raises BoardError with the driver's sentence.
    """

    def __init__(
        self,
        program: str | Path,
        network: str | Path | None = None,
        where: str | None = None,
        library: str | Path | None = None,
    ) -> None:
        self._session = None
        self._library = _load(Path(__file__).with_name("libbitloom.so") if library is None else Path(library))
        error = _Error()
        place = None if where is None else where.encode()
        self._session = self._library.bitloom_session_open(str(program).encode(), place, ctypes.byref(error))
        if not self._session:
            raise error.error()
        shapes = ((ctypes.c_uint32 * 4)(), (ctypes.c_uint32 * 4)())
        self._library.bitloom_session_shapes(self._session, *shapes)
        self.input_shape, self.output_shape = (tuple(int(n) for n in shape) for shape in shapes)  #: (N, C, H, W)
        self._network: dict[str, Any] | None = None
        if network is not None:
            self._network = json.loads(Path(network).read_text())
            held = self._library.bitloom_session_graph_hash(self._session).decode()
            if self._network["graph_hash"] != held:
                self.close()
                raise BoardError(f"'{network}' belongs to another network; take the one beside the program", 1, 0, 0)

    def codes(self, pixels: npt.NDArray[np.uint8]) -> Codes:
        """Codes int8 (C, H, W) of a picture, uint8 (H, W, C) or (H, W), of the network's size."""
        _, channels, height, width = self.input_shape
        table = None if self._network is None else self._network["pixel_codes"]
        if table is None:
            raise ValueError("how pixels become codes is not known; give network.json, or codes to run()")
        picture = pixels[:, :, None] if pixels.ndim == 2 else pixels
        if picture.shape != (height, width, channels) or picture.dtype != np.uint8:
            raise ValueError(
                f"pixels: {pixels.dtype} {pixels.shape}; must be uint8 {(height, width, channels)}: resize them"
            )
        rows = np.asarray(table, dtype=np.int8)
        return np.ascontiguousarray(np.stack([rows[c][picture[:, :, c]] for c in range(channels)]))

    def run(self, images: Codes, timeout_s: float = 1.0) -> Result:
        """One run: codes int8 (N, C, H, W) in [-127, 127]; N is the program's batch."""
        given = np.ascontiguousarray(images)
        if given.shape != self.input_shape or given.dtype != np.int8:
            raise ValueError(f"images: {given.dtype} {given.shape}; must be int8 {self.input_shape}")
        names = self._names()
        counters, error = (ctypes.c_uint32 * len(names))(), _Error()
        out = np.empty(self.output_shape, dtype=np.int8)
        status = self._library.bitloom_session_run(
            self._session,
            given.ctypes.data_as(ctypes.c_void_p),
            out.ctypes.data_as(ctypes.c_void_p),
            int(timeout_s * 1e6),
            counters,
            ctypes.byref(error),
        )
        if status != 0:
            raise error.error()
        values = None
        if self._network is not None:
            values = (out.astype(np.float64) - self._network["output_zero_point"]) * self._network["output_scale"]
        return Result(out, values, dict(zip(names, (int(n) for n in counters), strict=True)))

    def close(self) -> None:
        """Gives the devices back."""
        if self._session:
            self._library.bitloom_session_close(self._session)
            self._session = None

    def __enter__(self) -> Accelerator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _names(self) -> list[str]:
        names: list[str] = []
        while (name := self._library.bitloom_counter_name(len(names)).decode()) != "?":
            names.append(name)
        return names


def _load(path: Path) -> Any:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise BoardError(f"cannot load {path} ({error}); run `make` in the driver's folder", 8, 0, 0) from None
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    library.bitloom_session_open.restype = pointer
    library.bitloom_session_open.argtypes = (text, text, pointer)
    library.bitloom_session_shapes.restype = None
    library.bitloom_session_shapes.argtypes = (pointer, pointer, pointer)
    library.bitloom_session_run.argtypes = (pointer, pointer, pointer, ctypes.c_uint64, pointer, pointer)
    library.bitloom_session_close.restype = None
    library.bitloom_session_close.argtypes = (pointer,)
    library.bitloom_session_graph_hash.restype = text
    library.bitloom_session_graph_hash.argtypes = (pointer,)
    library.bitloom_counter_name.restype = text
    library.bitloom_counter_name.argtypes = (ctypes.c_uint32,)
    return library
