"""The command format: generated files do not drift, encoding and decoding are inverse, bad streams are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitloom.errors import ProgramError
from bitloom.program.commands import COMMAND_FIELDS, HEADER_BEATS, TAP_FIELDS, Command, Field, Opcode, decode, width
from bitloom.program.generate import GENERATED, ROOT


@pytest.mark.parametrize("path", sorted(GENERATED))
def test_generated_file_matches_its_source(path: str) -> None:
    assert (ROOT / path).read_text() == GENERATED[path](), f"{path} has drifted: run make generate"


def _values(fields: tuple[Field, ...]) -> st.SearchStrategy[dict[str, int]]:
    def span(f: Field) -> st.SearchStrategy[int]:
        half = 1 << (f.width - 1)
        return st.integers(-half, half - 1) if f.signed else st.integers(0, 2 * half - 1)

    return st.fixed_dictionaries({f.name: span(f) for f in fields})


@given(st.sampled_from(list(Opcode)), _values(COMMAND_FIELDS), st.lists(_values(TAP_FIELDS), max_size=3))
def test_decode_inverts_encode(opcode: Opcode, values: dict[str, int], taps: list[dict[str, int]]) -> None:
    fields = {**values, "opcode": int(opcode)}
    del fields["n_taps"]
    data = Command(fields, tuple(taps)).encode()
    assert len(data) == 16 * (HEADER_BEATS + len(taps))
    (again,) = decode(data)
    assert again.fields == fields and again.taps == tuple(taps)


def test_records_fit_their_beats() -> None:
    assert width(COMMAND_FIELDS) <= HEADER_BEATS * 128 and width(TAP_FIELDS) <= 128


def test_bad_streams_are_refused() -> None:
    good = Command({"opcode": Opcode.CONV}, ({"row_off": -1},)).encode()
    with pytest.raises(ProgramError, match="command stream ends inside a header at byte 112 of 128"):
        decode(good + good[:16])
    with pytest.raises(ProgramError, match="command stream ends inside the taps at byte 96 of 96"):
        decode(good[:96])
    with pytest.raises(ProgramError, match="unknown opcode 99 at byte 0; legal: BEGIN=1, END=2"):
        decode(bytes([99]) + good[1:])
    with pytest.raises(ProgramError, match=r"CONV: out_w = 131072 does not fit its 17 bits; legal: 0\.\.131071"):
        Command({"opcode": Opcode.CONV, "out_w": 1 << 17}).encode()
    with pytest.raises(ProgramError, match="CONV: unknown field 'colour'; legal: opcode, layer"):
        Command({"opcode": Opcode.CONV, "colour": 1}).encode()
