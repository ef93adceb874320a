"""Vivado's Tcl commands as far as the board's scripts use them: recorded with their options, and what they answer."""

from __future__ import annotations

import re
import tkinter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

#: Command -> the options that it is given, "=" behind those with a value (UG835, UG1118).
COMMANDS = {
    "create_project": "force part=", "close_project": "", "current_project": "", "add_files": "norecurse",
    "set_property": "dict", "get_property": "", "current_fileset": "", "update_compile_order": "fileset=",
    "update_ip_catalog": "", "get_ipdefs": "all", "create_bd_design": "", "create_bd_cell": "type= vlnv=",
    "apply_bd_automation": "rule= config=", "get_bd_pins": "", "get_bd_intf_pins": "", "connect_bd_net": "",
    "connect_bd_intf_net": "", "get_bd_addr_spaces": "", "get_bd_addr_segs": "",
    "assign_bd_address": "offset= range= target_address_space=", "exclude_bd_addr_seg": "target_address_space=",
    "validate_bd_design": "", "save_bd_design": "", "get_files": "", "make_wrapper": "files= top",
    "get_runs": "", "launch_runs": "jobs= to_step=", "wait_on_run": "", "open_run": "",
    "report_timing_summary": "file=", "report_utilization": "hierarchical file=", "report_power": "file=",
    "write_hw_platform": "fixed include_bit force file=",
    "ipx::package_project": "root_dir= vendor= library= taxonomy= import_files set_current= force",
    "ipx::current_core": "", "ipx::get_bus_interfaces": "of_objects=",
    "ipx::associate_bus_interfaces": "busif= clock= reset=",
    "ipx::get_bus_parameters": "quiet of_objects=", "ipx::add_bus_parameter": "",
    "ipx::get_memory_maps": "quiet of_objects=", "ipx::add_memory_map": "",
    "ipx::get_address_blocks": "quiet of_objects=",
    "ipx::add_address_block": "", "ipx::add_register": "", "ipx::create_xgui_files": "", "ipx::update_checksums": "",
    "ipx::check_integrity": "", "ipx::save_core": "",
}  # fmt: skip


@dataclass(frozen=True)
class Call:
    name: str
    options: dict[str, str]
    words: tuple[str, ...]


@dataclass
class Vivado:
    """Runs scripts and keeps every call. slack: what STATS.WNS and STATS.WHS say.  progress: of every run."""

    folder: Path
    slack: dict[str, str] = field(default_factory=lambda: {"STATS.WNS": "0.011", "STATS.WHS": "0.010"})
    progress: str = "100%"
    calls: list[Call] = field(default_factory=list)
    properties: dict[tuple[str, str], str] = field(default_factory=dict)
    cells: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tcl = tkinter.Tcl()
        self.tcl.eval("namespace eval ipx {}")
        for name in COMMANDS:
            self.tcl.createcommand(name, self._command(name))

    def source(self, script: Path, *arguments: str) -> None:
        """Runs a script as `vivado -source SCRIPT -tclargs ...`; raises tkinter.TclError on an error."""
        self.tcl.setvar("argv", " ".join(arguments))
        self.tcl.eval(f"source {{{script}}}")

    def named(self, name: str) -> list[Call]:
        return [call for call in self.calls if call.name == name]

    def _command(self, name: str) -> Callable[..., str]:
        legal = COMMANDS[name].split()

        def run(*words: str) -> str:
            options: dict[str, str] = {}
            rest = list(words)
            plain = []
            while rest:
                word = str(rest.pop(0))
                if re.fullmatch(r"-[a-z_]+", word):
                    if f"{word[1:]}=" in legal:
                        options[word[1:]] = str(rest.pop(0))
                    else:
                        assert word[1:] in legal, f"{name} has no option {word}"
                        options[word[1:]] = ""
                else:
                    plain.append(word)
            call = Call(name, options, tuple(plain))
            self.calls.append(call)
            answer = getattr(self, "_" + name.replace("::", "_"), None)
            return "" if answer is None else str(answer(call))

        return run

    def _add_files(self, call: Call) -> None:
        for path in call.words:
            assert Path(path).is_file(), path

    def _set_property(self, call: Call) -> None:
        if "dict" in call.options:
            pairs = self.tcl.splitlist(call.words[0])
            for name, value in zip(pairs[::2], pairs[1::2], strict=True):
                self.properties[call.words[1], str(name)] = str(value)
        else:
            name, value, target = call.words
            self.properties[target, name] = value

    def _get_property(self, call: Call) -> str:
        fixed = {"PROGRESS": self.progress, "STATUS": "route_design ERROR", **self.slack}
        return fixed[call.words[0]]

    def _current_project(self, _: Call) -> str:
        return "project"

    def _current_fileset(self, _: Call) -> str:
        return "sources_1"

    def _get_ipdefs(self, call: Call) -> str:
        name = call.words[0].removesuffix(":*")
        return f"{name}:9.0 {name}:10.0"

    def _create_bd_cell(self, call: Call) -> str:
        (name,) = call.words
        assert name not in self.cells
        self.cells[name] = call.options["vlnv"]
        return name

    def _get_bd_pins(self, call: Call) -> str:
        assert call.words[0].split("/")[0] in self.cells, f"no cell of {call.words[0]}"
        return call.words[0]

    _get_bd_intf_pins = _get_bd_pins
    _get_bd_addr_spaces = _get_bd_pins

    def _get_bd_addr_segs(self, call: Call) -> str:
        place = {0: "HPC0", 1: "HPC1", 2: "HP0", 3: "HP1", 4: "HP2", 5: "HP3"}
        found = re.fullmatch(r"(ps/SAXIGP(\d))/\*", call.words[0])
        if found is None:
            return call.words[0]
        return " ".join(
            f"{found[1]}/{place[int(found[2])]}_{what}" for what in ("DDR_LOW", "DDR_HIGH", "LPS_OCM", "QSPI")
        )

    def _get_files(self, call: Call) -> str:
        return call.words[0]

    def _make_wrapper(self, _: Call) -> str:
        path = self.folder / "bitloom_bd_wrapper.v"
        path.write_text("")
        return str(path)

    def _get_runs(self, call: Call) -> str:
        return call.words[0]

    def _launch_runs(self, call: Call) -> None:
        if call.options.get("to_step") == "write_bitstream":
            path = self.folder / "build/project/bitloom.runs/impl_1/bitloom_bd_wrapper.bit"
            path.parent.mkdir(parents=True)
            path.write_text("")

    def _ipx_current_core(self, _: Call) -> str:
        return "core"

    def _ipx_get_bus_interfaces(self, call: Call) -> str:
        ports = (self.folder / "rtl" / "bitloom_top.v").read_text()
        return f"bus_{call.words[0]}" if re.search(rf':1.0 {call.words[0]} \w+" \*\)', ports) else ""

    def _ipx_get_bus_parameters(self, _: Call) -> str:
        return ""

    def _ipx_add_bus_parameter(self, call: Call) -> str:
        return f"{call.words[1]}.{call.words[0]}"

    def _ipx_add_memory_map(self, call: Call) -> str:
        return f"map_{call.words[0]}"

    def _ipx_add_address_block(self, call: Call) -> str:
        return f"{call.words[1]}.{call.words[0]}"

    def _ipx_add_register(self, call: Call) -> str:
        return f"register_{call.words[0]}"
