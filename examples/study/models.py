"""Writes networks to study the error of the approximation on, with inputs and labels.

    python examples/study/models.py FOLDER        # needs torch, onnx, onnxscript

    lenet5_tanh, lenet5_relu    1 × 28 × 28, LeCun et al. 1998 with average pools
    resnet20                    3 × 32 × 32, He et al. 2015, section 4.2, shortcuts without parameters
    efficientnet_b0             3 × 32 × 32, Tan and Le 2019, with the stem's stride 1
    efficientnet_cifar          the same blocks, narrower and fewer

All have 10 classes and fresh weights. Batch norms are in evaluation mode, with parameters of their own and the
statistics of the inputs written here: `images28.npy` and `images32.npy`, 64 of normal numbers, and `labels.npy`.
Then, say,

    hessblock blocks FOLDER/resnet20.onnx --inputs FOLDER/images32.npy --targets FOLDER/labels.npy \\
        --loss cross-entropy --part layer=block1.conv1 --part diag --out blocks
"""

import pathlib
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

SAMPLES, CLASSES = 64, 10
SMALL, LARGE = (1, 28, 28), (3, 32, 32)


class LeNet5(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.dense1 = nn.Linear(256, 120)
        self.dense2 = nn.Linear(120, 84)
        self.dense3 = nn.Linear(84, CLASSES)
        self.activation = activation

    def forward(self, x):
        x = F.avg_pool2d(self.activation(self.conv1(x)), 2)
        x = F.avg_pool2d(self.activation(self.conv2(x)), 2)
        x = self.activation(self.dense1(torch.flatten(x, 1)))
        return self.dense3(self.activation(self.dense2(x)))


class Basic(nn.Module):
    """Two convolutions beside a shortcut, which is subsampled and padded with channels of zeros."""

    def __init__(self, inside, outside, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.stride, self.more = stride, (outside - inside) // 2

    def forward(self, x):
        h = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        if self.more:
            x = F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, self.more, self.more))
        return torch.relu(h + x)


class ResNet20(nn.Module):
    """A convolution, three stages of three blocks of 16, 32 and 64 channels, the mean, a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        widths = [16] * 4 + [32] * 3 + [64] * 3
        for k, (inside, outside) in enumerate(zip(widths, widths[1:]), 1):
            self.add_module(f"block{k}", Basic(inside, outside, outside // inside))
        self.dense = nn.Linear(64, CLASSES)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight)

    def forward(self, x):
        x = torch.relu(self.norm1(self.conv1(x)))
        for k in range(1, 10):
            x = self.get_submodule(f"block{k}")(x)
        return self.dense(x.mean((2, 3)))


class Inverted(nn.Module):
    """Widened, convolved by channel, scaled by channel (squeeze and excitation), narrowed; a skip."""

    def __init__(self, inside, outside, widening, kernel, stride):
        super().__init__()
        wide = inside * widening
        if widening > 1:
            self.expand = nn.Conv2d(inside, wide, 1, bias=False)
            self.expand_norm = nn.BatchNorm2d(wide)
        self.depthwise = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(wide)
        self.squeeze = nn.Conv2d(wide, max(1, inside // 4), 1)
        self.excite = nn.Conv2d(max(1, inside // 4), wide, 1)
        self.project = nn.Conv2d(wide, outside, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(outside)
        self.widens, self.skips = widening > 1, stride == 1 and inside == outside

    def forward(self, x):
        h = F.silu(self.expand_norm(self.expand(x))) if self.widens else x
        h = F.silu(self.depthwise_norm(self.depthwise(h)))
        scale = self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(h, 1))))
        h = self.project_norm(self.project(h * torch.sigmoid(scale)))
        return x + h if self.skips else h


class EfficientNet(nn.Module):
    """`stages` are (widening, kernel, stride of the first, channels, repeats); dropout is left out."""

    def __init__(self, stem, stages, head):
        super().__init__()
        self.stem = nn.Conv2d(3, stem, 3, 1, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(stem)
        inside, self.blocks = stem, 0
        for widening, kernel, stride, outside, repeats in stages:
            for k in range(repeats):
                self.blocks += 1
                block = Inverted(inside, outside, widening, kernel, stride if k == 0 else 1)
                self.add_module(f"block{self.blocks}", block)
                inside = outside
        self.head = nn.Conv2d(inside, head, 1, bias=False)
        self.head_norm = nn.BatchNorm2d(head)
        self.dense = nn.Linear(head, CLASSES)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out")
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        nn.init.uniform_(self.dense.weight, -CLASSES ** -0.5, CLASSES ** -0.5)
        nn.init.zeros_(self.dense.bias)

    def forward(self, x):
        x = F.silu(self.stem_norm(self.stem(x)))
        for k in range(1, self.blocks + 1):
            x = self.get_submodule(f"block{k}")(x)
        x = F.silu(self.head_norm(self.head(x)))
        return self.dense(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


B0 = [(1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3),
      (6, 5, 2, 192, 4), (6, 3, 1, 320, 1)]
NARROW = [(1, 3, 1, 16, 1), (4, 3, 2, 24, 2), (4, 5, 2, 40, 3), (4, 3, 2, 80, 4)]
MODELS = {  # name → the module's maker and the shape of a sample
    "lenet5_tanh": (lambda: LeNet5(torch.tanh), SMALL),
    "lenet5_relu": (lambda: LeNet5(torch.relu), SMALL),
    "resnet20": (ResNet20, LARGE),
    "efficientnet_cifar": (lambda: EfficientNet(16, NARROW, 320), LARGE),
    "efficientnet_b0": (lambda: EfficientNet(32, B0, 1280), LARGE),
}


def images_file(shape):
    return f"images{shape[-1]}.npy"


def set_statistics(module, images):
    """Batch norms take the statistics of the images, else a deep fresh network's outputs are far from 1."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        module.train()(images)
    return module.eval()


def main():
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
    from export import export

    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    images = {shape: torch.randn((SAMPLES, *shape), generator=generator) for shape in (SMALL, LARGE)}
    for shape, values in images.items():
        np.save(folder / images_file(shape), values.numpy())
    labels = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    np.save(folder / "labels.npy", labels.numpy())
    for name, (make, shape) in MODELS.items():
        torch.manual_seed(1)
        module = set_statistics(make(), images[shape])
        count = export(module, shape, folder / f"{name}.onnx")["count"]
        with torch.no_grad():
            loss = F.cross_entropy(module(images[shape]), labels)
        print(f"{name}: p = {count:,}, loss {loss:.3f}")


if __name__ == "__main__":
    main()
