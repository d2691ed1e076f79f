import numpy as np
import pytest
from matplotlib.figure import Figure

from refqnn import plots, quantizers
from refqnn.core import Buffer, Run
from refqnn.plots import networks


def records(last):
    return [
        {"epoch": k, "test_accuracy": last - 0.1 / k, "train_accuracy": last}
        for k in (1, 2, 3)
    ]


def layer(name, largest, rng):
    codes = rng.integers(-largest, largest + 1, (4, 2, 3, 3)).astype(np.int8)
    return plots.LayerCodes(name, codes, largest)


@pytest.fixture
def decisions():
    """Image 0: same class; 1: float right; 2: integer right; 3: both wrong."""
    float_logits = np.array([[5.0, 1, 0], [9, 1, 0], [2, 1, 0], [3, 0, 0]])
    integer_logits = np.array([[50, 10, 0], [10, 15, 0], [0, 30, 0], [0, 20, 0]])
    return plots.Decisions(float_logits, integer_logits, np.array([0, 0, 1, 2]))


def axes_of(draw, *given):
    """Return new axes with one of the parts of the page of a network."""
    axes = Figure().subplots()
    draw(axes, *given)
    return axes


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_training_curves_carry_the_accuracies_and_their_names():
    axes = axes_of(
        networks.draw_training, {"float": records(0.9), "4-bit": records(0.8)}
    )
    thick = [line for line in axes.lines if line.get_linewidth() > 1]
    np.testing.assert_allclose(thick[0].get_ydata(), [0.8, 0.85, 0.9 - 0.1 / 3])
    assert sorted(texts(axes)) == ["4-bit", "float"]


def test_one_epoch_is_a_figure_too(tmp_path):
    axes = axes_of(networks.draw_training, {"float": records(0.9)[:1]})
    plots.save(axes.figure, tmp_path / "one.png")


def test_names_of_lines_that_end_together_stand_apart():
    axes = axes_of(networks.draw_training, {"a": records(0.9), "b": records(0.9)})
    heights = [text.xy[1] for text in axes.texts]
    assert abs(heights[0] - heights[1]) > 0.001


def test_codes_are_counted():
    one = plots.LayerCodes("conv", np.array([-1, 0, 0, 0, 1, 1], np.int8), 1)
    bars = axes_of(networks.draw_codes, [one]).patches
    np.testing.assert_allclose([bar.get_x() + bar.get_width() / 2 for bar in bars],
                               [-1, 0, 1])  # fmt: skip
    heights = np.array([bar.get_height() for bar in bars])
    np.testing.assert_allclose(heights / heights.max(), [1 / 3, 1, 2 / 3])


def test_the_first_layer_is_on_top(rng):
    layers = [layer("stem", 127, rng), layer("conv", 7, rng)]
    axes = axes_of(networks.draw_codes, layers)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["conv", "stem"]
    assert len(axes.patches) == 15 + 1
    assert all(bar.get_y() == 0 for bar in axes.patches[:15])
    np.testing.assert_array_equal(axes.patches[15].get_data().baseline, 1)


def test_margins_are_of_the_float_choice(decisions):
    axes = axes_of(networks.draw_margins, decisions)
    points = {c.get_label(): np.asarray(c.get_offsets()) for c in axes.collections}
    np.testing.assert_allclose(points["same class (1)"], [[4, 40]])
    np.testing.assert_allclose(points["float right (1)"], [[8, -5]])
    np.testing.assert_allclose(points["integer right (1)"], [[1, -30]])
    np.testing.assert_allclose(points["both wrong (1)"], [[3, -20]])


def test_the_clearest_disagreement_comes_first(decisions):
    np.testing.assert_array_equal(
        networks.clearest_disagreements(decisions, 8), [3, 2, 1]
    )
    np.testing.assert_array_equal(networks.clearest_disagreements(decisions, 1), [3])


def test_margins_against_a_loop(rng):
    logits = rng.standard_normal((20, 4))
    choice = rng.integers(0, 4, 20)
    want = [z[k] - max(np.delete(z, k)) for z, k in zip(logits, choice, strict=True)]
    np.testing.assert_allclose(networks.margins(logits, choice), want)


