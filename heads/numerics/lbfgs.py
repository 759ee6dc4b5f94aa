"""Linear models: penalised mean losses by matrix products in blocks, minimised by SciPy's L-BFGS.

Objective and stopping rule are those of scikit-learn's LogisticRegression. Outputs are in rows, so that BLAS and the
exponential run along the images. Features stay float32, while weights, sums and the loss are float64.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from .blas_threads import threads_of_blas
from .scores import Array

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Result = TypeVar("Result")


Losses = Callable[[Floats, Codes], tuple[Floats, Floats]]
"""From outputs (p, b), which may be overwritten, and classes (b,), the losses (b,) and their derivatives (p, b)."""


class Solution(NamedTuple):
    """Minimum: coef (p, d), intercept (p,), the losses of L-BFGS's iterations, and whether it converged."""

    coef: Floats
    intercept: Floats
    losses: list[float]
    n_iter: int
    converged: bool


def solve(
    blocks: Iterable[Array],
    codes: Codes,
    losses_of: Losses,
    shape: tuple[int, int],
    *,
    C: float,
    tol: float,
    max_iter: int,
    row_weights: Floats | None = None,
    penalize_intercept: bool = False,
    ftol: float = 64 * np.finfo(np.float64).eps,  # scikit-learn's
) -> Solution:
    """Minimise the weighted mean of losses plus ``|coef|^2 / (2 C sum(row_weights))``.

    Intercepts are not penalised, or with `penalize_intercept` as coefficients of a feature 1, as in liblinear.

    `blocks` (b, d) are iterated over once for each evaluation, `codes` (n,) and `row_weights` (n,) are in the order of
    their rows, and `shape` is (outputs p, features d). It stops when no component of the gradient exceeds `tol`, or
    when an iteration reduces the mean by less than the fraction `ftol`.
    """
    from scipy.optimize import minimize

    total = float(len(codes)) if row_weights is None else float(row_weights.sum())
    penalty = 1.0 / (C * total)
    outputs, n_features = shape
    evaluated: list[float] = []
    of_iterations: list[float] = []

    def objective(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(outputs, n_features + 1)
        coef, intercept = weights[:, :-1], weights[:, -1]
        gradient = np.zeros_like(weights)
        loss = 0.0

        def part(block: Array, rows: slice) -> tuple[float, Array, Floats]:
            """Return the sums of the losses, and of the gradients by coefficients and intercepts, over a block."""
            scores = (coef.astype(block.dtype) @ block.T).astype(np.float64)
            scores += intercept[:, None]
            losses, slopes = losses_of(scores, codes[rows])
            if row_weights is not None:
                losses *= row_weights[rows]
                slopes *= row_weights[rows]
            return float(losses.sum()), slopes.astype(block.dtype) @ block, slopes.sum(axis=1)

        for of_block, by_coef, by_intercept in _in_order(pool, threads, part, _with_rows(blocks)):
            loss += of_block
            gradient[:, :-1] += by_coef
            gradient[:, -1] += by_intercept
        gradient /= total
        penalized = slice(None) if penalize_intercept else slice(-1)
        gradient[:, penalized] += penalty * weights[:, penalized]
        evaluated.append(loss / total + 0.5 * penalty * float(np.square(weights[:, penalized]).sum()))
        return evaluated[-1], gradient.ravel()

    begin = np.zeros((outputs, n_features + 1))
    # scikit-learn's options
    options = {"maxiter": max_iter, "gtol": tol, "ftol": ftol, "maxls": 50}
    with threads_of_blas(len(codes) * n_features) as threads, ThreadPoolExecutor(threads) as pool:
        result = minimize(
            objective,
            begin.ravel(),
            jac=True,
            method="L-BFGS-B",
            options=options,
            callback=lambda _: of_iterations.append(evaluated[-1]),
        )
    weights = result.x.reshape(outputs, n_features + 1)
    coef, intercept = np.ascontiguousarray(weights[:, :-1]), weights[:, -1].copy()
    return Solution(coef, intercept, of_iterations, int(result.nit), result.nit < max_iter)


def cross_entropy(logits: Floats, codes: Codes) -> tuple[Floats, Floats]:
    """Return `Losses` of logits (k, b), or (1, b) for the second of two classes."""
    if len(logits) == 1:
        from scipy.special import expit

        losses = np.logaddexp(0.0, logits[0]) - logits[0] * codes
        return losses, expit(logits, out=logits) - codes
    columns = np.arange(logits.shape[1])
    logits -= logits.max(axis=0)
    true_logits = logits[codes, columns]
    np.exp(logits, out=logits)
    sums = logits.sum(axis=0)
    logits /= sums
    logits[codes, columns] -= 1.0
    return np.log(sums) - true_logits, logits


def squared_hinge(signs: Floats, weights: Floats | None = None) -> Losses:
    """Return `Losses` max(0, 1 - s m)^2, summed over the margins m with signs s (p, k), 0 for other classes.

    `weights` (p, k) are those of the classes in each margin.
    """

    def losses_of(margins: Floats, codes: Codes) -> tuple[Floats, Floats]:
        wanted = signs[:, codes]
        lacking = np.maximum(0.0, 1.0 - wanted * margins)
        slopes = -2.0 * wanted * lacking
        np.square(lacking, out=lacking)
        lacking *= np.abs(wanted)
        if weights is not None:
            lacking *= weights[:, codes]
            slopes *= weights[:, codes]
        return lacking.sum(axis=0), slopes

    return losses_of


def _with_rows(blocks: Iterable[Array]) -> Iterator[tuple[Array, slice]]:
    first = 0
    for block in blocks:
        yield block, slice(first, first + len(block))
        first += len(block)


def _in_order(
    pool: Executor, threads: int, function: Callable[..., Result], arguments: Iterable[tuple[Any, ...]]
) -> Iterator[Result]:
    """Call a function in the threads of a pool and yield the results in order; few arguments are held at a time."""
    pending: deque[Future[Result]] = deque()
    for each in arguments:
        if threads == 1:
            yield function(*each)
            continue
        pending.append(pool.submit(function, *each))
        if len(pending) > 2 * threads:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
