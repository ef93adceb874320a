"""A program, and its file: one file with everything a driver needs, checked on load (docs/spec/program-file.md)."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bitloom.errors import OutputError, ProgramError, TargetError
from bitloom.graph.qgraph import Int8Array
from bitloom.program.commands import BEAT_BYTES, FORMAT_VERSION, decode
from bitloom.program.inputs import FoldSpec, InputSpec, LinearSpec
from bitloom.program.regions import Layout, Placement, Uint8Array
from bitloom.target.arch import ArchConfig

MAGIC = b"BITLOOM\x00"
FILE_VERSION = 2
ALIGNMENT = 64  #: bytes; the weights of a port begin at multiples of it in the program image
PAGE = 4096  #: bytes; the driver gives program, input, output and scratch whole pages of its buffer


@dataclass(frozen=True)
class TraceEntry:
    """What a command computes: rows first_row .. first_row+n_rows-1 of the tensor in `placement`.

    command: index in the command stream.  layer: its number.  name: of the layer.
    """

    command: int
    layer: int
    name: str
    placement: Placement
    first_row: int
    n_rows: int

    @property
    def tensor(self) -> str:
        """The tensor of the integer graph that the rows belong to."""
        return self.placement.tensor

    def read(self, memory: Uint8Array) -> Int8Array:
        """Those rows, int8 (C, n_rows, W), from a shadow of the activation memory, uint8 [P, act_rows, C]."""
        at = self.first_row - self.placement.y0
        return self.placement.read(memory)[:, at : at + self.n_rows]


@dataclass(frozen=True, eq=False)
class Program:
    """Command and weight streams with what a driver and a simulator must know.

    commands: beats of 16 bytes.  weights: one stream per port.  layers: names by layer number.  scratch_bytes: size of
    the scratch buffer.  placements: where each whole tensor lies while it lives.  batch: images of a run (see `Plan`).
    """

    name: str
    arch: ArchConfig
    commands: bytes
    weights: tuple[bytes, ...]
    input_spec: InputSpec
    output_spec: LinearSpec
    layers: tuple[str, ...]
    trace: tuple[TraceEntry, ...]
    placements: dict[str, Placement]
    graph_hash: str
    scratch_bytes: int = 0
    batch: int = 1

    @property
    def command_beats(self) -> int:
        """Value of register COMMAND_BEATS."""
        return len(self.commands) // BEAT_BYTES

    def image(self) -> bytes:
        """The bytes behind the PROGRAM base: commands, then the weights of every port at their offsets."""
        image = bytearray(self.commands)
        for offset, stream in zip(weight_offsets(len(self.commands), self.weights), self.weights, strict=True):
            image.extend(bytes(offset - len(image)))
            image.extend(stream)
        return bytes(image)


def weight_offsets(command_bytes: int, weights: tuple[bytes, ...]) -> tuple[int, ...]:
    """Byte offset of every port's stream in the program image."""
    offsets, at = [], command_bytes
    for stream in weights:
        at = -(-at // ALIGNMENT) * ALIGNMENT
        offsets.append(at)
        at += len(stream)
    return tuple(offsets)


def save(program: Program, path: Path) -> None:
    """Writes the file; OutputError when it cannot be written."""
    try:
        path.write_bytes(to_bytes(program))
    except OSError as error:
        raise OutputError(f"cannot write program '{path}': {error.strerror}; choose a writable folder") from error


def load(path: Path, arch: ArchConfig | None = None) -> Program:
    """Reads and checks a file; arch: the build it is meant for (None: any). Raises ProgramError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ProgramError(f"cannot read program '{path}': {error.strerror}") from error
    return from_bytes(data, arch, str(path))


def to_bytes(program: Program) -> bytes:
    """The file: magic, version, length and CRC of the header, header (JSON), sections."""
    sections = {"commands": program.commands, **{f"weights{i}": w for i, w in enumerate(program.weights)}}
    header = {
        "name": program.name,
        "format": FORMAT_VERSION,
        "arch": asdict(program.arch),
        "arch_hash": program.arch.hash,
        "graph_hash": program.graph_hash,
        "layers": list(program.layers),
        "scratch_bytes": program.scratch_bytes,
        "batch": program.batch,
        "input": {"kind": type(program.input_spec).__name__, **asdict(program.input_spec)},
        "output": asdict(program.output_spec),
        "placements": {name: asdict(p) for name, p in program.placements.items()},
        "trace": [asdict(t) for t in program.trace],
        "sections": [
            {"name": n, "bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in sections.items()
        ],
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    words = (FILE_VERSION, len(text), zlib.crc32(text))
    return MAGIC + b"".join(w.to_bytes(4, "little") for w in words) + text + b"".join(sections.values())


def from_bytes(data: bytes, arch: ArchConfig | None = None, what: str = "program") -> Program:
    """The inverse of `to_bytes`; checks magic, versions, length, checksums, commands and architecture."""
    if data[: len(MAGIC)] != MAGIC:
        raise ProgramError(f"'{what}' is not a Bitloom program: it begins with {data[: len(MAGIC)]!r}, not {MAGIC!r}")
    start = len(MAGIC) + 12
    if len(data) < start:
        raise ProgramError(f"'{what}' is truncated: {len(data)} bytes, the fixed part alone has {start}")
    version, length, checksum = (int.from_bytes(data[i : i + 4], "little") for i in range(len(MAGIC), start, 4))
    if version != FILE_VERSION:
        raise ProgramError(f"'{what}' has file version {version}; this release reads {FILE_VERSION}: compile it again")
    text = data[start : start + length]
    if len(text) < length:
        raise ProgramError(f"'{what}' is truncated: its header has {length} bytes, {len(text)} are there")
    if zlib.crc32(text) != checksum:
        raise ProgramError(f"'{what}' is corrupted: the checksum of its header does not match; compile it again")
    header: dict[str, Any] = json.loads(text)
    if header["format"] != FORMAT_VERSION:
        raise ProgramError(
            f"'{what}' uses command format {header['format']}; this release uses {FORMAT_VERSION}: compile it again"
        )
    sections = _sections(data, start + length, header["sections"], what)
    built = _arch(header, what)
    if arch is not None and arch.hash != built.hash:
        raise ProgramError(
            f"'{what}' was compiled for architecture '{built.name}' (hash {built.hash:08x}), but the target is "
            f"'{arch.name}' (hash {arch.hash:08x}); compile it for '{arch.name}'"
        )
    decode(sections["commands"])
    return Program(
        name=header["name"],
        arch=built,
        commands=sections["commands"],
        weights=tuple(sections[f"weights{i}"] for i in range(built.weight_ports)),
        input_spec=_input_spec(header["input"]),
        output_spec=_linear(header["output"]),
        layers=tuple(header["layers"]),
        trace=tuple(TraceEntry(**{**t, "placement": _placement(t["placement"])}) for t in header["trace"]),
        placements={name: _placement(p) for name, p in header["placements"].items()},
        graph_hash=header["graph_hash"],
        scratch_bytes=header["scratch_bytes"],
        batch=header["batch"],
    )


def _sections(data: bytes, at: int, table: list[dict[str, Any]], what: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for entry in table:
        part = data[at : at + entry["bytes"]]
        if len(part) < entry["bytes"]:
            raise ProgramError(
                f"'{what}' is truncated: section '{entry['name']}' has {entry['bytes']} bytes, {len(part)} are there"
            )
        if hashlib.sha256(part).hexdigest() != entry["sha256"]:
            raise ProgramError(f"'{what}' is corrupted: section '{entry['name']}' does not match its SHA-256")
        found[entry["name"]] = part
        at += entry["bytes"]
    if at != len(data):
        raise ProgramError(f"'{what}' is corrupted: {len(data) - at} bytes follow its last section")
    return found


def _arch(header: dict[str, Any], what: str) -> ArchConfig:
    try:
        built = ArchConfig(**header["arch"])
    except TargetError as error:
        raise ProgramError(f"'{what}' names an illegal architecture: {error}") from error
    if built.hash != header["arch_hash"]:
        raise ProgramError(
            f"'{what}' is corrupted: architecture '{built.name}' has hash {built.hash:08x}, "
            f"not {header['arch_hash']:08x}"
        )
    return built


def _placement(raw: dict[str, Any]) -> Placement:
    return Placement(**{**raw, "segments": tuple(raw["segments"]), "layout": Layout(**raw["layout"])})


def _linear(raw: dict[str, Any]) -> LinearSpec:
    shape, segments = tuple(raw["shape"]), tuple(raw["segments"])
    return LinearSpec(**{**raw, "shape": shape, "segments": segments, "layout": Layout(**raw["layout"])})


def _input_spec(raw: dict[str, Any]) -> InputSpec:
    fields = {k: v for k, v in raw.items() if k != "kind"}
    if raw["kind"] == "FoldSpec":
        return FoldSpec(**{**fields, "shape": tuple(fields["shape"])})
    return _linear(fields)
