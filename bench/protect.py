"""Making files in a mount, with the guard and without it: unpacking many small files, and a checkout of as many by git."""
import os
import sys
import time

from place import Place

FILES, ROUNDS = 400, 5
CONFIG = "machine: {cpus: 2, memory: 1G}\nnetwork: {mode: off}\nmounts: [{source: ./work, write: true}]\n"
PREPARE = f"""set -e; mkdir -p ~/t && cd ~/t && git init -q . && mkdir d && for i in $(seq {FILES}); do echo "$i" > d/$i; done
git add . && git -c user.name=a -c user.email=a@b commit -qm x && tar cf ~/t.tar d && cp -r ~/t/.git "$1/repo.git" """
UNPACK = 'cd "$1" && rm -rf d && sync && exec tar xf ~/t.tar'
CHECKOUT = 'cd "$1" && rm -rf tree && mkdir tree && sync && exec git --git-dir=repo.git --work-tree=tree checkout -q -f HEAD -- .'


def inside(place, script):
    began = time.monotonic()
    place.run("run", "--", "sh", "-c", script, "sh", f"{place.folder}/work")
    return time.monotonic() - began


def measure(nixbox):
    """{measure: {"protected" | "protect: []": [seconds]}}, the two boxes in turns."""
    found = {"unpack": {"protected": [], "protect: []": []}, "checkout": {"protected": [], "protect: []": []}}
    with Place(nixbox, CONFIG) as on, Place(nixbox, CONFIG + "protect: []\n") as off:
        for place in (on, off):
            os.mkdir(f"{place.folder}/work")
            place.up(timeout=1800)
            inside(place, PREPARE)
        for n in range(ROUNDS):
            for place, name in ((on, "protected"), (off, "protect: []")):
                found["unpack"][name].append(inside(place, UNPACK))
                found["checkout"][name].append(inside(place, CHECKOUT))
            print(f"  {n + 1} of {ROUNDS}", file=sys.stderr)
    return found
