"""The interpreter of homogeneous parts."""

import functools
import itertools
import math

import keras
from keras import ops

from pinets_tf.analysis.kinds import NotPolynomial
from pinets_tf.analysis.reading import Reading


class HomogeneousParts(Reading):
    """Which part has which degree? Values are dictionaries from each degree to the part of this degree.

    Part 0 is the same for all inputs, and kept for a batch of one. The others have a batch of `rows`.

    Args:
        batch: the size of the batch.
        max_order: the highest degree that is kept.
    """

    def __init__(self, batch, max_order=math.inf):
        super().__init__()
        self.batch = batch
        self.max_order = max_order

    def rows(self, degree):
        """Returns the size of the batch of a part."""
        return self.batch

    def factor(self, part, degree, before, total):
        """Returns a part as a factor of a product of degree `total`, behind factors of degree `before` together."""
        return part

    def start(self, x):
        """Returns the value of an input."""
        value = {0: self._zeros(x, 1), 1: x}
        return {degree: part for degree, part in value.items() if degree <= self.max_order}

    def full(self, value):
        """Returns the parts in order, each with the whole batch."""
        return [self._all_rows(value[degree], degree, self.batch) for degree in range(len(value))]

    def affine(self, function, *values, multiplies=True):
        # One call for all parts, for what is zero, which gives the constant, and for part 0.
        degrees = sorted(set().union(*values) - {0})
        y = function(*(self._stack_rows(value, degrees) for value in values))
        constant, parts, start = y[:1], {0: y[1:2]}, 2
        for degree in degrees:
            parts[degree] = y[start : start + self.rows(degree)] - constant
            start = start + self.rows(degree)
        return parts

    def cast(self, function, value):
        return {degree: function(part) for degree, part in value.items()}

    def add(self, *values):
        degrees = sorted(set().union(*values))
        # As in Keras, whose sums of several types are of the widest one.
        dtype = keras.backend.result_type(*(value[0].dtype for value in values))
        terms = {degree: [ops.cast(value[degree], dtype) for value in values if degree in value] for degree in degrees}
        return {degree: functools.reduce(lambda x, y: x + y, added) for degree, added in terms.items()}

    def product(self, function, *values):
        parts: dict = {}
        for degrees in itertools.product(*values):
            total = sum(degrees)
            if total > self.max_order:
                continue
            factors = [
                self._factor(value[degree], degree, sum(degrees[:place]), total)
                for place, (value, degree) in enumerate(zip(values, degrees))
            ]
            term = function(*factors)
            parts[total] = parts[total] + term if total in parts else term
        return parts

    def constant(self, function, *values):
        return {0: function(*(value[0] for value in values))}

    def by_degree(self, layer, rule, *values):
        raise NotPolynomial(
            "The terms of a polynomial follow from linear maps, sums and products. Received: the layer "
            f"{layer.name} of type {type(layer).__name__}, of which only the degree is known. Make it of such layers, "
            "or register it as 'linear', 'sum' or 'product' where it is one of these."
        )

    def unknown(self, layer, error, function, *values):
        raise error

    def _factor(self, part, degree, before, total):
        if degree == 0:
            return part if total == 0 else self._all_rows(part, 0, self.rows(total))
        return self.factor(part, degree, before, total)

    def _all_rows(self, part, degree, rows):
        return ops.broadcast_to(part, (rows, *ops.shape(part)[1:])) if degree == 0 else part

    def _stack_rows(self, value, degrees):
        parts = [value[d] if d in value else self._zeros(value[0], self.rows(d)) for d in degrees]
        return ops.concatenate([self._zeros(value[0], 1), value[0], *parts])

    def _zeros(self, x, rows):
        return ops.zeros((rows, *ops.shape(x)[1:]), dtype=x.dtype)
