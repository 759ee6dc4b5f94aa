from __future__ import annotations

import sys

import numpy as np
import pytest
from embedonce.errors import GroupsError
from embedonce.evaluate.duplicates import largest_products, neighbors
from textures import Rows


def clustered(rows, width=24, clusters=40, seed=0):
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(clusters, width))
    return Rows(centres[generator.integers(clusters, size=rows)] + generator.normal(0, 0.3, (rows, width)))


def brute_force(reduced, count):
    products = reduced.astype(np.float64) @ reduced.T.astype(np.float64)
    np.fill_diagonal(products, -np.inf)
    order = np.argsort(-products, axis=1)[:, :count]
    return order, np.take_along_axis(products, order, 1)


@pytest.mark.parametrize("megabytes", [0, 8])
def test_exact_neighbours_are_those_of_brute_force(monkeypatch, megabytes):
    monkeypatch.setattr(neighbors, "_PRODUCTS", megabytes << 20)
    found = neighbors.nearest_neighbors(clustered(300), 10)
    rows, similarity = brute_force(found.reduced, 10)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.similarity, similarity, atol=1e-5)


@pytest.mark.parametrize("columns", [50, 700])  # without classes of columns, and with them
def test_the_largest_values_are_those_of_sorting(monkeypatch, columns):
    monkeypatch.setattr(largest_products, "_CLASSES", 16)
    values = np.random.default_rng(0).permutation(7 * columns).reshape(7, columns).astype(np.float32)
    chosen, largest = largest_products.largest(values, 20)
    np.testing.assert_array_equal(chosen, np.argsort(-values, axis=1)[:, :20])
    np.testing.assert_array_equal(largest, -np.sort(-values, axis=1)[:, :20])


@pytest.mark.parametrize("pending", [0, 3])  # candidates are sorted at once, or when there are many
@pytest.mark.parametrize("rows", [96, 300])  # the last block is as large as the others, or smaller than the count
def test_each_similarity_is_computed_once(monkeypatch, rows, pending):
    monkeypatch.setattr(neighbors, "_SYMMETRIC_ABOVE", 1)
    monkeypatch.setattr(largest_products, "_BLOCK", 32)
    monkeypatch.setattr(largest_products, "_PENDING", pending)
    found = neighbors.nearest_neighbors(clustered(rows), 10)
    order, similarity = brute_force(found.reduced, 10)
    np.testing.assert_array_equal(found.rows, order)
    np.testing.assert_allclose(found.similarity, similarity, atol=1e-5)


def test_equal_rows_find_each_other(monkeypatch):
    monkeypatch.setattr(largest_products, "_BLOCK", 16)
    vectors = np.repeat(np.eye(4, dtype=np.float32), 25, 0)
    rows, values = largest_products.nearest_of_all(vectors, 3)
    np.testing.assert_array_equal(rows // 25, np.repeat(np.arange(4), 25)[:, None] * [1, 1, 1])
    assert (rows != np.arange(100)[:, None]).all()
    assert (values == 1).all()


def test_reduced_features_are_the_weighted_principal_components():
    features = clustered(200, width=12).features
    reduced = neighbors.nearest_neighbors(Rows(features), 1).reduced
    centred = features.astype(np.float64) - features.mean(0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ axes.T / (values**2 / len(features)) ** 0.25
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(reduced @ reduced.T, expected @ expected.T, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(reduced, axis=1), 1, rtol=1e-5)


def test_reading_in_blocks_changes_nothing(monkeypatch):
    whole = neighbors.nearest_neighbors(clustered(100), 5)
    monkeypatch.setattr(neighbors, "_READ", 9)
    np.testing.assert_array_equal(neighbors.nearest_neighbors(clustered(100), 5).rows, whole.rows)


def test_no_row_is_its_own_neighbour_even_among_identical_ones():
    found = neighbors.nearest_neighbors(Rows(np.repeat(clustered(10).features, 6, axis=0)), 5)
    assert (found.rows != np.arange(60)[:, None]).all()
    np.testing.assert_array_equal(found.rows // 6, np.repeat(np.arange(60)[:, None] // 6, 5, 1))


@pytest.mark.parametrize(("rows", "count"), [(0, 0), (1, 0), (2, 1), (5, 4)])
def test_a_small_cache_has_fewer_neighbours_than_asked(rows, count):
    found = neighbors.nearest_neighbors(Rows(np.random.default_rng(0).normal(size=(rows, 8))), 24)
    assert found.rows.shape == found.similarity.shape == (rows, count)
    assert len(found.reduced) == rows


def test_constant_features_have_neighbours_and_no_nan():
    found = neighbors.nearest_neighbors(Rows(np.full((6, 8), 3.0)), 4)
    assert found.rows.shape == (6, 4)
    assert (found.rows != np.arange(6)[:, None]).all()
    assert np.isfinite(found.similarity).all()


def test_further_neighbours_include_the_row():
    found = neighbors.nearest_neighbors(clustered(120), 5)
    expected = np.argsort(-(found.reduced @ found.reduced[7]))[:30]
    assert set(found.further(7, 30)) == set(expected)
    assert 7 in found.further(7, 30)
    np.testing.assert_array_equal(found.further(7, 500), np.arange(120))


def test_the_approximate_index_finds_nearly_all_neighbours(monkeypatch):
    pytest.importorskip("faiss")
    cache = clustered(4000, clusters=200)
    exact = neighbors.nearest_neighbors(cache, 10)
    monkeypatch.setattr(neighbors, "APPROXIMATE_ABOVE", 1000)
    near = neighbors.nearest_neighbors(cache, 10)
    shared = [len(np.intersect1d(a, b)) for a, b in zip(exact.rows, near.rows, strict=True)]
    assert np.mean(shared) / 10 > 0.95
    assert (near.rows >= 0).all()
    found = np.isfinite(near.similarity)
    assert (near.rows != np.arange(4000)[:, None])[found].all()


def test_without_faiss_the_error_names_what_to_install(monkeypatch):
    monkeypatch.setattr(neighbors, "APPROXIMATE_ABOVE", 10)
    monkeypatch.setitem(sys.modules, "faiss", None)  # importing it is an ImportError from now on
    with pytest.raises(GroupsError, match="embedonce\\[large\\]"):
        neighbors.nearest_neighbors(clustered(50), 5)


def test_a_small_cache_never_imports_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert neighbors.nearest_neighbors(clustered(50), 5).rows.shape == (50, 5)
