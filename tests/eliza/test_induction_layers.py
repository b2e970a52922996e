"""Copying by content, compiled: wrong exactly where the mechanism is wrong, by the symbolic induction head."""

import pytest

from glassworks.eliza.compiling import Compiled, compile_script
from glassworks.eliza.exactness import Difference, differences, free_differences
from glassworks.eliza.induction import induction_copy
from glassworks.eliza.interpreter import Turn, converse, transcript
from glassworks.eliza.keyword_scripts import machine_of_keywords
from glassworks.eliza.layers import Options
from glassworks.eliza.machine import machine_of
from glassworks.eliza.opening import open_script
from glassworks.eliza.random_scripts import random_script, random_sentences
from glassworks.eliza.reply_layers import build
from glassworks.eliza.script import Script, parse_script
from glassworks.errors import OptionError

PAPER = "U a 0 b 0 .\n E h 2 .\nU 0 .\n E n .\n"


def compiled(script: Script, n: int, **options: object) -> Compiled:
    return compile_script(script, Options(copy="induction", context=n, max_len=256, max_count=16, **options))  # type: ignore[arg-type]


def turns_of(script: Script, sentences: list[tuple[str, ...]], n: int) -> list[Turn]:
    turns = converse(script, sentences, lambda group: induction_copy(group, n))
    while len(transcript(turns)) > 256:
        turns.pop()
    return turns


@pytest.mark.parametrize(("n", "reply"), [(1, "E h c d e c d e ."), (2, "E h c d e c d e ."), (3, "E h c d e c d f .")])
def test_the_worked_example_of_the_paper(n: int, reply: str) -> None:
    """`acdecdfbg` with the rule `h 2`: wrong for one and two words of context, right for three."""
    script = parse_script(PAPER)
    turns = turns_of(script, [("U", *"acdecdfbg", ".")], n)
    assert turns[0].reply == tuple(reply.split())
    assert differences(compiled(script, n), transcript(turns)) == Difference(len(turns[0].reply) - 1, 0)
    assert free_differences(compiled(script, n), turns).wrong == 0


@pytest.mark.parametrize(("seed", "n", "options"), [
    (3, 1, {}),
    (4, 2, {"cycling": "trace", "memory": "trace"}),
    (5, 1, {"memory": "trace"}),
])  # fmt: skip
def test_compiled_is_symbolic_where_words_repeat(seed: int, n: int, options: dict[str, str]) -> None:
    script = random_script(seed, templates=3, max_run=2, null_cycle="on_response" if seed == 5 else "on_input")
    model, erred = compiled(script, n, **options), 0
    for number in range(2):
        sentences = random_sentences(script, 10, 1000 * seed + number, max_copy=9)
        turns = turns_of(script, sentences, n)
        erred += sum(a.reply != b.reply for a, b in zip(turns, converse(script, sentences), strict=False))
        assert differences(model, transcript(turns)).wrong == 0
    assert erred > 0  # the mechanism was put to the test
    assert free_differences(model, turns).wrong == 0


def test_groups_without_repeats_are_copied_as_by_position() -> None:
    script = parse_script(PAPER)
    tokens = transcript(converse(script, [("U", *"acdefgbg", "."), ("U", "a", "b", ".")]))
    assert differences(compiled(script, 1), tokens).wrong == 0


def test_refused_for_keyword_scripts_and_long_contexts() -> None:
    listener = machine_of_keywords(open_script("packaged:listener"))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="synthetic scripts only"):
        build(listener, Options(copy="induction"))
    with pytest.raises(OptionError, match="expected 1 to 5"):
        build(machine_of(parse_script(PAPER)), Options(copy="induction", context=6))