@pytest.mark.parametrize("agree", [True, False])
def test_the_demo_page(decisions, rng, tmp_path, agree):
    if agree:
        decisions = decisions._replace(integer_logits=decisions.float_logits)
    figure = plots.demo(
        {"float": records(0.9), "4-bit": records(0.88)},
        [layer("stem", 127, rng), layer("conv", 7, rng), layer("end", 127, rng)],
        decisions,
        rng.integers(0, 256, (4, 1, 8, 8)).astype(np.uint8),
        classes=("boot", "coat", "bag"),
        title="A network",
        summary="what it does",
    )
    shown = [text for axes in figure.axes for text in texts(axes)]
    assert ("float: boot" in shown) == (not agree)
    assert isinstance(figure, Figure)
    first, again = tmp_path / "a.png", tmp_path / "b.png"
    plots.save(figure, first, dpi=40)
    plots.save(figure, again, dpi=40)
    assert first.read_bytes() == again.read_bytes()
    assert first.read_bytes()[:4] == b"\x89PNG"


def test_eight_bits_are_a_silhouette(rng):
    stairs = (
        axes_of(networks.draw_codes, [layer("stem", 127, rng)]).patches[0].get_data()
    )
    codes = layer("stem", 127, np.random.default_rng(20240607)).codes
    counts = [np.sum(codes == k) for k in range(-127, 128)]
    np.testing.assert_allclose(stairs.values, 0.86 * np.array(counts) / max(counts))
    np.testing.assert_allclose((stairs.edges[:-1] + stairs.edges[1:]) / 2 * 127,
                               np.arange(-127, 128), atol=1e-9)  # fmt: skip


def transfer(**changes):
    """Four values on a codebook whose levels do not ascend; beyond 1 nothing is."""
    row = plots.Transfer(
        kind="Weights",
        source="a paper",
        note="4 values",
        values=np.array([-1.0, 0.0, 0.25, 1.0]),
        boundaries=np.array([-0.5, 0.5, 7.0]),
        levels=np.array([-1.0, 1.5, 0.5, 9.0]),
        shares=np.array([0.25, 0.5, 0.25, 0.0]),
        points=np.array([-1.0, 1.0]),
        slopes=np.array([1.0, 0.25]),
        coupled=False,
        learned="gradients of mean y: s 2",
        error=0.125,
        scaled_error=0.0625,
    )
    return row._replace(**changes)


def gallery(row):
    """Return the axes of the page, those of the histograms left out."""
    figure = plots.gallery_page(plots.GalleryPage("qil", "a layer", (row, row)))
    return [axes for axes in figure.axes if axes.get_title("left")]


def test_a_page_of_the_gallery_has_three_panels_a_row():
    titles = [axes.get_title("left") for axes in gallery(transfer())]
    row = ["Transfer function", "Surrogate gradient", "Codebook: 4 levels, 3 used"]
    assert titles == row * 2


def test_the_transfer_function_is_drawn_where_values_are():
    axes = gallery(transfer())[0]
    steps = axes.patches[0].get_data()
    np.testing.assert_array_equal(steps.values, [-1, 1.5, 0.5])
    np.testing.assert_allclose(steps.edges, [-1.06, -0.5, 0.5, 1.06])
    drawn = [
        line.get_xdata()
        for line in axes.lines
        if line.get_color() == plots.style.ORANGE
    ]
    np.testing.assert_array_equal(drawn, [[-0.5, -0.5], [0.5, 0.5]])


def test_a_level_between_equal_boundaries_is_not_drawn():
    row = transfer(boundaries=np.array([-0.5, 0.0, 0.0]))
    steps = gallery(row)[0].patches[0].get_data()
    np.testing.assert_array_equal(steps.values, [-1, 1.5, 9])
    np.testing.assert_allclose(steps.edges, [-1.06, -0.5, 0, 1.06])


def test_the_histogram_leaves_zeros_out():
    figure = plots.gallery_page(plots.GalleryPage("qil", "", (transfer(),) * 2))
    behind = next(axes for axes in figure.axes if not axes.axison)
    assert sum(bar.get_height() for bar in behind.patches) == 3


def test_slopes_of_a_coupled_backward_are_called_diagonal():
    alone, coupled = (gallery(transfer(coupled=c))[1] for c in (False, True))
    np.testing.assert_array_equal(alone.lines[-1].get_xydata(), [[-1, 1], [1, 0.25]])
    assert alone.get_title("left") == "Surrogate gradient"
    assert coupled.get_title("left") == "Surrogate gradient, diagonal"
    assert (alone.get_ylabel(), coupled.get_ylabel()) == ("$dy / dv$", "$dy_i / dv_i$")
    assert texts(coupled) == ["gradients of mean y: s 2"]


