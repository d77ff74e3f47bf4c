"""Images that are not Debian's: a box boots from each kind of source, the same source gives the same image, and hostile ones
are refused or harmless. Each image holds busybox and nothing else: no bash, no sudo, no users."""
import copy
import gzip
import json
import os
import shutil
import tempfile

import pytest

import oci_images as images
from harness import ROOT, make_folder, write
from oci_images import Layout, device, entry, folder, hard_link, symlink, tar
from oci_registry import Registry

CONFIG = "network: {mode: off}\nmachine: {cpus: 1, memory: 512M}\nimage: {base: '%s'}\n"
SAYS = {"Env": ["PATH=/bin:/opt/bin", "FROM_IMAGE=yes", "BOTH=image", "HOME=/nowhere"], "WorkingDir": "/srv/work", "User": "node"}
BUILD = 300


def base_layer():
    return tar([entry("gone", "x"), entry("d/old", "x"), entry("etc/kept", "kept"), folder("srv/work"),
                entry("etc/passwd", "root:x:0:0::/root:/bin/sh\nnode:x:1234:1234::/srv:/bin/sh\n")])


def upper_layer():
    return tar([entry(".wh.gone"), entry("d/.wh..wh..opq"), entry("d/new", "new"), entry("etc/fresh", "fresh")])


def layers():
    return [images.busybox_layer(), base_layer(), upper_layer()]


@pytest.fixture
def place(host):
    """A folder of this person's, for images."""
    path = host.folder("src")
    yield path
    shutil.rmtree(path, ignore_errors=True)


def own(host, path):
    """Gives a tree to the person of the test, so that everybody's builds see the same owners."""
    for top, folders, files in os.walk(path):
        for name in folders + files + ["."]:
            os.lchown(os.path.join(top, name), host.uid, host.gid)
    return path


locks = {}  # of each person, one lock that names runtime and kernel


def build(host, place, base, ok=True, layout=None, **kwargs):
    """nixbox image build of a config with this base: the digest, or what it says when it must not work. With a layout, from a
    lock made here, so that Debian's lists need not be read for each."""
    write(f"{place}/nixbox.yaml", "name: src\n" + CONFIG % base, host)
    if os.path.exists(f"{place}/nixbox.lock"):  # each source anew
        os.unlink(f"{place}/nixbox.lock")
    if layout and host.name in locks:
        lock = {k: v for k, v in locks[host.name].items() if k != "digest"}
        lock.update(spec=[f"base oci:./{os.path.relpath(layout.path, place)}"], source=layout.manifest["digest"],
                    layers=[{"size": x["size"], "sha256": x["digest"][7:]} for x in layout.layers])
        write(f"{place}/nixbox.lock", json.dumps(lock), host)
    done = host.nixbox("image", "build", "--force", "--json", cwd=place, timeout=BUILD, **kwargs)
    if not ok:
        assert done.returncode == 125, done
        return done.stderr.decode()
    assert done.returncode == 0, done.stderr.decode()
    with open(f"{place}/nixbox.lock") as f:
        locks[host.name] = json.load(f)
    return json.loads(done.stdout)["digest"]


def check_oci(box):
    out = box.run("id -u; pwd; env; ls /d /gone", "-e", "BOTH=session")
    text = out.stdout.decode()
    assert text.splitlines()[:2] == [str(box.host.uid), "/srv/work"]
    assert "FROM_IMAGE=yes\n" in text and "BOTH=session\n" in text and f"HOME={box.host.home}\n" in text
    assert text.endswith("/d:\nnew\n") and b"/gone: No such file" in out.stderr
    assert box.sh("cat /etc/kept /etc/fresh") == "keptfresh"
    assert box.sh("id -u; pwd", "-u", "node") == "1234\n/srv/work"


def boot(make_box, base, **kwargs):
    box = make_box(CONFIG % base + "env: {BOTH: config}\n", up=False)
    box.up(timeout=BUILD, **kwargs)
    return box


def rebuild(box):
    """The image of a box's config, built again from its lock: the digest."""
    done = box.nixbox("image", "build", "--force", "--json", timeout=BUILD)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)["digest"]


# ------------------------------------------------------------------------------------------------------- one box from each
def test_layout_boots(host, place, make_box):
    Layout(f"{place}/layout", layers(), SAYS)
    own(host, place)
    check_oci(boot(make_box, f"oci:{place}/layout:test"))


def test_docker_archive_boots(host, place, make_box):
    images.docker_archive(f"{place}/image.tar", layers(), SAYS)
    own(host, place)
    check_oci(boot(make_box, f"oci:docker-archive:{place}/image.tar"))


