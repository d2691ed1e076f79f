"""Every reader of the package: a good file, how it is damaged, how it is read.

A reader reads, and computes with what it has read, as the command line would: a file
that is believed must be usable.
"""

import copy
import gzip
import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fuzzing import damage

from refqnn import data, files, networks, nn
from refqnn.cli.inputs import load_network, read_arrays
from refqnn.conformance.carry.adapters import from_directory
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.judge.calls import Broken
from refqnn.conformance.judge.identify_files import identify_files, write_probes
from refqnn.conformance.reach import (
    exports,
    goldens,
    pack_files,
    pack_verify,
    packs,
    stream,
)
from refqnn.conformance.reach.blindness import blindness
from refqnn.conformance.reach.goldens.suite import reaction
from refqnn.conformance.traces.bisection import bisect
from refqnn.conformance.traces.record import Trace, trace
from refqnn.core import Run
from refqnn.deploy import IntegerNetwork, deploy, import_tflite, to_onnx, to_tflite
from refqnn.deploy.formats.onnx_import import from_onnx
from refqnn.nn import checkpoint, read_tensors, staged, state_dicts, training
from refqnn.papers.haq.ddpg import Settings
from refqnn.papers.haq.environment import Layer, Problem
from refqnn.papers.haq.searches import search
from refqnn.papers.quantnas.cost import LatencyTable, load_table
from refqnn.studies.sweep import Memo, Outcome, Sweep, append_outcome, digest

IMAGES = np.random.default_rng(1).integers(0, 256, (4, 1, 8, 8), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 3])


class Reader(NamedTuple):
    """A file to damage, among the files that belong to it; how; and its reader."""

    path: Path
    damage: Any
    read: Any


def network(rng=None):
    rng = rng or np.random.default_rng(0)
    return networks.resnet(
        8, weight_bits=4, activation_bits=4, width=0.1, classes=4, rng=rng
    )


def training_of(made):
    preset = nn.Preset(0.1, 0.0, 1, 2, momentum=0.9, nesterov=True, weight_decay=1e-4)
    return preset.training(made, len(IMAGES), rng=np.random.default_rng(2))


def readers(folder):
    """Make every good file below a folder; return the readers by name."""
    return (
        arrays(folder / "arrays")
        | trainings(folder / "trainings")
        | deployed(folder / "deployed")
        | conformance(folder / "conformance")
        | studies(folder / "studies")
        | images(folder / "images")
    )


def arrays(folder):
    folder.mkdir()
    np.savez(folder / "a.npz", x=np.arange(6).reshape(2, 3), y=np.ones(2, np.float32))
    np.save(folder / "a.npy", np.arange(12, dtype=np.int16).reshape(3, 4))
    return {
        "npz": Reader(folder / "a.npz", damage.archive_of, files.read_npz),
        "npy": Reader(folder / "a.npy", damage.bytes_of, files.read_npy),
    }


def trainings(folder):
    folder.mkdir()
    made = network()
    begun = training_of(made)
    begun.next_batch(IMAGES, LABELS)
    begun.save(folder / "t.npz")
    lines = [{"epoch": i, "steps": 2 * i, "train_loss": 1.0} for i in range(1, 4)]
    files.write_lines(folder / "m.jsonl", lines)
    plan = staged.plan_of(["a", "b"], [made, made], [1, 1], 0)
    staged.keep_plan(folder, plan)
    state = state_dicts.state_dict(made)
    np.savez(folder / "s.npz", **state)
    (folder / "s.safetensors").write_bytes(as_safetensors(state))

    def resume(path):
        again = training_of(network())
        again.resume(path, images=len(IMAGES))
        again.next_batch(IMAGES, LABELS)

    def evaluate(path):
        nn.predict(load_network(path), IMAGES)

    def keep_plan(path):
        staged.keep_plan(path.parent, plan)

    def load_state(path):
        state_dicts.load_state_dict(network(), read_tensors(path))

    def metrics(path):
        training.earlier_records(path, 4)

    plan_file = folder / f"{staged.PLAN}.jsonl"
    return {
        "checkpoint": Reader(folder / "t.npz", damage.archive_of, checkpoint.load),
        "network": Reader(folder / "t.npz", damage.archive_of, evaluate),
        "resume": Reader(folder / "t.npz", damage.archive_of, resume),
        "metrics": Reader(folder / "m.jsonl", damage.lines_of, metrics),
        "plan": Reader(plan_file, damage.lines_of, keep_plan),
        "state npz": Reader(folder / "s.npz", damage.archive_of, load_state),
        "safetensors": Reader(
            folder / "s.safetensors", damage.safetensors_of, load_state
        ),
    }


