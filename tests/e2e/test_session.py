"""Sessions: bytes, order, credit, signals, terminals, exit statuses, and every way in which one of the two ends goes away."""
import hashlib
import json
import os
import re
import select
import signal
import subprocess
import termios
import time

import harness
import pytest

BIG = int(os.environ.get("NIXBOX_TEST_BIG", str(64 << 20)))  # bytes through a pipe; 1 GiB takes minutes in emulation


def start(box, *args, **kwargs):
    """nixbox run with pipes of our own, not waited for."""
    return box.host.popen([box.host.bin, "run", *args], cwd=box.folder, **kwargs)


def terminal(box, *args, **kwargs):
    return box.host.terminal([box.host.bin, *args], cwd=box.folder, **kwargs)


def digest_of(stream):
    h, n = hashlib.sha256(), 0
    while block := stream.read(1 << 16):
        h.update(block)
        n += len(block)
    return h.hexdigest(), n


# ---------------------------------------------------------------------------------------------------------- bytes
def test_streams_are_apart_and_exact(box):
    every = bytes(range(256)) * 300
    done = box.run(["sh", "-c", "cat; printf 'a\\0\\r\\nb' >&2; exit 7"], input=every)
    assert (done.returncode, done.stdout, done.stderr) == (7, every, b"a\0\r\nb")


def test_much_output(box):
    command = f"exec 3>&1; head -c {BIG} /dev/urandom | tee /dev/fd/3 | sha256sum >&2"
    p = start(box, "--", "sh", "-c", command)
    got, n = digest_of(p.stdout)
    said = p.stderr.read().split()[0].decode()
    assert p.wait() == 0 and n == BIG and got == said


def test_much_input(box):
    block = os.urandom(1 << 20)
    p = start(box, "sha256sum", stdin=subprocess.PIPE)
    h = hashlib.sha256()
    for _ in range(BIG >> 20):
        p.stdin.write(block)
        h.update(block)
    p.stdin.close()
    assert p.stdout.read().split()[0].decode() == h.hexdigest()
    assert p.wait() == 0


def test_much_both_ways_at_once(box):
    data = os.urandom(8 << 20)
    done = box.run(["cat"], input=data)
    assert done.returncode == 0 and done.stdout == data


def test_half_close(box):
    assert box.run("cat | sort", input=b"c\na\nb\n").stdout == b"a\nb\nc\n"


def test_a_command_that_does_not_read_its_stdin(box):
    done = box.run(["true"], input=b"x" * (4 << 20))
    assert done.returncode == 0


def test_stdin_of_a_file_and_of_nothing(box):
    path = harness.write(f"{box.folder}/in", b"from a file", box.host)
    with open(path, "rb") as f:
        p = start(box, "cat", stdin=f)
        assert p.communicate(timeout=60)[0] == b"from a file"
    p = start(box, "cat", stdin=subprocess.DEVNULL)
    assert p.communicate(timeout=60)[0] == b""


def test_closed_descriptors(box):
    done = box.host.command(["sh", "-c", f"{box.host.bin} run 'echo x; echo y >&2' >&- <&-"], cwd=box.folder)
    assert done.returncode == 0 and done.stderr == b"y\n"
    done = box.host.command(["sh", "-c", f"{box.host.bin} run 'cat; head -c 100000 /dev/zero; echo end >&2' <&- >&- 2>err; cat err"],
                            cwd=box.folder)
    assert done.stdout == b"end\n"


def test_output_to_a_reader_that_leaves(box):
    done = box.host.command(["bash", "-c", f"{box.host.bin} run yes | head -n 2; echo ${{PIPESTATUS[0]}}"], cwd=box.folder)
    assert done.stdout == b"y\ny\n141\n"
    assert harness.wait_for(lambda: box.run(["pgrep", "-x", "yes"]).returncode == 1)


def test_output_to_a_full_disk_says_so(box):
    with open("/dev/full", "wb") as full:
        p = start(box, "yes", stdout=full)
        assert p.wait(60) == 125
        assert b"No space left" in p.stderr.read()


