"""How many batches an epoch has, and which sample comes where in it: an order that is known without being kept."""

import dataclasses

import tensorflow as tf


def shuffled(position, seed, epoch, count):
    """Returns which of `count` samples are at these positions of a random order that depends on seed and epoch alone.

    Args:
        position: int64 positions in [0, count), of any shape.
        seed: an integer.
        epoch: an integer, or a tensor of the shape of `position`.
        count: how many samples there are.
    """
    # tf.random.experimental.index_shuffle of TensorFlow 2.21 is this with 4 rounds, which leave one order in 250 nearly
    # sorted, so that a batch of sorted samples has one class; with 8 there was none in 4,000.
    epoch = tf.broadcast_to(tf.cast(epoch, tf.int64), tf.shape(position))
    seeds = tf.stack([tf.fill(tf.shape(position), tf.constant(seed, tf.int64)), epoch, tf.zeros_like(epoch)], axis=-1)
    return tf.raw_ops.RandomIndexShuffle(index=position, seed=seeds, max_index=tf.cast(count - 1, tf.int64), rounds=16)


def full_batches(count, batch_size, unit):
    """Returns how many full batches `count` training samples make.

    Args:
        count: the number of samples.
        batch_size: samples in a batch.
        unit: what they are, in the plural.

    Raises:
        ValueError: if there is not one.
    """
    if count // batch_size < 1:
        raise ValueError(
            "An epoch needs at least one full batch. "
            f"Received: batch_size={batch_size} for {count} training {unit}. Pass a smaller batch size."
        )
    return count // batch_size


@dataclasses.dataclass(frozen=True)
class Share:
    """The part of each batch that one of several hosts reads: as many samples in a row as each of the others.

    Args:
        batch_size: samples in a batch, over all hosts.
        host: the number of this host.
        hosts: how many there are.
        replicas: how many replicas each has.

    Raises:
        ValueError: if the replicas of all hosts cannot have the same part of a batch.
    """

    batch_size: int
    host: int = 0
    hosts: int = 1
    replicas: int = 1

    def __post_init__(self):
        parts = self.hosts * self.replicas
        if self.batch_size % parts:
            raise ValueError(
                "Each replica takes the same part of a batch. "
                f"Received: batch_size={self.batch_size} for {parts} replicas. Pass a multiple of {parts}."
            )

    @property
    def of_host(self):
        """How many samples of a batch this host has."""
        return self.batch_size // self.hosts

    @property
    def of_replica(self):
        """How many samples of a batch one of its replicas has."""
        return self.of_host // self.replicas

    def place(self, number):
        """Returns where the samples of this host are, integers, among those of all, counted from 0 over all batches."""
        return number // self.of_host * self.batch_size + self.host * self.of_host + number % self.of_host

    def holds(self, place):
        """Returns whether the samples at these places, integers, are of this host."""
        return place % self.batch_size // self.of_host == self.host

    def count(self, size):
        """Returns how many of the first `size` samples are of this host."""
        batches, rest = divmod(size, self.batch_size)
        return batches * self.of_host + min(max(rest - self.host * self.of_host, 0), self.of_host)
