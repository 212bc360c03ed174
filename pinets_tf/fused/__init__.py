"""What a backend has as one operation and Keras computes in several: the only place where layers meet TensorFlow."""
