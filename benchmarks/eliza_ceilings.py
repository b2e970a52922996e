"""How far copying by content can get: an induction head with n tokens of context against copying by position.

    python benchmarks/eliza_ceilings.py [--turns 4000]

Two groups a turn, lengths uniform from 0, letters from a Dirichlet distribution a group; a turn is right if both
groups are copied whole. Copying by position is always right. Prints the share of right turns for each setting.
"""

import argparse
import json

from glassworks.eliza.induction import ceiling


def main() -> None:
    """Parse, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=4000)
    options = parser.parse_args()
    for max_len in (20, 50):
        for alpha in (0.01, 0.1, 1.0, 100.0):
            shares = {n: round(ceiling(max_len, alpha, n, options.turns), 3) for n in range(1, 6)}
            print(json.dumps({"max_len": max_len, "alpha": alpha, "induction": shares, "position": 1.0}), flush=True)


if __name__ == "__main__":
    main()
