"""``refqnn study``: list the studies, or run one and show its table and figures."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from refqnn.cli.options import Answer, Parser, count, whole_number

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from refqnn.studies.study import Study


def arguments(command: Parser) -> None:
    """Add the options."""
    command.epilog = (
        "What has run is recorded when it ends; what was cut off is run again."
    )
    add = command.add_argument
    add("name", nargs="?", metavar="NAME", help="none: list the studies")
    add("--quick", action="store_true", help="a look at the program, not at numbers")
    add("--seeds", type=whole_number, nargs="+", help="of the trainings")
    add("--runs", type=Path, metavar="FOLDER", help="of the records (runs/NAME)")
    add("--workers", type=count, metavar="N", help="processes (one a core)")
    add("--cluster", metavar="ADDRESS", help="of a scheduler of Dask, instead")
    add("--figure", type=Path, metavar="PATH", help="(FOLDER/NAME.png)")
    add("--data", metavar="FOLDER", help="of images, for its setting data= or images=")
    text = "settings of the study; --set alone lists them"
    add("--set", nargs="*", action="extend", metavar="KEY=VALUE", help=text)


def run(options: Namespace) -> Answer:
    """List the studies, or run one; return its answer as JSON holds it, and as text."""
    from refqnn import plots
    from refqnn.files import check_folder, check_writable, write_lines
    from refqnn.studies.study import MODULES, study_named

    if options.name is None:
        return listing([study_named(name) for name in MODULES])
    if None not in (options.workers, options.cluster):
        raise ValueError("--workers and --cluster exclude each other")
    chosen = study_named(options.name)
    if options.set == []:
        return {"settings": chosen.settings_line()}, chosen.settings_line()
    given = settings_of(options)
    if options.data is not None:
        setting = images_setting(chosen)
        if setting in given:
            raise ValueError(f"--data and --set {setting}= exclude each other")
        given[setting] = options.data
    settings = chosen.settings_with(quick=options.quick, **given)
    folder = options.runs or Path("runs") / (chosen.folder or chosen.name)
    figure = options.figure or folder / f"{chosen.name}.png"
    for path in (folder, figure.parent):
        check_folder(path)
        path.mkdir(parents=True, exist_ok=True)
    check_writable(figure, figure.with_suffix(".json"))
    try:
        with executor_at(options.cluster) as executor:
            outcomes = chosen.outcomes(
                settings, folder, executor, workers=options.workers
            )
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    rows = chosen.rows(settings, *outcomes)
    paths = []
    for end, drawn in chosen.figures(settings, *outcomes).items():
        paths.append(figure.with_stem(figure.stem + end))
        plots.save(drawn, paths[-1])
    answer = {
        "study": chosen.name,
        "settings": vars(settings),
        "rows": rows,
        "figures": [str(path) for path in paths],
    }
    write_lines(figure.with_suffix(".json"), [answer])
    return answer, "\n".join([*chosen.lines(settings, rows), *answer["figures"]])


def listing(studies: Sequence["Study"]) -> Answer:
    """Return every study with what it shows, and how long it takes."""
    width = max((len(study.name) for study in studies), default=0)
    head = f"{'study':{width}s}  {'takes':>9s}  {'--quick':>9s}  shows"
    lines = [
        f"{s.name:{width}s}  {s.takes[0]:>9s}  {s.takes[1]:>9s}  {s.shows}"
        for s in studies
    ]
    rows = [
        {
            "study": s.name,
            "shows": s.shows,
            "takes": s.takes,
            "settings": s.settings_line(),
        }
        for s in studies
    ]
    return {"studies": rows}, "\n".join([head, *lines])


def settings_of(options: Namespace) -> dict[str, Any]:
    """Return the settings KEY=VALUE of the command line; raise where = is missing."""
    pairs = [text.partition("=") for text in options.set or ()]
    for key, equals, value in pairs:
        if not (key and equals):
            raise ValueError(f"--set takes KEY=VALUE, got {key + equals + value!r}")
    settings: dict[str, Any] = {key: value for key, _, value in pairs}
    return settings | ({} if options.seeds is None else {"seeds": (*options.seeds,)})


def images_setting(chosen: "Study") -> str:
    """Return the setting that names a folder of images: "data" if not "images"."""
    kinds = get_type_hints(chosen.settings)
    return "images" if kinds.get("images") is str else "data"


@contextmanager
def executor_at(address: str | None) -> Iterator["Executor | None"]:
    """Yield the executor of a cluster of Dask; None where no address is given."""
    if address is None:
        yield None
        return
    if find_spec("distributed") is None:
        raise ValueError("--cluster needs pip install refqnn[cluster]")
    with import_module("distributed").Client(address) as client:
        yield client.get_executor()