def test_the_codebook_ascends():
    axes = gallery(transfer())[2]
    np.testing.assert_allclose([bar.get_height() for bar in axes.patches],
                               [0.25, 0.25, 0.5, 0])  # fmt: skip
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["\N{MINUS SIGN}1", "0.5", "1.5", "9"]
    assert texts(axes) == ["MSE / variance 0.125; with the best scale 0.0625"]


def test_many_levels_are_a_silhouette_without_boundaries(tmp_path):
    levels = np.linspace(-1, 1, 256)
    many = transfer(
        boundaries=(levels[1:] + levels[:-1]) / 2,
        levels=levels,
        shares=np.full(256, 1 / 256),
    )
    axes = gallery(many)
    assert plots.style.ORANGE not in [line.get_color() for line in axes[0].lines]
    np.testing.assert_array_equal(axes[2].patches[0].get_data().values, many.shares)
    ticks = axes[2].get_xticks()
    assert len(ticks) <= plots.gallery.MOST_TICKS
    assert np.abs(levels).argmin() in ticks
    plots.save(axes[0].figure, tmp_path / "many.png", dpi=40)


def test_equal_values_and_levels_can_be_drawn(tmp_path):
    flat = transfer(values=np.ones(4), levels=np.zeros(4), slopes=np.zeros(2))
    paths = tmp_path / "a.png", tmp_path / "b.png"
    for path in paths:
        plots.save(gallery(flat)[0].figure, path, dpi=40)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_controller_draws_runs_and_targets():
    curves = [("target 20 %", 0.2, [1.0, 0.3, 0.2]), ("constant sign", 0.4, [1.0, 0.1])]
    axes = plots.controller(curves).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [100, 30, 20])
    np.testing.assert_allclose(axes.lines[1].get_ydata(), [20, 20])
    assert {"target 20 %", "constant sign"} <= set(texts(axes))
    colours = [line.get_color() for line in axes.lines[::2]]
    assert len(set(colours)) == 2
    axes.figure.canvas.draw()
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown == ["0%", "1%", "5%", "10%", "20%", "40%", "60%", "100%"]


def test_figures_have_the_shape_of_a_screen(decisions, rng):
    """Nine to five, and four to three for a page of panels."""
    runs = [("target 20 %", 0.2, [1.0, 0.3])]
    wide, high = plots.controller(runs).get_size_inches()
    assert 5 * wide == 9 * high
    layers, pictures = [layer("end", 127, rng)], np.zeros((4, 1, 8, 8), np.uint8)
    page = plots.demo(
        {"float": records(0.9)}, layers, decisions, pictures,
        classes=("a", "b", "c"), title="A network", summary="what it does",
    )  # fmt: skip
    wide, high = page.get_size_inches()
    assert 3 * wide == 4 * high


