"""Keyword scripts in a Transformer: equal to the interpreter of 1966, and refusals of what does not compile."""

import random

import pytest
from transformers import DynamicCache

from glassworks.eliza.compiling import compile_script
from glassworks.eliza.doctor import parse_doctor, read_doctor
from glassworks.eliza.doctor_interpreter import DoctorInterpreter, split_words
from glassworks.eliza.exactness import answer
from glassworks.eliza.keyword_scripts import Slots, clause_of, machine_of_keywords
from glassworks.eliza.layers import Options
from glassworks.eliza.scripts import SCRIPTS
from glassworks.errors import OptionError

WORDS = "I you my am mother sister why how alike want need me dog runs I'm your same, . but".split()  # noqa: SIM905


OTHER = (
    "(HI) (A = B 2 ((0 A 0 C) (X 3) (=D)) ((1 0) (Y 1 9 2)) ((0) (E1))) (B = A ((0 B) (=A)) ((0) (Z)))"
    "(D ((0) (W 1) (V))) (NONE ((0) (N)))"
)


@pytest.mark.parametrize("name", ["listener", "other"])
def test_a_conversation_inside_the_transformer(name: str) -> None:
    other = (
        "(HI) (A = B 2 ((0 A 0 C) (X 3) (=D)) ((1 0) (Y 1 9 2))) (B = A ((0 B) (=A)) ((0) (Z))) (D ((0) (W 1) (V))) "
    )
    text = (SCRIPTS / "listener.txt").read_text() if name == "listener" else other + "(NONE ((0) (N)))"
    script = parse_doctor(text.replace("((1 0) (Y 1 9 2))", "((1 0) (Y 1 9 2)) ((0) (E1))"))
    compiled = compile_script(machine_of_keywords(script), Options(max_len=1024, max_count=32))
    words = WORDS if name == "listener" else ["a", "b", "c", "d", "e"]
    for conversation in range(2):
        draw = random.Random(conversation)
        eliza, cache, slots, pending = DoctorInterpreter(script), DynamicCache(), Slots(compiled.machine), ["$"]
        for _ in range(10):
            line = " ".join(draw.choices(words, k=draw.randint(0, 6)))
            wanted = eliza.respond(line).text.split()
            sentence = ["U", *slots.encode(clause_of(script, split_words(line))), "."]
            reply = answer(compiled, cache, [*pending, *sentence], 200)
            pending = reply[-1:]
            assert slots.decode(reply[reply.index("E") + 1 : -1]) == wanted, line


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("(A ((0) (NEWKEY)))", "s: A: NEWKEY, which goes on"),
        ("(A ((0 B 0) (X)))", r"s: A: a keyword whose decompositions can all fail \(end it with"),
        ("(A ((0) (X))) (MEMORY A (0 = X) (0 = X) (0 = X) (0 = X))", "s: MEMORY: MEMORY, which HASH"),
        ("(A ((0) (PRE (. 1) (=A))))", "s: A: the word '.', which marks turns"),
        ("(E ((0) (X)))", "s: E: the word 'E', which marks turns"),
        ("(A ((0 (*B U) 0) (X)) ((0) (Y)))", "s: A: the word 'U', which marks turns"),
        ("(A = U)", "s: A: the word 'U', which marks turns"),
        ("(A ((0 0) (X)) ((0) (X)))", "s: A: a decomposition with 0 beside 0"),
    ],
)
def test_what_does_not_compile_is_named(rule: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        machine_of_keywords(parse_doctor(f"(HI) {rule} (NONE ((0) (N)))", "s"))


def test_slots_and_clauses() -> None:
    script = read_doctor(SCRIPTS / "listener.txt")
    slots = Slots(machine_of_keywords(script))
    assert slots.encode(["DOG", "I", "CAT", "DOG"]) == ["w1", "I", "w2", "w1"]
    assert slots.decode(["w2", "I"]) == ["CAT", "I"]
    with pytest.raises(OptionError, match="more than 32 words"):
        slots.encode([f"X{number}" for number in range(40)])
    assert clause_of(script, split_words("x y, i run, my dog")) == ["I", "RUN"]
    assert clause_of(script, split_words("x, y")) == ["Y"]
