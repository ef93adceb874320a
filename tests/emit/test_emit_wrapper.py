"""Parameters and the flat wrapper: Verilator elaborates it for every number of weight ports."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bitloom.emit.parameters import rtl_parameters, rtl_sources, verilator_parameters
from bitloom.emit.wrapper import wrapper
from bitloom.errors import TargetError
from bitloom.target.arch import NAMED
from elaborate_top import elaborate_top


@pytest.mark.parametrize("ports", [1, 2, 4])
def test_the_wrapper_elaborates_around_the_real_top(ports: int, tmp_path: Path) -> None:
    path = tmp_path / "bitloom_top.v"
    path.write_text(wrapper(replace(NAMED["tiny"], weight_ports=ports)))
    elaborate_top(*map(str, rtl_sources()), str(path))


def test_ports_are_flat_and_complete() -> None:
    text = wrapper(NAMED["full"])
    for port in ("w0", "w3", "d", "c"):
        assert f"input  wire [127:0] m_axi_{port}_rdata" in text and f"assign m_axi_{port}_arcache = 4'b0011;" in text
    assert "output wire [15:0] m_axi_d_wstrb" in text and "m_axi_c_wdata" not in text and "m_axi_w4" not in text
    assert ".m_axi_w_araddr_o({m_axi_w3_araddr, m_axi_w2_araddr, m_axi_w1_araddr, m_axi_w0_araddr})" in text
    assert f"32'h{NAMED['full'].hash:08X}" in text
    assert (
        "ASSOCIATED_BUSIF s_axi:m_axi_w0:m_axi_w1:m_axi_w2:m_axi_w3:m_axi_d:m_axi_c, ASSOCIATED_RESET aresetn" in text
    )


def test_every_port_names_its_interface_and_signal() -> None:
    """Once each, and read-only masters say so: they are not found by their names alone."""
    text = wrapper(NAMED["mid"])
    ports = re.findall(r"^  (?:input |output) wire (?:\[\d+:0\] )?(\w+)", text, re.MULTILINE)
    named = re.findall(r'X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 (\w+) (\w+)" \*\)', text)
    assert [f"{bus}_{signal.lower()}" for bus, signal in named] == [p for p in ports if "_axi" in p]
    modes = dict(re.findall(r"XIL_INTERFACENAME (m_axi_\w+),.* READ_WRITE_MODE (\w+),", text))
    assert modes == {"m_axi_w0": "READ_ONLY", "m_axi_w1": "READ_ONLY", "m_axi_d": "READ_WRITE", "m_axi_c": "READ_ONLY"}


def test_parameters_have_the_form_of_the_tool() -> None:
    parameters = rtl_parameters(NAMED["tiny"])
    assert parameters["T"] == 8 and parameters["DC"] == 4 and parameters["ArchHash"] == NAMED["tiny"].hash
    assert "-GP=2" in verilator_parameters(parameters)
    assert f"-GArchHash=32'h{NAMED['tiny'].hash:08X}" in verilator_parameters(parameters)


def test_a_folder_without_the_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"no bl_pkg.sv below .*; reinstall bitloom"):
        rtl_sources(tmp_path)
