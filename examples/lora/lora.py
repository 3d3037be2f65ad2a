"""A network that every site has, fine-tuned together: only LoRA adapters travel."""

import os

import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset

from make_base import network

os.environ["HF_HUB_OFFLINE"] = "1"  # before peft is imported: nothing is to be looked up anywhere
from peft import LoraConfig, get_peft_model

from fedelta import EvalResult, Task
from fedelta.torch import TorchLearner, evaluate_classifier


def site(index: int, clients: int, seed: int) -> tuple[TensorDataset, TensorDataset]:
    """One site's data, to train and to evaluate: its share of the digits, lying on their side."""
    found = load_digits()
    turned = torch.tensor(found.images / 16, dtype=torch.float32).rot90(1, (1, 2)).flatten(1)
    order = torch.randperm(len(turned), generator=torch.Generator().manual_seed(seed))[index::clients]
    train, test = order[: len(order) * 4 // 5], order[len(order) * 4 // 5 :]
    digits = torch.tensor(found.target)
    return TensorDataset(turned[train], digits[train]), TensorDataset(turned[test], digits[test])


class Turned(TorchLearner):
    """Reads digits that lie on their side, with a network that knows them upright."""

    name = "turned"

    def setup(self) -> None:
        self.train_set, self.test_set = self.data

    def model(self, rank: int = 8) -> nn.Module:
        base = network()
        base.load_state_dict(load_file("base.safetensors"))
        adapters = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["0", "2", "4"])
        return get_peft_model(base, adapters).to(self.device)

    def dataset(self) -> Dataset:
        return self.train_set

    def loss(self, model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
        images, digits = batch
        return cross_entropy(model(images), digits)

    def evaluate(self, model: nn.Module, task: Task) -> EvalResult:
        return evaluate_classifier(model, DataLoader(self.test_set, batch_size=256), task)
