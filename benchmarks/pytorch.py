"""Speed of ResNet18 in pinets_tf against the same network in plain PyTorch, on the CPU.

    pip install 'pinets_tf[benchmark]'
    python benchmarks/pytorch.py

Both networks of `benchmarks/resnet.py`: images of 32x32, batch 64, float32, the same number of threads. Each library
has its best layout: TensorFlow a graph with NHWC, PyTorch channels-last tensors, `eval` and `inference_mode` at
inference. A training step is forward, cross-entropy, gradients and SGD with momentum. Before the timing the weights of
the Keras network are copied and the logits of both libraries compared, at inference and in training.

One difference stays: at stride 2 Keras pads 3x3 convolutions at the end only, PyTorch on both sides. For the comparison
of the logits PyTorch pads as Keras does, with a copy; for the timing it pads its own way, without one.

glibc is told to keep the memory that is freed. Otherwise PyTorch, which has no memory pool of its own on the CPU, loses
time to page faults, and how much depends on what ran before. PyTorch's threads go on waiting in a loop for a few
milliseconds after a call; a pause before each timing keeps that out of the time of TensorFlow. `--compile` lets PyTorch
compile its network first; that takes a C++ compiler and about a minute. Run this on an idle machine: PyTorch's threads
wait for each other at every operation, so that another busy process slows it down more than it slows TensorFlow.
"""

import argparse
import ctypes
import os
import sys

import keras
import numpy as np
import resnet18
import tensorflow as tf
from timing import Claim, interleave, machine, print_table

from pinets_tf.layers import PolynomialResidual

try:
    import torch
    from torch import nn
except ImportError:
    print("PyTorch is missing. Install it with: pip install 'pinets_tf[benchmark]'", file=sys.stderr)
    sys.exit(2)

CLAIM = Claim(">=", 1.00)
# Parameters of glibc's mallopt, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
TOLERANCE = 1e-3
PAUSE_SECONDS = 0.05


