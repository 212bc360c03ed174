"""A decomposition of one's own, whose degrees are Fibonacci numbers."""

import keras

from pinets_tf.layers import Polynomial


@keras.saving.register_keras_serializable(package="extension")
class Fibonacci(Polynomial):
    """x_1 = A_1 z, x_n = x_(n-1) * (S_n x_(n-2)) with x_0 = x_1; x = C x_N + beta, of degree 1, 2, 3, 5, 8, ..."""

    CARRIES = False

    def __init__(self, units, order, rank=None, operator=None, **kwargs):
        super().__init__(units, order, rank, operator, **kwargs)
        self.S = [self.linear_map("S", n) for n in range(2, self.order + 1)]

    def factor_orders(self):
        return [1]

    def build_maps(self, shape):
        for S_n in self.S:
            S_n.build(shape)

    def recursion(self, on, z):
        before = x = on.apply(self.factors[0], z)
        for step, S_n in zip(self.steps, self.S):
            before, x = x, on.step(step, x, on.apply(S_n, before))
        return self.read_out(on, x)
