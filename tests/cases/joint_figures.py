"""The published figure of head frequencies, drawn again: heads in i and in j subnetworks of two sparsities."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor


def table_of_144() -> Tensor:
    """13 x 13 cells that add up to 144 heads, 9 of them in all 24 subnetworks; every row has a number."""
    table = torch.zeros(13, 13, dtype=torch.long)
    table[:, 0] = torch.tensor([32, 14, 8, 2, 10, 4, 5, 1, 7, 1, 1, 3, 1])
    table[12, 12], table[11, 10], table[12, 11], table[6, 1], table[5, 2] = 9, 31, 4, 10, 1
    assert table.sum() == 144
    return table


def draw_joint_figure(table: Tensor, path: Path) -> None:
    """As published: numbers centred in the cells, none in empty ones, row 0 at the bottom, a colour bar beside."""
    with plt.rc_context({"figure.figsize": (4, 3.4)}):
        figure, axes = plt.subplots()
    rows, columns = table.shape
    image = axes.imshow(table.tolist(), origin="lower")
    for row in range(rows):
        for column in range(columns):
            if table[row, column]:
                axes.text(column, row, str(int(table[row, column])), ha="center", va="center", fontsize=8)
    axes.set_xticks(range(columns))
    axes.set_yticks(range(rows), [str(row) for row in range(rows)], rotation=90)
    axes.set_xlabel("Frequency, 70% subnetworks")
    figure.colorbar(image)
    figure.savefig(path)
    plt.close(figure)
