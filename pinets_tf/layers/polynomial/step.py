"""One Horner step: how a product is formed, normalised, gated and added to."""

import functools

import keras
from keras import ops

from pinets_tf.layers import masks
from pinets_tf.layers.copying import copy_layer, copy_weights
from pinets_tf.layers.normalization.batch_normalization import (
    BatchNormalization,
    ProductAffine,
    ProductBatchNormalization,
    ProductOffset,
)
from pinets_tf.layers.normalization.gated_normalization import (
    GatedGroupNormalization,
    GatedLayerNormalization,
    GatedProductAffine,
    GatedProductBatchNormalization,
)
from pinets_tf.layers.parts import build_part
from pinets_tf.layers.polynomial.interpreter import Tensors

# For each name what normalises, what does so with a gate in it, or `None`, and the options of both.
_NORMALIZERS: dict = {
    "batch": (ProductBatchNormalization, GatedProductBatchNormalization, {"momentum": 0.9, "epsilon": 1e-5}),
    "layer": (keras.layers.LayerNormalization, GatedLayerNormalization, {"epsilon": 1e-5}),
    "instance": (keras.layers.GroupNormalization, GatedGroupNormalization, {"groups": -1, "epsilon": 1e-5}),
    "affine": (ProductAffine, GatedProductAffine, {}),
    "offset": (ProductOffset, None, {}),
    "tanh": (functools.partial(keras.layers.Activation, "tanh"), None, {}),
}
# What folding makes of "batch".
_FOLDED = ("affine", "offset")
NORMALIZERS = tuple(_NORMALIZERS)
OFFERED = tuple(name for name in NORMALIZERS if name not in _FOLDED)
PLACES = ("product", "order", "last")
_FUSED = (ProductBatchNormalization, ProductAffine)
# These work in float32 on whatever they are given, so they may see a product before it is rounded to float16.
_WIDE = (
    keras.layers.Activation,
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    ProductAffine,
    ProductOffset,
)


