"""The table of docs/egress.md that says what is tried, against the tests there are: each one named exists, and each attempt to get
out is named."""
import glob
import os
import re

from harness import ROOT


def files():
    """{name in the table: text of the test file}"""
    found = {}
    for path in glob.glob(f"{ROOT}/tests/escape/test_egress_*.py") + glob.glob(f"{ROOT}/tests/e2e/test_egress*.py"):
        name = os.path.basename(path).removeprefix("test_egress").removesuffix(".py").removeprefix("_")
        with open(path) as f:
            found[name or "egress"] = f.read()
    return found


def named():
    with open(f"{ROOT}/docs/egress.md") as f:
        section = f.read().split("\n## What is tried\n")[1].split("\n## ")[0]
    return re.findall(r"`(\w+)::(\w+)`", section)


def test_each_test_that_is_named_exists():
    assert len(named()) > 80
    for file, test in named():
        if file == "unit":
            assert os.path.exists(f"{ROOT}/tests/unit/test_{test}.c"), test
        else:
            assert f"\ndef {test}(" in files()[file], f"{file}::{test}"


def test_each_attempt_is_named():
    for path in glob.glob(f"{ROOT}/tests/escape/test_egress_*.py"):
        name = os.path.basename(path).removeprefix("test_egress_").removesuffix(".py")
        for test in re.findall(r"^def (test_\w+)\(", files()[name], re.M):
            assert (name, test) in named(), f"{name}::{test} is missing in docs/egress.md"