def test_the_tradeoff_draws_every_run_and_the_base():
    points = {"DFS": [(0.0625, 0.8), (0.2, 0.82)], "SkipNet": [(0.6, 0.7)]}
    axes = plots.tradeoff(points, 0.81).axes[0]
    drawn = {line.get_label(): line.get_xydata() for line in axes.lines}
    np.testing.assert_allclose(drawn["DFS"], [[6.25, 80], [20, 82]])
    np.testing.assert_allclose(drawn["SkipNet"], [[60, 70]])
    (base,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert [*base.get_ydata()] == [81, 81]
    (name,) = [text for text in axes.texts if text.get_text() == "32 bits"]
    assert name.xy == (0, 81)


def test_panels_join_means_and_keep_the_colour_of_a_system():
    dfs, other = [(0.2, 0.8), (0.2, 0.82), (0.4, 0.83)], [(0.3, 0.7)]
    panels = [("3", "", {"DFS": dfs}), ("7", "", {"HAQ": other, "DFS": dfs})]
    first, second = plots.tradeoff_panels(panels, 0.81).axes
    base, dots, line = first.lines
    assert [*base.get_ydata()] == [81, 81]
    np.testing.assert_allclose(line.get_xydata(), [[20, 81], [40, 83]])
    assert len(dots.get_xdata()) == 3
    colours = [x.get_color() for x in second.lines if x.get_label() == "DFS"]
    assert colours == [dots.get_color()] == [line.get_color()]
    assert second.lines[1].get_color() != dots.get_color()  # HAQ
    assert first.get_title("left") == "3"


def test_percentages_of_their_own_are_rings_of_the_same_colour():
    points = {"DFS": [(0.2, 0.82)], "HAQ": [(0.25, 0.8), (0.5, 0.81)]}
    axes = plots.tradeoff(points, 0.81, own={"HAQ": [(0.2, 0.8), (0.4, 0.81)]}).axes[0]
    dots = next(line for line in axes.lines if line.get_label() == "HAQ")
    (ring,) = [x for x in axes.lines if x.get_markerfacecolor() == "none"]
    np.testing.assert_allclose(ring.get_xydata(), [[20, 80], [40, 81]])
    assert ring.get_color() == dots.get_color()
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["DFS", "HAQ"]
    assert any("a ring" in text for text in texts(axes))


def test_bits_that_an_axis_hides_are_dashed_and_all_panels_share_it():
    panels = [
        plots.LayerBits("Ours", "note", ["a", "b"], {"HAQ": [3, 8]}),
        plots.LayerBits("Printed", "note", ["2", "3"], {"HAQ": [9, 20]}, [0]),
        plots.LayerBits("Ours", "note", ["a"], {"HAQ": [5]}),
    ]
    ours, printed, _, empty = plots.bit_allocations(panels).axes
    assert [bar.get_linestyle() for bar in printed.patches] == ["--", "solid"]
    assert printed.patches[0].get_facecolor() == (1, 1, 1, 1)
    assert ours.patches[0].get_facecolor() != (1, 1, 1, 1)
    assert ours.get_ylim() == printed.get_ylim() == (0, 21)
    assert not empty.axison


def test_decisions_are_stacked_to_one():
    shares = np.array([[0.25, 0.75, 0, 0], [0, 0, 0.5, 0.5]])
    panels = [("ours", shares), ("paper", shares[::-1])]
    axes = plots.decisions(panels, ["skip", "8", "16", "keep"]).axes
    assert [a.get_title("left") for a in axes[:2]] == ["ours", "paper"]
    tops = [bar.get_y() + bar.get_height() for bar in axes[0].containers[3]]
    np.testing.assert_allclose(tops, [1, 1])
    heights = [bar.get_height() for bar in axes[0].containers[1]]
    np.testing.assert_allclose(heights, [0.75, 0])
    three = plots.decisions([*panels, panels[0]], ["skip", "8", "16", "keep"]).axes
    drawn = [bool(a.containers) for a in three]
    assert [a.axison for a in three] == drawn
    assert drawn.count(True) == 3
    (axes,) = plots.decisions([("14", np.eye(5, 4))], ["skip", "8", "16", "keep"]).axes[
        :1
    ]
    assert [line.get_xdata()[0] for line in axes.lines] == [2.5, 4.5]  # blocks 2 to 6


def test_dots_that_coincide_are_all_seen():
    pairs = {name: [(0.2, 0.8)] for name in "abc"}
    (axes,) = plots.tradeoff(pairs, 0.9).axes
    sizes = [line.get_markersize() for line in axes.lines[1:]]
    assert sizes == sorted({*sizes}, reverse=True)
    assert len(sizes) == 3


def allocation():
    panels = [
        plots.LayerBits("Ours", "note", ["a", "b"], {"x": [3, 8], "y": [4, 2]}),
        plots.LayerBits("Printed", "note", ["2", "3", "4"], {"HAQ": [7, 6, 7]}),
    ]
    nan = float("nan")
    rewards = {
        "learned": [[-3.0, -1.0, -2.0], [-2.5, -2.0, -1.5]],
        "drawn": [[-4.0, nan, -2.0], [-3.0, -3.5, -3.0]],
        "one": [[nan, nan, -0.5]],
    }
    return plots.allocation(panels, rewards)


def test_bits_are_bars_from_zero_side_by_side():
    ours, printed, _ = allocation().axes
    bars = [(round(b.get_x(), 2), b.get_y(), b.get_height()) for b in ours.patches]
    assert bars == [(-0.38, 0, 3), (0.62, 0, 8), (0.02, 0, 4), (1.02, 0, 2)]
    names = [text.get_text() for text in ours.get_legend().get_texts()]
    assert names == ["x", "y"]
    assert printed.get_legend() is None
    assert [label.get_text() for label in printed.get_xticklabels()] == ["2", "3", "4"]
    assert [bar.get_height() for bar in printed.patches] == [7, 6, 7]


def test_rewards_are_dots_and_the_best_so_far_a_line():
    *_, axes = allocation().axes
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["one"].get_linestyle() == "--"
    np.testing.assert_array_equal(lines["one"].get_ydata(), [-0.5, -0.5])
    np.testing.assert_array_equal(lines["learned"].get_ydata(), [-3, -1, -1])
    np.testing.assert_array_equal(lines["drawn"].get_ydata(), [-4, -4, -2])
    assert lines["learned"].get_color() == plots.style.BLUE
    assert lines["drawn"].get_color() == plots.style.VERMILLION
    assert lines["one"].get_color() == plots.style.GREEN
    # two seeds of two searches: dots and a line each; and the dashed one
    assert len(axes.lines) == 9
    assert axes.get_xlim() == (0, 4)


def test_an_allocation_is_the_same_bytes_twice(tmp_path):
    paths = tmp_path / "a.png", tmp_path / "b.png"
    for path in paths:
        plots.save(allocation(), path, dpi=40)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_scales_of_subnets_are_drawn_over_their_smallest():
    panels = [("early", [0.2, 0.1, 0.3], [0.2, 0.2, 0.3])] * 3
    figure = plots.subnet_scales(panels)
    assert len(figure.axes) == 4
    lines = figure.axes[0].lines
    np.testing.assert_allclose(lines[0].get_ydata(), [1, 2, 3])
    np.testing.assert_allclose(lines[1].get_ydata(), [1, 1, 1.5])
    assert lines[0].get_label() == "step: 3.00"


def test_fronts_are_steps_named_once():
    one = [(1e6, 0.5), (2e6, 0.7)]
    figure = plots.search_fronts({"shared": [one, one], "oracle": [one]}, "bits")
    axes = figure.axes[0]
    assert len(axes.lines) == 3
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [50, 70])
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["shared", "oracle"]
    assert axes.get_xlabel() == "cost of one image, bits"


