"""Saving a run after every epoch and when it is interrupted, and going on from there."""

import csv
import os
from pathlib import Path

import keras
import numpy as np

from pinets_tf.npz import Npz
from pinets_tf.training.cluster import alone, broadcast, hosts, is_chief


class Checkpoints(keras.callbacks.Callback):
    """Saves weights, optimizer and history after every epoch, such that a killed run can go on.

    The state is one file, replaced in one step, so that it is never half written; it has the number of steps that are
    done. The history has one row an epoch, rewritten with the state. A run that is interrupted by a signal saves its
    state in the middle of an epoch, after the sums of its metrics so far (`epoch_so_far.npz`), and ends. Of several
    processes the first one reads and writes, and the others get what it has read.

    Args:
        folder: where `checkpoint.weights.h5` and `history.csv` are.
        steps_per_epoch: steps in an epoch.
        interruption: an `Interruption`, or `None`.
    """

    def __init__(self, folder, steps_per_epoch, interruption=None):
        super().__init__()
        self.file = Path(folder) / "checkpoint.weights.h5"
        self.history_file = Path(folder) / "history.csv"
        self.so_far_file = Path(folder) / "epoch_so_far.npz"
        self.steps_per_epoch = steps_per_epoch
        self.interruption = interruption
        self.history = []
        self.first_step = 0
        self._in_an_epoch, self._so_far = False, None

    def restore(self, model):
        """Loads the last saved state into a compiled `ReplicaModel`, if there is one.

        Returns:
            How many epochs are done. How many steps of the next one are is in `first_step`.

        Raises:
            ValueError: if a file cannot be read or does not fit the model.
        """
        model.optimizer.build(model.trainable_variables)
        if is_chief() and self.file.exists():
            try:
                alone(model.load_weights, self.file)
            except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:  # Those that h5py has for damage.
                raise ValueError(
                    "A run goes on from the checkpoint in its workdir, which must fit its model. "
                    f"Received: {self.file}, which cannot be loaded ({error}). Delete the file to start anew."
                ) from error
        if hosts()[1] > 1:
            variables = [*model.variables, *model.optimizer.variables]
            values = broadcast([keras.ops.convert_to_numpy(variable) for variable in variables])
            for variable, value in zip(variables, values):
                variable.assign(value)
        # Not int(...), which does not take the variables of a strategy.
        steps = int(keras.ops.convert_to_numpy(model.steps_done))
        epochs, self.first_step = divmod(steps, self.steps_per_epoch)
        self._in_an_epoch = self.first_step > 0
        if self._in_an_epoch and is_chief():
            self._so_far = self._read_so_far(steps)
        if is_chief() and self.history_file.exists():
            self.history = rows_until(self.history_file, "epoch", epochs)
        return epochs

    def _read_so_far(self, steps):
        try:
            with Npz(self.so_far_file, "The metrics of an epoch are an .npz file") as stored:
                if int(stored["steps"]) != steps:
                    raise ValueError(f"it is of step {int(stored['steps'])}, the checkpoint of step {steps}")
                return [stored[f"metric_{index}"] for index in range(len(stored.names) - 1)]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                "A run that was interrupted in an epoch goes on with its metrics so far. "
                f"Received: {self.so_far_file}, which cannot be used ({error}). "
                f"Delete {self.file.name} to start anew."
            ) from error

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        if not self._in_an_epoch:
            self.first_step = 0
            return
        self._in_an_epoch = False
        variables = self._metric_variables()
        arrays = self._so_far or [np.zeros(one.shape, keras.backend.standardize_dtype(one.dtype)) for one in variables]
        for variable, value in zip(variables, broadcast(arrays), strict=True):
            variable.assign(value)

    def on_train_batch_end(self, batch, logs=None):
        if self.interruption is None or not self.interruption.due:
            return
        step = self.first_step + batch + 1
        if step < self.steps_per_epoch:  # The end of an epoch is saved as always, and looked at there.
            self._save_so_far(self._epoch * self.steps_per_epoch + step)
            self.interruption.leave(f"the state after step {step} of {self.steps_per_epoch} of epoch {self._epoch + 1}")

    def _metric_variables(self):
        return [variable for metric in self.model.metrics for variable in metric.variables]

    def _save_so_far(self, steps):
        arrays = {
            f"metric_{index}": keras.ops.convert_to_numpy(variable)
            for index, variable in enumerate(self._metric_variables())
        }
        if is_chief():
            temporary = self.so_far_file.with_name("partial." + self.so_far_file.name)
            np.savez(temporary, steps=steps, **arrays)
            os.replace(temporary, self.so_far_file)
        self._save()

    def _save(self):
        if not is_chief():
            return
        temporary = self.file.with_name("partial." + self.file.name)
        alone(self.model.save_weights, temporary)
        os.replace(temporary, self.file)

    def on_epoch_end(self, epoch, logs=None):
        self.history.append({"epoch": epoch + 1, **{name: f"{value:.6g}" for name, value in (logs or {}).items()}})
        self._write_history()
        self._save()
        if self.interruption is not None and self.interruption.due:
            self.interruption.leave(f"the state after epoch {epoch + 1}")

    def _write_history(self):
        if not is_chief():
            return
        temporary = self.history_file.with_name(self.history_file.name + ".partial")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.history[-1]), extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows(self.history)
        os.replace(temporary, self.history_file)


def rows_until(file, counter, last):
    """Returns the rows of a history whose counter, such as the epoch, is at most `last`.

    Raises:
        ValueError: if it is no table with that counter.
    """
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            return [row for row in csv.DictReader(lines) if int(row[counter]) <= last]
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"A history is a table with a column of integers, {counter}. "
            f"Received: {file}, which cannot be read ({type(error).__name__}: {error}). Delete it to go on without."
        ) from error
