"""Makes images of other kinds than Debian's for the tests, from Debian's static busybox: OCI layouts, docker archives and
folders, sound and hostile. Nothing here needs a program of the image world, so hostile ones can say what they like."""
import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile

BUSYBOX = "/bin/busybox"
APPLETS = ("sh", "cat", "ls", "id", "env", "pwd", "echo", "stat", "readlink", "test", "true", "mkdir", "sleep", "cp", "head")
LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def entry(name, content=None, *, kind=tarfile.REGTYPE, link="", mode=0o644, uid=0, gid=0, size=None):
    """One member of a layer: (TarInfo, bytes). `size`, where given, is what the header claims."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.uid, info.gid = kind, link, mode, uid, gid
    data = (content or "").encode() if not isinstance(content, bytes) else content
    info.size = len(data) if size is None else size
    return info, data


def folder(name, mode=0o755, **kwargs):
    return entry(name, kind=tarfile.DIRTYPE, mode=mode, **kwargs)


def symlink(name, target):
    return entry(name, kind=tarfile.SYMTYPE, link=target, mode=0o777)


def hard_link(name, target):
    return entry(name, kind=tarfile.LNKTYPE, link=target)


def device(name):
    return entry(name, kind=tarfile.CHRTYPE)


def tar(entries):
    """The bytes of a tar; written by hand from headers, so that sizes may lie and names may be anything."""
    out = io.BytesIO()
    for info, data in entries:
        out.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        out.write(data + bytes(-len(data) % 512))
    return out.getvalue() + bytes(1024)


def busybox_layer():
    with open(BUSYBOX, "rb") as f:
        program = f.read()
    return tar([folder("bin"), entry("bin/busybox", program, mode=0o755)] + [symlink(f"bin/{a}", "busybox") for a in APPLETS])


class Layout:
    """An OCI layout in a folder."""

    def __init__(self, path, layers, config=None, tag="test", compress=True):
        self.path = path
        os.makedirs(f"{path}/blobs/sha256")
        with open(f"{path}/oci-layout", "w") as f:
            json.dump({"imageLayoutVersion": "1.0.0"}, f)
        self.layers = [self.blob(gzip.compress(x, 1, mtime=0) if compress else x, LAYER + ("+gzip" if compress else ""))
                       for x in layers]
        self.config = self.blob({"os": "linux", "architecture": "amd64", "config": config or {},
                                 "rootfs": {"type": "layers", "diff_ids": [digest(x) for x in layers]}},
                                "application/vnd.oci.image.config.v1+json")
        self.manifest = self.blob({"schemaVersion": 2, "mediaType": MANIFEST, "config": self.config, "layers": self.layers},
                                  MANIFEST)
        self.index([{**self.manifest, "annotations": {"org.opencontainers.image.ref.name": tag}}])

    def blob(self, content, media_type):
        """Stores a blob; its descriptor."""
        data = json.dumps(content).encode() if isinstance(content, dict) else content
        with open(self.file(digest(data)), "wb") as f:
            f.write(data)
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def index(self, manifests):
        with open(f"{self.path}/index.json", "w") as f:
            json.dump({"schemaVersion": 2, "manifests": manifests}, f)

    def file(self, name):
        return f"{self.path}/blobs/sha256/{name.split(':')[1]}"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def docker_archive(path, layers, config=None):
    """What `docker save` writes."""
    blobs = {f"{digest(x)[7:]}.tar": x for x in layers}
    image = json.dumps({"os": "linux", "architecture": "amd64", "config": config or {},
                        "rootfs": {"type": "layers", "diff_ids": [digest(x) for x in layers]}}).encode()
    image_name = f"{digest(image)[7:]}.json"
    listing = [{"Config": image_name, "RepoTags": ["test:latest"], "Layers": list(blobs)}]
    with tarfile.open(path, "w") as out:
        for name, data in {image_name: image, **blobs, "manifest.json": json.dumps(listing).encode()}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))


def busybox_folder(path):
    """An unpacked tree with no more than busybox in it."""
    os.makedirs(f"{path}/bin")
    shutil.copy(BUSYBOX, f"{path}/bin/busybox")
    for applet in APPLETS:
        os.symlink("busybox", f"{path}/bin/{applet}")
    return path
