"""The file tools: what they do, and that nothing gets them out of their root."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import ToolError
from agentkit.errors import ConfigError
from agentkit_tools import files as module
from agentkit_tools.files import FileTools

SECRET = "outside the root"
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text(SECRET)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text(SECRET)
    root = tmp_path / "root"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "a.txt").write_text("one\ntwo\nthree\n")
    (root / "sub" / "b.md").write_text("b")
    (root / "sub" / "deep" / "c.md").write_text("cc")
    (root / ".hidden").write_text("h")
    return root


@pytest.fixture
def tools(root: Path) -> FileTools:
    return FileTools(root)


def leftovers(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*.tmp")]


# reading


def test_read_a_whole_file_exactly(tools: FileTools, root: Path) -> None:
    (root / "x.txt").write_bytes("ä\r\nend".encode())
    assert tools.read_file("x.txt") == "ä\r\nend"
    assert tools.read_file("sub/../a.txt") == "one\ntwo\nthree\n"
    assert tools.read_file("./sub//b.md") == "b"


def test_read_some_lines_and_be_told_how_to_go_on(tools: FileTools) -> None:
    assert tools.read_file("a.txt", offset=2, limit=1) == "two\n[Lines 2 to 2 of 3; go on with offset=3.]"
    assert tools.read_file("a.txt", offset=3) == "three\n[Lines 3 to 3 of 3.]"
    with pytest.raises(ToolError, match="3 lines: there is no line 4"):
        tools.read_file("a.txt", offset=4)


def test_a_long_answer_is_cut_at_a_line(tools: FileTools, root: Path) -> None:
    (root / "long.txt").write_text("0123456789\n" * 900_000)
    text = tools.read_file("long.txt", limit=10**9)
    assert len(text) < 41_000
    assert text.endswith("\n0123456789\n[Lines 1 to 3,636 of 900,000; go on with offset=3637.]")
    (root / "wide.txt").write_text("x" * 100_000)
    assert tools.read_file("wide.txt").endswith("x\n[Line 1 is longer than 40,000 characters: cut here.]")


def test_an_empty_file_says_so(tools: FileTools, root: Path) -> None:
    (root / "empty.txt").touch()
    assert tools.read_file("empty.txt") == "[The file is empty.]"


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\0", b"\xff\xfe\x00", b"caf\xe9"])
def test_a_binary_file_is_refused(tools: FileTools, root: Path, data: bytes) -> None:
    (root / "image.png").write_bytes(data)
    with pytest.raises(ToolError, match=r"'image\.png' is not UTF-8 text"):
        tools.read_file("image.png")


def test_a_huge_file_is_refused(tools: FileTools, root: Path) -> None:
    with (root / "huge").open("wb") as file:
        file.truncate(50 * 10**9)  # sparse: it takes no room, and reading it all would show
    with pytest.raises(ToolError, match="larger than 10,000,000 bytes"):
        tools.read_file("huge")


def test_what_is_not_there_is_named(tools: FileTools) -> None:
    with pytest.raises(ToolError, match=r"'no/such.txt'.*list_files"):
        tools.read_file("no/such.txt")
    with pytest.raises(ToolError, match="directory"):
        tools.read_file("sub")


# writing


def test_write_a_new_file_and_its_directories(tools: FileTools, root: Path) -> None:
    assert tools.write_file("new/dir/x.txt", "hé\n") == "Wrote the new file 'new/dir/x.txt': 3 characters."
    assert (root / "new/dir/x.txt").read_bytes() == "hé\n".encode()
    assert leftovers(root) == []


@posix
def test_replace_a_file_and_keep_its_mode(tools: FileTools, root: Path) -> None:
    (root / "a.txt").chmod(0o750)
    assert tools.write_file("a.txt", "x") == "Replaced 'a.txt': 1 characters."
    assert (root / "a.txt").read_text() == "x"
    assert stat.S_IMODE((root / "a.txt").stat().st_mode) == 0o750


def test_what_cannot_be_written_changes_nothing(tools: FileTools, root: Path) -> None:
    (root / "a.txt").chmod(0o444)
    for path, content, message in [
        ("a.txt", "x", "read-only"),
        ("sub", "x", "directory"),
        ("a.txt/b", "x", "part of this path"),
        ("big.txt", "x" * 1_000_001, "limit is 1,000,000"),
        ("odd.txt", "\ud800", "half of a pair"),
        ("n" * 300, "x", "name is too long"),
    ]:
        with pytest.raises(ToolError, match=message):
            tools.write_file(path, content)
    assert (root / "a.txt").read_text() == "one\ntwo\nthree\n"
    assert not (root / "big.txt").exists()
    assert leftovers(root) == []


def test_edit_one_passage(tools: FileTools, root: Path) -> None:
    tools.edit_file("a.txt", "two\n", "2\n")
    assert (root / "a.txt").read_text() == "one\n2\nthree\n"
    for old, message in [("four", "occurs 0 times"), ("e", "occurs 3 times"), ("", "occurs 0 times")]:
        with pytest.raises(ToolError, match=message):
            tools.edit_file("a.txt", old, "x")


def test_edits_at_the_same_time_are_all_kept(tools: FileTools, root: Path) -> None:
    (root / "n.txt").write_text("".join(f"<{n}>" for n in range(40)))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: tools.edit_file("n.txt", f"<{n}>", f"[{n}]"), range(40)))
    assert (root / "n.txt").read_text() == "".join(f"[{n}]" for n in range(40))


def in_a_process(root: Path, script: str) -> str:
    """Run a script with `tools` and `root` in a fresh Python, where it may break what it likes."""
    prelude = (
        "import os, sys\nfrom agentkit_tools.files import FileTools\nroot = sys.argv[1]\ntools = FileTools(root)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", prelude + textwrap.dedent(script), str(root)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@posix
def test_a_full_disk_leaves_the_old_file(root: Path) -> None:
    script = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        try:
            tools.write_file("a.txt", "x" * 20_000)
        except Exception as error:
            print(type(error).__name__, error)
    """
    assert "ToolError 'a.txt': the disk is full or the file too large; nothing was changed" in in_a_process(
        root, script
    )
    assert (root / "a.txt").read_text() == "one\ntwo\nthree\n"
    assert leftovers(root) == []


