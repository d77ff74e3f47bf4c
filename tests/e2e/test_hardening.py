"""The programs that are shipped are built with what compiler and linker have against exploits; read from the ELF files."""
import json
import os
import subprocess

import pytest

import elf
import harness

BUILD = os.environ.get("NIXBOX_TEST_BUILD", f"{harness.ROOT}/build")
SOURCE = """
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv) { char text[20000]; (void)argc; strcpy(text, argv[0]); puts(text); return 0; }
"""


@pytest.mark.parametrize("name", ["nixbox", "nixbox-gateway", "nixbox-fetch", "nixbox-agent"])
def test_a_program_lacks_nothing(name):
    assert elf.hardening(f"{BUILD}/{name}", static=name == "nixbox-agent") == set(elf.LACKS)


def test_the_strongest_fortification_is_asked_for():
    commands = [c["command"] for c in json.load(open(f"{BUILD}/compile_commands.json")) if "/src/" in c["file"]]
    assert commands and all("-D_FORTIFY_SOURCE=3" in c for c in commands)


def test_a_program_built_without_is_found_out(tmp_path):
    """The control: the same look at a program that has none of it."""
    (tmp_path / "weak.c").write_text(SOURCE)
    subprocess.run(["gcc", "-O0", "-w", "-no-pie", "-fno-stack-protector", "-fno-stack-clash-protection", "-fcf-protection=none",
                    "-U_FORTIFY_SOURCE", "-Wl,-z,norelro", "-Wl,-z,lazy", "-Wl,-z,execstack", "-Wl,-rpath,/tmp",
                    "-o", tmp_path / "weak", tmp_path / "weak.c"], check=True)
    # it is linked with start code of the C library's, which has some branch protection
    assert elf.hardening(str(tmp_path / "weak"), static=True) <= {"no writable code", "no text relocations", "branch protection",
                                                                  "fortified calls"}
