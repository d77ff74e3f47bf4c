"""What a command finds in the box: its status, words and bytes, who and where it is, and that nothing of the caller leaks in."""
import hashlib
import json
import os
import time

import harness

CONFIG = harness.DEFAULT_CONFIG + "env: {FROM_CONFIG: 'two words', EMPTY: ''}\n"


# ------------------------------------------------------------------------------------------------------ exit status
def test_status_is_the_commands_own(box):
    for status in (0, 1, 2, 42, 124, 255):
        assert box.run(f"exit {status}").returncode == status
    assert box.run(["false"]).returncode == 1


def test_status_of_a_signal(box):
    assert box.run("kill -KILL $$").returncode == 137
    assert box.run("kill -TERM $$").returncode == 143
    assert box.run(["python3", "-c", "import os; os.abort()"]).returncode == 134


def test_status_when_there_is_no_such_command(box):
    for argv, status in ((["no-such-program"], 127), (["/no/such/program"], 127), (["/etc/passwd"], 126), (["/etc"], 126)):
        done = box.run(argv)
        assert done.returncode == status, box.explain(done)
        assert done.stdout == b"" and argv[0].encode() in done.stderr
    assert box.run("no-such-program").returncode == 127


def test_status_when_nixbox_fails(box):
    assert box.nixbox("run").returncode == 125
    assert box.nixbox("run", "--frobnicate", "true").returncode == 125
    assert box.nixbox("-n", "no-such-box", "run", "true", cwd=box.host.folder()).returncode == 125
    assert box.run(["true"], "-u", "no-such-user").returncode in (125, 126)


# ------------------------------------------------------------------------------------------------------ words
def test_argv_is_exact(box):
    words = ["", " ", "a b", "'", '"', "\\", "$HOME", "`id`", "$(id)", "*", "~", "a\nb", "\t", "-t", "--", "--help", "-", ";", "#x", "ü", "€",
             "\udcff\udcfe", "x" * 100_000]
    show = "import sys, os; sys.stdout.buffer.write(b'\\0'.join(os.fsencode(a) for a in sys.argv[1:]))"
    done = box.run(["python3", "-c", show, *words])
    assert done.returncode == 0, box.explain(done)
    assert done.stdout.split(b"\0") == [os.fsencode(w) for w in words]
    many = [str(i) for i in range(5000)]
    assert box.run(["python3", "-c", show, *many]).stdout.split(b"\0") == [w.encode() for w in many]


def test_one_word_is_a_shell_command(box):
    assert box.sh("cd /tmp && X=$((6*7)) && echo \"$PWD $X\" | tr 4 5") == "/tmp 52"
    assert box.sh("echo $0").endswith("bash")
    assert box.run(["echo", "$HOME; exit 3"]).stdout == b"$HOME; exit 3\n"


# ------------------------------------------------------------------------------------------------------ bytes
def test_output_is_byte_exact_and_separate(box):
    every = bytes(range(256)) * 5
    write = "import sys; d = bytes(range(256)) * 5; sys.stdout.buffer.write(d); sys.stderr.buffer.write(d[::-1]); sys.exit(5)"
    done = box.run(["python3", "-c", write])
    assert (done.returncode, done.stdout, done.stderr) == (5, every, every[::-1])


def test_input_is_byte_exact_and_ends(box):
    data = os.urandom(8 << 20)
    done = box.run(["cat"], input=data)
    assert done.returncode == 0 and done.stdout == data, box.explain(done)
    assert box.run(["wc", "-c"], input=b"").stdout.strip() == b"0"
    done = box.run("sha256sum", input=data, ok=True)
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_command_need_not_read_its_input(box):
    done = box.run(["head", "-c", "3"], input=b"abcdef" * 1_000_000)
    assert done.returncode == 0 and done.stdout == b"abc"


def test_closed_output_ends_the_command(box):
    p = box.host.popen([box.host.bin, "run", "--", "sh", "-c", "yes; echo ended >&2"], cwd=box.folder)
    assert p.stdout.read(4) == b"y\ny\n"
    p.stdout.close()
    p.stderr.read()
    assert p.wait(60) != 0


