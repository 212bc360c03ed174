"""Datasets: a name or a path in, a `tf.data.Dataset` out."""
