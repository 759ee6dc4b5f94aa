"""A model file: its metadata, the source of its features, and its head, which is read when it is first used."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, display, open_cache
from ...errors import (
    EmbedonceError,
    HeadError,
    ModelFileError,
    ParameterError,
    check_flag,
    check_path,
    describe,
    first_line,
)
from ...extract import precision_of, require_same_fingerprint
from ...heads.io import EXPORTED, SHORT_HASH_BYTES, SUFFIXES, load_head, load_model, load_predictor, read_metadata


def check_order(owner: str, model: Any, title: str, *others: Any) -> None:
    """Raise ParameterError, before anything is read, if another argument names a model file and the model does not."""
    if not names_model(model) and any(map(names_model, others)):
        got = display(str(model)) if isinstance(model, str | os.PathLike) else describe(model)
        raise ParameterError(
            f"parameter model of {owner} must be a model file ({', '.join(SUFFIXES)}), got {got}. "
            f"The model file is given as {title}: did you swap MODEL and {title}?"
        )


def names_model(path: Any) -> bool:
    """Return whether an argument is a path with a suffix of model files."""
    return isinstance(path, str | os.PathLike) and str(path).lower().endswith((*SUFFIXES, EXPORTED))


@dataclass(frozen=True)
class FeatureSource:
    """Fingerprint and provenance of the features of a head; `name` is the cache or model file in messages."""

    fingerprint: dict[str, Any]
    provenance: dict[str, Any]
    name: str

    @classmethod
    def of_cache(cls, cache: FeatureCache) -> FeatureSource:
        """Return the source of a cache's features."""
        return cls(cache.fingerprint, cache.provenance, f"the cache {cache.display_path}")

    def require_same(self, fingerprint: dict[str, Any]) -> None:
        """Raise a FingerprintError if features of this fingerprint differ from these."""
        require_same_fingerprint(self.fingerprint, fingerprint, self.name)

    def require_float32(self, purpose: str, alternative: str = "") -> None:
        """Raise a ModelFileError if the backbone computed in another precision than float32."""
        precision = precision_of(self.fingerprint)
        if precision != "float32":
            raise ModelFileError(
                f"{self.name} holds features of precision {precision}, but {purpose} needs float32. Extract with "
                f"--precision float32 to another cache path{alternative}"
            )


@dataclass(frozen=True)
class ModelFile:
    """A model file that was opened; what the head needs is checked when the head is first used."""

    path: Path
    metadata: dict[str, Any]
    trust: bool = False  # the file may run code when its head is read

    @classmethod
    def open(cls, path: Path | str, trust: bool = False) -> ModelFile:
        """Read the metadata of a model file; raises a ModelFileError if it cannot be read."""
        check_flag("trust", "a model file", trust)
        place = check_path("model", "a model file", path)
        return cls(place, read_metadata(place), trust)

    @property
    def name(self) -> str:
        """The file, as messages name it."""
        return f"the model {display(str(self.path))}"

    @property
    def is_whole(self) -> bool:
        """True for a .tflite file, which goes from pixels to probabilities and gives no features and no head."""
        return self.path.suffix.lower() == EXPORTED

    @cached_property
    def head(self) -> Any:
        """The fitted head."""
        return load_head(self.path, trust=self.trust)

    @cached_property
    def predictor(self) -> Any:
        """The head for prediction alone, read without scikit-learn where the file allows it."""
        return load_predictor(self.path, trust=self.trust)

    @property
    def classes(self) -> list[str]:
        """Names of the head's classes, in the order of its probabilities."""
        if self.is_whole:
            return [str(name) for name in self.metadata["class_names"]]
        return [str(name) for name in self.head.classes_]

    @contextlib.contextmanager
    def classifying(self) -> Iterator[None]:
        """Raise errors of the head, or of the Keras model, as a ModelFileError that names the file."""
        try:
            with np.errstate(all="ignore"):
                yield
        except Exception as error:  # of a damaged model, any
            foreign = not isinstance(error, EmbedonceError | OSError | MemoryError)
            if foreign or isinstance(error, HeadError):
                raise ModelFileError(f"{self.name} cannot classify: {first_line(error)}") from error
            raise

    def require_probabilities(self, probabilities: npt.NDArray[Any] | None, n_classes: int) -> None:
        """Raise a ModelFileError if probabilities (n, k) are not numbers from 0 to 1, one for each class."""
        if probabilities is not None and not (
            np.ndim(probabilities) == 2
            and np.shape(probabilities)[1] == n_classes
            and ((probabilities >= -1e-6) & (probabilities <= 1 + 1e-6)).all()
        ):
            raise ModelFileError(f"{self.name} does not give probabilities of its classes")

    def keras_model(self) -> Any:
        """Return the Keras model of a .keras file, not compiled."""
        return load_model(self.path, self.name)

    @property
    def source(self) -> FeatureSource:
        """Source of the features that the model was trained on; a ModelFileError if the file has none."""
        if not self.metadata.get("fingerprint"):
            raise ModelFileError(
                f"{self.name} does not say how its features were made. Train it with embedonce train, or give "
                "save_head its cache"
            )
        names = ("weights", "weights_path", "cache_path")
        provenance = {name: self.metadata[name] for name in names if self.metadata.get(name)}
        if not self.metadata.get("finetuned"):
            return FeatureSource(self.metadata["fingerprint"], provenance, self.name)
        provenance["weights_path"] = str(self.path)  # no other file has this backbone
        name = f"{self.name}, whose backbone was fine-tuned (extract with --weights {display(str(self.path))}),"
        return FeatureSource(self.metadata["fingerprint"], provenance, name)

    def open_cache(
        self, cache: FeatureCache | Path | str | None = None, owner: str = "a model", alternative: str = ""
    ) -> FeatureCache:
        """Return a cache with the same kind of features, by default the one that the model was trained on."""
        if cache is None:
            cache = self.metadata.get("cache_path")
            if cache is None or not os.path.exists(cache):
                raise ModelFileError(
                    f"{self.name} needs the cache that it was trained on, which is not where it was. Give it with "
                    f"--cache CACHE{alternative}"
                )
        opened = open_cache(cache, owner)
        self.source.require_same(opened.fingerprint)
        return opened

    @property
    def training_hashes(self) -> list[bytes]:
        """Short content hash of every training image; empty if the file has none."""
        data = bytes.fromhex(self.metadata.get("trained_on") or "")
        return [data[start : start + SHORT_HASH_BYTES] for start in range(0, len(data), SHORT_HASH_BYTES)]

    def training_mask(self, cache: FeatureCache) -> npt.NDArray[np.bool_]:
        """Return which rows of a cache the model was trained on: bool, shape (n,)."""
        trained_on = set(self.training_hashes)
        return np.array([content in trained_on for content in short_hashes(cache)], np.bool_)


def short_hashes(cache: FeatureCache) -> list[bytes]:
    """Return the first bytes of the content hash of every row of a cache."""
    return [content.tobytes() for content in cache.files.hashes[:, :SHORT_HASH_BYTES]]