# ------------------------------------------------------------------------------------------------------ environment
def test_environment_of_the_caller_does_not_leak(make_box, host):
    box = make_box(CONFIG, up=False)
    marks = {f"LEAK_{i}": f"leaked-value-{i}" for i in range(500)}
    marks |= {"LD_PRELOAD": "", "BASH_ENV": "leaked-value", "AWS_SECRET_ACCESS_KEY": "leaked-value", "SSH_AUTH_SOCK": "leaked-value"}
    box.up(env=marks)
    done = box.run(["env", "-0"], "-e", "FROM_OPTION=x=y z", env=marks, ok=True)
    inside = dict(v.split(b"=", 1) for v in done.stdout.split(b"\0") if v)
    assert not [k for k in inside if k.decode() in marks], inside
    assert b"leaked-value" not in done.stdout
    assert inside[b"FROM_CONFIG"] == b"two words" and inside[b"EMPTY"] == b"" and inside[b"FROM_OPTION"] == b"x=y z"
    everywhere = box.run("sudo sh -c 'cat /proc/*/environ /proc/cmdline /proc/*/cmdline' 2>/dev/null | tr '\\0' '\\n'", env=marks).stdout
    assert b"FROM_CONFIG" in everywhere and b"leaked-value" not in everywhere
    for pid in box.processes():
        with open(f"/proc/{pid}/environ", "rb") as f:
            assert b"leaked-value" not in f.read()


def test_environment_is_that_of_the_user(box):
    inside = dict(v.split("=", 1) for v in box.run(["env", "-0"], ok=True).stdout.decode().split("\0") if v)
    assert inside["HOME"] == box.host.home and inside["USER"] == inside["LOGNAME"] == box.host.user
    assert "/usr/bin" in inside["PATH"].split(":") and inside["SHELL"].endswith("sh")


# ------------------------------------------------------------------------------------------------------ who and where
def test_user_is_the_caller(box):
    host = box.host
    assert box.sh("id -u; id -g; id -un; echo ~").split() == [str(host.uid), str(host.gid), host.user, host.home]
    assert box.sh("getent passwd $(id -u)").split(":")[5] == host.home
    assert box.sh("touch ~/mine && stat -c %u:%g ~/mine") == f"{host.uid}:{host.gid}"


def test_sudo_asks_for_nothing(box):
    assert box.sh("sudo -n id -u") == "0"
    assert box.sh("sudo -n sh -c 'echo x >/etc/made-by-root && cat /etc/made-by-root'") == "x"


def test_other_user(box):
    assert box.run(["id", "-u"], "-u", "0", ok=True).stdout == b"0\n"
    assert box.run(["id", "-un"], "-u", "nobody", ok=True).stdout == b"nobody\n"
    assert box.run(["sh", "-c", "echo $HOME"], "-u", "root", ok=True).stdout in (b"/root\n", box.host.home.encode() + b"\n")


def test_hostname_is_the_boxs_name(box):
    assert box.sh("hostname; uname -n; cat /etc/hostname").split() == [box.name] * 3
    assert "127.0." in box.sh(f"getent hosts {box.name}")


def test_folder_is_the_same_inside(box):
    inner = harness.make_folder(f"{box.work}/a folder", box.host.uid, box.host.gid)
    assert box.run(["pwd"], cwd=inner, ok=True).stdout.decode() == inner + "\n"
    assert box.run(["pwd"], cwd=box.ro, ok=True).stdout.decode() == box.ro + "\n"
    assert box.run(["pwd"], cwd=box.folder, ok=True).stdout.decode() == box.host.home + "\n"
    assert box.run(["pwd"], "-w", "/usr/lib", cwd=inner, ok=True).stdout == b"/usr/lib\n"


def test_clock_is_right(box):
    before = time.time()
    inside = float(box.sh("date +%s.%N"))
    assert before - 1 < inside < time.time() + 1

    def look():  # the guest's time, and the host's before and after it
        return time.time(), float(box.sh("date +%s.%N")), time.time()

    first = look()
    time.sleep(5)
    second = look()
    assert second[0] - first[2] - 1 < second[1] - first[1] < second[2] - first[0] + 1


def test_there_is_no_network_device(box):
    assert box.sh("ls /sys/class/net") == "lo"
    assert box.run("exec 3<>/dev/tcp/192.0.2.1/80").returncode != 0
    assert box.sh("python3 -c \"import socket; s=socket.socket(); s.bind(('127.0.0.1',0)); s.listen(); "
                  "socket.create_connection(s.getsockname()); print('loopback works')\"") == "loopback works"


# ------------------------------------------------------------------------------------------------------ process 1
def test_orphans_are_reaped(box):
    box.sh("for i in $(seq 20); do (sh -c 'sleep 0.2 & exec true' &) ; done")
    assert harness.wait_for(lambda: box.run("pgrep -x sleep").returncode == 1)
    assert harness.wait_for(lambda: box.sh("cat /proc/[0-9]*/stat 2>/dev/null | awk '$3 == \"Z\"' | wc -l") == "0")


