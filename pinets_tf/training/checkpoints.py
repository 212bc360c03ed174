"""Saving a run after every epoch, and going on from the last one."""

import csv
import os
from pathlib import Path

import keras


class Checkpoints(keras.callbacks.Callback):
    """Saves weights, optimizer and history after every epoch, such that a killed run can go on.

    The state is one file, replaced in one step, so that it is never half written. How many epochs are done follows
    from the optimizer's step count in it. The history has one row an epoch, rewritten with the state.

    Args:
        folder: where `checkpoint.weights.h5` and `history.csv` are.
        steps_per_epoch: optimizer steps in an epoch.
    """

    def __init__(self, folder, steps_per_epoch):
        super().__init__()
        self.file = Path(folder) / "checkpoint.weights.h5"
        self.history_file = Path(folder) / "history.csv"
        self.steps_per_epoch = steps_per_epoch
        self.history = []

    def restore(self, model):
        """Loads the last saved state into a compiled model, if there is one, and returns how many epochs are done."""
        model.optimizer.build(model.trainable_variables)
        if not self.file.exists():
            return 0
        try:
            model.load_weights(self.file)
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(
                "A run goes on from the checkpoint in its workdir, which must fit its model. "
                f"Received: {self.file}, which cannot be loaded ({error}). Delete the file to start anew."
            ) from error
        epochs = int(model.optimizer.iterations) // self.steps_per_epoch
        if self.history_file.exists():
            with self.history_file.open(newline="") as file:
                self.history = [row for row in csv.DictReader(file) if int(row["epoch"]) <= epochs]
        return epochs

    def on_epoch_end(self, epoch, logs=None):
        self.history.append({"epoch": epoch + 1, **{name: f"{value:.6g}" for name, value in (logs or {}).items()}})
        self._write_history()
        temporary = self.file.with_name("partial." + self.file.name)
        self.model.save_weights(temporary)
        os.replace(temporary, self.file)

    def _write_history(self):
        temporary = self.history_file.with_name(self.history_file.name + ".partial")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.history[-1]), extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows(self.history)
        os.replace(temporary, self.history_file)
