"""The generator whose weights are averages over the training, and statistics that fit them."""

import keras
import tensorflow as tf
from keras import ops

from pinets_tf._keras import flatten_layers, seed_generators
from pinets_tf.layers.copying import copy_weights, paired_layers, paired_weights


def copy_network(network):
    """Returns a copy of a functional Keras model with layers and variables of its own, of the same values."""
    copy = keras.models.clone_model(network)
    copy_weights(copy, network)
    for new, old in paired_layers(copy, network):
        for new_seeds, old_seeds in zip(seed_generators(new), seed_generators(old)):
            new_seeds.state.assign(old_seeds.state)
    return copy


def decay_at(step, decay, warm_up):
    """Returns the decay of the average at a step, which with `warm_up` is min(decay, (1 + step) / (10 + step))."""
    if not warm_up:
        return decay
    step = ops.cast(step, "float32")
    return ops.minimum(decay, (1.0 + step) / (10.0 + step))


def update_average(average, network, decay):
    """average = decay * average + (1 - decay) * network, for all weights and moving statistics.

    The states of random generators, which are integers, stay as they are.
    """
    for mean, weight in paired_weights(average, network):
        if keras.backend.is_float_dtype(mean.dtype):
            share = ops.cast(decay, mean.dtype)
            mean.assign(share * mean + (1 - share) * weight)


def settle_statistics(generator, latents):
    """Replaces the moving statistics of every batch normalisation by means over batches with the weights as they are.

    The average of moving statistics is not the statistics of the average weights, and a generator whose products are of
    high order raises the difference to the power of its degree.

    Args:
        generator: a Keras model.
        latents: an iterable of its inputs, in batches that are as large as those of the training.

    Raises:
        ValueError: if there is no batch.
    """
    layers = [layer for layer in flatten_layers(generator) if isinstance(layer, keras.layers.BatchNormalization)]
    if not layers:
        return
    statistics = [variable for layer in layers for variable in (layer.moving_mean, layer.moving_variance)]
    before, momenta = values_of(generator), [layer.momentum for layer in layers]
    totals, count = [0.0] * len(statistics), 0
    forward = tf.function(lambda batch: generator(batch, training=True), autograph=False)
    try:
        for layer in layers:
            layer.momentum = 0.0
        for variable in statistics:
            # Zero times a statistic that has overflown would not be zero.
            variable.assign(ops.zeros(variable.shape, variable.dtype))
        for batch in latents:
            forward(batch)
            totals = [total + ops.convert_to_numpy(variable) for total, variable in zip(totals, statistics)]
            count += 1
    finally:
        for layer, momentum in zip(layers, momenta):
            layer.momentum = momentum
        # The states of random generators have moved too.
        put_back(generator, before)
    if not count:
        raise ValueError(
            "Statistics are settled on at least one batch. Received: no batch of latents. Pass a list of some."
        )
    for variable, total in zip(statistics, totals):
        variable.assign(total / count)


def values_of(network):
    """Returns the values of all variables of a network, those of its random generators too."""
    return [ops.convert_to_numpy(variable) for variable in network.variables]


def put_back(network, values):
    """Sets all variables of a network to what `values_of` returned."""
    for variable, value in zip(network.variables, values):
        variable.assign(value)
