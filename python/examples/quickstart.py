"""Trains a small network on the digits of this repository, and looks at its Hessian.

    python python/examples/quickstart.py            # needs hessblock[torch]; writes quickstart.png
"""

from pathlib import Path

import hessblock as hb
import numpy as np
import torch
from torch import nn

DIGITS = Path(__file__).parents[2] / "examples" / "digits"

torch.manual_seed(0)
images = torch.from_numpy(np.load(DIGITS / "images.npy"))
labels = torch.from_numpy(np.load(DIGITS / "labels.npy"))
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)).eval()
loss = nn.CrossEntropyLoss()

p = hb.Problem(model, loss, (images, labels))
G, H = hb.ggn(p), hb.hessian(p)
print(p)

optimizer = torch.optim.Adam(model.parameters(), 0.01)
for epoch in range(5):
    print(f"epoch {epoch}: loss {p.loss_value():.4f}, tr G {G.trace():.3f}, tr H {H.trace():.3f}")
    for batch in torch.randperm(len(images)).split(64):
        optimizer.zero_grad()
        loss(model(images[batch]), labels[batch]).backward()
        optimizer.step()
    p.update()  # the weights as they are now; G and H follow

block = H.block("1")
print(block)
print("largest eigenvalues of the first layer's block:", np.linalg.eigvalsh(block)[-3:])
print(block.verify())
block.show().save("quickstart.png", overwrite=True)
