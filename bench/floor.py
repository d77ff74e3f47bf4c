"""The floor under a boot: the same QEMU, accelerator, kernel, memory and processors as a box, but no devices, no jail, and an
init that does nothing but power off. Taken from what `nixbox up --dry-run` says it would start."""
import os
import re
import subprocess
import tempfile
import time

INIT = "#include <sys/reboot.h>\nint main(void) { return reboot(RB_POWER_OFF); }\n"


def newc(name, mode, data):
    """One member of an initramfs."""
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % f for f in fields) + name + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


class Floor:
    def __init__(self, place):
        plan = place.run("up", "--dry-run").decode()
        jail = plan[plan.index("jail qemu"):]
        usr = re.search(r"bind\s+/usr from (\S+)", jail).group(1)
        kernel = re.search(r"bind\s+/boot/vmlinux from (\S+)", jail).group(1)
        line = re.search(r"runs\s+(.*)", jail).group(1)
        self.dir = tempfile.mkdtemp(prefix="nixbox-floor-")
        self.initrd = f"{self.dir}/initrd"
        self.make_initrd()
        words = self.option(line, "append").replace("console=hvc0 ", "")
        machine = self.option(line, "M").replace("memory-backend=ram,", "")
        lib = f"{usr}/lib/x86_64-linux-gnu"
        self.argv = [f"{lib}/ld-linux-x86-64.so.2", "--library-path", lib, f"{usr}/bin/qemu-system-x86_64",
                     "-L", f"{usr}/share/qemu", "-L", f"{usr}/share/seabios", "-nodefaults", "-no-user-config", "-no-reboot",
                     "-display", "none", "-M", machine, "-accel", re.sub(r",device=\S+", "", self.option(line, "accel")),
                     "-cpu", self.option(line, "cpu"), "-smp", self.option(line, "smp"), "-m", self.option(line, "m"),
                     "-kernel", kernel, "-initrd", self.initrd, "-append", words]

    @staticmethod
    def option(line, name):
        return re.search(rf" -{name} (.*?)(?= -[a-zA-Z]|$)", line).group(1)

    def make_initrd(self):
        with open(f"{self.dir}/init.c", "w", encoding="utf-8") as f:
            f.write(INIT)
        subprocess.run(["musl-gcc", "-static", "-Os", "-s", "-o", f"{self.dir}/init", f"{self.dir}/init.c"], check=True)
        with open(f"{self.dir}/init", "rb") as f:
            init = f.read()
        data = newc(b"init", 0o100755, init) + newc(b"TRAILER!!!", 0, b"")
        with open(self.initrd, "wb") as f:  # whole pages: see the box's own initramfs
            f.write(data + b"\0" * (-len(data) % 4096))

    def boot(self):
        """Seconds from the start of the process to its end."""
        began = time.monotonic()
        subprocess.run(self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=120, check=True)
        return time.monotonic() - began
