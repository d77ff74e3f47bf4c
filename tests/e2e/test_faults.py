"""Faults at random moments (tests/faults.py). NIXBOX_FAULT_ROUNDS rounds for each kind of person, from NIXBOX_FAULT_SEED, which
is printed where a round fails."""
import os
import time

import pytest

from faults import Faults

ROUNDS = int(os.environ.get("NIXBOX_FAULT_ROUNDS", "20"))
SEED = os.environ.get("NIXBOX_FAULT_SEED") or str(time.time_ns() % 1000000)


@pytest.fixture
def faults(host, lab):
    faults = Faults(host, lab, SEED)
    yield faults
    faults.close()


@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_faults_at_random_moments(faults):
    faults.run(ROUNDS)