# ---------------------------------------------------------------------------------------------------------- many
def test_many_sessions_at_once(box):
    all_of_them = [start(box, f"sleep 1; echo {i}; sleep 1; echo {i} >&2; exit {i}") for i in range(40)]
    for i, p in enumerate(all_of_them):
        out, err = p.communicate(timeout=200)
        assert (p.returncode, out, err) == (i, b"%d\n" % i, b"%d\n" % i)


def test_a_stalled_reader_stops_nobody_else(box):
    stalled = start(box, "yes")
    waiting = start(box, "sleep 1000", stdin=subprocess.PIPE)
    os.set_blocking(waiting.stdin.fileno(), False)
    fed = 0
    while select.select([], [waiting.stdin], [], 3)[1]:  # until nobody takes any more
        fed += os.write(waiting.stdin.fileno(), b"x" * 65536)
        assert fed < 8 << 20
    assert fed > 0
    assert box.run("head -c 3000000 /dev/zero | wc -c", timeout=60).stdout == b"3000000\n"
    assert stalled.poll() is None and waiting.poll() is None
    for p in (stalled, waiting):
        p.kill()
        p.communicate()


def test_keystrokes_pass_a_large_upload(box):
    upload = start(box, "cat >/dev/null", stdin=open("/dev/zero", "rb"))
    t = terminal(box, "run", "echo up; exec cat")
    t.expect(b"up\r\n")
    for i in range(5):
        t.send(f"key{i}\r")
        t.expect(b"key%d\r\nkey%d\r\n" % (i, i))
    upload.kill()
    upload.communicate()
    t.send("\x04")
    assert t.wait() == 0
    t.close()


# ---------------------------------------------------------------------------------------------------------- status
@pytest.mark.parametrize("argv,status", [
    (["exit 0"], 0), (["exit 255"], 255), (["kill -TERM $$"], 143), (["kill -9 $$"], 137),
    (["--", "/nowhere"], 127), (["--", "no-such-command"], 127), (["--", "/etc/passwd"], 126), (["no-such-command"], 127),
])
def test_exit_status(box, argv, status):
    assert box.nixbox("run", *argv).returncode == status


def test_usage_errors(box):
    for argv in (["run"], ["run", "--bogus", "x"], ["run", "-w", "relative", "x"], ["run", "-t", "-T", "x"], ["run", "-e", "=v", "x"],
                 ["run", "-e", "NOT_SET_HERE", "x"], ["shell"], ["shell", "x"]):
        done = box.nixbox(*argv)
        assert done.returncode == 125 and done.stderr.startswith(b"nixbox: ") and b"\n  " in done.stderr, argv
        assert done.stdout == b""


def test_arguments_as_they_are(box):
    odd = ["printf", "%s|", "", "a b", "$HOME", "*", "ü", "-n", "--", "new\nline"]
    assert box.run(odd).stdout == "".join(a + "|" for a in odd[2:]).encode()
    assert box.nixbox("run", "printf", "%s|", "a b", "$x").stdout == b"a b|$x|"
    assert box.nixbox("run", "printf '%s|' \"a b\" $((1+1))").stdout == b"a b|2|"


def test_environment_folder_and_user(box):
    env = {"CALLERS": "secret", "PASSED": "on"}
    text = box.sh("env; pwd", "-e", "A=1=2", "-e", "PASSED", "-w", "/usr", env=env)
    assert "\nA=1=2\n" in f"\n{text}" and "PASSED=on" in text and text.endswith("\n/usr")
    assert "CALLERS" not in text
    assert box.sh("id -un", "-u", "root") == "root"
    assert box.nixbox("run", "-u", "no-such-user", "true").returncode == 125


def test_the_callers_folder(box, host):
    below = harness.make_folder(f"{box.work}/a/b", host.uid, host.gid, 0o755)
    link = f"{box.folder}/link"
    os.symlink(below, link)
    assert box.sh("pwd", cwd=below) == below
    assert box.nixbox("run", "pwd", cwd=link).stdout.decode().strip() == below
    assert box.sh("pwd; echo $HOME", cwd=box.folder).split() == [host.home, host.home]


