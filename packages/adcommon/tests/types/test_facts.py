from adcommon.types.facts import Facts

FACTS = Facts(
    method="resad",
    dataset="visa",
    setting="few-shot",
    backbone="resnet18",
    weights="random",
    seed=3,
    trained_on="mvtec",
)


def test_a_config_gives_the_facts_back_and_what_is_unknown_is_not_written() -> None:
    config = FACTS.known() | {"recipe": {}, "references": {"candle": ["a.png"]}}
    assert "shots" not in FACTS.known()
    assert Facts.of(config) == FACTS
