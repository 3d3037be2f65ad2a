"""The parts that a job is composed of: what each kind must be, and how a job file's names find them.

A part is a frozen dataclass whose fields are its parameters: a job file's table binds to it, with the same errors as
every other configuration, and `fedelta parts show` prints its docstrings. It is found by entry point, those that come
with fedelta like those of a third party:

    [project.entry-points."fedelta.aggregators"]
    my-mean = "my_package:MyMean"
"""

from fedelta.parts._aggregation import Aggregator, Coordinatewise, Measure, Measured, Needs, Rule, Updates, Weighted
from fedelta.parts._combination import check, requires, synchronous
from fedelta.parts._describe import Parameter, PartInfo, describe, job_schema
from fedelta.parts._local import LocalTraining
from fedelta.parts._optimization import Block, Schedule, ServerOptimizer, Step
from fedelta.parts._registry import SLOTS, Slot, build, find, known, slot_of
from fedelta.parts._selection import Candidate, Draw, Selector, Sizing
from fedelta.parts._site import LocalResult, Site, Tensors
from fedelta.parts._stopping import History, RoundFacts, StopRule

__all__ = [
    "SLOTS",
    "Aggregator",
    "Block",
    "Candidate",
    "Coordinatewise",
    "Draw",
    "History",
    "LocalResult",
    "LocalTraining",
    "Measure",
    "Measured",
    "Needs",
    "Parameter",
    "PartInfo",
    "RoundFacts",
    "Rule",
    "Schedule",
    "Selector",
    "ServerOptimizer",
    "Site",
    "Sizing",
    "Slot",
    "Step",
    "StopRule",
    "Tensors",
    "Updates",
    "Weighted",
    "build",
    "check",
    "describe",
    "find",
    "job_schema",
    "known",
    "requires",
    "slot_of",
    "synchronous",
]