def test_registry_boots(host, place, make_box):
    """What a tag named when the lock was made is what is built from then on, wherever the tag points later."""
    registry = Registry(Layout(f"{place}/layout", layers(), SAYS))
    moved = Layout(f"{place}/other", [images.busybox_layer()], SAYS)
    own(host, place)
    try:
        registry.trust(host)
        box = boot(make_box, f"oci:{registry.at}/team/app:1")
        check_oci(box)
        first = rebuild(box)
        registry.layout, registry.tags, registry.asked = moved, {"1": moved.manifest["digest"]}, []
        assert rebuild(box) == first
        assert not [path for path in registry.asked if path.endswith("/manifests/1")]
        done = box.nixbox("image", "update", timeout=BUILD)
        assert done.returncode == 0, done.stderr
        assert [path for path in registry.asked if path.endswith("/manifests/1")]
        assert rebuild(box) != first
    finally:
        registry.close()


def test_folder_boots(host, place, make_box):
    write(f"{images.busybox_folder(f'{place}/root')}/hello", "from the folder")
    own(host, place)
    box = boot(make_box, f"dir:{place}/root")
    assert box.sh("cat /hello; id -u") == f"from the folder{box.host.uid}"
    assert box.run(["/bin/readlink", "/bin/sh"]).stdout == b"busybox\n"


@pytest.fixture
def nix(host):
    """A store of this test's own. Not below /tmp, which is another one inside."""
    top = tempfile.mkdtemp(prefix="nbt-nix-", dir="/var/tmp")
    os.chown(top, host.uid, host.gid)
    make_folder(f"{top}/etc", host.uid, host.gid)
    write(f"{top}/etc/nix.conf", "sandbox = false\nbuild-users-group =\nsubstituters =\n", host)
    names = {"NIX_STORE_DIR": "store", "NIX_STATE_DIR": "var", "NIX_LOCALSTATE_DIR": "var", "NIX_LOG_DIR": "log", "NIX_CONF_DIR": "etc"}
    yield {name: f"{top}/{part}" for name, part in names.items()}
    for folder_, _, _ in os.walk(top):
        os.chmod(folder_, 0o700)
    shutil.rmtree(top)


def test_nix_file_and_flake_boot(host, place, nix, make_box):
    shutil.copy(f"{ROOT}/tests/box.nix", f"{place}/box.nix")
    os.mkdir(f"{place}/flake")
    shutil.copy(f"{ROOT}/tests/box.nix", f"{place}/flake/box.nix")
    shutil.copy(images.BUSYBOX, f"{place}/flake/busybox")
    write(f"{place}/flake/flake.nix", """{ outputs = { self }: { packages.x86_64-linux.rootfs =
        (import ./box.nix { system = "x86_64-linux"; busybox = ./busybox; }).rootfs; }; }\n""")
    own(host, place)
    first = build(host, place, "nix:box.nix", env=nix)
    assert build(host, place, "nix:./flake#rootfs", env=nix) == first
    assert not os.path.exists(f"{place}/flake/flake.lock")
    box = boot(make_box, f"nix:{place}/box.nix", env=nix)
    assert box.sh("cat /etc/greeting; readlink /etc/greeting").startswith(f"from the store\n{nix['NIX_STORE_DIR']}/")


def test_nixos_module(host, place, nix, make_box):
    """The example's module, with a stand-in for nixpkgs; the example's other files can at least be read."""
    for name in ("module.nix", "example.nix", "flake.nix", "rootfs.nix"):
        shutil.copy(f"{ROOT}/nix/{name}", f"{place}/{name}")
        assert host.command(["nix-instantiate", "--parse", f"{place}/{name}"], env=nix).returncode == 0
    shutil.copy(f"{ROOT}/tests/nixos_stub.nix", f"{place}/stub.nix")
    write(f"{place}/box.nix", "{ }: import ./stub.nix { module = ./module.nix; }\n", host)
    own(host, place)
    box = boot(make_box, f"nix:{place}/box.nix", env=nix)
    assert box.sh("cat /etc/os-release; readlink /bin; id -un") == f"stub\n{os.path.dirname(box.sh('readlink -f /bin/sh'))}\n{host.user}"
    assert box.sh("cat /etc/hostname") == box.name


def test_nix_that_fails(host, place, nix):
    write(f"{place}/box.nix", "{ rootfs = throw \"not today\"; }", host)
    assert "not today" in build(host, place, "nix:./box.nix", ok=False, env=nix)


# ---------------------------------------------------------------------------------------------------------- the same again
def test_same_source_same_image(host, place):
    """However it is packed and wherever it lies."""
    Layout(f"{place}/a", layers(), SAYS)
    Layout(f"{place}/b", layers(), SAYS, compress=False)
    images.docker_archive(f"{place}/c.tar", layers(), SAYS)
    own(host, place)
    first = build(host, place, "oci:./a:test")
    assert build(host, place, "oci:./a") == first
    assert build(host, place, "oci:./b") == first
    assert build(host, place, "oci:docker-archive:./c.tar") == first
    assert build(host, place, "oci:./a", env={"TZ": "Asia/Tokyo", "LC_ALL": "C"}) == first
    Layout(f"{place}/d", layers()[:2], SAYS)
    assert build(host, place, "oci:./d") != first


