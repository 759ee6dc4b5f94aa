"""Many comparisons in one process: a grid of heads, parameters and seeds."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cache import FeatureCache, read_regular
from ...errors import EmbedonceError, HeadError, ParameterError, is_number
from ...extract import Progress, Timed
from ...heads.numerics import sharing
from ..report import RESULTS, Figures, finished_results
from ..scoring import make_heads, open_views
from ..shared import as_json, package_versions
from ..splits import Groups
from .aligned_caches import AlignedCaches, open_caches
from .run import compare

_LONGEST = 100  # characters of the name of a folder


@dataclass(frozen=True)
class Variant:
    """One comparison of a grid: the name of its folder, heads with their parameters, and the seed."""

    name: str
    heads: dict[str, Any]
    seed: int


@dataclass(frozen=True)
class GridResult:
    """Result of one comparison of a grid: the content of its results.json, or the error; ``found`` if of earlier."""

    name: str
    folder: Path
    results: dict[str, Any]
    found: bool = False
    error: EmbedonceError | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON-serialisable values."""
        about = {"comparison": self.name, "folder": str(self.folder), "found": self.found}
        if self.error is not None:
            return about | {"error": str(self.error)}
        return about | {name: self.results[name] for name in ("fingerprint", "best", "phase_seconds")}


@dataclass(frozen=True)
class Grid:
    """Values that are combined: heads, of which each is the text of ``--heads``, seeds, and parameters of heads."""

    heads: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    parameters: tuple[tuple[str, str, tuple[Any, ...]], ...] = ()

    def variants(self, heads: Mapping[str, Any], seed: int) -> list[Variant]:
        """Return all comparisons; ``heads`` and ``seed`` are those without a grid."""
        variants: dict[str, Variant] = {}
        for number, text in itertools.product(self.seeds or (seed,), self.heads or ("",)):
            names = _names(text) or list(heads)
            varied = [one for one in self.parameters if one[0] in names]
            for values in itertools.product(*(one[2] for one in varied)):
                chosen = {name: dict(heads.get(name, {})) for name in names}
                parts = [text] if text else []
                for (head, parameter, _), value in zip(varied, values, strict=True):
                    chosen[head][parameter] = value
                    parts.append(f"{head}.{parameter}={value}")
                parts += [f"seed={number}"] if self.seeds else []
                name = _folder_name(" ".join(parts), variants)
                variants[name] = Variant(name, chosen, number)
        used = {name for variant in variants.values() for name in variant.heads}
        for head, parameter, _ in self.parameters:
            if head not in used:
                raise HeadError(f"{head}.{parameter} of [grid] must be of one of the heads {', '.join(used)}")
        for variant in variants.values():
            make_heads(variant.heads)  # an unknown head or parameter is an error now, not after hours
        return list(variants.values())


def read_grid(table: Any, where: str) -> Grid:
    """Return the grid in a configuration file; ``where`` names the line."""
    if not isinstance(table, Mapping):
        raise ParameterError(f"key grid in {where} must be a table, [grid], got {table!r}")
    if not table:
        raise ParameterError(f"[grid] in {where} must have heads, seed or parameters of heads, such as svm.C, got none")
    parameters = []
    for key, value in table.items():
        if key in ("heads", "seed"):
            _check_list(key, value, where)
        elif isinstance(value, Mapping) and value:
            for parameter, values in value.items():
                _check_list(f"{key}.{parameter}", values, where)
                parameters.append((key, parameter, tuple(values)))
        else:
            raise ParameterError(
                f"keys of [grid] in {where} must be heads, seed or parameters of heads, such as svm.C, got {key!r}"
            )
    heads, seeds = table.get("heads", []), table.get("seed", [])
    for text in heads:
        names = _names(text) if isinstance(text, str) else []
        if not names or len(set(names)) < len(names):
            raise ParameterError(
                f'key heads of [grid] in {where} must be a list of texts, such as "svm" or "logreg,svm", got {text!r}'
            )
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise ParameterError(f"key seed of [grid] in {where} must be a list of numbers from 0 on, got {seed!r}")
    return Grid(tuple(heads), tuple(seeds), tuple(parameters))


