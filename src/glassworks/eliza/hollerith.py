"""HASH: the pseudo-random choice of the 1966 ELIZA, from the six-bit Hollerith codes of a word on the IBM 7094.

ELIZA picks one of four memory rules by HASH(last word, 2): SLIP's middle-square of the word's last chunk of at most
six characters. Pure functions of text and integers.
"""

from __future__ import annotations

BITS_OF_WORD = 36
CHUNK = 6
BLANK = 0o60
CODES: dict[str, int] = (
    {str(digit): digit for digit in range(10)}
    | {letter: 0o21 + place for place, letter in enumerate("ABCDEFGHI")}
    | {letter: 0o41 + place for place, letter in enumerate("JKLMNOPQR")}
    | {letter: 0o62 + place for place, letter in enumerate("STUVWXYZ")}
    | {"'": 0o14, "-": 0o40, " ": BLANK, "=": 0o13, "+": 0o20, ".": 0o33, ")": 0o34, "$": 0o53, "*": 0o54}
    | {"/": 0o61, ",": 0o73, "(": 0o74}
)
"""Character -> six-bit code, in the order of the card code of the IBM 7094."""


def last_chunk(word: str) -> int:
    """The last chunk of a word, left-justified and padded with blanks, as a 36-bit integer; unknown letters: blank."""
    start = (len(word) - 1) // CHUNK * CHUNK if word else 0
    chunk = 0
    for letter in word[start:].ljust(CHUNK):
        chunk = chunk << 6 | CODES.get(letter.upper(), BLANK)
    return chunk


def hash_bits(datum: int, bits: int) -> int:
    """The middle `bits` (0 to 15) of the square of a 36-bit word without its sign bit."""
    magnitude = datum & (1 << (BITS_OF_WORD - 1)) - 1
    return magnitude * magnitude >> (BITS_OF_WORD - 1 - bits // 2) & (1 << bits) - 1


def hash_word(word: str, bits: int = 2) -> int:
    """HASH of a word, 0 <= HASH < 2^bits."""
    return hash_bits(last_chunk(word), bits)
