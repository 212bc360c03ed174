"""A tiny SavedModel with the signatures that are exported, and a few more."""

import numpy as np
import tensorflow as tf

SIDE = 4
NAMES = ["ant", "bee", "cow"]


class Network(tf.Module):
    """A linear classifier of images of 4x4, and whatever else a signature can be made of."""

    def __init__(self):
        super().__init__()
        kernel = np.random.default_rng(0).normal(size=(SIDE * SIDE * 3, len(NAMES)))
        self.kernel = tf.Variable(kernel, dtype=tf.float32)

    def classify(self, images):
        logits = tf.reshape(images, (-1, SIDE * SIDE * 3)) @ self.kernel
        return {
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
            "classes": tf.gather(NAMES, tf.argmax(logits, 1)),
        }

    @tf.function(input_signature=[tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, "images")])
    def serving_default(self, images):
        return self.classify(tf.ensure_shape(images, (None, SIDE, SIDE, 3)))

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "image_bytes")])
    def encoded_images(self, image_bytes):
        def decode(content):
            image = tf.io.decode_image(content, 3, expand_animations=False)
            image.set_shape((None, None, 3))
            return tf.image.resize(image, (SIDE, SIDE)) / 255.0

        return self.classify(tf.map_fn(decode, image_bytes, fn_output_signature=tf.float32))

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "wav_bytes")])
    def encoded_audio(self, wav_bytes):
        def decode(content):
            return tf.reduce_max(tf.abs(tf.audio.decode_wav(content, 1).audio))

        return {"loudness": tf.map_fn(decode, wav_bytes, fn_output_signature=tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, "latents")])
    def generate(self, latents):
        pixels = tf.cast(tf.clip_by_value(127.5 * latents + 127.5, 0, 255), tf.uint8)
        return {"images": tf.reshape(pixels, (-1, 1, 2, 1))}

    @tf.function(
        input_signature=[tf.TensorSpec((None,), tf.string, "words"), tf.TensorSpec((None,), tf.int32, "times")]
    )
    def repeat(self, words, times):
        repeated = tf.map_fn(
            lambda pair: tf.strings.reduce_join(tf.repeat(pair[0], pair[1])),
            (words, times),
            fn_output_signature=tf.string,
        )
        return {"word_bytes": repeated, "word": tf.cast(tf.strings.length(repeated), tf.int64)}

    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, "latents")], jit_compile=True)
    def compiled(self, latents):
        return {"vertices": latents * 2.0}


def write_model(folder):
    network = Network()
    names = ("serving_default", "encoded_images", "encoded_audio", "generate", "repeat", "compiled")
    tf.saved_model.save(network, str(folder), signatures={name: getattr(network, name) for name in names})
