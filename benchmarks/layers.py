"""The time of an NCP layer against that of Dense layers with the same matrix products.

    python benchmarks/layers.py

Features, rank and units are 512, the batch is 256. NCP of order N has 2N matrix products: A_1 to A_N with z, S_2 to S_N
with the state, and C. The baseline has a `Dense` for each of them: N without bias on z; a chain of N - 1 with bias that
starts at the first of these, where the NCP has S_n and b_n; one more with bias at its end, where it has C and beta.
The baseline has no elementwise products, and nothing in the place of b_1, so the ratio holds what the Hadamard products
and the scaling with b_1 cost. Both return the read-out; the baseline also returns the N - 1 outputs on z that its
chain leaves unused, since a graph drops what nobody reads.

A training step is a forward pass and all gradients: of every weight and of z, 6N matrix products. The gradient that
comes from above is random, and one of its own for each output, since equal ones would let the graph merge products.

Growth compares the time per matrix product of the NCP between orders: at most 1 if the time grows no faster than N.
"""

import argparse
import itertools

import keras
import tensorflow as tf
from timing import Claim, interleave, machine, print_table

from pinets_tf.layers import NCP

FEATURES = 512
BATCH = 256
ORDERS = (2, 4, 8)
FORWARD = Claim("<=", 1.10)
TRAINING = Claim("<=", 1.15)
GROWTH = Claim("<=", 1.00)


class DenseChain(keras.layers.Layer):
    """The matrix products of an NCP of order `order` as Dense layers; returns all that nothing else consumes."""

    def __init__(self, order):
        super().__init__()
        self.on_z = [keras.layers.Dense(FEATURES, use_bias=False) for _ in range(order)]
        self.on_state = [keras.layers.Dense(FEATURES) for _ in range(order)]

    def build(self, input_shape):
        for dense in (*self.on_z, *self.on_state):
            dense.build(input_shape)

    def call(self, z):
        x, *unused = [dense(z) for dense in self.on_z]
        for dense in self.on_state:
            x = dense(x)
        return [x, *unused]


def forward(layer, z, xla):
    run = tf.function(layer, jit_compile=xla)
    return lambda: run(z)


def training_step(layer, z, xla):
    count = len(tf.nest.flatten(layer(z)))
    upstream = [tf.random.stateless_normal((BATCH, FEATURES), (1, n)) for n in range(count)]

    @tf.function(jit_compile=xla)
    def step(z, upstream):
        with tf.GradientTape() as tape:
            tape.watch(z)
            outputs = tf.nest.flatten(layer(z))
        # The outputs are returned as well, as a network has them for its next layer.
        return outputs, tape.gradient(outputs, [z, *layer.trainable_variables], upstream)

    return lambda: step(z, upstream)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="timings of each function")
    parser.add_argument("--quick", action="store_true", help="two rounds, orders 2 and 4: a smoke test, no measurement")
    arguments = parser.parse_args()
    rounds, orders, seconds = (2, ORDERS[:2], 0.0) if arguments.quick else (arguments.rounds, ORDERS, 0.05)

    z = tf.random.stateless_normal((BATCH, FEATURES), (0, 0))
    layers = {}
    for order in orders:
        layers["NCP", order] = NCP(units=FEATURES, order=order, rank=FEATURES)
        layers["Dense", order] = DenseChain(order)
    rows = []
    for xla in (False, True):
        for what, make, claim in (("forward", forward, FORWARD), ("training step", training_step, TRAINING)):
            timings = interleave({key: make(layer, z, xla) for key, layer in layers.items()}, rounds, seconds)
            how = f"{what}, {'XLA' if xla else 'graph'}"
            for order in orders:
                rows.append((f"{how}: NCP / Dense, N={order}", timings.ratio(("NCP", order), ("Dense", order)), claim))
            for low, high in itertools.pairwise(orders):
                growth = timings.ratio(("NCP", high), ("NCP", low), scale=low / high)
                rows.append((f"{how}: time per product, N={high} / N={low}", growth, GROWTH))
    print_table(rows, f"{machine()}; float32, batch {BATCH}, {FEATURES} wide, {rounds} rounds")


if __name__ == "__main__":
    main()
