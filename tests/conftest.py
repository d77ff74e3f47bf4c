"""Fixtures of the end-to-end and escape tests.

  host      a person: root and, in a second round, an ordinary user; host.nixbox("version"), host.folder(), host.terminal()
  box       a running box with the default config (see harness.py), shared by the tests of a file to save boots; a test may
            break it, the next one gets it booted anew
  @pytest.mark.person("root") or ("ordinary"): only for that kind of person
  make_box  make_box(config_text=None, up=True): a box for this test alone
  lab       the network laboratory (netlab.py), shared by all tests of a worker; lab_host: a person at its host, for whom the
            internet is the laboratory's; make_lab_box: as make_box, in front of it
  spaces, far  the namespaces of gateway_stage.py and the servers on their far side, for a file's tests of the gateway without a box
Boxes come with `work` (mounted for writing) and `ro` (read-only); box.sh("…") runs a command inside, box.run([...], input=b"")
gives the whole result. After each box: no process, mount or runtime file may be left, or the test fails.
"""
import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gateway_stage  # noqa: E402
import harness  # noqa: E402
import netlab  # noqa: E402

preparation = pytest.StashKey()

# A shell starts what it puts in the background with these ignored, and programs hand that on.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def pytest_configure(config):
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was prepared is cleaned up
    prep = config.stash[preparation] = harness.Preparation()
    try:
        prep.prepare()
    except (RuntimeError, OSError, AssertionError) as e:
        prep.clean()
        pytest.exit(f"the tests cannot be prepared: {e}", returncode=3)


def pytest_unconfigure(config):
    if preparation in config.stash:
        config.stash[preparation].clean()


def pytest_collection_modifyitems(config, items):
    """Leaves out the half of a test that is marked person("root") or person("ordinary") for the other kind of person."""
    def wanted(item):
        mark, callspec = item.get_closest_marker("person"), getattr(item, "callspec", None)
        who = callspec.params.get("host") if callspec else None
        return not mark or not who or mark.args[0] == ("root" if who == "root" or os.getuid() == 0 and who == "self" else "ordinary")

    out = [item for item in items if not wanted(item)]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if wanted(item)]


@pytest.fixture(scope="session", autouse=True)
def subreaper():
    harness.become_parent()
    yield
    for box in list(harness.Box.live):
        box.close()


@pytest.fixture(scope="session", params=harness.people())
def host(request):
    return harness.Host(request.param, os.environ.get("PYTEST_XDIST_WORKER", "main"))


@pytest.fixture(scope="module")
def shared_box(host, request):
    box = harness.Box(host, request.module.__name__.removeprefix("test_")[:12].replace("_", "-"),
                      getattr(request.module, "CONFIG", None))
    yield box
    box.close()


@pytest.fixture
def box(shared_box):
    if not shared_box.supervisor():
        shared_box.up()
    return shared_box


def maker(host):
    """Makes boxes, and closes them at the end; a generator, as fixtures are."""
    made = []

    def make(config=None, up=True, name="b"):
        made.append(harness.Box(host, name, config))
        if up:
            made[-1].up()
        return made[-1]

    yield make
    problems = []
    for box in reversed(made):
        try:
            box.close()
        except AssertionError as e:
            problems.append(str(e))
    assert not problems, "\n".join(problems)


@pytest.fixture
def make_box(host):
    yield from maker(host)


@pytest.fixture(scope="session")
def lab():
    if os.getuid() != 0:
        pytest.skip("expected: only root can make the network laboratory")
    lab = netlab.Lab()
    yield lab
    lab.close()


@pytest.fixture(scope="session")
def lab_host(host, lab):
    return netlab.LabHost(host.name, os.environ.get("PYTEST_XDIST_WORKER", "main"), lab)


@pytest.fixture
def make_lab_box(lab_host):
    yield from maker(lab_host)


@pytest.fixture(scope="module")
def make_lab_boxes(lab_host):
    """For boxes that several tests of a file look at."""
    yield from maker(lab_host)


@pytest.fixture(scope="module")
def spaces():
    spaces = gateway_stage.Namespaces()
    yield spaces
    spaces.close()


@pytest.fixture(scope="module")
def far(spaces):
    far = gateway_stage.Far(spaces)
    yield far
    far.close()