class Step:
    """Step n of a layer: x_n = gate_n * normalize(factor * state) + carry.

    `read` says so in the words of an `Interpreter`, and `compute` computes the same of tensors, as one operation where
    there is one.

    Args:
        layer: the `HornerLayer` whose step it is, which holds the weights.
        n: the order that it makes, from 2 to that of the layer.
    """

    def __init__(self, layer, n):
        self.layer = layer
        self.n = n
        self.of_sums = layer.normalize_at == "order"
        self.normalizes = layer.normalize is not None and (layer.normalize_at != "last" or n == layer.order)
        has_gated = isinstance(layer.normalize, str) and _NORMALIZERS[layer.normalize][1] is not None
        in_normalizer = self.normalizes and not self.of_sums and has_gated and not layer.GATES_THE_STATE
        self.gates_in_normalizer = layer.gate and in_normalizer
        self.has_gate = layer.gate and not in_normalizer

    @property
    def normalizer(self):
        """What normalises, or `None`, also in a layer that is not built."""
        return self.layer.normalizers[self.n - 2] if self.layer.normalizers else None

    @property
    def gate(self):
        """The gate that is not part of the normaliser, or `None`, also in a layer that is not built."""
        return self.layer.gates[self.n - 2] if self.layer.gates else None

    @property
    def weight_of_gate(self):
        """The gate, wherever it is, or `None`."""
        return self.normalizer.gate if self.gates_in_normalizer else self.gate

    @property
    def dtype_of_products(self):
        """The type that the product is rounded to: in float16, a normaliser may see it in float32."""
        normalizer, dtype = self.normalizer, self.layer.compute_dtype
        rounded = normalizer is None or normalizer.autocast or isinstance(normalizer, ProductOffset)
        return dtype if dtype == "float64" or (dtype == "float16" and rounded) else "float32"

    def read(self, on, factor, state, carry=None, skip=None, bias=None):
        """Returns the value of x_n for an interpreter.

        Args:
            on: the interpreter.
            factor, state: the two factors of the product.
            carry: what is added to the product, and normalised with it where `normalize_at="order"`.
            skip: what is added to all of that.
            bias: a vector that is.
        """
        if self.is_left_out:
            return self.without_product(on, state, carry, skip, bias)
        x = on.product(ops.multiply, on.cast(self._widened, factor), on.cast(self._widened, state))
        x = x if self.of_sums else self._normalized(on, x)
        x = x if self.layer.GATES_THE_STATE else self.gated(on, x)
        x = x if carry is None else on.add(x, on.cast(self._widened, carry))
        x = self._normalized(on, x) if self.of_sums else x
        x = x if skip is None else on.add(x, on.cast(self._widened, skip))
        x = x if bias is None else on.shift(x, bias)
        return on.cast(lambda x: ops.cast(x, self.layer.compute_dtype), x)

    def without_product(self, on, state, carry=None, skip=None, bias=None):
        """Returns the value of what is left of x_n where its product is left out."""
        x = state if carry is None else carry
        x = x if skip is None else on.add(x, skip)
        return x if bias is None else on.shift(x, bias)

    @property
    def is_left_out(self):
        return self.layer.products is not None and self.n - 1 > self.layer.products

    def gated(self, on, x):
        """Returns the value of x times the gate, where it is not part of the normaliser."""
        return on.scale(self.gate, x) if self.has_gate else x

    def _normalized(self, on, x):
        if not self.normalizes:
            return x
        normalizer = self.normalizer
        if normalizer is None:
            normalizer = self._made()
            # The layer that has no such part yet, for what is said of it.
            vars(normalizer)["part_of"] = self.layer
        return on.cast(self._widened, on.apply(normalizer, x))

    def _widened(self, x):
        # Two values of 256 overflow float16 (65504).
        return ops.cast(x, "float32") if self.layer.compute_dtype == "float16" else x

    def compute(self, factor, state, mask=None, carry=None, skip=None, bias=None):
        """Computes x_n; what `mask` leaves out is not part of the statistics of a normalisation."""
        mask = None if mask is None else masks.of_positions(mask, state)
        normalizer = self.normalizer
        if self.is_left_out or self.of_sums or not isinstance(normalizer, _FUSED):
            return self.read(Tensors(mask), factor, state, carry, skip, bias)
        if len(factor.shape) == len(state.shape) and factor.shape[1:] != state.shape[1:]:
            # It takes two maps of one shape.
            factor = ops.broadcast_to(factor, ops.shape(state))
        within = {"add_inputs": carry is state, "add_factor": skip is factor, "bias": bias}
        x = self._widened(masks.apply(normalizer, state, mask=mask, factor=factor, **within))
        for added in (None if carry is state else carry, None if skip is factor else skip):
            x = x if added is None else x + self._widened(added)
        return ops.cast(x, self.layer.compute_dtype)

    def load(self, source):
        """Takes the gate of a step of another layer, which is one where there is none, and the normalisation."""
        self.weight_of_gate.assign(1.0 if source.weight_of_gate is None else ops.copy(source.weight_of_gate))
        if source.normalizer is not None:
            copy_weights(self.normalizer, source.normalizer, leave=[self.weight_of_gate, source.weight_of_gate])

    def build(self, shape):
        """Returns the normaliser for states of a shape, or `None`."""
        if not self.normalizes:
            return None
        normalize = self.layer.normalize
        if normalize == "instance" and len(shape) < 3:
            raise ValueError(
                "Instance normalisation takes its statistics over the axes between batch and channels. "
                f"Received: normalize='instance' with states of shape {tuple(shape)}. "
                "Pass normalize='layer' or 'batch' for vectors."
            )
        normalizer = self._made()
        returned = build_part("normalize", normalizer, shape)
        if returned != tuple(shape):
            raise ValueError(
                "A normalisation must keep the shape of what it normalises. "
                f"Received: normalize={normalize!r}, which turns {tuple(shape)} into {returned}. "
                "Pass a layer that keeps the shape."
            )
        return normalizer

    def _made(self):
        """Returns the normaliser of the step, not built."""
        normalize, policy, name = self.layer.normalize, self.layer.dtype_policy, f"normalize_{self.n}"
        if isinstance(normalize, keras.layers.Layer):
            normalizer = copy_layer(normalize, name, policy)
        else:
            plain, gated, options = _NORMALIZERS[normalize]
            # A batch normalisation of sums has no product to fuse with.
            plain = BatchNormalization if normalize == "batch" and self.of_sums else plain
            axis = {} if normalize == "tanh" else {"axis": self.layer.channel_axis}
            normalizer = (gated if self.gates_in_normalizer else plain)(**axis, **options, name=name, dtype=policy)
        if isinstance(normalizer, _WIDE):
            normalizer.autocast = False
        return normalizer
