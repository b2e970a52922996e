"""The sentences of the generated tasks: frames, names, words, and how a clean prompt is corrupted.

Indirect objects (Wang et al. 2023), greater-than (Hanna et al. 2023), gendered pronouns (Mathwin et al. 2023) and
Boolean expressions (as in BIG-bench Hard): the tasks of Edge Pruning (2024, section 4.1), in wording of our own. Each
function draws rows by seed. A predicate says which words a tokenizer keeps whole. Knows no tokenizer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

from glassworks.circuits.pairs import TextPair
from glassworks.errors import OptionError

Keeps = Callable[[str], bool]

WOMEN = [
    "Mary",
    "Anna",
    "Sarah",
    "Laura",
    "Emma",
    "Alice",
    "Julia",
    "Rachel",
    "Helen",
    "Susan",
    "Linda",
    "Karen",
    "Lisa",
    "Nancy",
    "Jane",
    "Kate",
    "Amy",
    "Emily",
    "Rose",
    "Ruth",
    "Grace",
    "Clara",
    "Martha",
    "Diana",
    "Claire",
    "Jessica",
    "Amanda",
    "Melissa",
    "Michelle",
    "Kelly",
]
MEN = [
    "John",
    "Paul",
    "Mark",
    "David",
    "Peter",
    "James",
    "Robert",
    "Thomas",
    "Daniel",
    "Kevin",
    "Brian",
    "Simon",
    "Henry",
    "Jack",
    "Adam",
    "Eric",
    "Frank",
    "George",
    "Harry",
    "Jason",
    "Justin",
    "Matthew",
    "Patrick",
    "Richard",
    "Scott",
    "Sean",
    "Stephen",
    "Steven",
    "Tom",
    "William",
]
PLACES = (
    "store", "garden", "restaurant", "school", "hospital", "office", "house", "station", "park", "museum",
)  # fmt: skip
OBJECTS = (
    "ring", "book", "drink", "ball", "letter", "key", "basket", "computer", "bone", "kiss",
)  # fmt: skip
FRAMES = (
    "Then {one} and {two} went to the {place}, and {giver} gave a {object} to",
    "After {one} and {two} came back from the {place}, {giver} handed a {object} to",
    "When {one} and {two} met at the {place}, {giver} offered a {object} to",
    "While {one} and {two} were working at the {place}, {giver} passed a {object} to",
    "Afterwards {one} and {two} walked to the {place}, where {giver} gave a {object} to",
    "Because {one} and {two} were bored at the {place}, {giver} brought a {object} to",
    "On Monday {one} and {two} drove to the {place}, and {giver} sent a {object} to",
    "Before {one} and {two} left the {place}, {giver} threw a {object} to",
    "Since {one} and {two} liked the {place}, {giver} bought a {object} for",
    "At the {place} {one} and {two} had an argument, and {giver} returned a {object} to",
    "Friends {one} and {two} found a {object} at the {place}, and {giver} gave it to",
    "The day {one} and {two} visited the {place}, {giver} lent a {object} to",
    "Once {one} and {two} had cleaned the {place}, {giver} showed a {object} to",
    "Though {one} and {two} were late for the {place}, {giver} carried a {object} to",
    "Yesterday {one} and {two} cooked at the {place}, and {giver} served a {object} to",
)
EVENTS = [
    "war",
    "siege",
    "trial",
    "voyage",
    "strike",
    "famine",
    "reign",
    "expedition",
    "dispute",
    "drought",
    "campaign",
    "alliance",
]
CLAIMS = (
    "So {name} is a really great friend, isn't",
    "Well, {name} was here all morning, wasn't",
    "I think {name} can play the piano, can't",
    "As you know, {name} will come to dinner, won't",
    "So {name} has finished the work already, hasn't",
    "I heard {name} could swim very far, couldn't",
)


def indirect_object(n: int, seed: int, corruption: str, keeps: Keeps, *, one_frame: bool) -> list[TextPair]:
    """Two people, one gives something to the other; both orders of naming them.

    corruption: "abc" puts three fresh names in, "swap" lets the other one give, "random" redraws the giver alone.
    """
    names, draw = _at_least(filter(keeps, (*WOMEN, *MEN)), 5, "names"), random.Random(f"ioi {seed}")
    rows = []
    for _ in range(n):
        frame = FRAMES[0] if one_frame else draw.choice(FRAMES)
        receiver, giver, *fresh = draw.sample(names, 5)
        words = {"place": draw.choice(PLACES), "object": draw.choice(OBJECTS)}
        order = [receiver, giver]
        if draw.random() < 0.5:
            order.reverse()
        one, two = order
        clean = frame.format(one=one, two=two, giver=giver, **words)
        if corruption == "swap":
            corrupted = frame.format(one=one, two=two, giver=receiver, **words)
        elif corruption == "random":
            corrupted = frame.format(one=one, two=two, giver=fresh[0], **words)
        else:
            corrupted = frame.format(one=fresh[0], two=fresh[1], giver=fresh[2], **words)
        rows.append(TextPair(clean, corrupted, f" {receiver}", distractor=f" {giver}"))
    return rows


def greater_than(n: int, seed: int, splits: Keeps, keeps: Keeps) -> list[TextPair]:
    """An event lasted from year CCYY to CC..; corrupted: from CC01. The answer given is YY + 1."""
    years = [
        f"{century}{year:02}" for century in range(11, 18) for year in range(2, 99) if splits(f"{century}{year:02}")
    ]
    usable = (year for year in years if splits(f"{year[:2]}01") and splits(str(int(year) + 1)))
    years = _at_least(usable, 2, "years that split as CC + YY")
    events, draw = _at_least(filter(keeps, EVENTS), 1, "nouns"), random.Random(f"gt {seed}")
    rows = []
    for _ in range(n):
        event, year = draw.choice(events), draw.choice(years)
        century, number = year[:2], int(year[2:])
        prompts = [
            f"The {event} lasted from the year {first} to the year {century}" for first in (year, f"{century}01")
        ]
        first, second = prompts
        rows.append(TextPair(first, second, f"{number + 1:02}", distractor="01", threshold=number))
    return rows


def gendered_pronoun(n: int, seed: int, keeps: Keeps) -> list[TextPair]:
    """A claim about a named person with a tag question that ends before she or he; corrupted: the other gender."""
    women, men = (_at_least(filter(keeps, names), 2, "names") for names in (WOMEN, MEN))
    draw, rows = random.Random(f"gp {seed}"), []
    for _ in range(n):
        frame, woman, man = draw.choice(CLAIMS), draw.choice(women), draw.choice(men)
        sides = [(woman, " she"), (man, " he")]
        if draw.random() < 0.5:
            sides.reverse()
        (name, answer), (other, wrong) = sides
        rows.append(TextPair(frame.format(name=name), frame.format(name=other), answer, wrong, wrong))
    return rows


def boolean(n: int, seed: int) -> list[TextPair]:
    """A Boolean expression and " is"; corrupted: the same shape and as many words, another value."""
    draw = random.Random(f"bool {seed}")
    rows: list[TextPair] = []
    while len(rows) < n:
        first = _expression(draw, depth=2)
        words = first.split()
        flipped = [
            {"True": "False", "False": "True"}.get(word, word) if draw.random() < 0.5 else word for word in words
        ]
        values = [_value(text) for text in (words, flipped)]
        if values[0] != values[1]:
            texts = [" ".join(text).replace("( ", "(").replace(" )", ")") + " is" for text in (words, flipped)]
            rows.append(TextPair(texts[0], texts[1], f" {values[0]}", f" {values[1]}"))
    return rows


def _expression(draw: random.Random, depth: int) -> str:
    if depth == 0 or draw.random() < 0.2:
        return draw.choice(("True", "False"))
    if draw.random() < 0.25:
        return f"not {_expression(draw, 0)}"
    left, right = _expression(draw, depth - 1), _expression(draw, depth - 1)
    return f"( {left} {draw.choice(('and', 'or'))} {right} )"


def _value(words: Sequence[str]) -> bool:
    """The value of an expression in words, by precedence: not, and, or."""
    rest = list(words)

    def atom() -> bool:
        word = rest.pop(0)
        if word == "not":
            return not atom()
        if word == "(":
            inner = disjunction()
            rest.pop(0)
            return inner
        return word == "True"

    def conjunction() -> bool:
        value = atom()
        while rest and rest[0] == "and":
            rest.pop(0)
            value = atom() and value
        return value

    def disjunction() -> bool:
        value = conjunction()
        while rest and rest[0] == "or":
            rest.pop(0)
            value = conjunction() or value
        return value

    return disjunction()


def _at_least(words: Iterable[str], least: int, what: str) -> list[str]:
    found = list(words)
    if len(found) < least:
        raise OptionError(
            f"the tokenizer keeps {len(found)} of the task's {what} whole, at least {least} are needed",
            place="data",
            remedy="Use another task, or a JSONL file of your own pairs.",
        )
    return found
