"""The products of a polynomial network, one after another switched off."""

import functools
import math

import keras
from keras import ops

from pinets_tf.analysis.contributions import as_inputs
from pinets_tf.analysis.degree import Degrees, number_of_inputs
from pinets_tf.analysis.kinds import stated_by_class
from pinets_tf.analysis.model_graph import copied_graph, has_graph, parts_of
from pinets_tf.analysis.model_layer import ModelLayer
from pinets_tf.analysis.operations import is_elementwise
from pinets_tf.analysis.reading import Reading, as_outputs
from pinets_tf.layers.copying import copy_weights
from pinets_tf.layers.polynomial.interpreter import Tensors, reader


def count_products(model):
    """Returns how many products of two values that depend on the input a model computes one after another.

    They are those of polynomial layers, one for each step, and others that a functional or sequential model is made of:
    `keras.layers.Multiply`, `*`, `keras.ops.multiply`, `square`, `einsum` and the like. A power n counts as n - 1.

    Args:
        model: a Keras model or layer.
    """
    return _counted(model, math.inf).taken


def without_products(model, after):
    """Returns a copy of a model in which all Hadamard products after the first `after` ones are left out.

    A step x_n = factor * state + carry becomes x_n = carry, or x_n = state where nothing is carried, as in an NCP. Any
    other product becomes its first operand that depends on the input, broadcast to its shape and times those that do
    not; a square its operand, and a power n the power k + 1 of which k products are left. The products are counted
    along the model, call after call, as `count_products` does; what lies between them is computed as before. With the
    pictures of `after` = 0, 1, 2, ... side by side one sees what each product adds to an image.

    Args:
        model: a built functional or sequential Keras model. It is left as it is.
        after: how many products are computed, from none to all of them.

    Returns:
        A functional Keras model of the same inputs and outputs, with weights of its own. It holds a copy of `model`;
        saved, it is loaded again where `pinets_tf.analysis` was imported.

    Raises:
        ValueError: if `after` is not a number from 0 to that of the products of the model, if the model is not
            functional or sequential, has a layer that cannot be copied or is a model of which products are left out
            already, or if a product that is left out is one of matrices, a `Dot` or an `einsum` that sums, which have
            no operand to stand for them.

    Example:

    >>> from pinets_tf.analysis import count_products, degree, without_products
    >>> import keras
    >>> from pinets_tf.layers import NCP
    >>> model = keras.Sequential([keras.Input((5,)), NCP(3, order=4, rank=6)])
    >>> count_products(model), degree(without_products(model, 1))
    (3, 2)

    Source: ours; the authors' code for generators has such a switch.
    """
    total = count_products(model)
    if isinstance(after, bool) or not isinstance(after, int) or not 0 <= after <= total:
        raise ValueError(
            "The products that are computed are the first ones of the model. "
            f"Received: after={after!r} for a model of {total} products. Pass a number from 0 to {total}."
        )
    if any(isinstance(part.layer, WithoutProducts) for part in parts_of(model)):
        raise ValueError(
            "Products are left out of a model that computes all of its own. "
            f"Received: {model.name}, which has some left out already. Pass the model that it was made of."
        )
    copy = copied_graph(model)
    copy_weights(copy, model)
    # Says at once what cannot be left out.
    _counted(copy, after)
    return WithoutProducts(copy, after, name=f"{model.name}_with_{after}_products").alone()


def product_stages(model, most=12):
    """Returns how to make the models without products, with the first one, with the first two, and so on.

    Args:
        model: as in `without_products`.
        most: at most so many models, spread evenly from none to all products.

    Returns:
        A dictionary from the number of products, as a text, to a function without arguments that returns the model of
        `without_products`; empty for a model without products.

    Example:

    >>> from pinets_tf.analysis import product_stages
    >>> from pinets_tf.models import linear_generator
    >>> list(product_stages(linear_generator(latent=6, width=0.02), most=4))
    ['0', '4', '7', '11']
    """
    products = count_products(model)
    numbers = sorted({round(products * step / (most - 1)) for step in range(most)}) if products else []
    return {str(after): functools.partial(without_products, model, after) for after in numbers}


@keras.saving.register_keras_serializable(package="pinets_tf")
class WithoutProducts(ModelLayer):
    """The layer that `without_products` puts a model in.

    Args:
        model: the model.
        after: how many products are computed.
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        That of the model.

    Output shape:
        That of the model.
    """

    acts_as = "polynomial"

    def __init__(self, model, after, **kwargs):
        super().__init__(model, **kwargs)
        self.after = after

    def recursion(self, on, *values):
        counted = _counted(self.model, math.inf)
        outputs = _FirstProducts(on, self.after, counted.of_all_operations, counted.read).outputs(self.model, values)
        return as_outputs(self.model, outputs)

    def multiply_adds(self, input_shape):
        # Not known: what is left of the model has other costs than its layers.
        return None

    def call(self, inputs, training=None):
        # `training` reaches the layers inside through Keras's call context.
        return self.recursion(Tensors(), *as_inputs(self.model, inputs))

    def get_config(self):
        return {**super().get_config(), "after": self.after}


