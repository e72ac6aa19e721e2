"""Trains the example network on the UCI digits and exports it.

    python examples/digits/train.py        # needs torch, onnx, onnxscript

The data (1797 images of 8 × 8 in [0, 1], `images.npy`, and their labels, `labels.npy`) are the test part of
Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
"""

import pathlib
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))


class Digits(nn.Module):
    """64-16-12-10 with tanh: 1374 parameters, so that the whole Hessian is a picture."""

    def __init__(self):
        super().__init__()
        self.dense1 = nn.Linear(64, 16)
        self.dense2 = nn.Linear(16, 12)
        self.head = nn.Linear(12, 10)

    def forward(self, x):
        x = torch.flatten(x, 1)
        x = torch.tanh(self.dense1(x))
        x = torch.tanh(self.dense2(x))
        return self.head(x)


def make_model():
    return Digits()


def main():
    from export import export

    torch.manual_seed(0)
    images = torch.from_numpy(np.load(HERE / "images.npy"))
    labels = torch.from_numpy(np.load(HERE / "labels.npy"))
    train, test = slice(0, 1500), slice(1500, None)
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 25)
    for epoch in range(25):
        order = torch.randperm(1500)
        for batch in order.split(50):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        schedule.step()
    with torch.no_grad():
        for name, part in (("train", train), ("test", test)):
            outputs = model(images[part])
            right = (outputs.argmax(1) == labels[part]).float().mean()
            print(f"{name}: loss {F.cross_entropy(outputs, labels[part]):.4f}, {100 * right:.1f} % right")
    export(model, (1, 8, 8), HERE / "model.onnx")


if __name__ == "__main__":
    main()
