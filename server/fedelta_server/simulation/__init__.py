"""Simulation: a job's rounds with many clients in one process, or in a few, without a network.

What decides is the coordinator's own engine, what folds its own fold, and what trains is what trains at clients. Only
the clock, the wire and the disk are missing: time jumps from one event to the next.

    from fedelta_server.simulation import HalfNormal, simulate

    history = simulate("digits.toml", Digits, data="shards", delays=HalfNormal(1.0))
    print(history.curve("accuracy"))
"""

from fedelta_server.simulation._delays import NO_DELAYS, Constant, Delays, HalfNormal, Occasion, Scaled, parse_delays
from fedelta_server.simulation._desk import Watch
from fedelta_server.simulation._history import Evaluation, History, Round, Version
from fedelta_server.simulation._run import Options, SimulationInterrupted, simulate
from fedelta_server.simulation._sites import Data

__all__ = [
    "NO_DELAYS",
    "Constant",
    "Data",
    "Delays",
    "Evaluation",
    "HalfNormal",
    "History",
    "Occasion",
    "Options",
    "Round",
    "Scaled",
    "SimulationInterrupted",
    "Version",
    "Watch",
    "parse_delays",
    "simulate",
]
