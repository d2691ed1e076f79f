"""Damage every kind of file many times; a line of JSON for each reader.

    python -m fuzzing.run FOLDER COUNT SEED [READER ...]

Only ValueError and OSError may come out, within ``SECONDS`` and ``MEGABYTES`` beyond
what the process had before. A reader answers for its path alone: the good file is put
back after each time.
"""

import json
import resource
import signal
import sys
import traceback
import zlib
from pathlib import Path

import numpy as np

SECONDS, MEGABYTES = 20, 256


def late(*_):
    raise TimeoutError("the reader does not come back")  # an OSError, but see below


def attempt(reader, path):
    """Return "accepted", "refused", or what else came out."""
    signal.alarm(SECONDS)
    try:
        reader.read(path)
    except TimeoutError as error:
        return f"hangs: {error}"
    except (ValueError, OSError):
        return "refused"
    except BaseException as error:  # noqa: BLE001 - whatever else comes out is what is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        return (
            f"{type(error).__name__}: {error!s:.100} ({where.filename}:{where.lineno})"
        )
    finally:
        signal.alarm(0)
    return "accepted"


def fuzz(name, reader, count, seed):
    """Damage the file of a reader so many times; return what happened."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    good = reader.path.read_bytes()
    beside = {
        path: path.read_bytes()
        for path in reader.path.parent.iterdir()
        if path.is_file()
    }
    answers = {"accepted": 0, "refused": 0}
    failures = []
    if attempt(reader, reader.path) != "accepted":
        failures.append(
            "the good file is not accepted: " + attempt(reader, reader.path)
        )
    for i in range(count):
        for path, content in beside.items():
            path.write_bytes(content)
        reader.path.write_bytes(reader.damage(good, rng))
        answer = attempt(reader, reader.path)
        if answer in answers:
            answers[answer] += 1
        else:
            failures.append(f"input {i}: {answer}")
    for path, content in beside.items():
        path.write_bytes(content)
    return {"reader": name, "count": count, **answers, "failures": failures}


def main(folder, count, seed, *only):
    """Fuzz every reader, or those named."""
    from fuzzing import readers

    signal.signal(signal.SIGALRM, late)
    every = readers.readers(Path(folder))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    bound = used + MEGABYTES * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    for name, reader in every.items():
        if not only or name in only:
            print(json.dumps(fuzz(name, reader, int(count), int(seed))), flush=True)  # noqa: T201 - its answer


if __name__ == "__main__":
    main(*sys.argv[1:])
