"""What the image measurements of bench/run are made of: stores that lack just what is to be built, and one tree in three file
systems that a guest reads. Names no address: packages come from the mirrors that are configured."""
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

from floor import Floor, newc
from place import Failed

HERE = os.path.dirname(os.path.abspath(__file__))
INIT = ["musl-gcc", "-static", "-O2", "-s", "-D_GNU_SOURCE"]
READ_LIMIT = 600  # seconds
BYTES_MAX = 48 << 20  # of what is read in one round
# What starting to work in a box reads: a shell, the usual tools and what they load, and an interpreter's many small files.
READ = ["usr/bin/bash", "usr/bin/git", "usr/bin/python3.*", "usr/bin/curl", "usr/bin/rg", "usr/bin/ls", "usr/bin/sed", "usr/bin/grep",
        "usr/lib/x86_64-linux-gnu/lib[a-l]*.so.*", "usr/lib/python3.*/[a-m]*.py", "usr/lib/python3.*/encodings/*.py"]


class Store:
    """Data and cache folders of its own, with the runtime and kernel of another one and no guest image."""
    def __init__(self, place):
        self.root = tempfile.mkdtemp(prefix="nixbox-bench-store-")
        self.env = {"XDG_DATA_HOME": f"{self.root}/data", "XDG_CACHE_HOME": f"{self.root}/cache"}
        data = os.environ.get("XDG_DATA_HOME", os.path.expanduser("~/.local/share"))
        for part in ("runtime", "kernel"):
            shutil.copytree(f"{data}/nixbox/{part}", f"{self.root}/data/nixbox/{part}", symlinks=True)
        for top in ("data", "cache"):
            os.makedirs(f"{self.root}/{top}/nixbox", exist_ok=True)
            os.chmod(f"{self.root}/{top}/nixbox", 0o700)
        self.place = place

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["chmod", "-R", "u+w", self.root], check=False)
        shutil.rmtree(self.root, ignore_errors=True)

    def build(self, *args):
        """Seconds that `nixbox image build` takes."""
        began = time.monotonic()
        done = subprocess.run([self.place.nixbox, "image", "build", *args], cwd=self.place.folder, env={**self.place.env, **self.env},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, timeout=1800)
        if done.returncode != 0:
            raise Failed(f"nixbox image build: {done.stderr.decode(errors='replace')}")
        return time.monotonic() - began


def mmdebstrap(packages):
    """Seconds that mmdebstrap alone takes for the same packages, to a tar."""
    with tempfile.TemporaryDirectory(prefix="nixbox-bench-") as folder:
        began = time.monotonic()
        subprocess.run(["mmdebstrap", "--quiet", "--variant=apt", "--architectures=amd64",
                        "--include=" + ",".join(packages), "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg", "trixie",
                        f"{folder}/root.tar", "deb http://deb.debian.org/debian trixie main",
                        "deb http://deb.debian.org/debian trixie-updates main",
                        "deb http://deb.debian.org/debian-security trixie-security main"],
                       stdin=subprocess.DEVNULL, check=True, timeout=1800, env={**os.environ, "SOURCE_DATE_EPOCH": "1735689600"})
        return time.monotonic() - began


def read_list(tree):
    found, total = [], 0
    for pattern in READ:
        for path in sorted(glob.glob(f"{tree}/{pattern}")):
            if os.path.isfile(path) and not os.path.islink(path) and total + os.path.getsize(path) <= BYTES_MAX:
                total += os.path.getsize(path)
                found.append(os.path.relpath(path, tree))
    return found, total


def make_images(erofs, folder):
    """The tree of an EROFS file, the same in squashfs and ext4 beside it: {file system: image}."""
    tree = f"{folder}/tree"
    subprocess.run(["fsck.erofs", f"--extract={tree}", "--no-preserve", erofs], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mksquashfs", tree, f"{folder}/squashfs", "-comp", "zstd", "-quiet", "-no-progress", "-all-root"], check=True,
                   stdout=subprocess.DEVNULL)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", tree, f"{folder}/ext4", "900M"], check=True)
    return {"erofs": erofs, "squashfs": f"{folder}/squashfs", "ext4": f"{folder}/ext4"}


