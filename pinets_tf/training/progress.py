"""Speed and time left of a training."""

import time

import keras


class Progress(keras.callbacks.Callback):
    """Adds `images_per_second` to the logs of each epoch and prints one line with it and the time left.

    Images per second are those of the training steps alone: the first step of the run, which traces or compiles the
    step, and validation are left out.

    Args:
        epochs: the number of the last epoch.
        steps_per_epoch: steps in an epoch.
        batch_size: images in a step, over all replicas.
        unit: what a batch consists of, such as "images" or "clips".
        first_step: how many steps of the first epoch were done before.
    """

    def __init__(self, epochs, steps_per_epoch, batch_size, unit="images", first_step=0):
        super().__init__()
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.batch_size = batch_size
        self.unit = unit
        self.first_step = first_step
        self._traced = False

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_started = self._steps_started = time.perf_counter()
        self._timed_steps = self.steps_per_epoch - self.first_step
        self.first_step = 0

    def on_train_batch_end(self, batch, logs=None):
        self._steps_ended = time.perf_counter()
        if not self._traced and self._timed_steps > 1:
            self._steps_started, self._timed_steps = self._steps_ended, self._timed_steps - 1
        self._traced = True

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        optimizer = self.model.optimizer
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            scale, taken = map(keras.ops.convert_to_numpy, (optimizer.dynamic_scale, optimizer.iterations))
            logs["loss_scale"] = float(scale)
            logs["skipped_steps"] = (epoch + 1) * self.steps_per_epoch - int(taken)
        column = f"{self.unit}_per_second"
        logs[column] = self._timed_steps * self.batch_size / (self._steps_ended - self._steps_started)
        left = (time.perf_counter() - self._epoch_started) * (self.epochs - epoch - 1)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in logs.items() if name != column)
        speed = f"{logs[column]:,.0f} {self.unit}/s"
        print(f"epoch {epoch + 1}/{self.epochs}  {shown}  {speed}  {duration(left)} left", flush=True)


def duration(seconds):
    """Returns a time as H:MM:SS."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
