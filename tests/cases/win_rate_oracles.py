"""The worked examples of the win rates: twelve comparisons of AlpacaEval and six pairs of games of Arena-Hard."""

import numpy as np

P = np.array([0.9, 0.8, 0.7, 0.6, 0.95, 0.3, 0.2, 0.4, 0.85, 0.1, 0.75, 0.5])
LENGTH_1 = np.array([1000, 800, 1200, 900, 1500, 700, 600, 1000, 900, 800, 1100, 950])
LENGTH_2 = np.array([1500, 1000, 1700, 950, 2100, 650, 500, 900, 1300, 600, 1500, 1000])
DIFFICULTY = np.array([0.5, -0.2, 0.1, 0.8, -0.5, 0.3, -0.1, 0, 0.6, -0.4, 0.2, -0.3])
GAMES = [("A>B", "B>A"), ("B>>A", "A>B"), ("A=B", "A=B"), ("A>>B", "B>>A"), ("B>A", "A>>B"), (None, "A>B")]
