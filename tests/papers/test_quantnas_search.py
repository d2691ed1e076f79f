"""QuantNAS: costs, latency table, enumeration, evolution, fronts."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses

from refqnn.papers.quantnas import cost as cost_models
from refqnn.papers.quantnas import search
from refqnn.papers.quantnas.cost import (
    LatencyTable,
    bit_operations,
    c_size,
    fastest,
    key_of,
    layer_kinds,
    load_table,
    measure,
)
from refqnn.papers.quantnas.search import (
    TRIES,
    Evolution,
    Point,
    affordable,
    cheapest,
    children,
    cross,
    enumerate_space,
    evolve,
    front,
    hypervolume,
    mutate,
    rank,
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
    refuses("no time of a layer 1 to 8, kernel 3", empty.cost, smallest(SPACE), SPACE)
    path = tmp_path / "table.json"
    head = '{"format": "refqnn latency table 1"'
    for text in ("{", "[]", head + "}", head + ', "seconds": 1, "provenance": {}}'):
        path.write_text(text)
        refuses(r"is not a|is no JSON", load_table, path)
    path.write_text('{"format": "other"}')
    refuses("is not a 'refqnn latency table 1'", load_table, path)
    for seconds in ("-1.0", "NaN", "Infinity", "1" + "0" * 400, "true", '"1"'):
        path.write_text(f'{head}, "seconds": {{"a": {seconds}}}, "provenance": {{}}}}')
        refuses(r"table\.json", load_table, path)
    for wrong in ({"repeats": 0}, {"batch": 0}):
        with pytest.raises(ValueError, match="repeats and batch must be positive"):
            measure(SPACE, **wrong, rng=np.random.default_rng(0))


def test_what_is_measured_is_the_layer(monkeypatch, rng):
    seen = []

    def once(call, repeats, batch):
        seen.append((call().shape, repeats, batch))
        return 1.0

    monkeypatch.setattr(cost_models, "fastest", once)
    space = SMALL._replace(depths=(1,), widths=(1.0,), size=7)
    table = measure(space, repeats=5, batch=2, rng=rng)
    assert table.provenance["statistic"] == "least of 5 runs of 2 images, per image"
    assert {(repeats, batch) for _, repeats, batch in seen} == {(5, 2)}
    for kind, (shape, *_) in zip(layer_kinds(space), seen, strict=True):
        plane = () if kind.name == "classifier" else (kind.size, kind.size)
        assert shape == (2, kind.outputs, *plane)


def test_the_fastest_run_counts_the_first_does_not(monkeypatch):
    calls, clock = [], iter([0.0, 9.0, 10.0, 13.0, 20.0, 25.0])
    monkeypatch.setattr(cost_models.time, "perf_counter", lambda: next(clock))
    assert fastest(lambda: calls.append(1), 3, 2) == 3 / 2
    assert len(calls) == 1 + 3


# search


def test_a_small_space_is_enumerated_once():
    space, asked = SMALL._replace(depths=(1,)), []

    def accuracy(genotype):
        asked.append(genotype)
        return likes_width(genotype)

    points = enumerate_space(space, accuracy, lambda g: c_size(g, space))
    assert [p.genotype for p in points] == asked == list(every(space))
    assert len(asked) == count(space) == 16
    assert len(enumerate_space(space, likes_width, likes_width, most=16)) == 16
    with pytest.raises(ValueError, match="16 subnets, more than 15"):
        enumerate_space(space, likes_width, likes_width, most=15)
    refuses("74088 subnets, more than 300", enumerate_space, SPACE, accuracy, ops)


@given(st.integers(0, 2**32), st.floats(0, 1))
def test_no_subnet_is_over_the_budget(seed, share):
    low, high = ops(smallest(SPACE)), ops(largest(SPACE))
    budget, seen = low + share * (high - low), {}
    rng = np.random.default_rng(seed)
    people = evolve(
        SPACE, likes_width, ops, budget=budget, how=QUICK, points=seen, rng=rng
    )
    assert all(ops(g) <= budget for g in seen)
    assert all(check_genotype(g, SPACE) == g for g in seen)
    assert people == sorted(people, key=lambda p: -p.accuracy)
    assert len({p.genotype for p in people}) == len(people)
    best = max(p.accuracy for p in seen.values())
    assert people[0].accuracy == best, "the best is never lost"


def test_the_size_of_a_search():
    assert Evolution() == (30, 10, 8, 15, 15, 0.1)


def test_the_best_are_the_parents_of_every_generation(monkeypatch, rng):
    drawn, parents = [], []

    def drawing(space, rng):
        drawn.append(draw(space, rng))
        return drawn[-1]

    def bearing(given, *_):
        parents.append(given)
        return []

    monkeypatch.setattr(search, "draw", drawing)
    monkeypatch.setattr(search, "children", bearing)
    people = evolve(SPACE, likes_width, ops, budget=math.inf, how=QUICK, rng=rng)
    assert len(drawn) == QUICK.population
    best = sorted(set(drawn), key=lambda g: (-likes_width(g), ops(g)))[: QUICK.parents]
    assert parents == [best] * QUICK.generations
    assert [p.genotype for p in people] == best


def test_children_are_of_all_parents(rng):
    parents = [largest(SPACE), smallest(SPACE), draw(SPACE, rng)]
    how = QUICK._replace(mutations=60, crossovers=50, probability=0.0)
    found = children(parents, SPACE, how, lambda make: make(), rng)
    assert len(found) == 60 + 50
    assert set(found[:60]) == set(parents)
    assert len(set(found[60:])) > 20


def test_the_cheaper_of_equally_accurate_is_first():
    a, b, c = (Point((), accuracy, cost) for accuracy, cost in ((1, 3), (1, 2), (2, 9)))
    assert rank([a, b, c]) == [c, b, a]
    one, two = (Point(g, 0.5, 1.0) for g in (smallest(SPACE), largest(SPACE)))
    assert rank([two, one]) == rank([one, two]) == [one, two]


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
    refuses(r"stage 2 block 1: width must be in .* 0\.7", cost, listed, SPACE)


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


def test_what_is_within_the_budget_is_drawn_once(rng):
    calls = []

    def make():
        calls.append(1)
        return largest(SPACE)

    floor, whole = smallest(SPACE), ops(largest(SPACE))
    assert affordable(make, floor, ops, whole, rng) == largest(SPACE)
    assert len(calls) == 1
    affordable(make, floor, ops, whole - 1, rng)
    assert len(calls) == 1 + 1 + TRIES


def test_no_more_stages_are_made_cheaper_than_needed(rng):
    floor, whole = smallest(SPACE), ops(largest(SPACE))
    found = {
        affordable(lambda: largest(SPACE), floor, ops, whole - 1, rng)
        for _ in range(40)
    }
    assert found == {
        (*largest(SPACE)[:s], floor[s], *largest(SPACE)[s + 1 :]) for s in range(3)
    }


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
    children = {cross(a, b, rng) for _ in range(100)}
    assert {len(child[0]) for child in children} == {1, 2}
    assert {child[0][0] for child in children} == {
        Gene(w, k) for w in (0.5, 1.0) for k in (3, 5)
    }


def test_genes_mutate_with_their_probability(rng):
    space = SPACE._replace(depths=(2,))
    mutants = [mutate(largest(space), space, 0.1, rng) for _ in range(3000)]
    genes = [gene for mutant in mutants for stage in mutant for gene in stage]
    other_width = np.mean([gene.width != 1.0 for gene in genes])
    other_kernel = np.mean([gene.kernel != 5 for gene in genes])
    assert other_width == pytest.approx(0.1 * 2 / 3, rel=0.1)
    assert other_kernel == pytest.approx(0.1 / 2, rel=0.1)


def test_depths_mutate_and_new_blocks_are_drawn(rng):
    mutants = [mutate(smallest(SPACE), SPACE, 0.1, rng) for _ in range(3000)]
    grown = [stage for mutant in mutants for stage in mutant if len(stage) == 2]
    assert len(grown) / 9000 == pytest.approx(0.1 / 2, rel=0.15)
    assert np.mean([stage[1].width == 0.5 for stage in grown]) < 0.5


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
    one, two = (Point(g, 0.5, 1.0) for g in (smallest(SPACE), largest(SPACE)))
    assert front([two, one]) == front([one, two]) == [one, two]


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
    low = Point((), 0.3, 1.0)
    assert hypervolume([low], cost_max=10.0, accuracy_min=0.5) == 0
    for points, cost_max in (([], 0.0), ([Point((), 0.5, -1.0)], 10.0)):
        refuses("costs must be positive", hypervolume, points, cost_max=cost_max)