def test_pruning_is_bars_on_whole_decades_and_a_line():
    bars = plots.LayerBars("net", ["1", "2"], [False, True], [90, 20_000], [0.25, 0.5])
    figure = plots.pruning([(bars, bars)])
    counts, _, shares, _ = figure.axes
    assert counts.get_ylim() == (10, 100_000)
    assert [patch.get_height() for patch in counts.patches] == [90, 20_000]
    grey, orange = (patch.get_facecolor() for patch in counts.patches)
    assert grey != orange
    np.testing.assert_array_equal(shares.lines[0].get_ydata(), [0.25, 0.5])
    assert shares.get_ylim() == (0, 1)
    assert "orange: fully connected" in figure.get_supxlabel()


def size_panel(rng, name="ResNet", cost=(2e4, 8e4, 3e5)):
    """Return a panel of two precisions, the second one twice."""
    means = 80 + rng.random((3, len(cost)))
    curves = [
        plots.SizeCurve(bits, cost, np.stack([m - 1, m + 0.5, m + 0.5], axis=1))
        for bits, m in zip(("4W4A", "1W4A", "1W4A"), means, strict=True)
    ]
    return plots.SizePanel(name, "", "C_size", curves)


def test_curves_of_one_precision_share_their_colour_in_every_panel(rng, tmp_path):
    panels = [size_panel(rng), size_panel(rng, "VGG", (1e5, 2e5))]
    figure = plots.size_curves(panels)
    left, right, *_ = figure.axes
    assert [axes.get_title(loc="left") for axes in (left, right)] == ["ResNet", "VGG"]
    for axes in (left, right):
        first, second, third = (lines[0] for lines in axes.containers)
        assert first.get_color() == plots.style.BLUE
        assert second.get_color() == third.get_color() == plots.style.VERMILLION
        assert second.get_marker() != third.get_marker()
    (_, _, (bars,)) = left.containers[0]
    low, high = bars.get_segments()[0][:, 1]
    seeds = panels[0].curves[0].accuracies[0]
    np.testing.assert_allclose([low, high], [min(seeds), max(seeds)])
    np.testing.assert_allclose(left.containers[0][0].get_ydata()[0], np.mean(seeds))
    assert len(figure.legends[0].get_texts()) == 2
    assert {axes.get_xscale() for axes in (left, right)} == {"log"}
    assert [axes.get_xlabel() for axes in (left, right)] == [p.cost for p in panels]
    plots.save(figure, tmp_path / "curves.png")


@pytest.mark.parametrize(("most", "named"), [(8, [2, 4, 6, 8]), (8.9, [1, 3])])
def test_costs_beyond_eight_fold_are_named_at_ones_and_threes(rng, most, named):
    axes = plots.size_curves([size_panel(rng, cost=(1e6, most * 1e6))]).axes[0]
    ticks = [t / 1e6 for t in axes.get_xticks() if 0.99e6 <= t <= 1.01 * most * 1e6]
    np.testing.assert_allclose(ticks, named)


