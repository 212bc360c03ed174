"""The words in which a layer states its recursion, and what they mean for tensors."""

import contextvars
import functools

import keras
from keras import ops

from pinets_tf.layers import masks


class Interpreter:
    """Reads a recursion: says what a value is, and what becomes of it.

    A recursion is a method `recursion(on, *values)` of a layer in the words below. For tensors it is the call of the
    layer; other interpreters find degrees, homogeneous parts or costs. They follow from `apply`, `affine`, `product`,
    `add` and `cast`; the other words are made of these, where an interpreter has no better one. The functions that some
    words take are functions of tensors, which an interpreter calls only where its values hold tensors. A weight is
    `None` in a layer that is not built.
    """

    def apply(self, layer, *values):
        """Returns the value of the output of a layer."""
        raise NotImplementedError

    def affine(self, function, *values, multiplies=True):
        """Returns the value of an affine function of all values together.

        `multiplies` is false where it moves, copies, adds or leaves out numbers, and multiplies none.
        """
        raise NotImplementedError

    def product(self, function, *values):
        """Returns the value of a function that is linear in each value alone."""
        raise NotImplementedError

    def add(self, *values):
        """Returns the value of a sum."""
        raise NotImplementedError

    def cast(self, function, value):
        """Returns the value of a function that changes the type of numbers alone."""
        raise NotImplementedError

    def scale(self, weight, value):
        """Returns the value of a product with a weight or a number."""
        return self.affine(lambda x: ops.multiply(x, _of_the_type(weight, x)), value)

    def shift(self, value, weight):
        """Returns the value of a sum with a weight or a number."""
        return self.affine(lambda x: ops.add(x, _of_the_type(weight, x)), value, multiplies=False)

    def step(self, step, factor, state, **added):
        """Returns the value of a `Step`."""
        return step.read(self, factor, state, **added)

    def sequence(self, layers, value):
        """Returns the value of layers one after another."""
        return functools.reduce(lambda value, layer: self.apply(layer, value), layers, value)

    def pooled(self, function, value):
        """Returns the value of a mean over positions, `function(x, mask)`."""
        return self.affine(lambda x: function(x, None), value)

    def maps(self, function, value, kernels, multiply_adds):
        """Returns the values of `function(x, kernels)`, which maps x with each of the kernels.

        `multiply_adds` is a function of the shape of x, a sample: what each map takes.
        """
        return [self.affine(lambda x, kernel=kernel: function(x, [kernel])[0], value) for kernel in kernels]


class Tensors(Interpreter):
    """What is the value? Values are tensors, and steps are computed as fast as they can be.

    Args:
        mask: the mask of what the layers in the recursion are applied to, or `None`.
        mask_of_steps: that of what the steps compute, or `None`.
    """

    def __init__(self, mask=None, mask_of_steps=None):
        self.mask = mask
        self.mask_of_steps = mask_of_steps

    def apply(self, layer, *values):
        return masks.apply(layer, values[0] if len(values) == 1 else list(values), self.mask)

    def affine(self, function, *values, multiplies=True):
        return function(*values)

    def product(self, function, *values):
        return function(*values)

    def add(self, *values):
        # Not `ops.add`, which takes a state of an empty batch for a bias (Keras 3.15 on TensorFlow).
        return functools.reduce(lambda x, y: x + y, values)

    def cast(self, function, value):
        return function(value)

    def step(self, step, factor, state, **added):
        return step.compute(factor, state, mask=self.mask_of_steps, **added)

    def sequence(self, layers, value):
        for layer in layers:
            value, self.mask = self.apply(layer, value), layer.compute_mask(value, self.mask)
        return value

    def pooled(self, function, value):
        return function(value, self.mask_of_steps)

    def maps(self, function, value, kernels, multiply_adds):
        return function(value, kernels)


# What reads the recursions of layers that are called, in the place of `Tensors`.
reader: contextvars.ContextVar = contextvars.ContextVar("reader", default=None)


def on_tensors(layer, *of_masks):
    """Returns what reads the recursion of a layer that is called."""
    chosen = reader.get()
    return Tensors(*of_masks) if chosen is None else chosen(layer, *of_masks)


def _of_the_type(weight, x):
    """Returns a weight as it is within a call of its layer; a number stays one."""
    return weight if isinstance(weight, (int, float)) else ops.cast(weight, keras.backend.standardize_dtype(x.dtype))
