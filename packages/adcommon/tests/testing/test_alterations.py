from adcommon.testing.alterations import VALUES, alterations, places, sample


def test_each_value_is_replaced_removed_and_added_to() -> None:
    content = {"a": 1, "b": {"c": [2, 3]}}
    assert list(places(content)) == [("a",), ("b",), ("b", "c"), ("b", "c", 0)]
    found = list(alterations(content))
    assert len(found) == 4 * (len(VALUES) + 2) + 2
    by_name = dict(found)
    assert by_name["b.c.0 = None"] == {"a": 1, "b": {"c": [None, 3]}}
    assert by_name["b.c removed"] == {"a": 1, "b": {}}
    assert by_name["b.new = 1"] == {"a": 1, "b": {"c": [2, 3], "new": 1}}
    assert content == {"a": 1, "b": {"c": [2, 3]}}


def test_a_sample_is_the_same_again() -> None:
    names = [name for name, _ in sample({"a": 1, "b": 2}, 10)]
    assert names == [name for name, _ in sample({"a": 1, "b": 2}, 10)]
    assert len(set(names)) == 10