def as_safetensors(tensors):
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, array in tensors.items():
        ends = [len(body), len(body) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": [*array.shape], "data_offsets": ends}
        body += array.astype("<f4").tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def deployed(folder):
    folder.mkdir()
    made = network()
    made.forward(IMAGES, Run(training=True))
    integers = deploy(made, image_size=(8, 8))
    integers.save(folder / "i.npz")
    trace(integers, IMAGES[:1]).save(folder / "t.npz")
    reference = Trace.load(folder / "t.npz")

    def evaluate(path):
        loaded = IntegerNetwork.load(path)
        assert str(loaded)
        shape = loaded.image_shape
        if np.prod(shape) < 10_000:
            loaded.predict(np.zeros((1, *shape), np.uint8))

    def export(path):
        to_onnx(IntegerNetwork.load(path), form="qoperator")

    def as_reference(path):
        other = copy.deepcopy(reference)
        for array in other.tensors.values():
            array[...] += 1
        answer = bisect(Trace.load(path), other)
        assert str(answer)
        json.dumps(answer.as_dict())

    def as_other(path):
        answer = bisect(reference, Trace.load(path))
        assert str(answer)
        json.dumps(answer.as_dict())

    made = {
        "integers": Reader(folder / "i.npz", damage.archive_of, evaluate),
        "trace": Reader(folder / "t.npz", damage.archive_of, as_reference),
        "other trace": Reader(folder / "t.npz", damage.archive_of, as_other),
    }
    tflite = folder / "m.tflite"
    tflite.write_bytes(to_tflite(integers))
    made["tflite"] = Reader(tflite, damage.bytes_of, import_tflite)
    if importlib.util.find_spec("onnx"):
        models = folder / "models"
        models.mkdir()
        made["export"] = Reader(folder / "i.npz", damage.archive_of, export)
        for form in ("qoperator", "qdq"):
            path = models / f"{form}.onnx"
            path.write_bytes(chain(form))
            made[form] = Reader(path, damage.bytes_of, from_onnx)
    return made


def chain(form):
    """A chain of layers in the form that the import reads."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(3)
    constants = {
        "s": np.float32(0.05),
        "z": np.uint8(3),
        "w": rng.integers(-8, 8, (3, 1, 3, 3)).astype(np.int8),
        "ws": np.float32(0.02),
        "wz": np.int8(0),
        "b": np.array([1, -2, 3], np.int32),
        "bs": np.float32(0.05) * np.float32(0.02),
        "bz": np.int32(0),
        "ys": np.float32(0.07),
        "yz": np.uint8(0),
    }
    make = helper.make_node
    if form == "qoperator":
        nodes = [
            make("QuantizeLinear", ["x", "s", "z"], ["q"]),
            make(
                "QLinearConv",
                ["q", "s", "z", "w", "ws", "wz", "ys", "yz", "b"],
                ["y"],
            ),
            make("DequantizeLinear", ["y", "ys", "yz"], ["out"]),
        ]
    else:
        nodes = [
            make("QuantizeLinear", ["x", "s", "z"], ["q"]),
            make("DequantizeLinear", ["q", "s", "z"], ["r"]),
            make("DequantizeLinear", ["w", "ws", "wz"], ["wr"]),
            make("DequantizeLinear", ["b", "bs", "bz"], ["br"]),
            make("Conv", ["r", "wr", "br"], ["c"]),
            make("Relu", ["c"], ["d"]),
            make("QuantizeLinear", ["d", "ys", "yz"], ["y"]),
            make("DequantizeLinear", ["y", "ys", "yz"], ["out"]),
        ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 5, 5]),
        helper.make_tensor_value_info("out", TensorProto.FLOAT, None),
    ]
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    return helper.make_model(graph).SerializeToString()


def conformance(folder):
    folder.mkdir()
    pack = packs.generate("dequantize")
    pack_files.write(pack, folder / "pack")
    outputs = {
        f"{c.name}/{name}": a for c in pack.cases for name, a in c.outputs.items()
    }
    np.savez(folder / "o.npz", **outputs)
    lines = list(stream.lines(packs.generate("max_pool2d")))[:2]
    lines[1] = '{"call": 0, "y": [[[[1]]]]}'
    (folder / "s.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "answered").mkdir()
    np.savez(folder / "answered" / "0.npz", y=np.ones(3))

    def read_pack(path):
        pack_verify.verify(pack_files.read(path.parent), outputs)

    def export_pack(path):
        for kind in ("c-header", "hex", "csv"):
            exports.export(pack_files.read(path.parent), kind)

    def verify(path):
        compared = pack_verify.verify(pack, read_arrays(str(path)))
        assert [str(each) for each in compared]

    def read_stream(path):
        text = path.read_bytes().decode("utf-8", "replace")
        pack_verify.verify(*stream.read(text.splitlines()))

    def read_directory(path):
        try:
            from_directory(path.parent)()
        except Broken as error:
            raise ValueError(error) from error

    vectors = folder / "pack" / "vectors.npz"
    return {
        "manifest": Reader(
            folder / "pack" / "manifest.json", damage.text_of, read_pack
        ),
        "pack": Reader(vectors, damage.archive_of, read_pack),
        "pack export": Reader(vectors, damage.archive_of, export_pack),
        "outputs": Reader(folder / "o.npz", damage.archive_of, verify),
        "stream": Reader(folder / "s.jsonl", damage.lines_of, read_stream),
        "directory": Reader(
            folder / "answered" / "0.npz", damage.archive_of, read_directory
        ),
        **probe_readers(folder),
        **golden_readers(folder),
    }


def probe_readers(folder):
    write_probes("dequantize", folder / "p.npz")
    family, given = FAMILIES["dequantize"], files.read_npz(folder / "p.npz")
    answers = family.evaluate(
        family.default, **{k: v for k, v in given.items() if k != "json"}
    )
    np.savez(folder / "answers.npz", **answers)

    def probe(path):
        str(identify_files(path, answers))

    def identify(path):
        str(identify_files(folder / "p.npz", read_arrays(str(path))))

    return {
        "probes": Reader(folder / "p.npz", damage.archive_of, probe),
        "answers": Reader(folder / "answers.npz", damage.archive_of, identify),
    }


def golden_readers(folder):
    golden = tosa(folder / "goldens" / "rescale_rmS")

    def read_goldens(path):
        """Evaluate single deviations: all 3 240 variants find nothing more."""
        for golden in goldens.read(path.parent.parent).goldens:
            family = FAMILIES[golden.family]
            blindness(golden.family, [golden.inputs], from_files=True)
            for variant in family.neighbours(family.default, 1):
                reaction(family, variant, golden)

    return {
        "tosa": Reader(golden / "desc.json", damage.text_of, read_goldens),
        "tosa npy": Reader(golden / "input-0.npy", damage.bytes_of, read_goldens),
    }


def tosa(folder):
    folder.mkdir(parents=True)
    x = np.arange(-6, 6, dtype=np.int32).reshape(1, 4, 3) * 100
    np.save(folder / "input-0.npy", x)
    np.save(folder / "y.npy", np.clip((x * 3 + 4) >> 3, -128, 127).astype(np.int8))
    fixed = (("INT32", 3 << 29), ("INT8", 32), ("INT32", 0), ("INT8", 0))
    tensors = {"input-0": {"data_type": "INT32", "input_pos": 0, "op": "RESCALE"}}
    for place, (kind, value) in enumerate(fixed, 1):
        tensors[f"const-{place}"] = {
            "data_type": kind,
            "input_pos": place,
            "op": "RESCALE",
            "fixed_data_info": {"data": [value]},
        }
    content = {
        "ifm_name": ["input-0"],
        "ifm_file": ["input-0.npy"],
        "ofm_file": ["y.npy"],
        "meta": {"data_gen": {"tensors": tensors}},
    }
    (folder / "desc.json").write_text(json.dumps(content))
    return folder


def studies(folder):
    folder.mkdir()
    LatencyTable({"1 to 8": 0.5, "8 to 8": 1.5}, {"cpu": "x"}).save(folder / "l.json")
    runs = [{"x": i, "y": [1, {"z": None}]} for i in range(3)]
    for run in runs:
        outcome = Outcome(run, {"accuracy": 0.5})
        append_outcome(folder / "r.jsonl", digest(run), outcome)
    sweep = Sweep(dict, runs, folder / "r.jsonl")
    made = {
        "latency table": Reader(folder / "l.json", damage.text_of, table_cost),
        "sweep": Reader(
            folder / "r.jsonl", damage.lines_of, lambda _: sweep.recorded()
        ),
        "memo": Reader(folder / "r.jsonl", damage.lines_of, Memo),
    }
    return made | searches(folder)


def table_cost(path):
    table = load_table(path)
    sum(table.seconds.values())


def searches(folder):
    layers = tuple(
        Layer(f"layer{i}", 4 + i, 4, 3, 1, 64, n, depthwise=False)
        for i, n in enumerate((30, 200, 60))
    )
    problem = Problem(layers, 0.14, 90.0, b_min=2, b_max=8)
    small = Settings(hidden=(4, 4), warm_up=1, batch=2)
    search(
        problem,
        lambda _: 50.0,
        episodes=2,
        settings=small,
        checkpoint=folder / "h.npz",
        progress=False,
    )

    def resume(path):
        again = search(
            problem,
            lambda _: 50.0,
            episodes=3,
            settings=small,
            checkpoint=path,
            progress=False,
        )
        assert again.ratios.shape == again.rewards.shape == (3,)

    return {"search": Reader(folder / "h.npz", damage.archive_of, resume)}


def images(folder):
    folder.mkdir()
    rng = np.random.default_rng(4)
    header = bytes([0, 0, 8, 3]) + np.array([4, 5, 5], ">u4").tobytes()
    idx = header + rng.bytes(100)
    (folder / "i.idx").write_bytes(idx)
    (folder / "i.idx.gz").write_bytes(gzip.compress(idx, mtime=0))
    ten = rng.integers(0, 10, (3, 3073)).astype(np.uint8)
    hundred = rng.integers(0, 20, (3, 3074)).astype(np.uint8)
    (folder / "ten.bin").write_bytes(ten.tobytes())
    (folder / "hundred.bin").write_bytes(hundred.tobytes())
    return {
        "idx": Reader(folder / "i.idx", damage.bytes_of, data.read_idx),
        "idx gz": Reader(folder / "i.idx.gz", damage.gzip_of, data.read_idx),
        "cifar10": Reader(folder / "ten.bin", damage.bytes_of, data.read_cifar10),
        "cifar100": Reader(folder / "hundred.bin", damage.bytes_of, data.read_cifar100),
    }


warnings.simplefilter("ignore")
