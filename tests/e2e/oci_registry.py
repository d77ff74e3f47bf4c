"""A registry of images on 127.0.0.1 that serves an OCI layout (tests/oci_images.py) to the real skopeo, after the OCI
distribution specification: manifests by tag or digest, blobs by digest."""
import http.server
import os
import threading

import harness
from oci_images import MANIFEST


class Registry:
    def __init__(self, layout, name="team/app"):
        self.layout, self.name, self.tags, self.asked = layout, name, {"1": layout.manifest["digest"]}, []
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                registry.asked.append(self.path)
                data, kind = registry.find(self.path)
                self.send_response(200 if data is not None else 404)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.at = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def find(self, path):
        """(content, its media type); None for what is not there."""
        if path == "/v2/":
            return b"{}", "application/json"
        what, _, last = path.removeprefix(f"/v2/{self.name}/").partition("/")
        file = self.layout.file(self.tags.get(last, last)) if what in ("manifests", "blobs") and (last in self.tags or ":" in last) else ""
        if not os.path.exists(file):
            return None, "text/plain"
        with open(file, "rb") as f:
            return f.read(), MANIFEST if what == "manifests" else "application/octet-stream"

    def trust(self, host):
        """Tells the person's own tools of the image world to speak to this registry without TLS."""
        folder = harness.make_folder(f"{host.home}/.config/containers", host.uid, host.gid)
        harness.write(f"{folder}/registries.conf", f'[[registry]]\nlocation = "{self.at}"\ninsecure = true\n', host)

    def close(self):
        self.server.shutdown()
        self.server.server_close()
