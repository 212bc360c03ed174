"""Images per second of Prodpoly-ResNet50 against ResNet50 with ReLU, at inference on 224 pixels.

    python benchmarks/resnet50.py
    python benchmarks/resnet50.py --all

Batch 16, float32. The paper's Table 4 has 7,500 against 8,500 images per second, 0.88, on hardware that it does not
name. With --all, also the other second orders that were considered, which the claim does not hold for: tanh of the
product of branch and shortcut without a convolution behind it, with one, and the parameters of each network.
"""

import argparse

import tensorflow as tf
from timing import Claim, interleave, machine, print_table

from pinets_tf.models import resnet

BATCH, SIZE, CLASSES = 16, 224, 1000
CLAIM = Claim(">=", 0.95)
RESNET_50 = {
    "block": "bottleneck",
    "stage_blocks": (3, 4, 6, 3),
    "activation": "relu",
    "order": 1,
    "stem": "7x7-max",
}
NETWORKS = {
    "ResNet50": RESNET_50,
    "Prodpoly-ResNet50, pooled": {**RESNET_50, "pooled_rank": 2.5},
    "tanh": {**RESNET_50, "order": 2, "normalize": "tanh", "gate": False},
    "tanh, 1x1 convolution": {
        **RESNET_50,
        "order": 2,
        "normalize": "tanh",
        "gate": False,
        "product_convolution": True,
    },
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="timings of each network")
    parser.add_argument("--all", action="store_true", help="the other second orders too")
    parser.add_argument("--quick", action="store_true", help="two rounds: a smoke test")
    arguments = parser.parse_args()
    rounds = 2 if arguments.quick else arguments.rounds
    images = tf.random.stateless_normal((BATCH, SIZE, SIZE, 3), (0, 0))
    functions, millions = {}, {}
    for name in list(NETWORKS)[: None if arguments.all else 2]:
        network = resnet((SIZE, SIZE, 3), CLASSES, **NETWORKS[name])
        run = tf.function(lambda x, network=network: network(x, training=False))
        functions[name] = lambda run=run: run(images).numpy()
        millions[name] = sum(weight.value.shape.num_elements() for weight in network.trainable_weights) / 1e6
    timings = interleave(functions, rounds, slice_seconds=0.0)
    baseline, *others = functions
    rows = []
    for name in others:
        rates = [BATCH / timings.median(network) for network in (name, baseline)]
        size = f"{millions[name]:.2f} M parameters, {millions[name] / millions[baseline]:.2f} times"
        # A ratio of images per second is the inverse ratio of seconds.
        rows.append(
            (f"{name}, images/s ({rates[0]:.0f} / {rates[1]:.0f}; {size})", timings.ratio(baseline, name), CLAIM)
        )
    print("Inference of ResNet50 with a second order / ResNet50")
    print_table(rows, f"{machine()}; float32, batch {BATCH}, {SIZE} pixels, {rounds} rounds")


if __name__ == "__main__":
    main()
