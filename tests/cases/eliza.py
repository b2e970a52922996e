"""The small script of the ELIZA tests and its conversation, worked out by hand from the definition of the task."""

from glassworks.eliza.script import parse_script

SMALL = parse_script(
    """
U 0 a 0 b .
    E p q 3 .
    E r s 1 y 3 .
memory U c 0 .
    E t u .
    dequeue E m n 2 .
U 0 .
    E v w .
    E x z .
"""
)

CONVERSATION = [
    ("U d a e a f b .", "E p q e a f ."),
    ("U a b .", "E r s y ."),
    ("U c g h .", "E t u ."),
    ("U z .", "E m n g h ."),
    ("U z .", "E x z ."),
    ("U c k .", "E t u ."),
    ("U c l .", "E t u ."),
    ("U z .", "E m n k ."),
    ("U z .", "E m n l ."),
    ("U z .", "E v w ."),
    ("U a b b .", "E p q b ."),
    ("U b a .", "E x z ."),
]
