"""A decomposition of one's own: Chebyshev polynomials."""

import keras

from pinets_tf.layers import Polynomial


@keras.saving.register_keras_serializable(package="extension")
class Chebyshev(Polynomial):
    """x_1 = A_1 z, x_2 = 2 (A_2 z) * x_1 - 1, x_n = 2 (A_n z) * x_(n-1) - x_(n-2); x = C x_N + beta."""

    def recursion(self, on, z):
        A_1, *A = self.factors
        before, x = None, on.apply(A_1, z)
        for step, A_n in zip(self.steps, A):
            factor = on.scale(2.0, on.apply(A_n, z))
            if before is None:
                before, x = x, on.shift(on.step(step, factor, x), -1.0)
            else:
                before, x = x, on.step(step, factor, x, carry=on.scale(-1.0, before))
        return self.read_out(on, x)
