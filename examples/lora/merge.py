"""Puts adapters that were trained together into the network for good: `python merge.py ADAPTERS OUT`."""

import sys

from safetensors.torch import save_file

from fedelta import load_state
from lora import Turned

model = Turned().model()
load_state(model, sys.argv[1], partial=True)
save_file(model.merge_and_unload().state_dict(), sys.argv[2])
