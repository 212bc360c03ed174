"""What may be said of kernels and biases, in the words of `keras.layers.Dense`, which every linear map takes."""

import inspect

import keras


class WeightOptions(keras.layers.Layer):
    """A layer that may be told how its kernels and biases start, and what they are held to, as `keras.layers.Dense`.

    Args:
        use_bias: whether there is a bias.
        kernel_initializer: initializer of kernels; what `None` stands for is the subclass's to say.
        bias_initializer: initializer of biases.
        kernel_regularizer, kernel_constraint: of kernels.
        bias_regularizer, bias_constraint: of biases.
        **kwargs: those of `keras.layers.Layer`.
    """

    # Options of earlier versions, each with the default that it has in their configs.
    DROPPED: tuple = ()

    def __init__(
        self,
        *,
        use_bias=True,
        kernel_initializer=None,
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)

    def __init_subclass__(cls, **kwargs):
        """Shows in the signature of a layer the keywords that it hands on to its bases."""
        super().__init_subclass__(**kwargs)
        _, *shown = inspect.signature(cls.__init__).parameters.values()
        hands_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in shown)
        for base in cls.__mro__[1 : cls.__mro__.index(keras.layers.Layer)] if hands_on else ():
            parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
            names = {parameter.name for parameter in shown}
            shown += [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in names]
        cls.__signature__ = inspect.Signature(sorted(shown, key=lambda parameter: parameter.kind))

    def _add_kernel(self, name, shape, initializer):
        """Makes a weight that is regularised and constrained as a kernel."""
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )

    def _add_bias(self, name, size, initializer=None):
        """Makes a vector that is regularised and constrained as a bias."""
        return self.add_weight(
            name=name,
            shape=(size,),
            initializer=initializer or self.bias_initializer,
            regularizer=self.bias_regularizer,
            constraint=self.bias_constraint,
        )

    @classmethod
    def from_config(cls, config):
        taken = inspect.signature(cls).parameters
        dropped = {name: default for name, default in cls.DROPPED if name not in taken}
        for name in dropped.keys() & config.keys():
            # Keras of another version may have written other entries for the same.
            value = keras.saving.deserialize_keras_object(config[name])
            if keras.saving.serialize_keras_object(value) != keras.saving.serialize_keras_object(dropped[name]):
                raise ValueError(
                    f"{cls.__name__} has no option `{name}` any more. Received: a config of an earlier version with "
                    f"{name}={config[name]!r}, which was not its default. Take the entry out of the config: "
                    "weights that are loaded do not depend on it, and those of a new layer can be assigned."
                )
        return super().from_config({name: value for name, value in config.items() if name not in dropped})

    def get_config(self):
        return {
            **super().get_config(),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }
