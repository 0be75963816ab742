"""The network, how it learns, and the data. Nothing here knows of encryption."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    """Two convolutions and a linear classifier for images of 8 x 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 16, 3, padding=1), nn.GroupNorm(2, 16), nn.ReLU(), nn.MaxPool2d(2)),
        )
        self.classifier = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return class scores, shape (batch, 10), for images of shape (batch, 1, 8, 8)."""
        return self.classifier(self.features(images).flatten(1))


def load_data(hospital: int, hospitals: int) -> tuple[DataLoader, DataLoader]:
    """Return one hospital's images, four fifths to train on and one to evaluate on."""
    features, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(10).permutation(len(labels))
    mine = np.array_split(order, hospitals)[hospital]
    train, test = np.split(mine, [len(mine) * 4 // 5])
    images = torch.tensor(features / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    targets = torch.tensor(labels)
    order_of_batches = torch.Generator().manual_seed(hospital)
    return (
        DataLoader(
            TensorDataset(images[train], targets[train]),
            batch_size=32,
            shuffle=True,
            generator=order_of_batches,
        ),
        DataLoader(TensorDataset(images[test], targets[test]), batch_size=256),
    )


def train(net: Net, loader: DataLoader, epochs: int, learning_rate: float) -> float:
    """Train the network in place and return the last epoch's mean loss."""
    optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=0.9)
    criterion = nn.CrossEntropyLoss()
    net.train()
    for _ in range(epochs):
        total = 0.0
        for images, targets in loader:
            optimizer.zero_grad()
            loss = criterion(net(images), targets)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(targets)
    return total / len(loader.dataset)


@torch.no_grad()
def test(net: Net, loader: DataLoader) -> tuple[float, float]:
    """Return the network's mean loss and its accuracy."""
    criterion = nn.CrossEntropyLoss(reduction="sum")
    net.eval()
    loss, right = 0.0, 0
    for images, targets in loader:
        scores = net(images)
        loss += criterion(scores, targets).item()
        right += int((scores.argmax(dim=1) == targets).sum())
    return loss / len(loader.dataset), right / len(loader.dataset)
