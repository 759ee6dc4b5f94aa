"""Classifiers of others, with their ways to fail in another process."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import cloudpickle
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find the tests


class Head(ClassifierMixin, BaseEstimator):
    """Predicts the first class, and remembers who fitted it."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.process_ = os.getpid()
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


class Slow(Head):
    def __init__(self, seconds=300.0):
        self.seconds = seconds

    def fit(self, X, y):
        time.sleep(self.seconds)
        return super().fit(X, y)


class Broken(Head):
    def fit(self, X, y):
        raise RuntimeError("no luck today\nnor tomorrow")


class Deadly(Head):
    def fit(self, X, y):
        os.kill(os.getpid(), signal.SIGKILL)


class Locked(Head):
    """Cannot be pickled."""

    def __init__(self):
        self.lock = threading.Lock()


class LocksItself(Head):
    """Cannot be pickled once it is fitted."""

    def fit(self, X, y):
        self.lock_ = threading.Lock()
        return super().fit(X, y)


class FromNowhere(Head):
    """Is made of a module that only this process has."""

    def __reduce__(self):
        return __import__, ("no_such_module",)


class ComesBackBroken(Head):
    """Can be pickled once it is fitted, but not unpickled."""

    def __reduce__(self):
        return (__import__, ("no_such_module",)) if hasattr(self, "classes_") else (type(self), ())
