"""Judge another implementation: traces of a network, and where two of them part."""

from refqnn.conformance.trace import Trace as Trace
from refqnn.conformance.trace import UnreadableError as UnreadableError
from refqnn.conformance.trace import trace as trace
from refqnn.conformance.trace_bisect import Bisection as Bisection
from refqnn.conformance.trace_bisect import Difference as Difference
from refqnn.conformance.trace_bisect import bisect as bisect
from refqnn.conformance.trace_vectors import write_vectors as write_vectors
