"""The 1966 ELIZA: the published conversation from the user's copy of the script, a recorded one with ours, parts."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassworks.eliza.doctor import parse_doctor, read_doctor
from glassworks.eliza.doctor_interpreter import NO_MATCH, DoctorInterpreter, match, reassemble, split_words
from glassworks.eliza.scripts import SCRIPTS
from glassworks.errors import OptionError

VARIABLE = "GLASSWORKS_ELIZA_SCRIPTS"
FOLDER = Path(os.environ.get(VARIABLE) or Path(__file__).parents[2] / ".." / "shared" / "data" / "eliza")

PUBLISHED = [
    ("Men are all alike.", "IN WHAT WAY"),
    ("They're always bugging us about something or other.", "CAN YOU THINK OF A SPECIFIC EXAMPLE"),
    ("Well, my boyfriend made me come here.", "YOUR BOYFRIEND MADE YOU COME HERE"),
    ("He says I'm depressed much of the time.", "I AM SORRY TO HEAR YOU ARE DEPRESSED"),
    ("It's true. I am unhappy.", "DO YOU THINK COMING HERE WILL HELP YOU NOT TO BE UNHAPPY"),
    ("I need some help, that much seems certain.", "WHAT WOULD IT MEAN TO YOU IF YOU GOT SOME HELP"),
    ("Perhaps I could learn to get along with my mother.", "TELL ME MORE ABOUT YOUR FAMILY"),
    ("My mother takes care of me.", "WHO ELSE IN YOUR FAMILY TAKES CARE OF YOU"),
    ("My father.", "YOUR FATHER"),
    ("You are like my father in some ways.", "WHAT RESEMBLANCE DO YOU SEE"),
    (
        "You are not very aggressive, but I think you don't want me to notice that.",
        "WHAT MAKES YOU THINK I AM NOT VERY AGGRESSIVE",
    ),
    ("You don't argue with me.", "WHY DO YOU THINK I DON'T ARGUE WITH YOU"),
    ("You are afraid of me.", "DOES IT PLEASE YOU TO BELIEVE I AM AFRAID OF YOU"),
    ("My father is afraid of everybody.", "WHAT ELSE COMES TO MIND WHEN YOU THINK OF YOUR FATHER"),
    ("Bullies.", "DOES THAT HAVE ANYTHING TO DO WITH THE FACT THAT YOUR BOYFRIEND MADE YOU COME HERE"),
]  # Weizenbaum 1966, CACM 9(1), page 36

RECORDED = [
    ("Hello there.", "HELLO. WHAT BRINGS YOU HERE"),
    ("I'm worried about the garden.", "WHEN DID YOU BEGIN TO BE WORRIED"),  # PRE
    ("My boss never listens, but I like him.", "IS IT EASY TO SPEAK WITH YOUR BOSS"),  # tag, clause
    ("My garden is dry.", "WHAT MATTERS MOST ABOUT YOUR GARDEN IS DRY"),
    ("I guess no one waters it.", "WHERE DOES THE THOUGHT THAT NO ONE WATERS IT COME FROM"),
    ("You are like my sister.", "WHAT DO THE TWO SHARE"),  # rank, link
    ("It rains.", "I STILL WONDER ABOUT YOUR BOSS NEVER LISTENS"),  # LIMIT 4, HASH
    ("I am tired.", "HOW DID YOU SLEEP LAST NIGHT"),
    ("I can't talk to my mother.", "HOW DO YOU AND YOUR MOTHER GET ALONG"),
    ("I water it because it dies.", "IS IT DIES THE WHOLE REASON"),
    ("I run. Perhaps.", "TELL ME A LITTLE MORE"),  # NEWKEY and nothing left
    ("The sky is blue.", "I FOLLOW SO FAR"),
    ("You don't hear me.", "SUPPOSE I DID DON'T HEAR YOU - WHAT THEN"),
    ("I run like water.", "TAKE YOUR TIME"),  # NEWKEY twice
    ("The river.", "A WHILE AGO YOU SPOKE OF YOUR GARDEN IS DRY"),
]


def published(name: str) -> DoctorInterpreter:
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"no copy of {name} (set {VARIABLE} to a folder with one)")
    return DoctorInterpreter(read_doctor(path))


def test_the_published_conversation() -> None:
    eliza = published("ELIZA-script-DOCTOR-original-1966-CACM-appendix.txt")
    assert eliza.script.opening == "HOW DO YOU DO. PLEASE TELL ME YOUR PROBLEM"
    assert [eliza.respond(text).text for text, _ in PUBLISHED] == [reply for _, reply in PUBLISHED]


@pytest.mark.parametrize("word", ["A B B A", "A B A", "A B", "A A B", "B", "A B B B A", "A B A B"])
def test_a_turing_machine_in_rewritten_inputs(word: str) -> None:
    eliza = published("ELIZA-script-palindrome-Turing-machine.txt")
    letters = word.split()
    assert eliza.respond(f"palp {word}").text == str(letters == letters[::-1]).upper()


def test_the_recorded_conversation_of_our_script() -> None:
    eliza = DoctorInterpreter(read_doctor(SCRIPTS / "counsellor.txt"))
    assert [eliza.respond(text).text for text, _ in RECORDED] == [reply for _, reply in RECORDED]


SMALL = "(HI) (A 1 ((B 0) (X 2))) (C 2 ((0) (NEWKEY))) (D (=E)) (E (=D)) (NONE ((0) (N)))"


def test_clauses_ranks_and_the_four_remarks() -> None:
    eliza = DoctorInterpreter(parse_doctor(SMALL))
    assert eliza.scan(split_words("x A y C A, D"))[1] == type(eliza.memory)(["C", "A", "A"])
    assert eliza.scan(split_words("x, y but A z but C")) == (["A", "Z"], type(eliza.memory)(["A"]))
    assert [eliza.respond("a").text for _ in range(4)] == [NO_MATCH[at] for at in (1, 2, 3, 0)]
    assert eliza.respond("c").text == "N"


def test_a_circle_of_links_is_refused() -> None:
    with pytest.raises(OptionError, match="links without a reply"):
        DoctorInterpreter(parse_doctor(SMALL)).respond("d")


def test_parts_of_a_decomposition() -> None:
    assert match((0, "A", 2), ["X", "A", "A", "B"], {}) == [["X"], ["A"], ["A", "B"]]
    assert match((0, "A", 0), ["A", "A"], {}) == [[], ["A"], ["A"]]
    assert match(("A", 1), ["A"], {}) is None
    assert reassemble(("S", 2, 9), [["A"], ["B", "C"]]) == ["S", "B", "C", "HMMM"]


def test_punctuation() -> None:
    assert split_words("Don\u2019t! a,b") == ["DON'T", ".", "A", ",", "B"]


@given(st.lists(st.sampled_from("ABC"), max_size=8), st.lists(st.sampled_from([0, 1, 2, "A", "B"]), max_size=5))
def test_parts_join_to_the_input(words: list[str], pattern: list[int | str]) -> None:
    parts = match(tuple(pattern), words, {})
    if parts is not None:
        assert [word for part in parts for word in part] == words
