"""Both Tcl scripts run in a Tcl interpreter with Vivado's commands recorded: what they build, and how they end."""

from __future__ import annotations

from pathlib import Path

import pytest

from bitloom.board.settings import REGISTER_BYTES, BoardSettings, ps_ports
from bitloom.board.write import write_board
from bitloom.emit.parameters import rtl_sources
from bitloom.emit.wrapper import masters_of
from bitloom.program.commands import REGISTERS
from bitloom.target.arch import named_arch
from bitloom.target.device import load_device

tkinter = pytest.importorskip("tkinter", reason="no Tcl interpreter: this Python has no tkinter")
from board.vivado import Vivado  # noqa: E402

DEVICE = load_device("xczu15eg")


@pytest.fixture(params=["tiny", "mid", "full"])
def built(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    write_board(named_arch(request.param), DEVICE, tmp_path)
    return request.param, tmp_path


def test_the_ip_has_every_source_interface_and_register(built: tuple[str, Path]) -> None:
    name, folder = built
    vivado = Vivado(folder)
    vivado.source(folder / "package_ip.tcl")
    added = [Path(call.words[0]).name for call in vivado.named("add_files")]
    assert added == [*(path.name for path in rtl_sources()), "bitloom_top.v"]
    assert vivado.properties["sources_1", "top"] == "bitloom_top"
    buses = {"s_axi", *(f"m_axi_{m}" for m in masters_of(named_arch(name)))}
    clocked = [
        call.options["busif"] for call in vivado.named("ipx::associate_bus_interfaces") if "busif" in call.options
    ]
    assert sorted(clocked) == sorted(buses)
    assert all(call.options["clock"] == "aclk" for call in vivado.named("ipx::associate_bus_interfaces"))
    registers = {
        call.words[0]: tuple(
            vivado.properties[f"register_{call.words[0]}", p] for p in ("address_offset", "access", "size")
        )
        for call in vivado.named("ipx::add_register")
    }
    access = {"r": "read-only", "rw": "read-write"}
    assert registers == {n: (f"0x{at:02X}", access[a], "32") for n, at, a, _ in REGISTERS}
    assert vivado.properties["map_s_axi.reg0", "range"] == str(REGISTER_BYTES)
    assert vivado.properties["bus_irq.SENSITIVITY", "value"] == "LEVEL_HIGH"
    modes = {m: vivado.properties[f"bus_m_axi_{m}.READ_WRITE_MODE", "value"] for m in masters_of(named_arch(name))}
    assert modes.pop("d") == "READ_WRITE" and set(modes.values()) == {"READ_ONLY"}
    assert vivado.properties["core", "supported_families"] == "zynquplus Production"
    assert vivado.calls[-1].name == "close_project" and vivado.calls[-2].name == "ipx::save_core"


def test_the_project_connects_every_interface_once(built: tuple[str, Path]) -> None:
    name, folder = built
    vivado, ports = Vivado(folder), ps_ports(named_arch(name))
    vivado.source(folder / "project.tcl")
    project = vivado.named("create_project")[-1]
    assert project.options["part"] == DEVICE.mpsoc_part == "xczu15eg-ffvb1156-2-i"
    assert vivado.properties["clock", "CONFIG.CLKOUT1_REQUESTED_OUT_FREQ"] == "300"
    assert (
        vivado.cells["accel"] == "bitloom:user:bitloom:1.0"
        and vivado.cells["ps"] == "xilinx.com:ip:zynq_ultra_ps_e:10.0"
    )
    links = [call.words for call in vivado.named("connect_bd_intf_net")]
    ends = [end for link in links for end in link]
    assert len(ends) == len(set(ends)), "an interface is connected twice"
    assert {end for end in ends if end.startswith("accel/")} == {"accel/s_axi", *(f"accel/m_axi_{m}" for m in ports)}
    through = {a: b for a, b in links} | {b: a for a, b in links}
    for master, place in ports.items():
        cell = through[f"accel/m_axi_{master}"].split("/")[0]
        assert through[f"{cell}/M00_AXI"] == f"ps/S_AXI_{place}_FPD"
        assert vivado.cells[cell].startswith("xilinx.com:ip:smartconnect:")
    assert through["ps/M_AXI_HPM0_FPD"] == "control/S00_AXI" and through["control/M00_AXI"] == "accel/s_axi"


def test_clocks_resets_interrupt_and_addresses(built: tuple[str, Path]) -> None:
    name, folder = built
    vivado, ports = Vivado(folder), ps_ports(named_arch(name))
    vivado.source(folder / "project.tcl")
    nets = [call.words for call in vivado.named("connect_bd_net")]
    driven = [sink for _, sink in nets]
    assert len(driven) == len(set(driven)), "a pin is driven twice"
    clocked = {sink for source, sink in nets if source == "clock/clk_out1"}
    cells = {cell for cell, vlnv in vivado.cells.items() if ":smartconnect:" in vlnv}
    ps_clocks = {f"ps/saxi{place.lower()}_fpd_aclk" for place in ports.values()}
    own = {"accel/aclk", "reset/slowest_sync_clk", "ps/maxihpm0_fpd_aclk"}
    assert clocked == own | ps_clocks | {f"{cell}/aclk" for cell in cells}
    assert ("reset/peripheral_aresetn", "accel/aresetn") in nets and ("accel/irq", "ps/pl_ps_irq0") in nets
    numbers = {"HPC0": 0, "HPC1": 1, "HP0": 2, "HP1": 3, "HP2": 4, "HP3": 5}
    used = {
        key for (cell, key), value in vivado.properties.items() if cell == "ps" and "USE__S_AXI" in key and value == "1"
    }
    assert used == {f"CONFIG.PSU__USE__S_AXI_GP{numbers[place]}" for place in ports.values()}
    assigned = [(c.options["target_address_space"], c.words[0]) for c in vivado.named("assign_bd_address")]
    control = vivado.named("assign_bd_address")[0].options
    assert assigned[0] == ("ps/Data", "accel/s_axi/reg0")
    assert (control["offset"], control["range"]) == ("0xA0000000", "4K")
    for master, place in ports.items():
        seen = {segment for space, segment in assigned if space == f"accel/m_axi_{master}"}
        assert seen == {f"ps/SAXIGP{numbers[place]}/{place}_DDR_{half}" for half in ("LOW", "HIGH")}


def test_it_ends_with_bitstream_platform_and_reports(tmp_path: Path) -> None:
    write_board(named_arch("full"), DEVICE, tmp_path)
    vivado = Vivado(tmp_path)
    vivado.source(tmp_path / "project.tcl", "board_part=v.com:b:part0:1.0", "clock_mhz=250", "jobs=2", "strategy=Fast")
    assert (tmp_path / "bitloom.bit").is_file()
    assert Path(vivado.named("write_hw_platform")[0].options["file"]) == tmp_path / "bitloom.xsa"
    names = [Path(c.options["file"]).name for c in vivado.calls if c.name.startswith("report_")]
    assert names == ["timing.rpt", "utilization.rpt", "power.rpt"]
    assert vivado.properties["project", "board_part"] == "v.com:b:part0:1.0"
    assert vivado.properties["clock", "CONFIG.CLKOUT1_REQUESTED_OUT_FREQ"] == "250"
    assert vivado.properties["impl_1", "strategy"] == "Fast"
    assert vivado.named("apply_bd_automation")[0].words == ("ps",)


def test_a_preset_file_configures_the_processing_system(tmp_path: Path) -> None:
    write_board(named_arch("tiny"), DEVICE, tmp_path)
    preset = tmp_path / "preset.tcl"
    preset.write_text("proc apply_preset {IPINST} { return [dict create CONFIG.PSU__DDRC__CWL {12}] }\n")
    vivado = Vivado(tmp_path)
    vivado.source(tmp_path / "project.tcl", f"ps_preset={preset}", "build=no")
    assert vivado.properties["ps", "CONFIG.PSU__DDRC__CWL"] == "12"
    assert vivado.named("validate_bd_design") and not vivado.named("launch_runs")


@pytest.mark.parametrize(
    ("slack", "text"),
    [
        (
            {"STATS.WNS": "-0.667", "STATS.WHS": "0.01"},
            r"worst slack of setup is -0.667 ns; no bitstream is .* about 249 MHz",
        ),
        ({"STATS.WNS": "0.1", "STATS.WHS": "-0.02"}, r"worst slack of hold is -0.02 ns; no bitstream is written"),
    ],
)
def test_failing_timing_stops_before_the_bitstream(tmp_path: Path, slack: dict[str, str], text: str) -> None:
    write_board(named_arch("full"), DEVICE, tmp_path)
    vivado = Vivado(tmp_path, slack=slack)
    with pytest.raises(tkinter.TclError, match=text):
        vivado.source(tmp_path / "project.tcl")
    assert vivado.named("report_timing_summary") and not vivado.named("write_hw_platform")


def test_a_run_that_stops_and_a_wrong_setting_are_said(tmp_path: Path) -> None:
    write_board(named_arch("tiny"), DEVICE, tmp_path)
    with pytest.raises(tkinter.TclError, match=r"synth_1 stopped: route_design ERROR; see its runme.log"):
        Vivado(tmp_path, progress="34%").source(tmp_path / "project.tcl")
    with pytest.raises(tkinter.TclError, match="'clock=3' is not understood; legal: name=value of part, board_part"):
        Vivado(tmp_path).source(tmp_path / "project.tcl", "clock=3")
    (tmp_path / "rtl" / "bl_pkg.sv").unlink()
    with pytest.raises(tkinter.TclError, match=r"bl_pkg.sv is missing; write the board folder again"):
        Vivado(tmp_path).source(tmp_path / "package_ip.tcl")


def test_settings_reach_the_scripts(tmp_path: Path) -> None:
    settings = BoardSettings("xczu9eg-ffvb1156-2-e", 200, "a:b:part0:1", 0xA0010000, 3 << 20)
    write_board(named_arch("tiny"), DEVICE, tmp_path, settings=settings)
    vivado = Vivado(tmp_path)
    vivado.source(tmp_path / "project.tcl", "build=no")
    assert vivado.named("create_project")[-1].options["part"] == "xczu9eg-ffvb1156-2-e"
    assert vivado.named("assign_bd_address")[0].options["offset"] == "0xA0010000"
    overlay = (tmp_path / "bitloom.dtso").read_text()
    assert "reg = <0x0 0xa0010000 0x0 0x1000>;" in overlay and "size = <0x00300000>;" in overlay
