import json

from cache_tables import make_table
from embedonce.cache import FeatureCache, info, write_cache


def test_a_summary_is_the_same_of_a_path_and_of_an_open_cache(tmp_path):
    write_cache(make_table(m=1), tmp_path / "a.h5")
    summary = info(tmp_path / "a.h5")
    with FeatureCache.open(tmp_path / "a.h5") as cache:
        assert info(cache) == summary
    found = json.loads(json.dumps(summary.to_dict()))
    assert (found["images"], found["features"], found["rejects"]) == (130, 7, 1)
    assert found["reject_reasons"] == [["class0/0000-bad.jpg", "reason 0"]]
    assert "weights       random:0 - RANDOM: the features mean little" in str(summary)
    assert str(summary).endswith("\n  class0/0000-bad.jpg: reason 0")


def test_a_cache_of_arrays_has_a_summary_without_provenance():
    summary = info(FeatureCache.from_arrays([[1.0]], ["ash"]))
    assert summary.to_dict()["path"] is None
    assert "ash" in str(summary)