# ---------------------------------------------------------------------------------------------------------- signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_reach_the_command(box, number):
    p = start(box, "exec dash -c 'echo up; exec sleep 1000'")  # bash itself ignores SIGQUIT, also between two commands
    assert p.stdout.readline() == b"up\n"
    p.send_signal(number)
    assert p.wait(60) == 128 + number


def test_a_command_that_handles_its_signal(box):
    p = start(box, "trap 'echo caught; exit 9' INT; echo up; while :; do sleep 0.1; done")
    assert p.stdout.readline() == b"up\n"
    p.send_signal(signal.SIGINT)
    assert p.stdout.readline() == b"caught\n" and p.wait(60) == 9


def test_the_third_interrupt_gives_up(box):
    p = start(box, "trap '' INT; echo up; while :; do sleep 0.1; done")
    assert p.stdout.readline() == b"up\n"
    for _ in range(2):
        p.send_signal(signal.SIGINT)
        time.sleep(1)  # or two of them would be one
    assert p.poll() is None
    p.send_signal(signal.SIGINT)
    assert p.wait(60) == 130


def test_an_ignored_signal_stays_ignored(box):
    p = box.host.popen(["nohup", box.host.bin, "run", "echo up; sleep 2; echo still"], cwd=box.folder)
    assert p.stdout.readline() == b"up\n"
    p.send_signal(signal.SIGHUP)
    assert p.stdout.readline() == b"still\n" and p.wait(60) == 0


def test_a_killed_caller_hangs_up_the_command(box):
    p = start(box, "exec 2>/dev/null; trap 'echo hup >/tmp/hup; exit' HUP; echo $$; while :; do sleep 0.1; done")
    pid = p.stdout.readline().strip().decode()
    p.kill()
    p.communicate()
    assert harness.wait_for(lambda: box.run(["kill", "-0", pid]).returncode != 0, 30)
    assert box.sh("cat /tmp/hup; rm /tmp/hup") == "hup"


# ---------------------------------------------------------------------------------------------------------- terminals
def test_terminal_size_and_changes(box):
    t = terminal(box, "run", "trap 'stty size; exit' WINCH; tty; stty size; while :; do sleep 0.1; done", rows=31, cols=97)
    t.expect(rb"/dev/pts/\d+\r\n31 97\r\n")
    t.resize(40, 120)
    os.killpg(os.tcgetpgrp(t.fd), signal.SIGWINCH)
    t.expect(rb"40 120\r\n")
    assert t.wait() == 0
    t.close()


def test_interrupt_key(box):
    t = terminal(box, "run", "echo up; sleep 1000")
    t.expect(b"up\r\n")
    t.send("\x03")
    assert t.wait() == 130
    t.close()


def test_end_of_file_key_and_echo(box):
    t = terminal(box, "run", "echo up; exec cat")
    t.expect(b"up\r\n")
    t.send("hello\r")
    t.expect(b"hello\r\nhello\r\n")
    t.send("\x04")
    assert t.wait() == 0
    t.close()


def test_terminal_is_put_back(box):
    t = box.host.terminal(["bash", "--norc"], cwd=box.folder, env={"PS1": "$ "})
    for command, key in (("run 'echo u\"\"p; sleep 1000'", "\x03"), ("run -- sh -c 'echo u\"\"p; kill -9 $$'", "")):
        t.send(f"stty -a >before; {box.host.bin} {command}; stty -a >after; cmp before after && echo sa\"\"me\r")
        t.expect(b"up\r\n")
        t.send(key)
        t.expect(b"same\r\n")
    t.send(f"{box.host.bin} run 'echo u\"\"p; sleep 1000'; stty -a >after; cmp before after && echo sa\"\"me\r")
    t.expect(b"up\r\n")
    client = [pid for pid, line in harness.subtree(t.process.pid).items() if " run " in line]
    os.kill(client[0], signal.SIGSEGV)
    t.expect(b"same\r\n")
    t.send("exit\r")
    t.wait()
    t.close()


