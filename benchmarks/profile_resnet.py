"""Where the time of ResNet18 goes, operation by operation: order 2 and ReLU, in pinets_tf and in plain PyTorch.

    python benchmarks/profile_resnet.py

The networks and steps of `benchmarks/resnet.py` and, where PyTorch is installed, of `benchmarks/pytorch.py`. For each
kind of operation it prints how many there are in a step and how many milliseconds they take together, by the profiler
of each library, with the wall time of a step beside it. The profilers cost time themselves, and TensorFlow works at
several operations at a time, so the sum may exceed the wall time. This explains ratios; it does not replace them.
"""

import argparse
import collections
import re
import tempfile
import time
from pathlib import Path

import resnet18
import tensorflow as tf

try:
    import pytorch
    import torch
except SystemExit:  # What benchmarks/pytorch.py does where PyTorch is missing.
    torch = None

# The first expression that matches the name of an operation tells its kind.
KINDS = {
    "convolution": r"Conv2D|mkldnn_convolution|convolution_backward",
    "batch normalisation": r"BatchNorm|batch_norm",
    "product": r"^Mul$|^aten::mul",
    "sum, difference": r"^(Add|Sub|Neg)|^aten::(add|sub|neg)",
    "ReLU": r"Relu|relu|threshold_backward|clamp_min",
    "optimizer": r"ResourceApply|foreach|Optimizer",
}
OTHER = "everything else"


def kind_of(operation):
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, operation)), OTHER)


def profile_tensorflow(function, calls):
    """Returns, for each kind of operation, the count and the milliseconds of one call."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(calls):
                function()
        space = xplane_pb2.XSpace.FromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    plane = next(plane for plane in space.planes if plane.name == "/host:CPU")
    events = []
    for event in (event for line in plane.lines for event in line.events):
        # An operation is called "name:Type#details", an event of the runtime "Class::Method" or "[...]".
        name = plane.event_metadata[event.metadata_id].name
        if re.match(r"[^\[:]*:\w+(#|$)", name):
            events.append((name.split(":")[1].split("#")[0], event.duration_ps / 1e9))
    return collect(events, calls)


def profile_pytorch(function, calls):
    """Returns, for each kind of operation, the count and the milliseconds of one call."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(calls):
            function()
    return collect([(event.name, event.self_cpu_time_total / 1e3) for event in profiler.events()], calls)


def collect(events, calls):
    table = collections.defaultdict(lambda: [0, 0.0])
    for operation, milliseconds in events:
        row = table[kind_of(operation)]
        row[0] += 1 / calls
        row[1] += milliseconds / calls
    return table


def wall_milliseconds(function, calls):
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls * 1e3


def columns(kind, calls):
    """Returns a dict from the name of a network and a library to its profile and wall time."""
    images, labels = resnet18.random_batch()
    made = {}
    for name, (order, _) in resnet18.NETWORKS.items():
        network = resnet18.build(name)
        is_training = kind == "training"
        step = resnet18.training_step(network, images, labels) if is_training else resnet18.inference(network, images)
        made[f"{name}, ours"] = (profile_tensorflow, step)
        if torch is not None:
            twin = pytorch.ResNet18(order, resnet18.CLASSES).to(memory_format=torch.channels_last)
            theirs = pytorch.channels_last(images), torch.from_numpy(labels.numpy()).long()
            step = pytorch.torch_training_step(twin, *theirs) if is_training else None
            made[f"{name}, PyTorch"] = (profile_pytorch, step or pytorch.torch_inference(twin, theirs[0]))
    found = {}
    for name, (profile, step) in made.items():
        wall_milliseconds(step, 3)
        found[name] = profile(step, calls), wall_milliseconds(step, calls)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10, help="steps that are profiled")
    arguments = parser.parse_args()
    if torch is not None:
        pytorch.keep_freed_memory()
    for kind in ("inference", "training"):
        found = columns(kind, arguments.calls)
        print(f"\nResNet18, {kind}, batch {resnet18.BATCH}: milliseconds (operations) of one step")
        print(f"{'':22}" + "".join(f"{name:>20}" for name in found))
        for row in (*KINDS, OTHER):
            cells = (f"{table[row][1]:.1f} ({table[row][0]:.0f})" for table, _ in found.values())
            print(f"{row:22}" + "".join(f"{cell:>20}" for cell in cells))
        print(f"{'wall time':22}" + "".join(f"{wall:>20.1f}" for _, wall in found.values()))


if __name__ == "__main__":
    main()
