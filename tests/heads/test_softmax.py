"""The Keras reference head."""

from __future__ import annotations

import copy
import pickle
import random

import numpy as np
import pytest
from embedonce import make_head
from embedonce._keras import import_keras
from embedonce.errors import HeadError, HeadParameterError
from embedonce.heads.numerics.adam import DenseSoftmax, glorot_uniform
from embedonce.heads.softmax import SoftmaxHead
from sklearn.datasets import make_classification


@pytest.fixture(scope="module")
def data():
    X, y = make_classification(600, 20, n_informative=8, n_classes=3, random_state=0)
    return X.astype(np.float32), np.array(["aca", "n", "scc"])[y]


def quick(**params):
    return SoftmaxHead(**{"epochs": 3, "batch_size": 50, "learning_rate": 0.01, **params})


def test_the_seed_decides_every_bit(data):
    first, second, other = (quick(random_state=seed).fit(*data) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.predict_proba(data[0]), second.predict_proba(data[0]))
    assert first.history_ == second.history_
    assert not np.array_equal(first.predict_proba(data[0]), other.predict_proba(data[0]))


def test_result_does_not_depend_on_global_seeds(data):
    keras = import_keras()
    keras.utils.set_random_seed(1)
    first = quick().fit(*data).predict_proba(data[0])
    keras.utils.set_random_seed(2)
    np.testing.assert_array_equal(quick().fit(*data).predict_proba(data[0]), first)


def test_global_generators_are_untouched(data):
    keras = import_keras()

    def draws():
        return (
            random.random(),
            np.random.random(),  # noqa: NPY002
            np.asarray(keras.random.uniform((3,))).tolist(),
        )

    keras.utils.set_random_seed(5)
    expected = draws()
    keras.utils.set_random_seed(5)
    assert quick(epochs=1).fit(*data, validation_data=data).model_.name == "head"
    assert draws() == expected


def test_history_has_one_value_per_epoch(data):
    X, y = data
    head = quick().fit(X[:500], y[:500])
    assert sorted(head.history_) == ["accuracy", "loss"]
    head = quick().fit(X[:500], y[:500], validation_data=(X[500:], y[500:]))
    assert sorted(head.history_) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert [len(values) for values in head.history_.values()] == [3] * 4
    assert head.history_["val_accuracy"][-1] == pytest.approx((head.predict(X[500:]) == y[500:]).mean())
    truth = np.searchsorted(head.classes_, y[500:])
    true_p = head.predict_proba(X[500:])[np.arange(100), truth]
    assert head.history_["val_loss"][-1] == pytest.approx(-np.log(true_p).mean(), rel=1e-4)
    assert head.history_["loss"][-1] < head.history_["loss"][0]


def test_validation_data_do_not_influence_training(data):
    X, y = data
    alone = quick().fit(X, y)
    watched = quick().fit(X, y, validation_data=(X[:50], y[:50]))
    np.testing.assert_array_equal(alone.predict_proba(X), watched.predict_proba(X))


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda X, y: (X[:, :5], y), "must have 20 features, got 5"), (lambda X, y: (X, ["new"] * len(y)), "got 'new'")],
)
def test_validation_data_that_do_not_fit_are_refused(data, change, message):
    with pytest.raises(HeadError, match=message):
        quick().fit(*data, validation_data=change(*data))


def test_dropout_scales_the_features_that_it_keeps():
    layer = DenseSoftmax(np.zeros((500, 2), np.float32), 0.3, 0.1, np.random.default_rng(0))
    rows = np.ones((200, 500), np.float32)
    layer.step(rows, np.zeros(200, np.intp), None)
    assert set(np.unique(rows)) == {np.float32(0), np.float32(1 / 0.7)}
    assert (rows == 0).mean() == pytest.approx(0.3, abs=0.01)


def test_training_imports_no_keras(python):
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from embedonce.heads.softmax import SoftmaxHead\n"
        "X = np.random.default_rng(0).normal(size=(50, 4))\n"
        "SoftmaxHead(epochs=1).fit(X, X[:, 0] > 0).predict_proba(X)\n"
        "print('keras' in sys.modules, 'tensorflow' in sys.modules)\n"
    )
    assert python(code) == "False False\n"


def test_initial_weights_are_within_glorots_bound():
    kernel = glorot_uniform(1280, 3, np.random.default_rng(0))
    limit = np.sqrt(6 / 1283)
    assert 0.99 * limit < np.abs(kernel).max() <= limit
    assert abs(kernel.mean()) < 0.05 * limit


