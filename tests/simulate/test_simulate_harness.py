"""The harness against the dummy accelerator: data, latency, bandwidth, refresh, stalls, rules and faults."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bitloom.errors import SimulationError
from bitloom.program.commands import ErrorCode
from bitloom.simulate.job import DdrTiming, FaultPlan, SimOptions

BURST = 256
WEIGHTS, COPY, COMMANDS, NEVER_DONE = 1, 2, 4, 8
QUIET = DdrTiming(efficiency=1.0, refresh_interval_us=0)


def first_words(data: bytes, bursts: int) -> int:
    words = np.frombuffer(data[: bursts * BURST], np.uint32).reshape(-1, 4)[:, 0]
    return int(words.sum(dtype=np.uint64)) & 0xFFFFFFFF


def test_reads_deliver_the_program_and_copies_arrive(dummy: Any) -> None:
    for index, run in enumerate(dummy.runs(WEIGHTS | COPY, 150, images=3)):
        assert run.error is ErrorCode.NONE
        assert run.registers["CYCLES_COMPUTE"] == first_words(dummy.program, 150)
        assert run.output[: 150 * BURST] == dummy.images[index][: 150 * BURST]
        assert set(run.output[150 * BURST :]) == {0x80}, "nothing of the image before may remain"


def test_strobes_leave_other_bytes_alone(dummy: Any) -> None:
    run = dummy.run(COPY, 2, copier=4)
    got = np.frombuffer(run.output[: 2 * BURST], np.uint8).reshape(-1, 16)
    sent = np.frombuffer(dummy.images[0][: 2 * BURST], np.uint8).reshape(-1, 16)
    assert (got[:, :8] == sent[:, :8]).all() and (got[:, 8:] == 0x80).all()


@pytest.mark.parametrize("nanoseconds", [150.0, 300.0])
def test_latency_is_as_asked(dummy: Any, nanoseconds: float) -> None:
    timing = DdrTiming(efficiency=1.0, refresh_interval_us=0, read_latency_ns=nanoseconds, write_latency_ns=nanoseconds)
    run = dummy.run(COPY, 20, timing=timing)
    # A burst of the copier is alone: its first beat is on the channel exactly `latency` cycles after the address.
    assert run.ports["d_read"].mean_latency == nanoseconds * 0.3
    # Writes: 16 beats from the cycle after the address, then the latency.
    assert run.ports["d_write"].mean_latency == 16 + nanoseconds * 0.3


@pytest.mark.parametrize("efficiency", [0.85, 0.5])
def test_four_ports_share_the_sustained_bandwidth(dummy: Any, efficiency: float) -> None:
    run = dummy.run(WEIGHTS, 1000, timing=DdrTiming(efficiency=efficiency))
    measured = 4 * 1000 * BURST / run.cycles
    assert measured == pytest.approx(64 * efficiency, rel=0.01)
    starved = [run.ports[f"w{i}_read"].starved for i in range(4)]
    assert max(starved) < 1.05 * min(starved) + 20, "no port may be preferred"


def test_reads_writes_and_commands_share_too(dummy: Any) -> None:
    run = dummy.run(WEIGHTS | COPY | COMMANDS, 150)
    total = sum(port.beats for port in run.ports.values())
    assert total == (4 + 1 + 2) * 150 * 16
    assert total * 16 / run.cycles < 64 * 0.85


def test_one_port_moves_at_most_a_beat_a_cycle(dummy: Any) -> None:
    run = dummy.run(COMMANDS, 1000, timing=QUIET)
    assert 1000 * 16 <= run.cycles < 1000 * 16 * 1.01


def test_refresh_stops_everything(dummy: Any) -> None:
    # Half of the time is refresh, and the rate between refreshes is the peak.
    timing = DdrTiming(efficiency=0.5, refresh_interval_us=10.0, refresh_ns=5000.0)
    assert (timing.refresh_every, timing.refresh_cycles, timing.rate_bytes) == (3000, 1500, 64.0)
    run = dummy.run(COMMANDS, 1000, timing=timing)
    assert run.cycles == pytest.approx(2 * 1000 * 16, rel=0.1)
    assert run.ports["c_read"].starved > 1500 * 9


def test_stalls_change_time_not_data(dummy: Any) -> None:
    cycles = set()
    for seed in range(4):
        run = dummy.run(WEIGHTS | COPY | COMMANDS, 60, stall_probability=0.5, seed=seed)
        assert run.output[: 60 * BURST] == dummy.images[0][: 60 * BURST]
        assert run.registers["CYCLES_COMPUTE"] == first_words(dummy.program, 60)
        cycles.add(run.cycles)
    again = dummy.run(WEIGHTS | COPY | COMMANDS, 60, stall_probability=0.5, seed=3)
    calm = dummy.run(WEIGHTS | COPY | COMMANDS, 60)
    assert len(cycles) > 1 and again.cycles == run.cycles and min(cycles) > 1.2 * calm.cycles


def test_polling_and_interrupt_see_the_same_run(dummy: Any) -> None:
    by_interrupt, by_polling = dummy.run(COPY, 20), dummy.run(COPY, 20, poll_cycles=64)
    assert by_interrupt.output == by_polling.output and by_interrupt.cycles == by_polling.cycles
    assert by_interrupt.host_cycles < by_interrupt.cycles + 40 <= by_polling.host_cycles + 40


def test_processes_give_the_same_results(dummy: Any) -> None:
    one = dummy.runs(COPY, 50, images=3)
    three = dummy.runs(COPY, 50, images=3, processes=3)
    assert [r.output for r in one] == [r.output for r in three]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"readers": 1}, r"ar payload changed before arready"),
        ({"readers": 2}, r"arvalid fell before arready"),
        ({"readers": 3}, r"ar burst of 16 beats at 0x480000f10 crosses a 4 KiB border"),
        ({"readers": 4}, r"arlen = 31: a burst has at most 16 beats"),
        ({"copier": 1}, r"port d in cycle \d+: wlast is missing on the last beat of a burst"),
        ({"copier": 2}, r"port d in cycle \d+: w payload changed before wready"),
        ({"copier": 3}, r"done came before the last write response on port d"),
    ],
)
def test_protocol_violations_stop_the_run(dummy: Any, arguments: dict[str, int], text: str) -> None:
    mode = COPY if "copier" in arguments else WEIGHTS
    stall = 0.0 if arguments == {"copier": 3} else 0.3
    with pytest.raises(SimulationError, match=text):
        dummy.run(mode, 40, stall_probability=stall, seed=1, **arguments)


def test_a_run_without_end_is_a_timeout_that_says_where(dummy: Any) -> None:
    with pytest.raises(
        SimulationError, match=r"timed out: run 0 was not done after 5000 cycles, in layer 0; port w0: 640"
    ):
        dummy.run(WEIGHTS | NEVER_DONE, 40, max_cycles=5000)


@pytest.mark.parametrize(
    ("fault", "mode", "error"),
    [
        (FaultPlan("response", "w2", 37), WEIGHTS, ErrorCode.AXI_WEIGHTS),
        (FaultPlan("response", "c", 0), COMMANDS, ErrorCode.AXI_COMMAND),
        (FaultPlan("response", "d", 3, write=True), COPY, ErrorCode.AXI_DATA_READ),
        (FaultPlan("late_last", "d", 40), COPY, ErrorCode.AXI_DATA_READ),
        (FaultPlan("early_last", "w0", 40), WEIGHTS, ErrorCode.AXI_WEIGHTS),
    ],
)
def test_faults_fire_once_and_end_with_the_run(dummy: Any, fault: FaultPlan, mode: int, error: ErrorCode) -> None:
    broken, whole = dummy.runs(mode, 20, images=2, faults=(fault,))
    assert broken.error is error and broken.fired == (True,)
    assert whole.error is ErrorCode.NONE and whole.fired == ()
    if mode == COPY:
        assert whole.output[: 20 * BURST] == dummy.images[1][: 20 * BURST]


@pytest.mark.parametrize(
    "fault",
    [
        FaultPlan("stuck_address", "w1", 3),
        FaultPlan("stuck_data", "w1", 30),
        FaultPlan("stuck_address", "d", 2, write=True),
        FaultPlan("stuck_data", "d", 30, write=True),
        FaultPlan("stuck_response", "d", 2, write=True),
    ],
)
def test_stuck_channels_hang_a_master_without_timeout(dummy: Any, fault: FaultPlan) -> None:
    with pytest.raises(SimulationError, match="was not done after 3000 cycles"):
        dummy.run(COPY if fault.port == "d" else WEIGHTS, 20, faults=(fault,), max_cycles=3000)


def test_an_unplanned_error_code_is_an_error(dummy: Any) -> None:
    # 206 bursts reach past the end of the INPUT region.
    text = r"image 0: the accelerator stopped with error 6 \(AXI_DATA_READ\).*DDR address 0x54000c800 lies outside"
    with pytest.raises(SimulationError, match=text):
        dummy.run(COPY, 206)


def test_the_trace_gives_every_write_and_every_command(dummy: Any) -> None:
    first, second = dummy.runs(COPY, 40, images=2, dump=True)
    for index, run in enumerate((first, second)):
        (command,) = run.commands
        assert (command.layer, command.start) == (1, 2) and command.end == pytest.approx(run.cycles, abs=5)
        assert list(command.causes.values()) == [11, 12, 13, 14, 15, 16]
        assert run.layer_cycles() == {1: command.causes}
        ((_, memory),) = run.replay(2, 2048, 8)
        sent = np.frombuffer(dummy.images[index][: 40 * BURST], np.uint8).reshape(-1, 2, 16)  # rows, banks, beat
        assert (memory[0, :320] == sent[:, 0, :8]).all()
        assert (memory[1, :320, :4] == sent[:, 1, :4]).all(), "odd beats have a strobe of four bytes"
        assert (memory[:, 320:] == 0x80).all()
    assert (memory[1, :320, 4:] == 0).all()


def test_dumps_of_chosen_rows(dummy: Any) -> None:
    run = dummy.run(COPY, 40, dump=True, dump_rows=((3, 5), (100, 101)))
    assert set(run.commands[0].rows.tolist()) == {3, 4, 100} and len(run.commands[0].rows) == 6
    assert len(dummy.run(COPY, 40).commands[0].rows) == 0


def test_options_are_checked(dummy: Any) -> None:
    with pytest.raises(SimulationError, match=r"stall_probability = 1.0; legal: 0 .. 0.9"):
        SimOptions(stall_probability=1.0)
    with pytest.raises(
        SimulationError, match=r"efficiency = 0.99; legal: above 0, at most 0.9551 \(what refresh leaves\)"
    ):
        DdrTiming(efficiency=0.99)
    with pytest.raises(SimulationError, match=r"outstanding = 0; legal: 1 .. 32"):
        DdrTiming(outstanding=0)
    with pytest.raises(SimulationError, match=r"fault on port 'w7'; legal: w0, w1, w2, w3, d, c"):
        dummy.run(COPY, 1, faults=(FaultPlan("response", "w7"),))
    with pytest.raises(SimulationError, match=r"fault in image 4; legal: 0 .. 0"):
        dummy.run(COPY, 1, faults=(FaultPlan("response", "d", image=4),))


def test_default_timing_is_ddr4_at_85_percent() -> None:
    timing = DdrTiming()
    assert (timing.peak_bytes, timing.read_latency, timing.refresh_every, timing.refresh_cycles) == (
        64.0,
        45,
        2340,
        105,
    )
    assert timing.rate_bytes * (1 - timing.refresh_share) == pytest.approx(54.4)
