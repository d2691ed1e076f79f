"""Judge another implementation, and name the choice it made differently.

    compare                  where two results differ, by how much, in what pattern
    diagnose                 which documented choice explains the difference
    identify, verify         which choices a black box made, and whether that holds
    check_implementation     all of it, as results that a build can fail on
    generate                 vectors that tell every choice apart
    Semantics, profiles      the choices themselves, and who makes which
    trace, bisect            every tensor of an integer network, the first that differs

README.md holds the tables and the tutorial.
"""

from refqnn.conformance.carry.adapters import from_command as from_command
from refqnn.conformance.carry.adapters import from_ctypes as from_ctypes
from refqnn.conformance.carry.adapters import from_directory as from_directory
from refqnn.conformance.carry.adapters import from_onnx as from_onnx
from refqnn.conformance.carry.child import Child as Child
from refqnn.conformance.choices.profiles import profiles as profiles
from refqnn.conformance.choices.semantics import Semantics as Semantics
from refqnn.conformance.choices.strategies import want as want
from refqnn.conformance.judge.calls import Broken as Broken
from refqnn.conformance.judge.checks import check_implementation as check_implementation
from refqnn.conformance.judge.checks import parametrize_with_checks
from refqnn.conformance.judge.compare import compare as compare
from refqnn.conformance.judge.diagnose import diagnose as diagnose
from refqnn.conformance.judge.identify import identify as identify
from refqnn.conformance.judge.identify import verify as verify
from refqnn.conformance.judge.identify_files import identify_files as identify_files
from refqnn.conformance.judge.identify_files import write_probes as write_probes
from refqnn.conformance.reach.packs import generate as generate
from refqnn.conformance.traces.bisection import Bisection as Bisection
from refqnn.conformance.traces.bisection import Difference as Difference
from refqnn.conformance.traces.bisection import bisect as bisect
from refqnn.conformance.traces.record import Trace as Trace
from refqnn.conformance.traces.record import UnreadableError as UnreadableError
from refqnn.conformance.traces.record import trace as trace
from refqnn.conformance.traces.vectors import write_vectors as write_vectors
