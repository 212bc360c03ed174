"""ProdPoly, polynomials in sequence (Sec. 3.2)."""

import math

import keras

from pinets_tf.layers import masks
from pinets_tf.layers.checkpointed import Checkpointed
from pinets_tf.layers.copying import copy_weights, deserialize_layers, hand_down_policy, restore_with_policy
from pinets_tf.layers.parts import build_part, returned_shape
from pinets_tf.layers.polynomial.interpreter import on_tensors


@keras.saving.register_keras_serializable(package="pinets_tf")
class ProdPoly(Checkpointed):
    """Polynomials in sequence, each of its own kind and order (Sec. 3.2, "product of polynomials").

        x = P_m( ... P_2(P_1(z)))

    The order of the whole is the product of the orders: m polynomials of order N have order N^m with m N factors, where
    one polynomial of that order needs N^m. `ProdPoly` is itself a polynomial and can be used as one of another.

    Float16: as each polynomial says of itself.

    Args:
        polynomials: the layers, in the order in which they are applied, at least one. Layers without an `order`, such
            as a normalisation or a reshape between two polynomials, count as order 1; whether the whole is a polynomial
            is theirs to keep.
        **kwargs: those of `keras.layers.Layer`. A `dtype` given here is handed to every layer inside.

    Attributes:
        order: the product of the orders.

    Input shape:
        What the first layer takes.

    Output shape:
        What the last layer returns.

    Raises:
        ValueError: if `polynomials` is not a non-empty sequence of distinct Keras layers, or if one of them cannot take
            what the one before returns.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.layers import CCP, NCP, ProdPoly
    >>> layer = ProdPoly([NCP(units=32, order=2, rank=32), CCP(units=10, order=3, rank=32)])
    >>> layer.order, layer(np.ones((2, 784), "float32")).shape[-1]
    (6, 10)

    Source: Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020, Sec. 3.2.
    """

    acts_as = "polynomial"
    # Arguments whose layers are used, and not copied.
    USED_AS_THEY_ARE = ("polynomials",)

    def __init__(self, polynomials, **kwargs):
        super().__init__(**kwargs)
        layers = list(polynomials) if isinstance(polynomials, (list, tuple)) else []
        distinct = len({id(layer) for layer in layers}) == len(layers)
        if not layers or not distinct or not all(isinstance(layer, keras.layers.Layer) for layer in layers):
            raise ValueError(
                "`polynomials` must be a list of one or more Keras layers, no layer twice. "
                f"Received: polynomials={polynomials!r}. Pass for example [NCP(32, 2, rank=32), CCP(10, 3, rank=32)]."
            )
        self.polynomials = layers
        self.order = math.prod(getattr(layer, "order", 1) for layer in layers)
        self.supports_masking = masks.supported(*layers)
        if kwargs.get("dtype") is not None:
            hand_down_policy(self.dtype_policy, layers)

    def build(self, input_shape):
        for layer in self.polynomials:
            input_shape = build_part("polynomials", layer, input_shape)

    def recursion(self, on, z):
        return on.sequence(self.polynomials, z)

    def call(self, z, training=None, mask=None):
        return self.recursion(on_tensors(self, mask), z)

    def compute_output_shape(self, input_shape):
        for layer in self.polynomials:
            input_shape = returned_shape("polynomials", layer, input_shape)
        return tuple(input_shape)

    def grown_config(self, order):
        """Returns the config with each polynomial of a lower order raised, or `None` where there is none."""
        configs = [x.grown_config(order) if hasattr(x, "grown_config") else None for x in self.polynomials]
        config = self.get_config()
        for polynomial, raised in zip(config["polynomials"], configs):
            polynomial["config"] = raised or polynomial["config"]
        return config if any(configs) else None

    def load_grown(self, source):
        """Takes the weights of the layer that `grown_config` came from."""
        for new, old in zip(self.polynomials, source.polynomials):
            is_raised = getattr(new, "order", 1) > getattr(old, "order", 1)
            load = type(new).load_grown if is_raised else copy_weights
            load(new, old)

    def get_config(self):
        return {**super().get_config(), "polynomials": keras.saving.serialize_keras_object(self.polynomials)}

    @classmethod
    def from_config(cls, config):
        return restore_with_policy(super().from_config, deserialize_layers(config))
