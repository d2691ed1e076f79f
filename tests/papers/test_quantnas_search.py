"""QuantNAS: costs, latency table, enumeration, evolution, fronts."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refqnn.papers.quantnas.cost import (
    LatencyTable,
    bit_operations,
    c_size,
    key_of,
    layer_kinds,
    load_table,
    measure,
)
from refqnn.papers.quantnas.search import (
    Evolution,
    Point,
    affordable,
    cheapest,
    cross,
    enumerate_space,
    evolve,
    front,
    hypervolume,
    mutate,
)
from refqnn.papers.quantnas.space import (
    Gene,
    Space,
    check_genotype,
    count,
    draw,
    every,
    largest,
    layers_of,
    smallest,
)

SPACE = Space()
SMALL = Space(channels=(2, 4), widths=(0.5, 1.0), size=8)
QUICK = Evolution(population=6, generations=3, parents=3, mutations=4, crossovers=4)


def ops(genotype):
    return bit_operations(genotype, SPACE)


def likes_width(genotype):
    """Return an accuracy that a formula knows."""
    return sum(g.width * g.kernel for stage in genotype for g in stage) / 30


def larger(genotype):
    """Yield every subnet with one gene larger."""
    for s, stage in enumerate(genotype):
        for j, gene in enumerate(stage):
            bigger = [Gene(w, gene.kernel) for w in SPACE.widths if w > gene.width]
            bigger += [Gene(gene.width, k) for k in SPACE.kernels if k > gene.kernel]
            for new in bigger:
                yield (
                    *genotype[:s],
                    (*stage[:j], new, *stage[j + 1 :]),
                    *genotype[s + 1 :],
                )
        if len(stage) < SPACE.depths[-1]:
            grown = (*stage, Gene(SPACE.widths[0], SPACE.kernels[0]))
            yield (*genotype[:s], grown, *genotype[s + 1 :])


@pytest.mark.parametrize("cost", [bit_operations, c_size])
@given(st.integers(0, 2**32))
def test_costs_grow_with_every_gene(cost, seed):
    genotype = draw(SPACE, np.random.default_rng(seed))
    base = cost(genotype, SPACE)
    assert all(cost(more, SPACE) > base for more in larger(genotype))
    assert cost(smallest(SPACE), SPACE) <= base <= cost(largest(SPACE), SPACE)


def test_costs_by_hand():
    space = Space(channels=(2,), depths=(1,), widths=(1.0,), kernels=(3,), size=4)
    # stem 8 x 8 bits, two convolutions 4 x 4 bits, classifier 8 x 8 bits
    want = 16 * 18 * 64 + 2 * 16 * 36 * 16 + 20 * 64
    assert bit_operations(largest(space), space) == want
    assert c_size(largest(space), space) == 18 * 8 + 2 * 36 * 4 + 20 * 8


# latency


def test_a_latency_table_has_every_layer_and_says_where_it_is_from(tmp_path, rng):
    space = Space(channels=(1,), depths=(1,), widths=(1.0,), kernels=(1, 3), size=4)
    table = measure(space, repeats=1, batch=1, rng=rng)
    assert set(table.seconds) == {key_of(kind) for kind in layer_kinds(space)}
    assert all(t > 0 for t in table.seconds.values())
    assert table.provenance["statistic"] == "least of 1 runs of 1 images, per image"
    for genotype in every(space):
        parts = [table.seconds[key_of(k)] for k in layers_of(genotype, space)]
        assert table.cost(genotype, space) == pytest.approx(sum(parts))
    path = tmp_path / "table.json"
    table.save(path)
    assert load_table(path) == table
    assert json.loads(path.read_text())["provenance"]["kernels"].startswith("refqnn")
    assert list(tmp_path.iterdir()) == [path]


def test_layer_kinds_are_those_of_all_subnets():
    kinds = {key_of(kind) for kind in layer_kinds(SMALL)}
    assert kinds == {key_of(k) for g in every(SMALL) for k in layers_of(g, SMALL)}


def test_bad_tables_raise(tmp_path):
    empty = LatencyTable({}, {})
    with pytest.raises(ValueError, match="no time of a layer 1 to 8, kernel 3"):
        empty.cost(smallest(SPACE), SPACE)
    path = tmp_path / "table.json"
    head = '{"format": "refqnn latency table 1"'
    for text in ("{", "[]", head + "}", head + ', "seconds": 1, "provenance": {}}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="is not a"):
            load_table(path)
    path.write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="is of format 'other'"):
        load_table(path)
    for wrong in ({"repeats": 0}, {"batch": 0}):
        with pytest.raises(ValueError, match="repeats and batch must be positive"):
            measure(SPACE, **wrong, rng=np.random.default_rng(0))


# search


def test_a_small_space_is_enumerated_once():
    space, asked = SMALL._replace(depths=(1,)), []

    def accuracy(genotype):
        asked.append(genotype)
        return likes_width(genotype)

    known = {}
    points = [
        enumerate_space(space, accuracy, lambda g: c_size(g, space), known=known)
        for _ in range(2)
    ]
    assert points[0] == points[1]
    assert len(asked) == len(known) == count(space) == 16
    with pytest.raises(ValueError, match="74088 subnets, more than 300"):
        enumerate_space(SPACE, accuracy, ops)


@given(st.integers(0, 2**32), st.floats(0, 1))
def test_no_subnet_is_over_the_budget(seed, share):
    low, high = ops(smallest(SPACE)), ops(largest(SPACE))
    budget, seen = low + share * (high - low), {}
    rng = np.random.default_rng(seed)
    people = evolve(
        SPACE, likes_width, ops, budget=budget, how=QUICK, known=seen, rng=rng
    )
    assert all(ops(g) <= budget for g in seen)
    assert all(check_genotype(g, SPACE) == g for g in seen)
    assert people == sorted(people, key=lambda p: -p.accuracy)
    assert people[0].accuracy == max(seen.values()), "the best is never lost"


def test_one_seed_one_search():
    budget = 1.5 * ops(smallest(SPACE))
    found = [
        evolve(
            SPACE,
            likes_width,
            ops,
            budget=budget,
            how=QUICK,
            rng=np.random.default_rng(seed),
        )
        for seed in (1, 1, 2)
    ]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_evolution_finds_what_enumeration_finds():
    space = SMALL._replace(depths=(1,))

    def cost(genotype):
        return c_size(genotype, space)

    points = enumerate_space(space, likes_width, cost)
    budget = float(np.median([p.cost for p in points]))
    best = max(p.accuracy for p in points if p.cost <= budget)
    rng = np.random.default_rng(0)
    assert evolve(space, likes_width, cost, budget=budget, rng=rng)[0].accuracy == best


def test_budgets_below_the_cheapest_subnet_name_the_floor(rng):
    floor = ops(smallest(SPACE))
    with pytest.raises(ValueError, match=rf"below the floor.*costs {floor}$"):
        evolve(SPACE, likes_width, ops, budget=floor - 1, how=QUICK, rng=rng)
    people = evolve(SPACE, likes_width, ops, budget=floor, how=QUICK, rng=rng)
    assert [p.genotype for p in people] == [smallest(SPACE)]
    with pytest.raises(ValueError, match="budget nan"):
        evolve(SPACE, likes_width, ops, budget=math.nan, how=QUICK, rng=rng)


@pytest.mark.parametrize(
    ("field", "value"), [("population", 0), ("parents", -1), ("probability", 1.5)]
)
def test_searches_that_cannot_run_name_the_field(field, value, rng):
    how = QUICK._replace(**{field: value})
    with pytest.raises(ValueError, match=rf"^{field} must be .*, got {value}$"):
        evolve(SPACE, likes_width, ops, budget=math.inf, how=how, rng=rng)


@pytest.mark.parametrize("cost", [bit_operations, c_size])
def test_costs_take_lists_and_refuse_what_is_no_subnet(cost):
    listed = json.loads(json.dumps(largest(SPACE)))
    assert cost(listed, SPACE) == cost(largest(SPACE), SPACE)
    listed[1][0][0] = 0.7
    with pytest.raises(ValueError, match=r"stage 2 block 1: width must be in .* 0\.7"):
        cost(listed, SPACE)


def test_the_cheapest_need_not_be_the_smallest():
    def dear_if_small(genotype):
        return sum(9 - g.kernel + g.width for stage in genotype for g in stage)

    found = cheapest(SMALL, dear_if_small)
    assert dear_if_small(found) == min(map(dear_if_small, every(SMALL)))
    assert found != smallest(SMALL)


def test_what_cannot_be_drawn_within_the_budget_is_made_cheaper(rng):
    floor = smallest(SPACE)
    found = affordable(lambda: largest(SPACE), floor, ops, ops(floor), rng)
    assert found == floor


def test_mutation_and_crossover(rng):
    a, b = largest(SPACE), smallest(SPACE)
    assert mutate(a, SPACE, 0.0, rng) == a
    assert len({mutate(a, SPACE, 1.0, rng) for _ in range(50)}) > 40
    for _ in range(50):
        check_genotype(mutate(b, SPACE, 0.5, rng), SPACE)
        child = check_genotype(cross(a, b, rng), SPACE)
        for stage, one, other in zip(child, a, b, strict=True):
            assert len(stage) in {len(one), len(other)}
            for j, gene in enumerate(stage):
                having = [p[j] for p in (one, other) if j < len(p)]
                assert gene.width in {g.width for g in having}
                assert gene.kernel in {g.kernel for g in having}
    assert cross(a, a, rng) == a


# fronts

POINTS = st.lists(
    st.builds(
        lambda a, c: Point((), a / 10, float(c)), st.integers(1, 9), st.integers(1, 9)
    ),
    min_size=1,
    max_size=12,
)


def beats(p, q):
    return p.accuracy >= q.accuracy and p.cost <= q.cost and p[1:] != q[1:]


@given(POINTS)
def test_the_front_is_what_no_point_beats(points):
    kept = front(points)
    assert not any(beats(p, q) for p in kept for q in kept)
    want = [q for q in points if not any(beats(p, q) for p in points)]
    assert sorted(kept) == sorted(want)
    assert max(p.accuracy for p in points) == max(p.accuracy for p in kept)
    assert min(p.cost for p in points) == min(p.cost for p in kept)


def test_ties_stay_and_the_dearer_of_equally_accurate_goes():
    a, b, c = Point((), 0.5, 1.0), Point((), 0.5, 2.0), Point((), 0.5, 1.0)
    assert front([a, b, c]) == [a, c]


@given(POINTS)
def test_the_hypervolume_is_the_area_that_is_beaten(points):
    got = hypervolume(points, cost_max=10.0, accuracy_min=0.05)
    edges = np.log(np.arange(1, 11))
    want = 0.0
    for i, low in enumerate(range(1, 10)):
        best = max((p.accuracy for p in points if p.cost <= low), default=0.05)
        want += (edges[i + 1] - edges[i]) * (best - 0.05)
    assert got == pytest.approx(want)
    more = [*points, Point((), 0.95, 1.0)]
    assert hypervolume(more, cost_max=10.0, accuracy_min=0.05) >= got


def test_points_outside_the_bounds_add_nothing():
    assert hypervolume([Point((), 0.5, 20.0)], cost_max=10.0) == 0
    assert hypervolume([], cost_max=10.0) == 0
    for points, cost_max in (([], 0.0), ([Point((), 0.5, -1.0)], 10.0)):
        with pytest.raises(ValueError, match="costs must be positive"):
            hypervolume(points, cost_max=cost_max)
