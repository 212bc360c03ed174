"""Orders of epochs: every sample once, another order each time, none of them nearly sorted."""

import numpy as np
import pytest
import tensorflow as tf

from pinets_tf.data.epochs import full_batches, shuffled


def order(count, epoch, seed=0):
    return shuffled(tf.range(count, dtype=tf.int64), seed, epoch, count).numpy()


@pytest.mark.parametrize("count", [1, 2, 20, 257])
def test_every_sample_once_in_a_new_order(count):
    orders = [order(count, epoch) for epoch in range(5)]
    assert all(sorted(each) == list(range(count)) for each in orders)
    assert count < 20 or len({each.tobytes() for each in (*orders, order(count, 0, seed=1))}) == 6
    np.testing.assert_array_equal(order(count, 3), orders[3])


def test_positions_may_be_of_several_epochs():
    epochs = tf.constant([0, 1, 1], tf.int64)
    positions = tf.constant([3, 0, 5], tf.int64)
    expected = [order(20, 0)[3], order(20, 1)[0], order(20, 1)[5]]
    np.testing.assert_array_equal(shuffled(positions, 0, epochs, 20), expected)


def test_no_order_is_nearly_sorted():
    # Epochs 12 and 268 of seed 0 are, with the 4 rounds of tf.random.experimental.index_shuffle.
    positions = np.arange(256)
    largest = max(abs(np.corrcoef(positions, order(256, epoch))[0, 1]) for epoch in range(300))
    # 1 / 16 is the standard deviation of the correlation of random orders.
    assert largest < 5 / 16


def test_full_batches():
    assert full_batches(10, 3, "clips") == 3
    with pytest.raises(
        ValueError, match=r"at least one full batch\. Received: batch_size=4 for 3 training clips\. Pass"
    ):
        full_batches(3, 4, "clips")