def _check_list(key: str, value: Any, where: str) -> None:
    if not isinstance(value, list) or not value:
        raise ParameterError(f"key {key} of [grid] in {where} must be a list of values, got {value!r}")
    # 1 and 1.0 are equal, 1 and true are not; of heads, spaces do not count
    plain = [float(one) if is_number(one) else one.replace(" ", "") if isinstance(one, str) else one for one in value]
    if len({json.dumps(one, sort_keys=True, default=str) for one in plain}) < len(value):
        raise ParameterError(f"key {key} of [grid] in {where} must have each value once, got {value!r}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _folder_name(text: str, others: Iterable[str]) -> str:
    """Return a name for a folder; no two are equal, not even where upper and lower case are."""
    name = plain = re.sub(r"[^\w.,+=-]", "-", text.replace(" ", "_"))[:_LONGEST].strip(".-") or "comparison"
    known, number = {other.casefold() for other in others}, 2
    while name.casefold() in known:
        name, number = f"{plain}-{number}", number + 1
    return name


def run_grid(
    cache: FeatureCache | AlignedCaches,
    variants: Sequence[Variant],
    folder: Path,
    *,
    figures: Figures = "none",
    maps: bool = False,
    progress: Progress,
    **options: Any,
) -> Iterator[GridResult]:
    """Compare the heads of each variant, save it to a folder of its name in ``folder``, and yield its result.

    Those that are finished there are not repeated. ``options`` are those of `compare`.
    """
    aligned = open_caches(cache)
    known, _ = aligned.groups_for(options.get("groups"), options.get("split"), progress)
    options["groups"] = options.get("groups") if known is None else known
    about = _fingerprint_of_options(aligned, known, options) | {"figures": figures, "maps": maps}
    names = {variant.name for variant in variants}
    finished = {
        str(results.get("fingerprint")): (path.parent, results)
        for path in sorted(folder.glob(f"*/{RESULTS}"))
        if (results := finished_results(path.parent)) is not None
    }
    for seed, of_seed in itertools.groupby(variants, lambda variant: variant.seed):
        with sharing():
            for variant in of_seed:
                fingerprint = _fingerprint(variant, about)
                place, results = finished.get(fingerprint, (folder, {}))
                if results and (place.name == variant.name or place.name not in names):
                    yield GridResult(variant.name, place, results, found=True)
                    continue
                place = folder / variant.name
                progress.now(f"comparison {variant.name} …")
                try:
                    comparison = compare(aligned, variant.heads, seed=seed, progress=Timed(progress), **options)
                    comparison.fingerprint = fingerprint
                    comparison.save(place, maps=maps, figures=figures)
                except EmbedonceError as error:
                    yield GridResult(variant.name, place, {}, error=error)
                    continue
                finally:
                    with contextlib.suppress(OSError):
                        place.rmdir()  # it is empty after an interruption
                failure = next(iter(comparison.failed.values()), None)
                yield GridResult(variant.name, place, json.loads(read_regular(place / RESULTS)), error=failure)


def _fingerprint(variant: Variant, about: dict[str, Any]) -> str:
    heads = {
        name: [f"{type(head).__module__}.{type(head).__name__}", repr(sorted(head.get_params().items()))]
        for name, head in make_heads(variant.heads).items()
    }
    text = json.dumps({"heads": heads, "seed": variant.seed} | about, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _fingerprint_of_options(
    aligned: AlignedCaches, groups: Groups | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what decides scores besides heads and seed; files by their content."""
    aligned.require_plain("views", options.get("views"))
    views = open_views(aligned.cache, options.get("views"))
    split = str(options.get("split"))
    return {
        "cache": aligned.digests,
        "groups": None if groups is None else _digest(as_json(list(map(str, groups.names)))),
        "split": [split, *(_digest_of_file(path) for path in (split, split.rpartition(":")[0]))],
        "views": [] if views is None else [view.digest for view in views.caches],
        "image_models": [_digest_of_file(path) for path in options.get("image_models", ())],
        "metrics": [_digest_of_module(text) for text in options.get("metrics", ())],
        "versions": package_versions(),
        "options": {
            name: value
            for name, value in options.items()
            if name not in ("groups", "split", "image_models", "jobs", "dask")
        },
    }


def _digest_of_module(text: str) -> str | None:
    """Return the digest of the file of a function, package.module:function."""
    file = getattr(sys.modules.get(text.partition(":")[0]), "__file__", None)
    return None if file is None else _digest_of_file(file)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of_file(path: Path | str) -> str | None:
    return _digest(read_regular(Path(path))) if path and Path(path).is_file() else None