class _FirstProducts(Reading):
    """What another interpreter reads, with the first products alone.

    Args:
        on: the other interpreter, such as one of tensors.
        left: how many products are computed.
        of_operations: of each product or power in a graph, in order, which operands depend on the input.
        read: the identities of the layers whose steps are counted.
    """

    def __init__(self, on, left, of_operations=(), read=()):
        super().__init__()
        self.on, self.left, self.of_operations, self.read = on, left, list(of_operations), read
        for word in ("affine", "add", "cast", "scale", "shift", "pooled", "maps", "product"):
            setattr(self, word, getattr(on, word))

    def _read(self, layer, values, function, call):
        if not isinstance(self.on, Tensors):
            return super()._read(layer, values, function, call)
        if has_graph(layer):
            return self.through(layer, values)
        if stated_by_class(layer) != "polynomial":
            return super()._read(layer, values, function, call)
        # Called as it is in a graph, with masks and casts.
        before = reader.set(
            lambda layer, *of_masks: _FirstTensors(self, *of_masks) if id(layer) in self.read else Tensors(*of_masks)
        )
        try:
            return [function(*values)]
        finally:
            reader.reset(before)

    def take(self, number):
        """Returns how many of the next products are computed."""
        taken = min(number, self.left)
        self.left -= taken
        return taken

    def step(self, step, factor, state, **added):
        if not step.is_left_out:
            if not self.take(1):
                return step.without_product(self, state, **added)
            if isinstance(self.on, _FirstProducts):
                # It counts.
                self.on.take(1)
        return step.read(self, factor, state, **added)

    def power(self, value, n):
        (depends,) = self.of_operations.pop(0)
        n = self.take(n - 1) + 1 if depends else n
        if isinstance(self.on, Reading):
            return self.on.power(value, n)
        return functools.reduce(lambda x, _: ops.multiply(x, value), range(n - 1), value)

    def operation(self, layer, call, function, *values):
        places = [place for place, depends in enumerate(self.of_operations.pop(0)) if depends]
        left_out = places[self.take(max(len(places) - 1, 0)) + 1 :]
        if left_out and not is_elementwise(layer):
            raise ValueError(
                "A product that is left out becomes its first operand. "
                f"Received: {layer.name} of type {type(layer).__name__}, whose operands are summed over. "
                "Compute more of the products, or write it as products of numbers at the same place and a sum."
            )
        given = [self.constant(_ones, value) if place in left_out else value for place, value in enumerate(values)]
        return self.on.operation(layer, call, function, *given) if isinstance(self.on, Reading) else function(*given)

    def constant(self, function, *values):
        return self.on.constant(function, *values) if isinstance(self.on, Reading) else function(*values)

    def by_degree(self, layer, rule, *values):
        if isinstance(self.on, Reading):
            return self.on.by_degree(layer, rule, *values)
        return layer(values[0] if len(values) == 1 else list(values))

    def unknown(self, layer, error, function, *values):
        return self.on.unknown(layer, error, function, *values) if isinstance(self.on, Reading) else function(*values)


class _FirstTensors(Tensors):
    """What is the value, with the first products alone?"""

    def __init__(self, first, *of_masks):
        super().__init__(*of_masks)
        self.first = first

    def apply(self, layer, *values):
        return self.first.through(layer, values)[0] if has_graph(layer) else super().apply(layer, *values)

    def step(self, step, factor, state, **added):
        if step.is_left_out or self.first.take(1):
            # A normaliser may have products of its own.
            plain = has_graph(step.normalizer)
            return step.read(self, factor, state, **added) if plain else super().step(step, factor, state, **added)
        return step.without_product(self, state, **added)


class _Counted(_FirstProducts):
    """The same of degrees, which counts, also in what is called with a mask."""

    def __init__(self, left):
        super().__init__(Degrees(), left)
        self.taken = 0
        self.of_all_operations = []
        self.read = set()

    def take(self, number):
        taken = super().take(number)
        self.taken += taken
        return taken

    def power(self, value, n):
        self._note(value)
        return super().power(value, n)

    def operation(self, layer, call, function, *values):
        self._note(*values)
        return super().operation(layer, call, function, *values)

    def _note(self, *degrees):
        # What is constant has degree 0.
        self.of_all_operations.append([degree != 0 for degree in degrees])
        self.of_operations = self.of_all_operations[-1:]

    def recursive(self, layer, *values):
        self.read.add(id(layer))
        return super().recursive(layer, *values)

    def unknown(self, layer, error, function, *values):
        if has_graph(layer):
            return self.through(layer, values)[0]
        is_polynomial = stated_by_class(layer) == "polynomial"
        return self.recursive(layer, *values)[0] if is_polynomial else super().unknown(layer, error, function, *values)


def _counted(model, left):
    """Returns what has counted the first products of a model, or raises an error for one that cannot be left out."""
    on = _Counted(left)
    on.outputs(model, [1] * number_of_inputs(model))
    return on


def _ones(x):
    """Returns ones in the shape of x, with its mask, which layers hand on."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    return keras.layers.Lambda(ops.ones_like, mask=lambda _, mask: mask, dtype=dtype)(x)