def test_process_one_cannot_be_killed_from_inside(box):
    box.sh("sudo kill -KILL 1; sudo kill -STOP 1; sudo kill -SEGV 1; sleep 0.5")
    assert box.sh("echo still here") == "still here"


def test_what_is_left_running_does_not_keep_the_command(box):
    began = time.monotonic()
    done = box.run("sleep 300 >/dev/null 2>&1 </dev/null & echo started")
    assert done.returncode == 0 and done.stdout == b"started\n" and time.monotonic() - began < 60
    assert box.sh("pgrep -x sleep | wc -l || true") != "0"
    box.sh("pkill -x sleep || true")


# ------------------------------------------------------------------------------------------------------ boots
FINGERPRINT = """printf '{"boot": "%s", "random": "%s", "machine": "%s"}' "$(cat /proc/sys/kernel/random/boot_id)" \
"$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n')" "$(cat /etc/machine-id)" """


def ended(box):
    return harness.wait_for(lambda: not box.supervisor(), 60)


def as_new(box, marks):
    """Boots again: the image is whole, nothing of the last boot is there, and what must differ differs."""
    box.up()
    assert box.sh("test ! -e /made-before && test ! -e ~/made-before && ls /usr/bin | wc -l") == marks["programs"]
    now = json.loads(box.sh(FINGERPRINT))
    for key in ("boot", "random", "machine"):
        assert now[key] and now[key] not in marks["seen"], key
        marks["seen"].add(now[key])
    with open(f"{box.ro}/kept") as f:
        assert f.read() == "kept"
    box.sh("sudo touch /made-before ~/made-before")


def test_every_boot_is_as_new(make_box, host):
    box = make_box()
    harness.write(f"{box.ro}/kept", "kept", host)
    marks = {"programs": box.sh("ls /usr/bin | wc -l"), "seen": set()}
    assert int(marks["programs"]) > 100
    marks["seen"] |= set(json.loads(box.sh(FINGERPRINT)).values())
    box.sh("sudo touch /made-before ~/made-before")
    assert box.sh("ls -d /made-before ~/made-before").split() == ["/made-before", f"{host.home}/made-before"]

    box.run("sudo poweroff || sudo python3 -c 'import ctypes; ctypes.CDLL(None).reboot(0x4321fedc)'")
    assert ended(box), "poweroff inside did not end the box"
    assert box.events("box.down")
    as_new(box, marks)

    box.run("sudo python3 -c 'import ctypes, os; os.sync(); ctypes.CDLL(None).reboot(0x01234567)'")
    assert ended(box), "reboot inside did not end the box"
    as_new(box, marks)

    box.run("sudo rm -rf --no-preserve-root / 2>/dev/null", timeout=240)
    assert box.run(["/bin/true"]).returncode == 127, "rm -rf / deleted nothing?"
    assert box.status()["state"] == "running"
    box.down()
    as_new(box, marks)

    box.run("echo c | sudo tee /proc/sysrq-trigger", timeout=60)
    assert ended(box), "a guest kernel that panics did not end the box"
    as_new(box, marks)


def test_two_boxes_of_one_image_differ(make_box):
    """At the same time, too: in what they take for random, in their ids, and in no key or seed that the image would hold."""
    boxes = [make_box(), make_box()]
    assert boxes[0].events("box.up")[-1]["image"] == boxes[1].events("box.up")[-1]["image"]
    marks = [json.loads(box.sh(FINGERPRINT)) for box in boxes]
    for key in ("boot", "random", "machine"):
        assert marks[0][key] and marks[0][key] != marks[1][key], key
    kept = "find / -xdev ( -path /proc -o -path /sys ) -prune -o ( -name random-seed -o -name 'ssh_host_*_key*' -o -name '*.key' ) -size +0 -print"
    kept = kept.replace("(", r"\(").replace(")", r"\)")
    for box in boxes:
        box.sh("sudo touch /etc/ssh_host_test_key && echo x | sudo tee /etc/ssh_host_test_key")
        assert box.sh(f"sudo {kept}").splitlines() == ["/etc/ssh_host_test_key"]  # the control is the one found


def test_out_of_memory_ends_the_hog_only(box):
    hog = "x = bytearray(0)\nwhile True: x += bytes(64 << 20)"
    done = box.run(["python3", "-c", hog], timeout=240)
    assert done.returncode in (137, 1), box.explain(done)
    assert box.sh("echo fine") == "fine"