def test_learns_as_well_as_keras(data):
    X, y = data
    keras = import_keras()
    codes = np.searchsorted(["aca", "n", "scc"], y)

    def losses_of_keras(seed):
        keras.utils.set_random_seed(seed)
        model = keras.Sequential(
            [keras.Input((20,)), keras.layers.Dropout(0.2), keras.layers.Dense(3, activation="softmax")]
        )
        model.compile(optimizer=keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy")
        history = model.fit(X[:500], codes[:500], epochs=8, batch_size=50, verbose=0).history
        return history["loss"][-1], model.evaluate(X[500:], codes[500:], batch_size=100, verbose=0)

    def losses(seed):
        head = quick(epochs=8, random_state=seed)
        head.fit(X[:500], y[:500], validation_data=(X[500:], y[500:]))
        return head.history_["loss"][-1], head.history_["val_loss"][-1]

    keras_losses = np.array([losses_of_keras(seed) for seed in range(2)])
    head_losses = np.array([losses(seed) for seed in range(40)])
    # three standard errors of the difference of the means, with the deviation of many runs
    error = head_losses.std(axis=0, ddof=1) * np.sqrt(1 / len(keras_losses) + 1 / len(head_losses))
    assert np.all(np.abs(head_losses.mean(axis=0) - keras_losses.mean(axis=0)) < 3 * error)


def test_without_randomness_training_is_exactly_keras(data):
    # one batch of all rows and no dropout: order and masks drop out, only the initial weights remain
    X, y = data
    keras = import_keras()
    head = SoftmaxHead(epochs=4, batch_size=600, dropout=0.0, learning_rate=0.05).fit(X, y)
    initial = glorot_uniform(20, 3, np.random.default_rng(np.random.SeedSequence(0).spawn(3)[0]))
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(3, activation="softmax")])
    model.set_weights([initial, np.zeros(3)])
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss="sparse_categorical_crossentropy")
    codes = np.searchsorted(head.classes_, y)
    history = model.fit(X, codes, epochs=4, batch_size=600, verbose=0, shuffle=False).history
    np.testing.assert_allclose(head.history_["loss"], history["loss"], rtol=1e-5)
    np.testing.assert_allclose(head.predict_proba(X), model.predict(X, batch_size=600, verbose=0), atol=5e-5)


def test_last_batch_counts_by_its_rows(data):
    X, y = data
    # 600 rows in batches of 599: the second step has one row; a mean of step means would be far off
    head = SoftmaxHead(epochs=1, batch_size=599, dropout=0.0, learning_rate=1e-12).fit(X, y)
    assert head.history_["accuracy"][0] == pytest.approx((head.predict(X) == y).mean(), abs=1e-6)


def test_copies_and_pickles_predict_the_same(data):
    X, _ = data
    head = quick(epochs=1).fit(*data)
    expected = head.predict_proba(X)
    np.testing.assert_array_equal(copy.deepcopy(head).predict_proba(X), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(head)).predict_proba(X), expected)


def test_a_pickle_is_read_without_keras(data, python, tmp_path):
    head = quick(epochs=2).fit(*data)
    assert head.model_.name == "head"
    (tmp_path / "head").write_bytes(pickle.dumps(head))
    np.save(tmp_path / "X.npy", data[0])
    code = (
        "import pickle, sys\n"
        "import numpy as np\n"
        "head = pickle.load(open(sys.argv[1] + '/head', 'rb'))\n"
        "np.save(sys.argv[1] + '/P.npy', head.predict_proba(np.load(sys.argv[1] + '/X.npy')))\n"
        "print(head.get_params()['epochs'], len(head.history_['loss']), 'keras' in sys.modules)\n"
    )
    assert python(code, tmp_path) == "2 2 False\n"
    np.testing.assert_array_equal(np.load(tmp_path / "P.npy"), head.predict_proba(data[0]))
    assert pickle.loads(pickle.dumps(head)).model_.name == "head"


def test_an_unfitted_head_is_pickled_and_has_no_model(data):
    again = pickle.loads(pickle.dumps(quick(epochs=2)))
    assert not hasattr(again, "model_")
    assert again.fit(*data).n_iter_ == 2


def test_a_head_is_fitted_again_after_unpickling(data):
    again = pickle.loads(pickle.dumps(quick(epochs=1).fit(*data)))
    expected = quick(epochs=3).fit(*data).predict_proba(data[0])
    np.testing.assert_array_equal(again.set_params(epochs=3).fit(*data).predict_proba(data[0]), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(again)).predict_proba(data[0]), expected)


def test_the_model_is_compiled_to_measure_and_train(data):
    X, y = data
    head = quick(epochs=1, learning_rate=0.02).fit(X, y, validation_data=data)
    model, codes = head.model_, np.searchsorted(head.classes_, y)
    assert (model.name, model.input_shape, model.output_shape) == ("head", (None, 20), (None, 3))
    loss, accuracy = model.evaluate(X, codes, batch_size=600, verbose=0)
    assert loss == pytest.approx(head.history_["val_loss"][-1], rel=1e-4)
    assert accuracy == pytest.approx(head.history_["val_accuracy"][-1])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.02)
    model.fit(X, codes, batch_size=600, verbose=0)


def test_the_model_is_that_of_the_last_fit(data):
    head = quick(epochs=1).fit(*data)
    assert head.model_ is head.model_
    head.set_params(epochs=3).fit(*data)
    np.testing.assert_allclose(
        head.model_.predict(data[0], batch_size=600, verbose=0), head.predict_proba(data[0]), atol=1e-5
    )


