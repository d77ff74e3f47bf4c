"""Approval: what reaches beyond the config's own folder runs only after its owner accepted it, and what the box could have
changed is asked for again. Refusals are free: nothing boots."""
import os

import harness

PLAIN = "machine: {cpus: 1, memory: 512M}\nnetwork: {mode: off}\n"


def up(box, *args, **kwargs):
    """nixbox up without a terminal, and without --accept unless given."""
    done = box.nixbox("up", *args, **kwargs)
    box._remember()
    return done


def refused(box, done):
    assert done.returncode == 125, box.explain(done)
    assert b"--accept" in done.stderr and not box.supervisor(), box.explain(done)
    return done.stderr.decode()


def granted(box, done):
    assert done.returncode == 0, box.explain(done)
    box.down()


def test_what_stays_in_its_folder_needs_no_approval(make_box):
    box = make_box(PLAIN + "mounts: [{source: ./work, write: true}]\nsetup: [\"true\"]\n", up=False)
    granted(box, up(box))


def test_a_mount_outside_is_approved_once(make_box, host):
    outside, more = host.folder("outside"), host.folder("more")
    box = make_box(PLAIN + f"mounts: [{{source: {outside}}}]\n", up=False)
    assert outside in refused(box, up(box))
    granted(box, up(box, "--accept"))
    granted(box, up(box))
    box.write_config(PLAIN + f"mounts: [{{source: {outside}, write: true}}]\n")  # wider: may write now
    refused(box, up(box))
    box.write_config(PLAIN + f"mounts: [{{source: {outside}}}, {{source: {more}}}]\n")  # wider: one more
    assert more in refused(box, up(box))


def test_each_kind_that_asks(make_box, host):
    secret = harness.write(f"{host.folder()}/secret", "the-value-of-it", host)
    box = make_box(PLAIN, up=False)
    for extra, word in (("hooks: {pre-up: [\"touch %s/ran\"]}\n" % box.folder, "touch"),
                        ("secrets: [{name: S, from: env}]\n", "S"),
                        (f"secrets: [{{name: S, from: 'file:{secret}'}}]\n", "S"),
                        ("secrets: [{name: S, from: 'command:echo the-value-of-it'}]\n", "echo")):
        box.write_config(PLAIN + extra)
        text = refused(box, up(box, env={"S": "the-value-of-it"}))
        assert word in text, text
        assert "the-value-of-it" not in text.replace("echo the-value-of-it", "")
    assert not os.path.exists(f"{box.folder}/ran")


def test_a_changed_hook_asks_again(make_box, host):
    box = make_box(PLAIN + "hooks: {pre-up: [./hook.sh]}\n", up=False)
    hook = harness.write(f"{box.folder}/hook.sh", "#!/bin/sh\necho first >>ran\n", host, 0o755)
    refused(box, up(box))
    assert not os.path.exists(f"{box.folder}/ran")
    granted(box, up(box, "--accept"))
    with open(f"{box.folder}/ran") as f:
        assert f.read() == "first\n"
    harness.write(hook, "#!/bin/sh\necho second >>ran\n", host, 0o755)
    refused(box, up(box))
    with open(f"{box.folder}/ran") as f:
        assert f.read() == "first\n"


def test_a_guest_that_edits_the_config_is_asked_about(make_box, host):
    text = PLAIN + "mounts: [{source: ., write: true}]\nprotect: []\n"  # with protect it could not: test_protect.py
    box = make_box(text, up=False)
    box.up()
    box.sh(f"echo 'hooks: {{pre-up: [\"touch {box.folder}/pwned\"]}}' >>{box.folder}/nixbox.yaml")
    box.down()
    assert "touch" in refused(box, up(box))
    assert not os.path.exists(f"{box.folder}/pwned")
    box.write_config(text.replace("512M", "600M"))  # a harmless change, but the box could have made it
    refused(box, up(box))
    box.write_config(text)
    granted(box, up(box))
    # an editor on the host saves by rename: the same bytes in a new file are no change, other bytes are
    new = harness.write(f"{box.folder}/.nixbox.yaml.new", open(f"{box.folder}/nixbox.yaml", "rb").read(), host)
    os.rename(new, f"{box.folder}/nixbox.yaml")
    granted(box, up(box))
    new = harness.write(f"{box.folder}/.nixbox.yaml.new",
                        open(f"{box.folder}/nixbox.yaml").read().replace("512M", "700M"), host)
    os.rename(new, f"{box.folder}/nixbox.yaml")
    refused(box, up(box))


def test_at_a_terminal_it_asks(make_box, host):
    outside = host.folder("outside")
    box = make_box(PLAIN + f"mounts: [{{source: {outside}}}]\n", up=False)
    t = host.terminal([host.bin, "up"], cwd=box.folder)
    t.expect(outside.encode(), 30)
    t.expect(rb"\? ?\[?[^\n]*$", 30)
    t.send("n\n")
    assert t.wait(30) == 125 and not box.supervisor()
    t.close()
    t = host.terminal([host.bin, "up"], cwd=box.folder)
    t.expect(rb"\? ?\[?[^\n]*$", 30)
    t.send("y\n")
    assert t.wait(120) == 0
    t.close()
    box._remember()
    box.down()
    granted(box, up(box))


def test_what_init_writes_is_approved(make_box, host):
    box = make_box(up=False)
    os.unlink(f"{box.folder}/nixbox.yaml")
    assert box.nixbox("init").returncode == 0
    done = up(box, "--dry-run")
    assert done.returncode == 0, box.explain(done)
    approvals = f"{host.state}/nixbox/approvals"
    assert os.stat(approvals).st_mode & 0o077 == 0
