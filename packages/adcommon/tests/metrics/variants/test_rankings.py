import numpy as np
import pytest

from adcommon.metrics.variants.rankings import distinct_counts, mirrored_auroc


def test_mirrored_auroc_warns_when_it_hides_an_inverted_model() -> None:
    scores, labels = np.array([0.9, 0.8, 0.1, 0.3]), np.array([0, 0, 1, 1])
    with pytest.warns(UserWarning, match=r"UniAD max AUROC is 0\.0000, reported as 1\.0000") as caught:
        assert mirrored_auroc(scores, labels, "UniAD max AUROC") == 1
    assert len(caught) == 1
    assert mirrored_auroc(-scores, labels) == 1


def test_counts_at_each_distinct_score_include_its_ties() -> None:
    thresholds, hits, false = distinct_counts(np.array([1.0, 2, 2, 3]), np.array([1, 0, 1, 0]))
    assert (thresholds.tolist(), hits.tolist(), false.tolist()) == ([1, 2, 3], [2, 1, 0], [2, 2, 1])
