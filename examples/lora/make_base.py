"""Makes the base model that every site has: a network that reads upright digits."""

import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy


def network() -> nn.Module:
    """64 pixels in, 10 digits out."""
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


def main() -> None:
    """Trains it on scikit-learn's digits and writes base.safetensors."""
    torch.manual_seed(7)
    torch.set_num_threads(1)
    found = load_digits()
    images, digits = torch.tensor(found.data / 16, dtype=torch.float32), torch.tensor(found.target)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(60):
        optimizer.zero_grad()
        loss = cross_entropy(model(images), digits)
        loss.backward()
        optimizer.step()
    save_file(model.state_dict(), "base.safetensors")
    print(f"base.safetensors: loss {loss.item():.3f} on upright digits")


if __name__ == "__main__":
    main()
