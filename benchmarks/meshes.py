"""Speed and memory of mesh autoencoders: Spiral Π-nets, SpiralGNN, and the same in plain TensorFlow and PyTorch.

    pip install 'pinets_tf[mesh,benchmark]'
    python benchmarks/meshes.py
    python benchmarks/meshes.py --memory

The template is a sphere of 6,706 vertices with levels of a quarter each, the network that of Table 5: widths 16, 16,
16, 32 and a latent vector of 16. The polynomials are of order 2, with the normalisation for every vertex and the gates
of the example, the same *folded* as `export/saved_model.py` folds them, and without any normalisation. `one layer` is
`SpiralConv` against a gather of all neighbours and one matrix product; `PyTorch` is the network with gather, linear
maps, selection and barycentric sums in plain PyTorch, whose outputs are seen to be the same before anything is timed. A
training step is forward, L1 loss, gradients and Adam.

`--memory` trains a step at batch 4 with more and more vertices, each in a fresh process, and prints the peak of the
resident size. Linux only: it is read from /proc. Without PyTorch the rows of PyTorch are left out.
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time

import keras
import numpy as np
import tensorflow as tf
from timing import Claim, interleave, machine, print_table

from pinets_tf.layers import SpiralConv
from pinets_tf.mesh import Hierarchy, decimate, deformed_spheres, hierarchy
from pinets_tf.models import fold_normalization, mesh_autoencoder

try:
    import torch
    from torch import nn
except ImportError:
    torch = None

VERTICES, BATCH = 6706, 16
SIMPLE, FULL, TRAINING = Claim("<=", 1.10), Claim("<=", 1.20), Claim("<=", 1.60)
LAYER, PYTORCH = Claim("<=", 0.90), Claim("<=", 1.00)
NORMALIZED = {"normalize": "vertex_batch", "gate": True}
NETWORKS = {
    "SpiralGNN": ("spiral", "elu", {}),
    "simple": ("simple", "elu", NORMALIZED),
    "simple, linear": ("simple", None, NORMALIZED),
    "simple, linear, not normalised": ("simple", None, {}),
    "full": ("full", "elu", NORMALIZED),
    "full, linear": ("full", None, NORMALIZED),
    "full, linear, not normalised": ("full", None, {}),
}
# Channels and filters of single layers: inside of the network, and at its two ends.
LAYERS = ((16, 16), (3, 16), (16, 3))
MEMORY_VERTICES, MEMORY_BATCH, GIB = (6706, 25_000, 100_000), 4, 2**30
PAUSE_SECONDS = 0.05
# Parameters of glibc's mallopt, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def template(vertices):
    """Returns the levels of a sphere of this many vertices."""
    subdivisions = next(n for n in range(1, 12) if 10 * 4**n + 2 >= vertices)
    sphere = deformed_spheres(1, subdivisions=subdivisions)
    points, faces = sphere.vertices[0], sphere.faces
    if len(points) > vertices:
        coarse = decimate(points, faces, len(points) / vertices)
        points, faces = coarse.vertices, coarse.faces
    return hierarchy(points, faces)


def build(name, levels):
    operator, activation, options = NETWORKS[name]
    keras.utils.set_random_seed(0)
    return mesh_autoencoder(levels, operator, activation=activation, **options)


def shapes(levels, batch):
    size = (batch, len(levels.levels[0].vertices), 3)
    return tf.constant(np.random.default_rng(0).normal(size=size).astype("float32"))


def waiting(function):
    """Returns a function that returns when the result is there."""
    return lambda: keras.tree.map_structure(lambda x: x.numpy(), function())


def inference(network, x):
    graph = tf.function(lambda x: network(x, training=False))
    return waiting(lambda: graph(x))


def training_step(network, x):
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(network.trainable_variables)

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.abs(network(x, training=True) - x))
        optimizer.apply_gradients(zip(tape.gradient(loss, network.trainable_variables), network.trainable_variables))
        return loss

    return waiting(lambda: step(x))


def obvious(layer, spirals, keep):
    """Returns a spiral convolution, and the selection of `keep`, in plain TensorFlow with the weights of `layer`."""

    def call(x):
        filters = layer.filters
        padded = tf.pad(x, ((0, 0), (0, 1), (0, 0)))
        gathered = tf.reshape(tf.gather(padded, spirals, axis=1), (-1, spirals.shape[1] * x.shape[2]))
        y = tf.matmul(gathered, tf.reshape(layer.kernel, (-1, filters))) + layer.bias
        y = tf.reshape(y, (-1, len(spirals), filters))
        return y if keep is None else tf.gather(y, keep, axis=1)

    return call


def layer_functions(levels, channels, filters, training):
    """Returns a convolution of ours and the obvious one, alone or with the gradients that the network needs.

    The first operator of the network, of three channels, is followed by a step down and needs no gradient of its input.
    """
    spirals, first = levels.levels[0].spirals, channels == 3
    keep = levels.down[0].indices if first else None
    layer = SpiralConv(filters, spirals, keep)
    layer.build((None, len(spirals), channels))
    random = np.random.default_rng(0)
    x, up = (
        tf.constant(random.normal(size=(BATCH, rows, width)).astype("float32"))
        for rows, width in ((len(spirals), channels), (len(spirals if keep is None else keep), filters))
    )
    functions = {}
    for name, call in (("ours", layer), ("obvious", obvious(layer, spirals, keep))):

        @tf.function
        def forward(x, call=call):
            return call(x)

        @tf.function
        def both(x, call=call):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(call(x) * up)
            wanted = [layer.kernel.value, layer.bias.value]
            return tape.gradient(loss, wanted if first else [x, *wanted])

        functions[name] = waiting(lambda run=both if training else forward: run(x))
    ours, theirs = (tf.nest.flatten(function()) for function in functions.values())
    for one, two in zip(ours, theirs):
        assert np.abs(one - two).max() <= 1e-3 * np.abs(two).max(), "The two convolutions differ."
    return functions


def torch_network(network, levels, name):
    """Returns the network in plain PyTorch, with the weights of ours."""
    operator, activation, options = NETWORKS[name]
    assert not options, "Only networks without normalisation are written in PyTorch."
    parts = [network.get_layer("encoder"), network.get_layer("decoder")]

    class Convolution(nn.Module):
        def __init__(self, layer, spirals):
            super().__init__()
            kernels = [layer.kernel] if operator == "spiral" else [*layer.A, layer.S[0]]
            self.maps = nn.ParameterList([nn.Parameter(_tensor(kernel).flatten(0, 1)) for kernel in kernels])
            self.bias = nn.Parameter(_tensor(layer.bias if operator == "spiral" else layer.beta))
            self.register_buffer("spirals", torch.from_numpy(spirals.reshape(-1)).long())
            self.length = spirals.shape[1]

        def forward(self, x):
            padded = nn.functional.pad(x, (0, 0, 0, 1))
            gathered = padded[:, self.spirals].reshape(len(x), -1, self.length * x.shape[2])
            maps = [gathered @ kernel for kernel in self.maps]
            return (maps[0] if len(maps) == 1 else maps[0] * maps[1] + maps[0]) + self.bias

    class Resample(nn.Module):
        def __init__(self, matrix):
            super().__init__()
            most = np.diff(matrix.indptr).max()
            self.register_buffer("sources", torch.from_numpy(matrix.indices.reshape(-1, most)).long())
            self.register_buffer("shares", torch.from_numpy(matrix.data.reshape(-1, most, 1)).float())

        def forward(self, x):
            if self.sources.shape[1] == 1:
                return x[:, self.sources[:, 0]]
            return sum(x[:, self.sources[:, k]] * self.shares[:, k] for k in range(self.sources.shape[1]))

    class Linear(nn.Linear):
        def __init__(self, layer):
            super().__init__(*layer.kernel.shape)
            self.weight.data, self.bias.data = _tensor(layer.kernel).T.contiguous(), _tensor(layer.bias)

    steps, curve = [], nn.ELU() if activation else nn.Identity()
    count = len(levels.down)
    for number in range(count):
        layer = parts[0].get_layer(f"encode_{number}")
        steps += [Convolution(layer, levels.levels[number].spirals), curve, Resample(levels.down[number])]
    steps += [nn.Flatten(), Linear(parts[0].get_layer("latent")), Linear(parts[1].get_layer("expand"))]
    steps += [nn.Unflatten(1, (len(levels.levels[-1].vertices), -1))]
    for number in reversed(range(count)):
        layer = parts[1].get_layer(f"decode_{number}")
        steps += [Resample(_padded(levels.up[number])), Convolution(layer, levels.levels[number].spirals)]
        steps += [curve] if number else []
    return nn.Sequential(*steps)


def _tensor(weight):
    return torch.from_numpy(np.array(keras.ops.convert_to_numpy(weight)))


def _padded(matrix):
    """Returns a matrix with as many entries in every row, some of them zero."""
    from scipy.sparse import csr_array

    counts = np.diff(matrix.indptr)
    most = counts.max()
    place = np.arange(most) < counts[:, None]
    columns, values = np.zeros(place.shape, "int32"), np.zeros(place.shape, "float32")
    columns[place], values[place] = matrix.indices, matrix.data
    return csr_array((values.ravel(), columns.ravel(), np.arange(len(counts) + 1) * most), matrix.shape)


def torch_functions(network, levels, name, batch):
    """Returns inference and training step in PyTorch, having compared the outputs."""
    twin, x = torch_network(network, levels, name), shapes(levels, batch)
    theirs = torch.from_numpy(x.numpy())
    expected = network(x, training=False).numpy()
    with torch.inference_mode():
        apart = np.abs(twin(theirs).numpy() - expected).max() / np.abs(expected).max()
    assert apart < 1e-3, f"{name}: the outputs differ by {apart:.1e}, so it is another network."
    optimizer = torch.optim.Adam(twin.parameters(), 1e-3)

    def infer():
        with torch.inference_mode():
            return twin(theirs)

    def train():
        optimizer.zero_grad()
        loss = (twin(theirs) - theirs).abs().mean()
        loss.backward()
        optimizer.step()

    return infer, train


def keep_freed_memory():
    """Keeps glibc from giving memory back to the system; does nothing with another C library."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def measure_memory(vertices):
    """Prints the resident size before the network is built and the peak after two training steps, as JSON."""
    levels = template(vertices)
    tf.function(lambda x: tf.linalg.matmul(x, x))(tf.zeros((64, 64)))
    before = _resident("VmRSS")
    step = training_step(build("full, linear", levels), shapes(levels, MEMORY_BATCH))
    for _ in range(2):
        step()
    print(json.dumps({"vertices": len(levels.levels[0].vertices), "before": before, "peak": _resident("VmHWM")}))


