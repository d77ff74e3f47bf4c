"""Named volumes: kept when boxes end, shared by boxes that name them, out of reach of mounts, part of what is approved."""
import json
import os
import stat

import harness

CONFIG = """\
machine: {cpus: 1, memory: 512M}
network: {mode: off}
"""


def with_volumes(text):
    return CONFIG + "volumes: " + text + "\n"


def folder_of(box, name):
    return f"{box.host.state}/nixbox/volumes/{name}"


def remove(box, *names):
    done = box.nixbox("volume", "rm", *names)
    assert done.returncode == 0, box.explain(done)


def test_volume_is_kept_and_shared(make_box):
    box = make_box(with_volumes("{kept-cache: ~/.cache/tool, system: /srv/data}"))
    box.sh("echo one > ~/.cache/tool/a && sudo sh -c 'echo two > /srv/data/b' && touch ~/.cache/beside")
    assert box.sh("stat -c %U ~/.cache ~/.cache/tool").split() == [box.host.user] * 2
    st = os.stat(folder_of(box, "kept-cache"))
    assert st.st_uid == box.host.uid and stat.S_IMODE(st.st_mode) == 0o700
    with open(folder_of(box, "kept-cache") + "/a") as f:
        assert f.read() == "one\n"
    listed = {m["target"]: m for m in box.status()["mounts"]}
    assert listed["/srv/data"]["volume"] == "system" and listed["/srv/data"]["write"] is True

    other = make_box(with_volumes("{kept-cache: /elsewhere}"))  # at the same time
    assert other.sh("cat /elsewhere/a; echo three > /elsewhere/c; ls /srv") == "one"
    assert box.sh("cat ~/.cache/tool/c") == "three"

    for one in (box, other):
        one.down()
    box.up()
    assert box.sh("cat ~/.cache/tool/a ~/.cache/tool/c /srv/data/b; ls ~/.cache") == "one\nthree\ntwo\ntool"
    box.down()
    remove(box, "kept-cache", "system")
    box.up()
    assert box.sh("find ~/.cache/tool /srv/data -mindepth 1; echo end") == "end"
    box.down()
    remove(box, "kept-cache", "system")


def test_volume_in_use_is_not_removed(make_box):
    box = make_box(with_volumes("{busy: /data}"))
    box.sh("echo x > /data/x")
    done = box.nixbox("volume", "rm", "busy")
    assert done.returncode == 125 and f"in use by the box '{box.name}'".encode() in done.stderr and b"nixbox down" in done.stderr
    assert box.sh("cat /data/x") == "x"
    volumes = {v["name"]: v for v in json.loads(box.nixbox("volume", "ls", "--json").stdout)}
    assert volumes["busy"]["boxes"] == [box.name] and volumes["busy"]["path"] == folder_of(box, "busy") and volumes["busy"]["size"] > 0
    lines = [line for line in box.nixbox("volume", "ls").stdout.decode().splitlines() if line.startswith("busy ")]
    assert len(lines) == 1 and lines[0].endswith(f"used by {box.name}")
    assert box.nixbox("unmount", "/data").returncode == 0  # given back by the box, which goes on
    remove(box, "busy")
    assert box.sh("echo on") == "on" and not os.path.exists(folder_of(box, "busy"))


def test_killed_box_leaves_its_volume_free(make_box):
    box = make_box(with_volumes("{crash: /data}"))
    box.sh("echo before > /data/x && sync")
    os.kill(box.supervisor(), 9)
    assert harness.wait_for(lambda: box.status() is None, 60)
    assert harness.wait_for(lambda: not box.leftovers(), 60)
    assert harness.wait_for(lambda: box.nixbox("volume", "ls").stdout.find(b"crash") >= 0)
    with open(folder_of(box, "crash") + "/x") as f:
        assert f.read() == "before\n"
    remove(box, "crash")


def test_volume_needs_an_approval(make_box):
    box = make_box(CONFIG, up=False)
    asked = with_volumes("{asked: /data}")
    box.write_config(asked)
    done = box.nixbox("up")
    assert done.returncode == 125 and b"volume asked (as /data), which every box shares whose config names it" in done.stderr, done.stderr
    assert not os.path.exists(folder_of(box, "asked"))  # nothing was made for a config that nobody approved
    box.up()
    box.down()
    assert os.path.exists(folder_of(box, "asked"))
    for wider in ("{another: /data}", "{asked: /data, another: /more}", "{asked: /elsewhere}"):
        box.write_config(with_volumes(wider))
        assert box.nixbox("up").returncode == 125, wider
    box.write_config(asked)
    assert box.nixbox("up").returncode == 0
    box.down()
    remove(box, "asked")


def test_mounts_cannot_show_volumes(make_box):
    box = make_box(with_volumes("{own: /data}"))
    for source in (folder_of(box, "own"), f"{box.host.state}/nixbox/volumes"):
        done = box.nixbox("mount", f"{source}:/x")
        assert done.returncode == 125 and b"nixbox's own folder" in done.stderr, box.explain(done)
    assert box.nixbox("mount", f"{box.ro}:/x").returncode == 0
    box.down()
    box.write_config(CONFIG + f"mounts: [{{source: '{folder_of(box, 'own')}', target: /x}}]\n")
    assert b"nixbox's own folder" in box.up(ok=False).stderr
    remove(box, "own")


def test_what_a_guest_leaves_does_no_harm(make_box):
    """Links out of the volume, folders closed to their owner, a changed mode of the volume itself."""
    box = make_box(with_volumes("{hostile: /data}"))
    outside = harness.make_folder(f"{box.folder}/outside", box.host.uid, box.host.gid, 0o755)
    harness.write(f"{outside}/precious", "x", box.host)
    box.sh(f"ln -s {outside} /data/link && mkdir -p /data/closed/deep && touch /data/closed/deep/f && chmod 0 /data/closed && "
           "sudo chmod 0777 /data")
    assert box.run("touch /data/suid && chmod 4755 /data/suid").returncode != 0  # as in every mount
    assert stat.S_IMODE(os.stat(folder_of(box, "hostile")).st_mode) == 0o777
    box.down()
    parent = os.stat(f"{box.host.state}/nixbox/volumes")
    assert stat.S_IMODE(parent.st_mode) == 0o700  # so nobody else reaches what is below
    box.up()
    assert stat.S_IMODE(os.stat(folder_of(box, "hostile")).st_mode) == 0o700
    box.down()
    remove(box, "hostile")
    assert not os.path.exists(folder_of(box, "hostile")) and os.listdir(outside) == ["precious"]


def test_volume_verb_says_what_is_wrong(host):
    for args, said in ((["rm"], b"needs the volume"), (["rm", "none-such"], b"there is no volume 'none-such'"), (["rm", "../x"], b"there is no volume"),
                       ([], b"told what to do"), (["frob"], b"there is no 'volume frob'"), (["ls", "x"], b"takes no 'x'")):
        done = host.nixbox("volume", *args)
        assert done.returncode == 125 and said in done.stderr and len(done.stderr.splitlines()) == 2, done.stderr
    assert host.nixbox("volume", "ls").returncode == 0
