"""A tag that is not to go yet: the refusal names each thing that is lacking, not the first one alone."""

from __future__ import annotations

import pytest

from support.lab import SMALL, Lab
from vecmig import runner
from vecmig.errors import GateRefused


@pytest.mark.upgraded
def test_the_hint_names_everything_that_is_lacking(lab: Lab) -> None:
    with pytest.raises(GateRefused) as refused:
        runner.retire(lab.config, lab.name, SMALL)
    waiting, evaluating = refused.value.hint.splitlines()
    assert waiting.startswith("Wait until 20")
    assert evaluating.startswith("Run vecmig eval on ")
