"""Train CryptoNets with ReLUs on digits of MNIST and write it as a network for CaPC.

    python train.py [network.safetensors]

Needs PyTorch and fl-he[capc,mnist]. The network is on pixels from 0 to 255, as data=mnist has them.
By the same split as ``experiment=capc_mnist seed=0`` it is trained on digits that are neither asked
about nor in the test set.
"""

from __future__ import annotations

import sys
from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from fl_he.capc import save_network
from fl_he.capc.data import capc_data
from fl_he.config.composition import compose

SEED, EPOCHS, BATCH, SHIFT = 0, 60, 64, 2


def cryptonets() -> nn.Sequential:
    """Return 5 maps of 5 x 5 with stride 2, 100 units and 10 classes, ReLUs between them."""
    return nn.Sequential(
        OrderedDict(
            convolution=nn.Conv2d(1, 5, 5, stride=2, padding=1),
            relu=nn.ReLU(),
            flat=nn.Flatten(),
            hidden=nn.Linear(845, 100),
            relu2=nn.ReLU(),
            dropout=nn.Dropout(0.5),
            classes=nn.Linear(100, 10),
        )
    )


def shifted(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Move each image by up to SHIFT pixels."""
    moves = rng.integers(-SHIFT, SHIFT + 1, size=(len(images), 2))
    pairs = zip(images, moves.tolist(), strict=True)
    return torch.stack([torch.roll(one, tuple(move), dims=(1, 2)) for one, move in pairs])


def accuracy(network: nn.Sequential, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of images that the network labels rightly."""
    network.eval()
    with torch.no_grad():
        return float((network(images).argmax(dim=1) == labels).float().mean())


def main() -> None:
    """Train, save, and print the accuracy on digits that were held out."""
    path = sys.argv[1] if len(sys.argv) > 1 else "network.safetensors"
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    data = capc_data(compose("config", ["experiment=capc_mnist", f"seed={SEED}"]))
    features = np.concatenate([part.features for part in data.parties])
    labels = torch.from_numpy(np.concatenate([part.labels for part in data.parties]))
    images = torch.from_numpy(features.reshape(-1, 1, 28, 28)).float()
    held_out = torch.from_numpy(data.test.features.reshape(-1, 1, 28, 28)).float()
    network = cryptonets()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        network.train()
        for rows in np.array_split(rng.permutation(len(images)), len(images) // BATCH):
            optimizer.zero_grad()
            scores = network(shifted(images[rows], rng))
            nn.functional.cross_entropy(scores, labels[rows]).backward()
            optimizer.step()
        schedule.step()
    right = accuracy(network, held_out, torch.from_numpy(data.test.labels))
    with torch.no_grad():  # the pixels of the table are 0 to 255
        network.convolution.weight /= 255
    save_network(path, network, shape=(1, 28, 28), classes=list("0123456789"))
    print(f"{path}: trained on {len(images)} digits, {right:.3f} of {len(held_out)} others right")


if __name__ == "__main__":
    main()
