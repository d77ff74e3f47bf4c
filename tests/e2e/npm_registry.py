"""A registry of npm packages on the loopback device, with packages made for the tests."""
import base64
import hashlib
import http.server
import io
import json
import tarfile
import threading
import urllib.parse


def tarball(files):
    """A package's tarball: {name: text}, a name with '*' at its end is executable; names as they are, hostile ones too."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name.rstrip("*"))
            info.mode, info.size, info.uid = 0o755 if name.endswith("*") else 0o644, len(text), 1000
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


class Registry:
    """registry.add("name", "1.0.0", {"package/file": "text"}, bin={…}, …) publishes; registry.url is for NIXBOX_NPM_REGISTRY."""

    def __init__(self):
        self.packages, self.tarballs, self.asked = {}, {}, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, name, version, files=None, integrity=None, **manifest):
        manifest = {"name": name, "version": version, **manifest}
        data = tarball({"package/package.json": json.dumps(manifest), **(files or {})})
        file = f"{name.replace('/', '-').lstrip('@')}-{version}.tgz"
        self.tarballs[file] = data
        digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
        dist = {"tarball": f"{self.url}-/{file}", "shasum": hashlib.sha1(data).hexdigest()}
        if integrity != "none":
            dist["integrity"] = integrity or f"sha512-{digest}"
        if "scripts" in manifest:
            manifest["hasInstallScript"] = True
        package = self.packages.setdefault(name, {"name": name, "versions": {}, "dist-tags": {}})
        package["versions"][version] = {**manifest, "dist": dist}
        package["dist-tags"]["latest"] = version

    def answer(self, request):
        path = urllib.parse.unquote(request.path)[1:]
        self.asked.append(path)
        body = self.tarballs.get(path.removeprefix("-/")) if path.startswith("-/") else None
        if body is None and path in self.packages:
            body = json.dumps(self.packages[path]).encode()
        request.send_response(200 if body is not None else 404)
        body = body if body is not None else b'{"error": "Not found"}'
        request.send_header("Content-Length", str(len(body)))
        request.send_header("Content-Type", "application/json")
        request.end_headers()
        request.wfile.write(body)

    def close(self):
        self.server.shutdown()
        self.server.server_close()
