"""Own definitions of the networks: `build(name)`, `info(name)`, `NAMES`."""

from bitloom.zoo.catalogue import NAMES, ZooInfo, build, info

__all__ = ["NAMES", "ZooInfo", "build", "info"]