def test_more_panels_than_columns_leave_no_empty_frame(rng):
    figure = plots.size_curves([size_panel(rng)] * 3, columns=2)
    assert [axes.axison for axes in figure.axes] == [True] * 3 + [False]


def test_variances_of_layers_are_bars_raw_and_relative():
    raw = np.array([1e-4, 2e-4])  # means of two seeds
    kinds = {
        name: {
            f"depthwise{i + 1}": {"raw": [0, 2 * v / f], "relative": [v / 2, 1.5 * v]}
            for i, v in enumerate(raw)
        }
        for name, f in (("1 x 3 x 3", 1), ("4 x 3 x 3", 9))
    }
    left, right = plots.layer_variances(kinds).axes
    heights = [[bar.get_height() for bar in group] for group in left.containers]
    np.testing.assert_allclose(heights, [raw, raw / 9])
    np.testing.assert_allclose([b.get_height() for b in right.containers[1]], raw)
    assert left.get_yscale() == "log"
    assert not right.get_legend().get_frame_on()


def test_clips_lie_on_lines_through_zero():
    row = {"bits": 4, "mean_abs": [2.0, 1.0], "clip": [6.1, 3.0], "c_used": 1 / 3}
    (axes,) = plots.clip_lines([row]).axes
    drawn, dots = axes.lines[:2]
    np.testing.assert_allclose(drawn.get_xydata(), [[1, 3], [2, 6]])
    np.testing.assert_allclose(dots.get_xydata(), [[1, 3], [2, 6.1]])


def test_variances_stand_beside_experiments_and_what_is_printed():
    def point(d, exact, printed):
        names = ("d", "exact", "simulated", "standard_error", "printed")
        return dict(zip(names, (d, exact, exact + 0.1, 0.01, printed), strict=True))

    equal = {"r = 0": [point(1, 0.4, 0.3), point(4, 0.1, -0.1)]}
    grown = {"channels": [point(9, 0.2, None)], "kernels": [point(4, 0.3, None)]}
    left, right = plots.magnitude_variance(equal, grown, within=0.3).axes
    exact, _, _, _, printed, *_ = left.lines
    np.testing.assert_allclose(exact.get_xydata(), [[1, 0.4], [4, 0.1]])
    np.testing.assert_allclose(printed.get_ydata(), [0.3, -0.1])
    (dots, _, (bars,)) = left.containers[0]
    np.testing.assert_allclose(dots.get_xydata(), [[1, 0.5], [4, 0.2]])
    np.testing.assert_allclose(bars.get_segments()[0][:, 1], [0.48, 0.52])
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert labels == ["r = 0", "printed, rho = r"]
    assert len(right.get_legend().get_texts()) == 2
    assert [tick.get_text() for tick in right.get_xticklabels()] == ["4", "9"]
    assert "Correlation 0.3" in right.get_title(loc="left")


@pytest.mark.parametrize("make", [quantizers.LSQ, quantizers.FixedPoint])
def test_the_figure_of_a_quantizer_shows_its_levels(make, rng, tmp_path):
    v = rng.normal(size=(1, 500))
    quantizer = make(bits=3)
    figure = plots.transfer(quantizer, v)
    plots.save(figure, tmp_path / "transfer.png")
    assert not getattr(quantizer, "known", Buffer(np.array(0))).value  # it was copied
    steps, slopes, codebook = [a for a in figure.axes if a.get_title("left")]
    assert steps.get_title("left") == "Transfer function"
    want = make(bits=3)
    for _ in range(2):
        want.forward(v, Run(training=True))
    levels = want.encode(v)[1]
    seen = np.unique(steps.patches[0].get_data().values)
    np.testing.assert_allclose(seen, levels[np.isin(levels, seen)])
    assert seen.size > 4
    assert f"{levels.size} levels" in codebook.get_title("left")
    assert "Surrogate gradient" in slopes.get_title("left")


def test_the_figure_shows_a_step_that_is_set(rng):
    quantizer = quantizers.LSQ(bits=3)
    quantizer.set_step(0.5)
    figure = plots.transfer(quantizer, rng.normal(size=(40, 5)))
    steps = next(a for a in figure.axes if a.get_title("left") == "Transfer function")
    seen = steps.patches[0].get_data().values
    np.testing.assert_allclose(np.unique(seen) % 0.5, 0)
    assert any("LSQ" in text.get_text() for text in figure.texts)
    with pytest.raises(ValueError, match="lsq must differ"):
        plots.transfer(quantizer, np.ones(3))