def test_names_in_any_locale(host, place):
    """Names are bytes: composed, decomposed and in no encoding at all."""
    odd = tar([entry("\u00e4", "1"), entry("a\u0308", "2"), entry("\udcff", "3")])
    Layout(f"{place}/odd", [images.busybox_layer(), odd])
    own(host, place)
    assert build(host, place, "oci:./odd", env={"LC_ALL": "C"}) == build(host, place, "oci:./odd", env={"LC_ALL": "C.UTF-8"})


# ------------------------------------------------------------------------------------------------------------------ hostile
def outside(host):
    """What a layer could have changed: everything beside the store that this person may write, and the canaries."""
    return {path: os.lstat(path).st_mtime_ns for top in (host.own, host.home) for path, _, _ in os.walk(top)
            if not path.startswith(host.state) and "/src" not in path}


HARMLESS = {
    "absolute link": [symlink("link", "/"), entry("link/%(canary)s", "evil")],
    "link upwards": [symlink("link", "../../../../../../../.."), entry("link/%(canary)s", "evil")],
    "link over a folder": [folder("d"), symlink("d", "/"), entry("d/%(canary)s", "evil")],
    "absolute name": [entry("/%(canary)s", "evil")],
    "device": [device("dev/mem"), device("%(canary)s")],
    "twice": [entry("x", "1"), entry("x", "2"), folder("x"), entry("x/y", "3")],
    "whiteout through a link": [symlink("link", "/"), entry("link/%(above)s/.wh.canary", "")],
    "whiteout of nothing": [entry("none/.wh.canary", ""), entry(".wh.none", "")],
    "opaque root": [entry(".wh..wh..opq", "")],
}
REFUSED = {
    "upwards": [entry("../../../../../../../../%(canary)s", "evil")],
    "upwards later": [entry("a/../../%(canary)s", "evil")],
    "hard link to the host": [hard_link("x", "/%(canary)s")],
    "hard link upwards": [hard_link("x", "../../../../%(canary)s")],
    "hard link through a link": [symlink("link", "/"), hard_link("x", "link/%(canary)s")],
    "hard link to a folder": [folder("d"), hard_link("x", "d")],
    "whiteout of its folder": [entry(".wh..", "")],
    "whiteout without a name": [entry(".wh.", "")],
    "below a whiteout": [entry(".wh.x/y", "")],
    "below a file": [entry("x", "1"), entry("x/y", "2")],
    "loop of links": [symlink("a", "b"), symlink("b", "a"), entry("a/x", "1")],
    "long name": [entry("n" * 300, "1")],
    "deep": [entry("d/" * 400 + "x", "1")],
    "huge": [entry("x", "", size=1 << 40)],
    "cut short": [entry("x", "1", size=1 << 20)],
    "no such user": [entry("x", "1", uid=1 << 40)],
}


def hostile(host, place, entries):
    canary = write(f"{place}/canary", "canary", host)
    words = {"canary": canary.lstrip("/"), "above": place.lstrip("/")}
    made = []
    for info, data in entries:
        info = copy.copy(info)
        info.name, info.linkname = info.name % words, info.linkname % words
        made.append((info, data))
    layout = Layout(f"{place}/layout", [images.busybox_layer(), tar(made)])
    own(host, place)
    return canary, layout


def is_whole(canary):
    with open(canary) as f:
        return f.read() == "canary"


@pytest.mark.person("root")  # who could do more harm
@pytest.mark.parametrize("case", HARMLESS)
def test_harmless_layer(host, place, case):
    canary, layout = hostile(host, place, HARMLESS[case])
    before = outside(host)
    build(host, place, "oci:./layout", layout=layout)
    assert is_whole(canary) and outside(host) == before


@pytest.mark.person("root")
@pytest.mark.parametrize("case", REFUSED)
def test_refused_layer(host, place, case):
    canary, layout = hostile(host, place, REFUSED[case])
    before = outside(host)
    assert "cannot use image.base" in build(host, place, "oci:./layout", ok=False, layout=layout)
    assert is_whole(canary) and outside(host) == before
    shutil.rmtree(f"{place}/layout")
    layout = Layout(f"{place}/layout", [images.busybox_layer(), tar([entry("x", "good")])])  # with a good name it works
    own(host, place)
    build(host, place, "oci:./layout", layout=layout)


