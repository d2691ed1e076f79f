"""The laws that tests of families share refuse another function, name and loop."""

import pytest
from conformance import forms, independent

from refqnn.conformance.choices.families import FAMILIES


def test_the_laws_of_forms_refuse_what_they_should(monkeypatch):
    variants, right = FAMILIES["lookup"].variants(), forms.variant
    with pytest.raises(AssertionError, match="decided by"):
        forms.assert_named("lookup", variants, inputs=0)
    monkeypatch.setattr(forms, "variant", lambda name, _: right(name, variants[0]))
    with pytest.raises(AssertionError, match="decided by"):
        forms.assert_named("lookup", variants[1:], inputs=9)
    monkeypatch.setattr(independent, "lookup", lambda _, x, table: x + table[0])
    with pytest.raises(AssertionError):
        forms.assert_loops("lookup", variants)
