"""Curves of edges: from node to node, beside the boxes in between."""

import pytest

from glassworks.circuits.courses import CLEARANCE, Courses
from glassworks.circuits.layout import NODE_HEIGHT, Layout

# One box above another, a third between them and out of line with neither; bars at both ends.
NODES = {"a0.h0": (300.0, 300.0), "a1.h0": (300.0, 200.0), "a2.h0": (300.0, 100.0), "resid_post": (300.0, 20.0)}
COURSES = Courses(Layout(NODES, frozenset({"resid_post"}), [], 700, 400))


def test_an_edge_leaves_upright_and_meets_its_port() -> None:
    course = COURSES.between("a0.h0", "a1.h0", 16)
    assert (course.x1, course.y1) == (300, 300 - NODE_HEIGHT / 2)
    assert (course.x2, course.y2) == (316, 200 + NODE_HEIGHT / 2)
    assert course.control1[0] == 300
    assert course.control2[0] == 316
    assert course.path.startswith("M300.0 288.0C")


@pytest.mark.parametrize(("writer", "node", "passed"), [("a0.h0", "a2.h0", [200]), ("a0.h0", "resid_post", [200, 100])])
def test_an_edge_passes_beside_the_boxes_between(writer: str, node: str, passed: list[float]) -> None:
    course = COURSES.between(writer, node, 0)
    for y in passed:
        for edge in (-NODE_HEIGHT / 2, 0, NODE_HEIGHT / 2):
            assert abs(course.x_at(y + edge) - 300) >= CLEARANCE - 1


def test_nothing_between_is_a_straight_line() -> None:
    course = COURSES.between("a2.h0", "resid_post", 0)
    assert course.x_at((course.y1 + course.y2) / 2) == pytest.approx(300)


def test_mlps_that_are_not_neighbours_are_joined_by_arcs() -> None:
    nodes = {"m0": (600.0, 400.0), "m1": (600.0, 200.0), "m2": (600.0, 30.0)}
    course = Courses(Layout(nodes, frozenset(), [], 700, 430)).between("m0", "m2", 0)
    assert course.x_at(200) > 600 + CLEARANCE