def hard_blobs(n, d=50, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 3
    return (rng.normal(size=(n, d)) + 0.8 * rng.normal(size=(3, d))[codes]).astype(np.float32), codes


def test_auto_is_more_accurate_than_few_epochs():
    (X, y), (test, truth) = hard_blobs(200), hard_blobs(1200)
    few, auto = SoftmaxHead(epochs=5).fit(X, y), SoftmaxHead().fit(X, y)
    assert auto.score(test[200:], truth[200:]) > few.score(test[200:], truth[200:]) + 0.05
    assert len(auto.history_["loss"]) == auto.n_iter_ > 5
    assert (few.converged_, auto.converged_) == (False, True)


def test_auto_can_converge_in_few_steps():
    X, y = hard_blobs(200)
    auto = SoftmaxHead(learning_rate=0.05).fit(X, y)
    assert auto.converged_
    assert not SoftmaxHead(auto.n_iter_, learning_rate=0.05).fit(X, y).converged_


def test_auto_equals_that_number_of_epochs(data):
    auto = SoftmaxHead(learning_rate=0.01).fit(*data)
    np.testing.assert_array_equal(SoftmaxHead(auto.n_iter_, learning_rate=0.01).fit(*data).coef_, auto.coef_)


def test_auto_does_not_choose_epochs_by_validation_data(data):
    X, y = data
    alone = SoftmaxHead(learning_rate=0.01).fit(X, y)
    watched = SoftmaxHead(learning_rate=0.01).fit(X, y, validation_data=(X[:50], y[:50]))
    np.testing.assert_array_equal(alone.coef_, watched.coef_)


def test_groups_stay_together_when_auto_holds_rows_out():
    rng = np.random.default_rng(0)
    originals, labels = rng.normal(size=(30, 200)).astype(np.float32), rng.permutation(np.arange(30) % 2)
    X = np.repeat(originals, 10, axis=0) + rng.normal(0, 0.01, (300, 200)).astype(np.float32)
    y, groups = np.repeat(labels, 10), np.repeat(np.arange(30), 10)
    settings = {"learning_rate": 0.01}
    # labels by chance: only copies of held-out rows in training make them seem to be learned
    assert SoftmaxHead(**settings).fit(X, y, groups=groups).n_iter_ < SoftmaxHead(**settings).fit(X, y).n_iter_ / 5


@pytest.mark.parametrize("groups", [None, np.zeros(6)])
def test_auto_without_rows_to_hold_out_takes_200_steps(groups):
    X = np.eye(6, dtype=np.float32)
    head = SoftmaxHead().fit(X, [0, 1, 2, 3, 4, 5] if groups is None else [0, 0, 0, 1, 1, 1], groups=groups)
    assert head.n_iter_ == 200


def test_auto_takes_five_epochs_of_very_many_rows(monkeypatch, data):
    monkeypatch.setattr("embedonce.heads.softmax.MOST_ROWS", 3000)
    assert SoftmaxHead(batch_size=5).fit(*data).n_iter_ == 5


def test_auto_at_its_limit_has_not_converged(monkeypatch, data):
    monkeypatch.setattr("embedonce.heads.softmax.MOST_ROWS", 4800)
    head = SoftmaxHead(batch_size=5).fit(*data)
    assert (head.n_iter_, head.converged_) == (6, False)


def test_auto_leaves_out_rows_of_weight_zero(data):
    X, y = data
    weights = np.r_[np.ones(500), np.zeros(100)]
    wrong = y.copy()
    wrong[500:] = "new"
    head = SoftmaxHead(learning_rate=0.01).fit(X, wrong, sample_weight=weights)
    assert head.score(X, y) > 0.7


@pytest.mark.parametrize("weight", [1e-3, 50.0])
def test_auto_does_not_depend_on_the_unit_of_weights(weight, data):
    X, y = data
    expected = SoftmaxHead(learning_rate=0.01).fit(X, y)
    head = SoftmaxHead(learning_rate=0.01).fit(X, y, sample_weight=np.full(600, weight))
    assert head.n_iter_ >= 0.8 * expected.n_iter_
    assert head.score(X, y) == pytest.approx(expected.score(X, y), abs=0.03)
    few = SoftmaxHead(5).fit(X, y, sample_weight=np.full(600, weight))
    assert not few.converged_


@pytest.mark.parametrize("class_weight", ["balanced", {"n": 3.0}])
def test_auto_weighs_held_out_rows(class_weight, data):
    X, y = data
    head = SoftmaxHead(learning_rate=0.01, class_weight=class_weight).fit(X, y)
    assert head.converged_
    assert head.score(X, y) > 0.7


def test_groups_of_another_length_are_refused(data):
    with pytest.raises(HeadError, match=r"groups of head 'softmax' must be one per row, of shape \(600,\), got"):
        SoftmaxHead().fit(*data, groups=[1, 2])


def test_other_words_than_auto_are_refused():
    with pytest.raises(
        HeadParameterError, match="epochs of head 'softmax' must be 'auto' or an integer .*, got 'many'"
    ):
        make_head("softmax", epochs="many")