@posix
def test_ctrl_c_before_the_last_step_leaves_the_old_file(root: Path) -> None:
    script = """
        def interrupt(event, args):
            if event == "os.rename":
                print("written:", len(os.listdir(root)))
                raise KeyboardInterrupt
        sys.addaudithook(interrupt)
        try:
            tools.write_file("a.txt", "new")
        except KeyboardInterrupt:
            print("stopped")
    """
    assert in_a_process(root, script) == "written: 4\nstopped\n"  # with the temporary file
    assert (root / "a.txt").read_text() == "one\ntwo\nthree\n"
    assert leftovers(root) == []


# listing


def test_list_files(tools: FileTools) -> None:
    assert tools.list_files("*") == "a.txt (14 bytes)\nsub/"
    assert tools.list_files("**/*.md") == "sub/b.md (1 bytes)\nsub/deep/c.md (2 bytes)"
    assert tools.list_files("sub/*.md") == "sub/b.md (1 bytes)"
    assert tools.list_files() == "a.txt (14 bytes)\nsub/\nsub/b.md (1 bytes)\nsub/deep/\nsub/deep/c.md (2 bytes)"
    assert tools.list_files(".*") == ".hidden (1 bytes)"
    assert tools.list_files("nothing/*") == "Nothing matches 'nothing/*'."
    assert tools.list_files("**/**/**/c.md") == "sub/deep/c.md (2 bytes)"


@pytest.mark.parametrize("pattern", ["../*", "/etc/*", "sub/../../*"])
def test_a_pattern_cannot_leave_the_root(tools: FileTools, pattern: str) -> None:
    with pytest.raises(ToolError, match="leaves the root"):
        tools.list_files(pattern)


def test_a_long_list_is_cut(tools: FileTools, root: Path) -> None:
    for n in range(600):
        (root / f"{n:03}.n").touch()
    lines = tools.list_files("*.n").splitlines()
    assert len(lines) == 501
    assert lines[-1] == "[More than 500 match: use a narrower pattern.]"


