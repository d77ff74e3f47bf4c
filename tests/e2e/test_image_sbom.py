"""nixbox image sbom: a valid SPDX document that names what is in the lock, the same bytes each time, without a network."""
import json
import os
import re

import pytest

from harness import write

CONFIG = "name: sbom\nnetwork: {mode: off}\n"
OFFLINE = {"NIXBOX_MIRROR": "http://127.0.0.1:9/debian", "NIXBOX_SNAPSHOT": "http://127.0.0.1:9/snapshot"}
NAME = r"[A-Za-z0-9.-]+"
TERM = rf"\(*(?!AND\b|OR\b){NAME}\)*"


@pytest.fixture(scope="module")
def folder(host):
    path = host.folder("sbom")
    write(f"{path}/nixbox.yaml", CONFIG, host)
    done = host.nixbox("image", "build", "--json", cwd=path, timeout=1200)
    assert done.returncode == 0, done.stderr.decode()
    return path


def sbom(host, folder, *args, **kwargs):
    done = host.nixbox("image", "sbom", *args, cwd=folder, timeout=600, **kwargs)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def check_package(package):
    """The fields that SPDX 2.3 requires, and the form of their values."""
    assert re.fullmatch(f"SPDXRef-{NAME}", package["SPDXID"])
    assert package["name"] and package["filesAnalyzed"] is False
    assert re.fullmatch(r"NOASSERTION|https?://\S+", package["downloadLocation"])
    assert package["licenseConcluded"] == package["copyrightText"] == "NOASSERTION"
    assert re.fullmatch(rf"{TERM}( (AND|OR) {TERM})*", package["licenseDeclared"]), package["licenseDeclared"]
    assert package["licenseDeclared"].count("(") == package["licenseDeclared"].count(")")
    assert re.fullmatch("NOASSERTION|Organization: .+", package.get("supplier", "NOASSERTION"))
    for one in package.get("checksums", []):
        assert re.fullmatch("[0-9a-f]{%d}" % {"SHA256": 64, "SHA512": 128}[one["algorithm"]], one["checksumValue"])
    for one in package.get("externalRefs", []):
        assert (one["referenceCategory"], one["referenceType"]) == ("PACKAGE-MANAGER", "purl")
        assert re.fullmatch(r"pkg:(deb/debian|npm)(/[A-Za-z0-9._~%-]+){1,2}@[A-Za-z0-9._~%-]+(\?arch=[a-z0-9]+)?", one["referenceLocator"])


def check_document(doc):
    assert (doc["spdxVersion"], doc["dataLicense"], doc["SPDXID"]) == ("SPDX-2.3", "CC0-1.0", "SPDXRef-DOCUMENT")
    assert doc["name"] and re.fullmatch(r"https://[^#\s]+", doc["documentNamespace"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", doc["creationInfo"]["created"])
    assert all(re.match("(Tool|Organization|Person): .", c) for c in doc["creationInfo"]["creators"]) and doc["creationInfo"]["creators"]
    ids = [p["SPDXID"] for p in doc["packages"]]
    assert len(ids) == len(set(ids))
    known = {*ids, "SPDXRef-DOCUMENT"}
    for package in doc["packages"]:
        check_package(package)
    for one in doc["relationships"]:
        assert {one["spdxElementId"], one["relatedSpdxElement"]} <= known
        assert one["relationshipType"] in ("DESCRIBES", "CONTAINS", "DEPENDS_ON")
    assert {one["relatedSpdxElement"] for one in doc["relationships"]} == set(ids)  # nothing hangs in the air
    assert set(doc["documentDescribes"]) <= set(ids)
    used = set(re.findall(rf"LicenseRef-{NAME}", " ".join(p["licenseDeclared"] for p in doc["packages"])))
    defined = [one["licenseId"] for one in doc.get("hasExtractedLicensingInfos", [])]
    assert sorted(used) == sorted(defined) and all(one["extractedText"] for one in doc.get("hasExtractedLicensingInfos", []))


def test_document(host, folder):
    doc = json.loads(sbom(host, folder))
    check_document(doc)
    with open(f"{folder}/nixbox.lock") as f:
        lock = json.load(f)
    image = next(p for p in doc["packages"] if p["SPDXID"] == doc["documentDescribes"][0])
    assert image["checksums"][0]["checksumValue"] == lock["digest"].removeprefix("sha256:")
    assert doc["creationInfo"]["created"] == lock["resolved"]
    listed = {p["checksums"][0]["checksumValue"]: p for p in doc["packages"] if p.get("checksums")}
    for part in ("base", "packages", "runtime", "kernel"):
        for p in lock.get(part, []):
            found = listed[p["sha256"]]
            assert (found["name"], found["versionInfo"]) == (p["name"], p["version"]) and found["downloadLocation"].endswith(p["path"])
    by_name = {p["name"]: p for p in doc["packages"]}
    assert "GPL-2.0-only" in by_name["git"]["licenseDeclared"] and by_name["zlib1g"]["licenseDeclared"] == "Zlib"
    stated = [p for p in doc["packages"] if p["licenseDeclared"] != "NOASSERTION"]
    assert len(stated) > 100


def test_same_bytes_and_no_network(host, folder):
    first = sbom(host, folder)
    assert sbom(host, folder, env=OFFLINE) == first == sbom(host, folder, "--json", env=OFFLINE)


def test_licences_for_people(host, folder):
    lines = sbom(host, folder, "--licenses").decode().splitlines()
    with open(f"{folder}/nixbox.lock") as f:
        lock = json.load(f)
    assert [line.split()[0] for line in lines] == [p["name"] for part in ("base", "packages") for p in lock.get(part, [])]
    assert next(line for line in lines if line.startswith("zlib1g ")).split()[-1] == "Zlib"


def test_without_lock(host):
    path = host.folder("nolock")
    write(f"{path}/nixbox.yaml", CONFIG, host)
    done = host.nixbox("image", "sbom", cwd=path)
    assert done.returncode == 125 and "there is no nixbox.lock" in done.stderr.decode() and done.stdout == b""
    assert not os.path.exists(f"{path}/nixbox.lock")


def test_lock_of_another_image(host, folder):
    path = host.folder("other")
    write(f"{path}/nixbox.yaml", CONFIG + "image: {packages: [tree]}\n", host)
    with open(f"{folder}/nixbox.lock") as f:
        write(f"{path}/nixbox.lock", f.read(), host)
    done = host.nixbox("image", "sbom", cwd=path)
    assert done.returncode == 125 and "nixbox.lock" in done.stderr.decode() and done.stdout == b""
