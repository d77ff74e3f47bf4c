"""What an ELF file has of the hardening that the build asks the compiler and the linker for; read with readelf and objdump."""
import re
import subprocess

LACKS = ["position-independent", "no loader", "read-only relocations", "bound at once", "no executable stack",
         "no writable code", "no text relocations", "no search path", "stack protector", "stack clash protection",
         "branch protection", "fortified calls"]


def output(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True, errors="replace").stdout


def code(path):
    """Counts of what protected code is full of."""
    text = output("objdump", "-d", "--no-show-raw-insn", path)
    probe = r"sub +\$0x1000,%rsp\n.*(?:or|mov)q +\$0x0,(?:0x[0-9a-f]+)?\(%rsp\)"
    return {"stack protector": len(re.findall(r"%fs:0x28", text)), "stack clash protection": len(re.findall(probe, text)),
            "branch protection": len(re.findall(r"\bendbr64", text)), "fortified calls": len(re.findall(r"<__\w+_chk@plt>:", text))}


def hardening(path, static=False):
    """The set of LACKS that the file has, in the words above. `static`: it must run without a loader, and has no C library to
    call checked variants of."""
    head = output("readelf", "-hldW", path)
    segments = re.findall(r"^ +(\w+) +0x\S+ 0x\S+ 0x\S+ 0x\S+ 0x\S+ ([RWE ]{3}) ", head, re.M)
    dynamic = dict(re.findall(r"^ 0x[0-9a-f]+ \((\w+)\) +(.*)$", head, re.M))
    has = {
        "position-independent": "Type:                              DYN" in head and "PIE" in dynamic.get("FLAGS_1", ""),
        "no loader": not static or all(kind != "INTERP" for kind, _ in segments),
        "read-only relocations": any(kind == "GNU_RELRO" for kind, _ in segments),
        "bound at once": "NOW" in dynamic.get("FLAGS_1", "") or "BIND_NOW" in dynamic.get("FLAGS", ""),
        "no executable stack": any(kind == "GNU_STACK" and "E" not in flags for kind, flags in segments),
        "no writable code": all(not ("W" in flags and "E" in flags) for _, flags in segments),
        "no text relocations": "TEXTREL" not in head,
        "no search path": "RPATH" not in dynamic and "RUNPATH" not in dynamic,
        **{name: count > 0 for name, count in code(path).items()},
    }
    if static:
        has["fortified calls"] = True
    return {name for name, there in has.items() if there}