class Convolution(nn.Sequential):
    """A convolution without bias and a batch normalisation (Keras: momentum 0.9 is PyTorch's 0.1)."""

    def __init__(self, inputs, filters, kernel_size, strides):
        conv = nn.Conv2d(inputs, filters, kernel_size, strides, padding=kernel_size // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(filters, eps=1e-5, momentum=0.1))
        self.pad_as_keras = False

    def forward(self, x):
        conv = self[0]
        if self.pad_as_keras and conv.stride == (2, 2) and conv.kernel_size == (3, 3):
            x = nn.functional.conv2d(nn.functional.pad(x, (0, 1, 0, 1)), conv.weight, conv.bias, conv.stride)
            return self[1](x)
        return self[1](conv(x))


class Block(nn.Module):
    """The residual block of order 1 with ReLU, or of order 2 without: s + BN(s * Cz) + Cz, gates being part of BN."""

    def __init__(self, inputs, filters, strides, order):
        super().__init__()
        self.first = Convolution(inputs, filters, 3, strides)
        self.second = Convolution(filters, filters, 3, 1)
        self.shortcut = Convolution(inputs, filters, 1, strides) if strides > 1 or inputs != filters else nn.Identity()
        self.relu = nn.ReLU(inplace=True) if order == 1 else nn.Identity()
        self.normalize = nn.BatchNorm2d(filters, eps=1e-5, momentum=0.1) if order == 2 else None

    def forward(self, z):
        s = self.shortcut(z)
        Cz = self.second(self.relu(self.first(z)))
        x = Cz if self.normalize is None else self.normalize(s * Cz).add_(Cz)
        return self.relu(x.add_(s))


class ResNet18(nn.Module):
    """The network of `pinets_tf.models.resnet` with `order` 1 and ReLU, or with order 2 and no activation."""

    def __init__(self, order, classes, width=64):
        super().__init__()
        self.stem = Convolution(3, width, 3, 1)
        self.relu = nn.ReLU(inplace=True) if order == 1 else nn.Identity()
        blocks, inputs = [], width
        for stage in range(4):
            for block in range(2):
                filters = width * 2**stage
                blocks.append(Block(inputs, filters, 2 if stage and not block else 1, order))
                inputs = filters
        self.blocks = nn.Sequential(*blocks)
        self.logits = nn.Linear(inputs, classes)

    def forward(self, x):
        return self.logits(self.blocks(self.relu(self.stem(x))).mean((2, 3)))


def pairs(network, twin):
    """Yields every layer of the Keras network that has weights, with its module of `twin`."""
    yield from zip(network.get_layer("stem").layers, twin.stem, strict=True)
    blocks = [layer for layer in network.layers if isinstance(layer, PolynomialResidual)]
    for layer, block in zip(blocks, twin.blocks, strict=True):
        branch = [inner for inner in layer.branch.layers if inner.weights]
        yield from zip(branch, [*block.first, *block.second], strict=True)
        if layer.shortcut is not None:
            yield from zip(layer.shortcut.layers, block.shortcut, strict=True)
        if block.normalize is not None:
            yield layer.normalizers[0], block.normalize
    yield network.get_layer("logits"), twin.logits


def settle(network, twin, images):
    """Gives every batch normalisation of `network` random weights and the statistics of `images`.

    With the initial ones a mistake in copying could go unseen, and the products overflow at inference.
    """
    random = np.random.default_rng(0)
    layers = [layer for layer, _ in pairs(network, twin) if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        for variable in layer.trainable_variables:
            low, high = (-0.2, 0.2) if variable.name == "beta" else (0.5, 1.5)
            variable.assign(random.uniform(low, high, variable.shape))
        layer.momentum = 0.0
    network(images, training=True)
    for layer, momentum in zip(layers, momenta):
        layer.momentum = momentum


def copy_weights(network, twin):
    """Copies all weights and statistics of the Keras network into `twin`."""
    for layer, module in pairs(network, twin):
        if isinstance(layer, keras.layers.Conv2D):
            values = [keras.ops.transpose(layer.kernel, (3, 2, 0, 1))]
        elif isinstance(layer, keras.layers.Dense):
            values = [keras.ops.transpose(layer.kernel), layer.bias]
        else:
            # Read like this, scale and offset include the gate where there is one.
            values = [layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance]
        targets = [target for target in module.state_dict().values() if target.ndim]
        for target, value in zip(targets, values, strict=True):
            assert tuple(target.shape) == tuple(value.shape), f"{layer.path}: {target.shape} and {value.shape} differ."
            target.copy_(torch.from_numpy(np.array(keras.ops.convert_to_numpy(value))))


def difference(network, twin, images, training):
    """Returns how far the logits of the two networks are apart, relative to the greatest of them."""
    ours = keras.ops.convert_to_numpy(network(images, training=training))
    convolutions = [module for module in twin.modules() if isinstance(module, Convolution)]
    for module in convolutions:
        module.pad_as_keras = True
    with torch.no_grad():
        theirs = twin.train(training)(channels_last(images)).numpy()
    for module in convolutions:
        module.pad_as_keras = False
    return np.abs(ours - theirs).max() / np.abs(ours).max()


def make_pair(name, images):
    """Returns the Keras network and a PyTorch network that was seen to compute the same."""
    network = resnet18.build(name)
    twin = ResNet18(resnet18.NETWORKS[name][0], resnet18.CLASSES).to(memory_format=torch.channels_last)
    settle(network, twin, images)
    copy_weights(network, twin)
    for training in (False, True):
        apart = difference(network, twin, images, training)
        mode = "training" if training else "inference"
        assert apart < TOLERANCE, f"{name}, {mode}: the logits differ by {apart:.1e}, so it is another network."
        print(f"{name}, {mode}: the logits of both libraries agree to {apart:.0e}")
    return network, twin


def channels_last(images):
    return torch.from_numpy(images.numpy().transpose(0, 3, 1, 2)).to(memory_format=torch.channels_last)


def keep_freed_memory():
    """Keeps glibc from giving memory back to the system; does nothing with another C library."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def torch_inference(twin, images):
    twin.eval()

    def run():
        with torch.inference_mode():
            return twin(images)

    return run


def torch_training_step(twin, images, labels):
    twin.train()
    optimizer = torch.optim.SGD(twin.parameters(), resnet18.LEARNING_RATE, resnet18.MOMENTUM)

    def run():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(twin(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25, help="timings of each function")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each library")
    parser.add_argument("--quick", action="store_true", help="two rounds: a smoke test, no measurement")
    parser.add_argument("--compile", action="store_true", help="compile the PyTorch network with torch.compile")
    arguments = parser.parse_args()
    rounds = 2 if arguments.quick else arguments.rounds
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()

    images, labels = resnet18.random_batch()
    theirs = channels_last(images), torch.from_numpy(labels.numpy()).long()
    rows = []
    for name in resnet18.NETWORKS:
        network, twin = make_pair(name, images)
        if arguments.compile:
            twin = torch.compile(twin)
        for kind in ("inference", "training"):
            # Inference is timed before the training step is made, which switches the PyTorch network to training.
            if kind == "inference":
                functions = {"ours": resnet18.inference(network, images), "PyTorch": torch_inference(twin, theirs[0])}
            else:
                functions = {
                    "ours": resnet18.training_step(network, images, labels),
                    "PyTorch": torch_training_step(twin, *theirs),
                }
            timings = interleave(functions, rounds, slice_seconds=0.0, pause_seconds=PAUSE_SECONDS)
            rates = [resnet18.BATCH / timings.median(library) for library in functions]
            what = f"{name}, {kind}, images/s ({rates[0]:.0f} / {rates[1]:.0f})"
            rows.append((what, timings.ratio("PyTorch", "ours"), CLAIM))
    print("ResNet18, pinets_tf / PyTorch")
    libraries = machine(
        f"PyTorch {torch.__version__}", f"{arguments.threads} threads each{', compiled' * arguments.compile}"
    )
    print_table(rows, f"{libraries}; float32, batch {resnet18.BATCH}, {rounds} rounds")


if __name__ == "__main__":
    main()