def _resident(field):
    # Not getrusage: its ru_maxrss starts at the size of the process that started this one.
    with open("/proc/self/status", encoding="ascii") as status:
        kibibytes = next(line.split()[1] for line in status if line.startswith(f"{field}:"))
    return int(kibibytes) * 1024


def print_memory():
    found = []
    for vertices in MEMORY_VERTICES:
        command = [sys.executable, __file__, f"--memory_of={vertices}"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        one = found[-1]
        growth = one["peak"] - one["before"]
        print(
            f"{one['vertices']:,} vertices: peak {one['peak'] / GIB:.2f} GiB, {growth / GIB:.2f} GiB more than before "
            f"the network was built, {growth / one['vertices'] / 1024:.1f} KiB a vertex"
        )
    print(f"{machine()}; full, linear, a training step at batch {MEMORY_BATCH}, float32")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25, help="timings of each function")
    parser.add_argument("--vertices", type=int, default=VERTICES, help="vertices of the template")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each library")
    parser.add_argument("--quick", action="store_true", help="two rounds: a smoke test, no measurement")
    parser.add_argument("--memory", action="store_true", help="measure memory instead of time")
    parser.add_argument("--memory_of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        return measure_memory(arguments.memory_of)
    if arguments.memory:
        return print_memory()
    rounds = 2 if arguments.quick else arguments.rounds
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    started = time.perf_counter()
    levels: Hierarchy = template(arguments.vertices)
    print(f"the sphere, its levels and their spirals were made in {time.perf_counter() - started:.1f} s")
    networks = {name: build(name, levels) for name in NETWORKS}
    rows = []

    def compare(functions, what, pairs, pause=0.0):
        timings = interleave(functions, rounds, pause_seconds=pause)
        for name, to, claim in pairs:
            milliseconds = " / ".join(f"{1000 * statistics.median(timings.seconds[n]):.2f}" for n in (name, to))
            rows.append((f"{what}: {name} / {to} ({milliseconds} ms)", timings.ratio(name, to), claim))

    folded = {f"{n}, folded": fold_normalization(networks[n]) for n, (*_, options) in NETWORKS.items() if options}
    served = {**networks, **folded}
    against = [(n, "SpiralGNN", SIMPLE if n.startswith("simple") else FULL) for n in served if n != "SpiralGNN"]
    for batch in (1, BATCH):
        x = shapes(levels, batch)
        compare({n: inference(network, x) for n, network in served.items()}, f"inference, batch {batch}", against)
    x = shapes(levels, BATCH)
    steps = {n: training_step(network, x) for n, network in networks.items()}
    compare(steps, "training step", [(n, "SpiralGNN", TRAINING) for n in NETWORKS if n.startswith("full")])
    for channels, filters in LAYERS:
        for training in (False, True):
            down = " and a step down" * (channels == 3)
            what = f"one layer, {channels} to {filters} channels{down}{', with gradients' * training}"
            compare(layer_functions(levels, channels, filters, training), what, [("ours", "obvious", LAYER)])
    if torch:
        torch.set_num_threads(arguments.threads)
        keep_freed_memory()
    for name in ("SpiralGNN", "full, linear, not normalised") if torch else ():
        for batch in (1, BATCH):
            network = build(name, levels)
            infer, train = torch_functions(network, levels, name, batch)
            x = shapes(levels, batch)
            ours = inference(network, x)
            compare(
                {"ours": ours, "PyTorch": infer},
                f"{name}, inference, batch {batch}",
                [("ours", "PyTorch", PYTORCH)],
                PAUSE_SECONDS,
            )
        ours = training_step(network, x)
        compare(
            {"ours": ours, "PyTorch": train}, f"{name}, training step", [("ours", "PyTorch", PYTORCH)], PAUSE_SECONDS
        )
    sizes = ", ".join(f"{len(level.vertices):,}" for level in levels.levels)
    more = [f"PyTorch {torch.__version__}"] if torch else []
    note = machine(*more, f"{arguments.threads} threads")
    print_table(rows, f"{note}; float32, {sizes} vertices, training at batch {BATCH}, {rounds} rounds")
    return None


if __name__ == "__main__":
    main()
