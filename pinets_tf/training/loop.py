"""The loop over epochs and steps, the same one for one process and for several."""

import os
import sys

import keras
import tensorflow as tf

from pinets_tf.training.cluster import host_share, is_chief
from pinets_tf.training.shares import averaging, share_out


class NotFiniteLoss(ArithmeticError):
    """The loss or a gradient of a step is not finite; weights and optimizer are as they were before it.

    Args:
        step: the number of the step, counted from 1 over all epochs.
    """

    def __init__(self, step):
        super().__init__(f"the loss or a gradient of step {step:,} is not finite")
        self.step = step


class Loop:
    """Trains a compiled `ReplicaModel` on all replicas, of this host and of others.

    Made and used inside the scope of the strategy. Its callbacks are `Progress` and `Checkpoints`.

    Args:
        model: a `ReplicaModel`.
        lessons: `Lessons`.
        callbacks: Keras callbacks, told of the begin and the end of epochs and steps.
        interruption: an `Interruption`, or `None`.
        folder: where logs of TensorBoard are written, or `None`.
    """

    def __init__(self, model, lessons, callbacks=(), interruption=None, folder=None):
        self.model = model
        self.lessons = lessons
        self.callbacks = callbacks
        self.interruption = interruption
        self.strategy = tf.distribute.get_strategy()
        self._train, self._test = tf.function(self._train_all), tf.function(self._test_all)
        self._average = averaging(model.network)
        self._writers = {}
        if folder is not None and is_chief():
            self._writers = {
                # TensorFlow takes no text for a path that is not UTF-8.
                part: tf.summary.create_file_writer(os.fsencode(folder / part))
                for part in ("train", "validation")
            }
        for callback in callbacks:
            callback.set_model(model)

    def run(self, first_epoch, epochs, first_step=0):
        """Trains the epochs that are left, the first of them from a step on.

        Raises:
            NotFiniteLoss: if a loss or a gradient is not.
        """
        steps = self.lessons.steps()
        if first_epoch >= epochs:
            return
        batches = self.lessons.training(first_epoch)
        self._prepare_metrics(batches)
        parts = host_share()[2] if self.lessons.divided else 1
        iterator = share_out(batches.skip(first_step * parts), whole=not self.lessons.divided)
        for epoch in range(first_epoch, epochs):
            self.model.reset_metrics()
            self._tell("on_epoch_begin", epoch)
            self._run_epoch(iterator, epoch, first_step, steps)
            first_step = 0
            logs = self._results()
            self._average()
            logs |= {f"val_{name}": value for name, value in self.validate().items()}
            self._tell("on_epoch_end", epoch, logs)
            self._write(epoch, logs)

    def validate(self):
        """Returns loss and metrics on the validation batches, as a dictionary."""
        self.model.reset_metrics()
        iterator = share_out(self.lessons.validation, whole=not self.lessons.divided, padded=True)
        while int(self._test(iterator)):
            pass
        return self._results()

    def _run_epoch(self, iterator, epoch, first_step, steps):
        shown = keras.utils.Progbar(steps) if sys.stdout.isatty() else None
        state = None
        for step in range(first_step, steps):
            self._tell("on_train_batch_begin", step - first_step)
            asked = self.interruption is not None and self.interruption.received is not None
            before, state = state, self._train(iterator, tf.constant(float(asked)))
            # Of the step before, so that the device is at work meanwhile.
            self._look(state if step == steps - 1 else before)
            if self.interruption is not None and self.interruption.due:
                self._look(state)
                self._average()  # What is saved in an epoch is of all replicas too.
            self._tell("on_train_batch_end", step - first_step)
            if shown:
                shown.update(step + 1)

    def _look(self, state):
        if state is None:
            return
        bad, asked = state.numpy()
        if bad:
            raise NotFiniteLoss(int(keras.ops.convert_to_numpy(self.model.first_bad_step)))
        if asked and self.interruption is not None:
            self.interruption.agree()

    def _train_all(self, iterator, asked):
        return self._first(self.strategy.run(self.model.update, args=(next(iterator), asked)))

    def _test_all(self, iterator):
        sizes = self.strategy.run(self.model.test, args=(next(iterator),))
        return tf.add_n(self.strategy.experimental_local_results(sizes))

    def _first(self, value):
        return self.strategy.experimental_local_results(value)[0]

    def _prepare_metrics(self, batches):
        """Lets Keras make what it makes of metrics when it first sees a batch, so that there is what to restore."""

        def one(spec):
            return tf.zeros([1, *(size or 1 for size in spec.shape[1:])], spec.dtype)

        def look():
            x, y, weight = keras.utils.unpack_x_y_sample_weight(tf.nest.map_structure(one, batches.element_spec))
            answers = [one(output) for output in self.model.network.outputs]
            self.model.compute_metrics(x, y, answers if len(answers) > 1 else answers[0], weight)

        # Traced, and not run.
        tf.function(lambda: self.strategy.run(look)).get_concrete_function()

    def _results(self):
        """Returns loss and metrics over all replicas as a dictionary of numbers; all processes meet here."""
        results = self.model.get_metrics_result()
        return {name: float(keras.ops.convert_to_numpy(value)) for name, value in results.items()}

    def _tell(self, method, number, logs=None):
        for callback in self.callbacks:
            getattr(callback, method)(number, logs)

    def _write(self, epoch, logs):
        for part, writer in self._writers.items():
            with writer.as_default(epoch):
                for name, value in logs.items():
                    if name.startswith("val_") == (part == "validation"):
                        tf.summary.scalar(f"epoch_{name.removeprefix('val_')}", value)
            writer.flush()
