"""What may be said of kernels and biases, in the words of `keras.layers.Dense`, which every linear map takes."""

import inspect

import keras


class WeightOptions(keras.layers.Layer):
    """A layer that may be told how its kernels and biases start, and what they are held to.

    Args:
        use_bias: whether there is a bias.
        kernel_initializer: initializer of kernels; what `None` stands for is the subclass's to say.
        bias_initializer: initializer of biases.
        kernel_regularizer, kernel_constraint: of kernels.
        bias_regularizer, bias_constraint: of biases.
        **kwargs: those of `keras.layers.Layer`.
    """

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
        _, *own = inspect.signature(cls.__init__).parameters.values()
        shown = {parameter.name: parameter for parameter in own}
        hands_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in own)
        for base in cls.__mro__[: cls.__mro__.index(keras.layers.Layer)] if hands_on else ():
            for parameter in inspect.signature(base.__init__).parameters.values():  # type: ignore[misc]
                if parameter.kind is parameter.KEYWORD_ONLY:
                    shown.setdefault(parameter.name, parameter)
        cls.__signature__ = inspect.Signature(sorted(shown.values(), key=lambda parameter: parameter.kind))

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
