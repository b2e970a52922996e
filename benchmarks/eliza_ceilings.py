"""How far copying by content can get: an induction head with n tokens of context against copying by position.

    python benchmarks/eliza_ceilings.py [--turns 4000] [--data FOLDER]

Two groups a turn, lengths uniform from 0, letters from a Dirichlet distribution a group; a turn is right if both
groups are copied whole. Copying by position is always right. Prints the share of right turns for each setting. With
a folder of `eliza generate`: of the turns that it holds for testing, `none` counted too.

Results: eliza_ceilings.json; by --data on the recipe eliza-alpha's folders in eliza_alpha.json.
"""

import argparse
import json

from glassworks.eliza.dataset import read_folder_script, read_split, turns_of
from glassworks.eliza.induction import ceiling, induction_copy
from glassworks.eliza.interpreter import converse


def on_data(folder: str, context: int, limit: int) -> float:
    """Share of a folder's test turns that an induction head copies right."""
    script = read_folder_script(folder)
    right = []
    for example in read_split(folder, "test", limit):
        turns = turns_of(script, example)
        copied = converse(script, [turn.sentence for turn in turns], lambda group: induction_copy(group, context))
        right += [a.reply == b.reply for a, b in zip(turns, copied, strict=True)]
    return sum(right) / len(right)


def main() -> None:
    """Parse, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=4000)
    parser.add_argument("--data")
    options = parser.parse_args()
    if options.data:
        shares = {n: round(on_data(options.data, n, options.turns), 3) for n in range(1, 6)}
        print(json.dumps({"data": options.data, "induction": shares, "position": 1.0}))
        return
    for max_len in (20, 50):
        for alpha in (0.01, 0.1, 1.0, 100.0):
            shares = {n: round(ceiling(max_len, alpha, n, options.turns), 3) for n in range(1, 6)}
            print(json.dumps({"max_len": max_len, "alpha": alpha, "induction": shares, "position": 1.0}), flush=True)


if __name__ == "__main__":
    main()