def test_stop_and_go_on(box):
    t = box.host.terminal(["bash", "--norc", "-i"], cwd=box.folder, env={"PS1": "$ "})
    t.send(f"{box.host.bin} run 'echo u\"\"p; read x; echo got $x'\r")
    t.expect(b"up\r\n")
    client = [pid for pid, line in harness.subtree(t.process.pid).items() if " run " in line]
    os.kill(client[0], signal.SIGTSTP)
    t.expect(b"Stopped")
    t.send("stty -a | grep -c ' icanon'; fg\r")
    t.expect(b"[\r\n]1\r\n")
    t.expect(b"run")
    assert harness.wait_for(lambda: not termios.tcgetattr(t.fd)[3] & termios.ICANON), "the terminal is the command's again"
    t.send("it\r")
    t.expect(rb"got it\r\n.*\$ ")
    t.send("exit\r")
    t.wait()
    t.close()


def test_terminal_forced_and_refused(box):
    assert box.sh("test -t 0 || echo pipe", "-T") == "pipe"
    done = box.run("test -t 0 && test -t 1 && echo tty", "-t")
    assert done.stdout == b"tty\r\n"
    t = terminal(box, "run", "-T", "test -t 0 || echo pipe")
    t.expect(b"pipe\r\n")
    t.wait()
    t.close()


def test_shell(box):
    t = terminal(box, "shell")
    t.send("echo $0 $-; exit 5\r")
    found = t.expect(rb"[\r\n]-\S+ (\w+)\r\n")
    assert b"i" in found[1]
    assert t.wait() == 5
    t.close()


# ---------------------------------------------------------------------------------------------------------- ends
def test_the_box_ends_under_a_command(make_box):
    box = make_box()
    p = start(box, "echo up; exec sleep 1000")
    hard = start(box, "trap '' TERM HUP; echo up; while :; do sleep 1; done")
    assert p.stdout.readline() == hard.stdout.readline() == b"up\n"
    box.down()
    assert p.wait(60) == 143  # ended by the guest's shutdown, in an orderly way
    assert hard.wait(60) in (137, 125)


def test_the_machine_is_killed_under_a_command(make_box):
    box = make_box()
    p = start(box, "echo up; sleep 1000")
    assert p.stdout.readline() == b"up\n"
    os.kill(box.child("qemu"), signal.SIGKILL)
    assert p.wait(60) == 125
    assert b"nixbox: the box ended" in p.stderr.read()


def test_run_boots_the_box_and_rm_ends_it(make_box):
    box = make_box(up=False)
    done = box.nixbox("run", "--rm", "echo hello")
    box._remember()
    assert done.returncode == 0 and done.stdout == b"hello\n", box.explain(done)
    assert not box.supervisor()
    assert box.run("exit 3").returncode == 3
    assert box.supervisor()
    assert box.run("true", "--rm").returncode == 0
    assert box.supervisor()  # it was up before


# ---------------------------------------------------------------------------------------------------------- the record
def test_events_and_logs(box):
    assert box.run(["sh", "-c", "exit 4", "\x1b]52;c;x\x07"]).returncode == 4

    def told():  # the command's caller may hear of its end first
        events = [json.loads(line) for line in box.nixbox("events", "--json").stdout.splitlines()]
        return any(e["type"] == "run.start" for e in events) and any(e["type"] == "run.exit" and e.get("status") == 4 for e in events)

    assert harness.wait_for(told)
    for verb in (["events"], ["logs"], ["logs", "--console"]):
        done = box.nixbox(*verb)
        assert done.returncode == 0 and not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", done.stdout), verb
    assert box.nixbox("events", "--denied").stdout == b""


def test_following_events_through_garbage_and_rotation(box):
    box.sh("true")
    p = box.host.popen([box.host.bin, "events", "-f"], cwd=box.folder)
    log = f"{box.state}/events.jsonl"
    with open(log, "ab") as f:
        f.write(b"\xff\xfegarbage\n{\"type\":\"policy\",\"reason\":\"one\\u001b[2J\"}\n" + b"x" * 600000 + b"\n")
    try:
        assert harness.wait_for(lambda: b"one" in p.stdout.readline())
        os.rename(log, log + ".1")
        harness.write(log, b"{\"type\":\"policy\",\"reason\":\"two\"}\n", box.host, 0o600)
        assert harness.wait_for(lambda: b"two" in p.stdout.readline())
    finally:
        p.kill()
        p.communicate()
        os.replace(log + ".1", log)  # where the supervisor still writes