def test_links_stay_inside(host, place, make_box):
    """The file written through the link is in the image, where the link leads inside; devices are not."""
    hostile(host, place, [symlink("link", "/srv"), entry("link/inside", "yes"), symlink("up", "../../.."), entry("up/top", "yes"),
                          device("dev/evil"), entry("good", "yes")])
    box = boot(make_box, f"oci:{place}/layout")
    assert box.sh("cat /srv/inside /top /good; ls /dev/evil 2>/dev/null || echo none") == "yesyesyesnone"


@pytest.mark.person("root")
def test_bomb_of_zeros(host, place):
    """Files of a gigabyte of nothing each: refused at the limit, without filling the disk."""
    block = gzip.compress(bytes(1 << 24), 9, mtime=0)

    def bomb():
        for i in range(17):
            yield gzip.compress(entry(f"zeros{i}", "", size=1 << 30)[0].tobuf(images.tarfile.PAX_FORMAT), 9, mtime=0)
            for _ in range(1 << 6):
                yield block

    layout = Layout(f"{place}/layout", [images.busybox_layer()])
    bad = layout.blob(b"".join(bomb()), images.LAYER + "+gzip")
    replace_layers(layout, layout.layers + [bad])
    own(host, place)
    used = shutil.disk_usage(host.data).used
    assert "makes the image larger than" in build(host, place, "oci:./layout", ok=False)
    assert shutil.disk_usage(host.data).used - used < 1 << 30


def replace_layers(layout, layers_):
    layout.manifest = layout.blob({"schemaVersion": 2, "mediaType": images.MANIFEST, "config": layout.config, "layers": layers_},
                                  images.MANIFEST)
    layout.index([layout.manifest])


# ------------------------------------------------------------------------------------------------------- damaged documents
def damage_layer(layout):
    with open(layout.file(layout.layers[0]["digest"]), "r+b") as f:
        f.write(b"x")


def cut_layer(layout):
    os.truncate(layout.file(layout.layers[0]["digest"]), 100)


def wrong_size(layout):
    replace_layers(layout, [{**layout.layers[0], "size": layout.layers[0]["size"] + 1}])


def wrong_digest(layout):
    replace_layers(layout, [{**layout.layers[0], "digest": "sha256:" + "0" * 64}])


def escaping_digest(layout):
    replace_layers(layout, [{**layout.layers[0], "digest": "sha256:../../../../etc/passwd"}])


def indexes_in_indexes(layout):
    below = layout.manifest
    for _ in range(10):
        below = layout.blob({"schemaVersion": 2, "manifests": [below]}, images.INDEX)
    layout.index([below])


def index_is_its_own(layout):
    index = {"schemaVersion": 2, "manifests": [{"mediaType": images.INDEX, "digest": images.digest(b"x"), "size": 1}]}
    layout.index([layout.blob(index, images.INDEX)])


def huge_index(layout):
    with open(f"{layout.path}/index.json", "a") as f:
        f.write(" " * (5 << 20))


def deep_index(layout):
    with open(f"{layout.path}/index.json", "w") as f:
        f.write("[" * 100000)


def other_machine(layout):
    config = layout.blob({"os": "linux", "architecture": "arm64", "config": {}}, "application/vnd.oci.image.config.v1+json")
    layout.config = config
    replace_layers(layout, layout.layers)


def many_layers(layout):
    replace_layers(layout, layout.layers * 1000)


DAMAGES = [damage_layer, cut_layer, wrong_size, wrong_digest, escaping_digest, indexes_in_indexes, index_is_its_own, huge_index,
           deep_index, other_machine, many_layers]


@pytest.mark.person("root")
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
def test_damaged_layout(host, place, damage):
    cache = {"XDG_CACHE_HOME": make_folder(f"{place}/cache", host.uid, host.gid)}  # where nothing good is known yet
    good = Layout(f"{place}/good", [images.busybox_layer()])
    own(host, place)
    build(host, place, "oci:./good", layout=good)
    layout = Layout(f"{place}/layout", [images.busybox_layer()])  # at a place that no lock is remembered for
    damage(layout)
    own(host, place)
    message = build(host, place, "oci:./layout", ok=False, env=cache)
    assert "image" in message and len(message) < 2000


@pytest.mark.parametrize("base,says", [("oci:./none", "none"), ("oci:docker-archive:./none.tar", "none.tar"), ("dir:./none", "none"),
                                       ("oci:$(reboot)", "names no OCI image"), ("oci:-x", "names no OCI image")])
def test_what_is_not_there(host, place, base, says):
    assert says in build(host, place, base, ok=False)


def test_packages_need_debian(host, place):
    write(f"{place}/nixbox.yaml", "name: src\nimage: {base: 'dir:./x', packages: [git]}\n", host)
    done = host.nixbox("image", "build", cwd=place)
    assert done.returncode == 125 and b"nixbox.yaml:2:" in done.stderr and b"debian-13" in done.stderr