def module_files(package, folder):
    subprocess.run(["sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2"', "sh", package, folder], check=True)
    names = {}
    for path in glob.glob(f"{folder}/**/*.ko.xz", recursive=True):
        names[os.path.basename(path)[:-len(".ko.xz")].replace("-", "_")] = path
    with open(glob.glob(f"{folder}/**/modules.builtin", recursive=True)[0], encoding="ascii") as f:
        builtin = {os.path.basename(line.strip())[:-3].replace("-", "_") for line in f}
    return names, builtin


def needed(wanted, names, builtin):
    """Modules in the order to load them, with their bytes."""
    done = {}

    def add(name):
        if name in done or name in builtin:
            return
        ko = subprocess.run(["xz", "-dc", names[name]], stdout=subprocess.PIPE, check=True).stdout
        at = ko.find(b"depends=")
        for other in ko[at + 8:ko.index(b"\0", at)].decode().split(","):
            if other:
                add(other.replace("-", "_"))
        done[name] = ko

    for name in wanted:
        add(name)
    return done


def make_initrd(modules, disks, files, folder):
    subprocess.run([*INIT, "-o", f"{folder}/init", f"{HERE}/read_init.c"], check=True)
    with open(f"{folder}/init", "rb") as f:
        init = f.read()
    members = [newc(d, 0o40755, b"") for d in (b"dev", b"proc", b"modules")]
    members += [newc(f"modules/{name}.ko".encode(), 0o100644, ko) for name, ko in modules.items()]
    for name, lines in (("modules.list", [f"{m}.ko" for m in modules]), ("disks", disks), ("files", files)):
        members.append(newc(name.encode(), 0o100644, ("\n".join(lines) + "\n").encode()))
    data = b"".join(members) + newc(b"init", 0o100755, init) + newc(b"TRAILER!!!", 0, b"")
    with open(f"{folder}/initrd", "wb") as f:
        f.write(data + b"\0" * (-len(data) % 4096))
    return f"{folder}/initrd"


def kernel_package(place):
    """The cached file of the kernel's package: its lock names the hash."""
    with open(f"{place.folder}/nixbox.lock", encoding="utf-8") as f:
        one = json.load(f)["kernel"][-1]
    return f"{os.environ.get('XDG_CACHE_HOME', os.path.expanduser('~/.cache'))}/nixbox/blobs/sha256-{one['sha256']}"


def formats(place, erofs):
    """{file system: [ms]} and {file system: MiB}: the same files read with cold caches, in one guest."""
    with tempfile.TemporaryDirectory(prefix="nixbox-bench-") as folder:
        images = make_images(erofs, folder)
        files, total = read_list(f"{folder}/tree")
        print(f"  {len(files)} files, {total >> 20} MiB", file=sys.stderr)
        os.mkdir(f"{folder}/modules")
        names, builtin = module_files(kernel_package(place), f"{folder}/modules")
        modules = needed(["virtio_mmio", "virtio_blk", "virtio_console", "erofs", "squashfs", "ext4"], names, builtin)
        argv = list(Floor(place).argv)
        argv[argv.index("-initrd") + 1] = make_initrd(modules, list(images), files, folder)
        argv += ["-global", "virtio-mmio.force-legacy=false", "-chardev", f"file,id=console,path={folder}/console",
                 "-device", "virtio-serial-device", "-device", "virtconsole,chardev=console"]
        for kind, path in images.items():
            argv += ["-drive", f"file={path},format=raw,if=none,readonly=on,id={kind}", "-device", f"virtio-blk-device,drive={kind}"]
        subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=READ_LIMIT, check=True)
        found = {}
        with open(f"{folder}/console", encoding="ascii", errors="replace") as f:
            for line in f:
                if not line.startswith("{"):
                    continue
                said = json.loads(line)
                if "failed" in said:
                    raise Failed(f"in the guest: {said['failed']}: {said['why']}")
                if said["measure"] == "read":
                    found.setdefault(said["path"], []).append(said["value"])
        return found, {kind: os.path.getsize(path) / (1 << 20) for kind, path in images.items()}
