"""What each replica gets of a batch, and how what the replicas compute becomes one result."""

import keras
import numpy as np
import tensorflow as tf

from pinets_tf.training.cluster import host_share


def share_out(batches, *, whole=True, padded=False):
    """Returns an iterator of which each call of `strategy.run` takes a batch, a part of it for each replica.

    The parts are in the order of the replicas, as equal as they can be, of the same sizes on one host and on several.

    Args:
        batches: a dataset, the same one on each host.
        whole: whether its elements are whole batches; else each is the part of one replica of this host, in turn.
        padded: whether what follows the last batch, without end, are empty ones; else it is of no use.
    """
    index, hosts, replicas = host_share()
    parts = hosts * replicas
    if whole and parts > 1:

        def part(batch, number):
            flat = tf.nest.flatten(batch)
            size = tf.shape(flat[0], tf.int64)[0]
            first, end = (size * (number + more) // parts for more in (0, 1))
            known = flat[0].shape[0]
            static = known // parts if known is not None and known % parts == 0 else None
            pieces = [tensor[first:end] for tensor in flat]
            return tf.nest.pack_sequence_as(
                batch, [tf.ensure_shape(piece, (static, *piece.shape[1:])) for piece in pieces]
            )

        def of_this_host(*batch):
            numbers = tf.data.Dataset.range(index * replicas, (index + 1) * replicas)
            return numbers.map(lambda number: part(batch if len(batch) > 1 else batch[0], number))

        batches = batches.flat_map(of_this_host)

    # Of a dataset without end, TensorFlow does not ask all workers before each batch whether there is one.
    def nothing(spec):
        return tf.zeros([0 if padded else spec.shape[0] or 0, *(size or 0 for size in spec.shape[1:])], spec.dtype)

    end = tf.data.Dataset.from_tensors(tf.nest.map_structure(nothing, batches.element_spec)).repeat()
    batches = batches.concatenate(end)
    strategy = tf.distribute.get_strategy()
    return iter(strategy.distribute_datasets_from_function(lambda context: batches.prefetch(tf.data.AUTOTUNE)))


def summed(values):
    """Returns the sum of a tensor over all replicas, on each of them."""
    context = tf.distribute.get_replica_context()
    return context.all_reduce("SUM", values) if context.num_replicas_in_sync > 1 else values


def apply_gradients(optimizer, gradients, variables, good):
    """Lets an optimizer take one step on all replicas where `good` is true, which must be the same on all of them."""
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync
    gradients = list(gradients)
    if scales_loss(optimizer) and replicas > 1:
        # Keras 3.15 asks the first replica alone whether its gradients are finite, before they are summed.
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(one)) for one in gradients if one is not None])
        bad = summed(tf.cast(~finite, tf.float32))
        gradients = [one if one is None else tf.where(bad > 0, np.nan, one) for one in gradients]
    if not tf.distribute.has_strategy():
        tf.cond(good, lambda: optimizer.apply(gradients, variables), lambda: None)
        return

    # In a branch of a replica, replicas cannot meet, so the branch is taken by all of them together.
    def apply_together(strategy, gradients, variables, good):
        def apply():
            strategy.extended.call_for_each_replica(optimizer.apply, args=(gradients, variables))

        tf.cond(strategy.experimental_local_results(good)[0], apply, lambda: None)

    context.merge_call(apply_together, args=(gradients, variables, good))


def scales_loss(optimizer):
    """Returns whether an optimizer scales its loss."""
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer)


def average_statistics(network):
    """Sets the moving statistics of all replicas to their mean.

    A moving average is linear, so this gives the moving averages of means over the replicas, whenever it is done.
    Weights of which all replicas have the same value keep every bit of it.
    """
    averaging(network)()


def averaging(network):
    """Returns `average_statistics` of a network as a function to be called often."""
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    variables = [one for one in network.non_trainable_variables if keras.backend.is_float_dtype(one.dtype)]
    if replicas == 1 or not variables:
        return lambda: None

    def of_one_replica():
        context = tf.distribute.get_replica_context()
        first = tf.equal(context.replica_id_in_sync_group, 0)
        for variable in variables:
            value = tf.convert_to_tensor(variable)
            start = context.all_reduce("SUM", tf.where(first, value, tf.zeros_like(value)))
            variable.assign(start + context.all_reduce("SUM", value - start) / replicas)

    return tf.function(lambda: strategy.run(of_one_replica))
