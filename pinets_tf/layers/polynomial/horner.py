"""The recursion that every polynomial block of the paper shares."""

import functools
from types import SimpleNamespace

import keras
from keras import ops

from pinets_tf.layers import masks
from pinets_tf.layers.checkpointed import Checkpointed
from pinets_tf.layers.checks import one_of, positive_integer
from pinets_tf.layers.copying import copy_layer, copy_weights, deserialize_layers
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

NORMALIZERS = ("batch", "layer", "instance", "affine", "offset", "tanh")
PLACES = ("product", "order", "last")
# These work in float32 on whatever they are given, so they may see a product before it is rounded to float16.
_WIDE_NORMALIZERS = (
    keras.layers.Activation,
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    ProductAffine,
    ProductOffset,
)


class HornerLayer(Checkpointed):
    """A layer made of Horner steps: the order, its normalisation and its gates.

        x_n = gate_n * normalize(factor * state) + carry,    n = 2, ..., order

    Subclasses choose `factor`, `state`, `carry` and x_1. They call `_build_steps` in `build` and `_step` in `call`.

    Args:
        order: N, the number of steps and the degree of the polynomial, at least 1.
        normalize: what keeps the magnitude of the products in bounds (the paper: "certain normalization schemes",
            Sec. 3.1), from the second order on: `None`; `"batch"` (momentum 0.9, epsilon 1e-5); `"layer"`;
            `"instance"` (per sample and channel, over the spatial axes); `"affine"` (a learned scale and offset of each
            channel, which is what `"batch"` is at inference); `"offset"` (of each channel); `"tanh"`; or a Keras layer,
            copied for each order. With `None`, `"batch"`, `"affine"` and `"offset"` the layer is a polynomial at
            inference; with the others it is not.
        normalize_at: `"product"` normalises each Hadamard product, `"order"` each x_n (product and carry together),
            `"last"` the product of the last step alone.
        gate: whether each product is multiplied with a learned scalar that starts at zero, so that training starts at
            the first-order polynomial.
        **kwargs: those of `keras.layers.Layer`.
    """

    # Whether a gate multiplies the state of a step, before the product, instead of the product.
    GATES_THE_STATE = False

    def __init__(self, order, *, normalize=None, normalize_at="product", gate=False, **kwargs):
        super().__init__(**kwargs)
        self.order = positive_integer("order", order, "Pass order=1 for a linear map, order=2 or more for products.")
        self.normalize_at = one_of("normalize_at", normalize_at, PLACES)
        self.gate = bool(gate)
        if not (normalize is None or normalize in NORMALIZERS or isinstance(normalize, keras.layers.Layer)):
            raise ValueError(
                f"`normalize` must be None, one of {', '.join(map(repr, NORMALIZERS))}, or a Keras layer. "
                f"Received: normalize={normalize!r}. Pass one of those names, or an unbuilt layer to copy."
            )
        # Templates are copied and never built: the namespace keeps Keras from tracking them as sublayers.
        self._templates = SimpleNamespace(normalize=normalize, policies={})
        # How many products are computed; later ones are left out. None for all; see `analysis.without_products`.
        self.products = None
        self.normalizers = []
        self.gates = []

    @property
    def normalize(self):
        """What normalises the products: `None`, a name, or the layer that is copied."""
        return self._templates.normalize

    @property
    def channel_axis(self):
        """The axis of the features: -1, or 1 for maps with `data_format="channels_first"`."""
        return -1

    @property
    def _normalizers_are_gated(self):
        """Whether the gates are part of the normalisations, which they can be where these follow the product."""
        follows_product = self.normalize in ("batch", "layer", "instance", "affine") and self.normalize_at != "order"
        return self.gate and follows_product and not self.GATES_THE_STATE

    @property
    def computed_products(self):
        """How many products are computed: all of them, N - 1, unless some are left out."""
        return self.order - 1 if self.products is None else min(self.products, self.order - 1)

    def _say_whether_masks_are_supported(self, *layers):
        """Claims that padded steps change no other answer, if neither `layers` nor the normalisation let them."""
        template = self.normalize if isinstance(self.normalize, keras.layers.Layer) else None
        steps_apart = self.channel_axis == -1 and self.normalize != "instance"
        self.supports_masking = steps_apart and masks.supported(template, *layers)

    def _build_steps(self, shape):
        """Makes the normalisers and gates of orders 2 to N for states of shape `shape`."""
        first = self.order if self.normalize_at == "last" else 2
        orders = range(2, self.order + 1)
        self.normalizers = [self._make_normalizer(n, shape) if n >= first else None for n in orders]
        own = [self.gate and not (self._normalizers_are_gated and n >= first) for n in orders]
        self.gates = [
            self.add_weight(shape=(), initializer="zeros", name=f"gate_{n}") if gated else None
            for n, gated in zip(orders, own)
        ]

    def _make_normalizer(self, n, shape):
        template = self.normalize
        options = {"name": f"normalize_{n}", "dtype": self.dtype_policy}
        axis = self.channel_axis
        if template is None:
            return None
        if template == "batch":
            of_products = GatedProductBatchNormalization if self._normalizers_are_gated else ProductBatchNormalization
            batch = BatchNormalization if self.normalize_at == "order" else of_products
            layer = batch(axis=axis, momentum=0.9, epsilon=1e-5, **options)
        elif template == "layer":
            over_channels = GatedLayerNormalization if self._normalizers_are_gated else keras.layers.LayerNormalization
            layer = over_channels(axis=axis, epsilon=1e-5, **options)
        elif template == "instance":
            if len(shape) < 3:
                raise ValueError(
                    "Instance normalisation takes its statistics over the axes between batch and channels. "
                    f"Received: normalize='instance' with states of shape {tuple(shape)}. "
                    "Pass normalize='layer' or 'batch' for vectors."
                )
            groups = GatedGroupNormalization if self._normalizers_are_gated else keras.layers.GroupNormalization
            layer = groups(groups=-1, axis=axis, epsilon=1e-5, **options)
        elif template == "affine":
            layer = (GatedProductAffine if self._normalizers_are_gated else ProductAffine)(axis=axis, **options)
        elif template == "offset":
            layer = ProductOffset(axis=axis, **options)
        elif template == "tanh":
            layer = keras.layers.Activation("tanh", **options)
        else:
            layer = copy_layer(template, **options)
        if isinstance(layer, _WIDE_NORMALIZERS):
            layer.autocast = False
        returned = build_part("normalize", layer, shape)
        if returned != tuple(shape):
            raise ValueError(
                "A normalisation must keep the shape of what it normalises. "
                f"Received: normalize={template!r}, which turns {tuple(shape)} into {returned}. "
                "Pass a layer that keeps the shape."
            )
        return layer

    def _step(self, n, factor, state, carry=None, skip=None, bias=None, mask=None):
        """Computes x_n from the two factors of its product and the tensors, and the vector `bias`, added to it.

        Steps that `mask` leaves out are not part of the statistics of a normalisation.
        In float16 the product is formed and normalised in float32, since two values of 256 overflow float16 (65504).
        """
        if n - 1 > self.computed_products:
            added = [term for term in (skip, bias) if term is not None]
            return functools.reduce(ops.add, added, state if carry is None else carry)
        normalizer, gate = self.normalizers[n - 2], self.gates[n - 2]
        narrow = self.compute_dtype == "float16"
        wide = "float32" if narrow else self.compute_dtype
        mask = None if mask is None else masks.of_positions(mask, state)
        if isinstance(normalizer, (ProductBatchNormalization, ProductAffine)) and self.normalize_at != "order":
            add_state, add_factor = carry is state, skip is factor
            sums = {"add_factor": add_factor, "add_inputs": add_state, "bias": bias}
            x = masks.apply(normalizer, state, mask, factor=factor, **sums)
            x = ops.cast(x, wide)
            carry, skip, bias = None if add_state else carry, None if add_factor else skip, None
        else:
            if narrow:
                factor, state = ops.cast(factor, wide), ops.cast(state, wide)
            x = ops.multiply(factor, state)
            if normalizer is not None and self.normalize_at != "order":
                x = ops.cast(masks.apply(normalizer, x, mask), wide)
        if gate is not None and not self.GATES_THE_STATE:
            x = ops.multiply(x, ops.cast(gate, wide))
        if carry is not None:
            # Not `ops.add`, which takes a state of an empty batch for a bias (Keras 3.15 on TensorFlow).
            x = x + (ops.cast(carry, wide) if narrow else carry)
        if normalizer is not None and self.normalize_at == "order":
            x = masks.apply(normalizer, x, mask)
        if skip is not None:
            x = x + ops.cast(skip, x.dtype)
        if bias is not None:
            x = ops.add(x, ops.cast(bias, x.dtype))
        return ops.cast(x, self.compute_dtype)

    def folded_config(self):
        """Returns the config of a layer that computes the same at inference, or `None` where nothing can be folded."""
        if self.normalize != "batch":
            return None
        return {**self.get_config(), "normalize": "affine", "gate": any(gate is not None for gate in self.gates)}

    def load_folded(self, source):
        """Takes the weights of the layer that `folded_config` came from."""
        copy_weights(self, source, leave=[*self._replaced_by_folding(), *source._replaced_by_folding()])
        for n, old in enumerate(source.normalizers, start=2):
            if old is not None:
                self._load_map(n, *old.affine(old.variable_dtype, source._bias_of(n)))

    def _load_map(self, n, scale, offset):
        """Takes the map that the normalisation of step n is at inference."""
        self.normalizers[n - 2].set_map(scale, offset)

    def _replaced_by_folding(self):
        """Returns the layers and weights that a folded layer has others for."""
        return [normalizer for normalizer in self.normalizers if normalizer is not None]

    def _bias_of(self, n):
        """Returns a vector that step n adds, or `None`."""
        return None

    def get_config(self):
        normalize = self.normalize
        if isinstance(normalize, keras.layers.Layer):
            normalize = keras.saving.serialize_keras_object(normalize)
        config = {
            "order": self.order,
            "normalize": normalize,
            "normalize_at": self.normalize_at,
            "gate": self.gate,
        }
        maps = ((linear_map.name, _inside(linear_map)) for linear_map in self._layers)
        # `quantize` changes the policies of the linear maps alone, layer by layer.
        policies = {
            name: [keras.dtype_policies.serialize(layer.dtype_policy) for layer in layers]
            for name, layers in maps
            if any(layer.quantization_mode for layer in layers)
        }
        changed = {"quantized": policies} if policies else {}
        if self.products is not None:
            changed["products"] = self.products
        return {**super().get_config(), **config, **changed}

    @classmethod
    def from_config(cls, config):
        policies = config.get("quantized", {})
        products = config.get("products")
        config = {key: value for key, value in config.items() if key not in ("quantized", "products")}
        layer = super().from_config(deserialize_layers(config))
        layer.products = products
        layer._templates.policies = {
            name: list(map(keras.dtype_policies.get, saved)) for name, saved in policies.items()
        }
        layer._restore_policies(layer._layers)
        return layer

    def _restore_policies(self, maps):
        """Gives linear maps that were quantised when the layer was saved their policies again."""
        for linear_map in maps:
            for layer, policy in zip(_inside(linear_map), self._templates.policies.get(linear_map.name, ())):
                layer.dtype_policy = policy


def _inside(linear_map):
    """Returns the layers in and below `linear_map`, without the inputs that a model of layers gets as it is built."""
    return [layer for layer in linear_map._flatten_layers() if not isinstance(layer, keras.layers.InputLayer)]