def test_too_many_files_to_look_through_are_refused(
    tools: FileTools, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_VISITED", 3)  # rather than make 20,001 files
    with pytest.raises(ToolError, match="narrower pattern"):
        tools.list_files("**/x")


# the jail


@pytest.fixture(params=["walk", "look"])
def jailed(request: pytest.FixtureRequest, root: Path, monkeypatch: pytest.MonkeyPatch) -> FileTools:
    """Both ways down: opened part by part, and the one for platforms without that."""
    if request.param == "look":
        monkeypatch.setattr("agentkit_tools._jail.WALKS", False)
    elif os.name != "posix":
        pytest.skip("needs dir_fd")
    return FileTools(root)


ESCAPES = ["../secret.txt", "sub/../../secret.txt", "..", "sub/../..", "link.txt", "link/secret.txt", "up/secret.txt"]


@posix
@pytest.mark.parametrize("path", ESCAPES)
def test_no_path_leads_out(jailed: FileTools, root: Path, path: str) -> None:
    (root / "link.txt").symlink_to(root.parent / "secret.txt")
    (root / "link").symlink_to(root.parent / "outside")
    (root / "up").symlink_to("..")
    for use in (
        lambda: jailed.read_file(path),
        lambda: jailed.write_file(path, "broken out"),
        lambda: jailed.edit_file(path, "outside", "broken out"),
    ):
        with pytest.raises(ToolError) as raised:
            use()
        assert SECRET not in str(raised.value)
        assert str(root.parent) not in str(raised.value)
    assert (root.parent / "secret.txt").read_text() == SECRET
    assert (root.parent / "outside" / "secret.txt").read_text() == SECRET
    assert "link" not in jailed.list_files("**")
    assert jailed.list_files("link/*") == "Nothing matches 'link/*'."


def test_an_absolute_path_is_refused_even_into_the_root(jailed: FileTools, root: Path) -> None:
    for path in (str(root / "a.txt"), str(root.parent / "secret.txt")):
        with pytest.raises(ToolError):
            jailed.read_file(path)


@posix
def test_reading_and_writing_work_both_ways(jailed: FileTools, root: Path) -> None:
    jailed.write_file("x/y.txt", "1")
    assert jailed.read_file("x/y.txt") == "1"
    assert jailed.list_files("x/*") == "x/y.txt (1 bytes)"
    with pytest.raises(ToolError, match="no such file"):
        jailed.read_file("no/y.txt")


@posix
def test_special_files_are_refused_and_do_not_hang(jailed: FileTools, root: Path) -> None:
    os.mkfifo(root / "pipe")
    # A socket's path may have 100 characters or so, fewer than pytest's directories.
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{short}/s")
        Path(f"{short}/s").rename(root / "socket")
        for name in ("pipe", "socket"):
            with pytest.raises(ToolError, match="device, pipe or socket"):
                jailed.read_file(name)
            with pytest.raises(ToolError, match="device, pipe or socket"):
                jailed.write_file(name, "x")
        assert "pipe" not in jailed.list_files("*")


@posix
def test_a_device_is_refused() -> None:
    with pytest.raises(ToolError, match="device, pipe or socket"):
        FileTools("/dev").read_file("zero")


@posix
def test_a_file_swapped_for_a_link_after_the_check_is_not_followed(root: Path) -> None:
    script = """
        def swap(event, args):
            if event == "open" and args[0] == "a.txt":
                os.unlink(f"{root}/a.txt")
                os.symlink(f"{root}/../secret.txt", f"{root}/a.txt")
                print("swapped")
        sys.addaudithook(swap)
        try:
            print(tools.read_file("a.txt"))
        except Exception as error:
            print(type(error).__name__, error)
    """
    out = in_a_process(root, script)
    assert out.startswith("swapped\nToolError")
    assert "links are not followed" in out


@posix
@pytest.mark.parametrize("moment", ["sub", "b.md"])
def test_a_directory_swapped_for_a_link_on_the_way_is_not_followed(root: Path, moment: str) -> None:
    (root.parent / "outside" / "b.md").write_text(SECRET)
    script = f"""
        def swap(event, args):
            if event == "open" and args[0] == {moment!r} and not os.path.islink(f"{{root}}/sub"):
                os.rename(f"{{root}}/sub", f"{{root}}/moved")
                os.symlink(f"{{root}}/../outside", f"{{root}}/sub")
                print("swapped")
        sys.addaudithook(swap)
        try:
            print(tools.read_file("sub/b.md"))
        except Exception as error:
            print(type(error).__name__, error)
    """
    out = in_a_process(root, script)
    assert out.startswith("swapped\n")
    assert SECRET not in out
    # Before it was opened the link is seen; after, the directory that was opened is the one that is read.
    assert ("ToolError" in out) if moment == "sub" else out == "swapped\nb\n"


names = st.sampled_from(["..", ".", "", "sub", "deep", "a.txt", "link", "up", "secret.txt", "outside", "~", "C:", "\\"])


@posix
@given(path=st.one_of(st.lists(names, max_size=6).map("/".join), st.text(max_size=300)))
def test_no_string_at_all_reads_outside(path: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        outside = Path(directory)
        (outside / "secret.txt").write_text(SECRET)
        (outside / "root" / "sub" / "deep").mkdir(parents=True)
        (outside / "root" / "a.txt").write_text("inside")
        (outside / "root" / "link").symlink_to(outside)
        (outside / "root" / "sub" / "up").symlink_to("../..")
        try:
            assert FileTools(outside / "root").read_file(path) == "inside"
        except ToolError as error:
            assert SECRET not in str(error)
        with contextlib.suppress(ToolError):
            FileTools(outside / "root").write_file(path, "written")
        assert sorted(entry.name for entry in outside.iterdir()) == ["root", "secret.txt"]
        assert (outside / "secret.txt").read_text() == SECRET


def test_a_root_that_is_no_directory_is_refused(root: Path) -> None:
    for path in (root / "missing", root / "a.txt"):
        with pytest.raises(ConfigError, match="is not a directory"):
            FileTools(path)


@posix
def test_the_root_itself_may_be_a_link(root: Path) -> None:
    (root.parent / "alias").symlink_to(root)
    assert FileTools(root.parent / "alias").read_file("sub/b.md") == "b"


def test_the_plugin_offers_them_for_the_current_directory(root: Path) -> None:
    assert [tool.name for tool in module.files] == ["read_file", "write_file", "edit_file", "list_files"]
    read_file = module.files[0]
    assert list(read_file.parameters["properties"]) == ["path", "offset", "limit"]
    script = """
        os.chdir(root)
        from importlib import reload
        import agentkit_tools.files as module
        print(reload(module).files[0](path="sub/b.md"))
    """
    assert in_a_process(root, script) == "b\n"
