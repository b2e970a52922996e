"""Random scripts: valid, repeatable, hard."""

from glassworks.eliza.random_scripts import random_script, random_sentences


def test_same_seed_same_script_and_rules_with_prefixes_of_their_own() -> None:
    assert random_script(3) == random_script(3) != random_script(4)
    for seed in range(20):
        prefixes = [rule[1:3] for _, rule in random_script(seed).all_rules]
        assert len(set(prefixes)) == len(prefixes)


def test_sentences_reach_memory_and_null() -> None:
    script = random_script(0)
    sentences = random_sentences(script, 200, 0)
    assert all(s[0] == "U" and s[-1] == "." for s in sentences)
    assert min(map(len, sentences)) == 2
