"""What the jails cost: a program of ours in the very jails of QEMU and virtiofsd and outside, by tests/escape/jailer.c, which the
product does not contain. Used by bench/run."""
import glob
import os
import subprocess
import tempfile
import time

STARTS, WORKS = 40, 5
WHERE = ("plain", "qemu", "virtiofsd")


def contain_found(nixbox):
    """({where: [ms]} of starting and ending, {where: [ms]} of a fixed amount of work), all interleaved."""
    jailer = f"{os.path.dirname(nixbox)}/tests/escape/escape-jailer"
    data = os.environ.get("XDG_DATA_HOME", os.path.expanduser("~/.local/share"))
    runtime = max(glob.glob(f"{data}/nixbox/runtime/*/usr"), key=os.path.getmtime).removesuffix("/usr")
    starts, works = {w: [] for w in WHERE}, {w: [] for w in WHERE}
    with tempfile.TemporaryDirectory(prefix="nixbox-bench-") as folder:
        program = f"{folder}/contain"
        subprocess.run(["cc", "-static", "-O2", "-D_GNU_SOURCE", "-o", program, f"{os.path.dirname(__file__)}/contain.c"], check=True)
        os.mkdir(f"{folder}/shared")
        for n in range(STARTS + WORKS):
            for where in WHERE:
                began = time.monotonic()
                what = "start" if n < STARTS else "work"
                out = subprocess.run([jailer, where, runtime, f"{folder}/shared", program, what], stdout=subprocess.PIPE, check=True).stdout
                if n < STARTS:
                    starts[where].append((time.monotonic() - began) * 1000)
                else:
                    works[where].append(int(out) / 1e6)
    return starts, works
