from inctrl.network.prompts import SEMANTIC, TEMPLATES, sentences


def test_a_category_has_154_normal_and_88_anomalous_sentences_without_repetition() -> None:
    normal, anomalous = sentences("pipe_fryum")
    assert (len(normal), len(anomalous)) == (154, 88)
    assert len(set(normal) | set(anomalous)) == 154 + 88
    assert all("pipe fryum" in text and text.endswith(".") for text in (*normal, *anomalous))
    assert len(set(TEMPLATES)) == 22


def test_kinds_of_things_have_one_sentence_each_but_not_for_winclip() -> None:
    assert all(len(group) == 1 for name in SEMANTIC for group in sentences(name))
    assert len(sentences("cat", semantic=False)[0]) == 154
