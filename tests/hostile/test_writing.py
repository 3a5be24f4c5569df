"""Where files are written: links, pipes, devices, folders, left-over files."""

import ast
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import torch

import transpike as ts
from transpike.errors import FileError, SettingError
from transpike.results.writing import check_folder, check_writable, scratch_folder, tensor_bytes, write_atomically
from waiting import HANGS

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(ts.__file__).parents[1])}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def process(code: str, *words: object, **more: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, capture_output=True, env=ENVIRONMENT, timeout=HANGS, **more)


@pytest.mark.parametrize("link", ["../a.json", "b.json"])
def test_a_link_stays_and_its_target_is_replaced(tmp_path, link):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link.json").symlink_to(link)
    target = (folder / link).resolve()
    for content in (b"first", b"second"):  # the target is missing at first
        check_writable(folder / "link.json")
        write_atomically(folder / "link.json", content)
        assert (folder / "link.json").is_symlink() and target.read_bytes() == content
    assert not list(tmp_path.rglob("*.part"))


def test_a_target_is_replaced_whole(tmp_path):
    """Whoever has opened the old file still reads it."""
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "link").symlink_to("a")
    with (tmp_path / "a").open("rb") as file:
        write_atomically(tmp_path / "link", b"new")
        assert file.read() == b"old" and (tmp_path / "a").read_bytes() == b"new"


def test_a_pipe_is_written_into_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_writable(pipe)  # without waiting for a reader
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    write_atomically(pipe, b"spikes" * 50000)
    reader.join(HANGS)
    assert found == [b"spikes" * 50000] and stat.S_ISFIFO(pipe.stat().st_mode) and names(tmp_path) == {"pipe"}


def test_the_null_device_takes_everything(tmp_path):
    (tmp_path / "link").symlink_to(os.devnull)
    for path in (Path(os.devnull), tmp_path / "link"):
        check_writable(path)
        write_atomically(path, b"lost")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode) and (tmp_path / "link").is_symlink()
    with pytest.raises(FileError, match="is a pipe or a device, but this file is read again"):
        check_writable(os.devnull, read_again=True)


def test_what_is_no_file_is_neither_replaced_nor_written(tmp_path):
    with socket.socket(socket.AF_UNIX) as place:
        place.bind(str(tmp_path / "s"))
        (tmp_path / "loop").symlink_to("loop")
        for name, text in (("s", "it is a socket"), ("", "it is a folder"), ("loop", "symbolic links")):
            for refuse in (check_writable, lambda path: write_atomically(path, b"x")):
                with pytest.raises(FileError, match=f"cannot be written.*{text}"):
                    refuse(tmp_path / name)
        assert stat.S_ISSOCK((tmp_path / "s").stat().st_mode) and names(tmp_path) == {"loop", "s"}


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device")
def test_other_devices_are_refused():
    with pytest.raises(FileError, match="/dev/zero cannot be written: it is a device"):
        write_atomically("/dev/zero", b"x")


@pytest.mark.parametrize("into", ["pipe", "file"])
def test_standard_output_is_continued(tmp_path, into):
    code = (
        "from transpike.results.writing import *; print('text'); write_atomically('/dev/stdout', b'data'); print('end')"
    )
    if into == "pipe":
        done = process(code)
        content = done.stdout
    else:
        with (tmp_path / "out").open("wb") as file:
            done = subprocess.run([sys.executable, "-c", code], stdout=file, env=ENVIRONMENT, timeout=HANGS)
        content = (tmp_path / "out").read_bytes()
    assert content == b"text\ndataend\n" and done.returncode == 0


def test_permissions_of_an_existing_file_are_kept(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o600)
    write_atomically(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.read_bytes() == b"new"


def test_a_protected_file_is_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as for a user who is not root
    for refuse in (check_writable, lambda path: write_atomically(path, b"x")):
        with pytest.raises(FileError, match="the file is write-protected"):
            refuse(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"old"


def test_missing_folders_are_named_before_the_work_or_created(tmp_path):
    path = tmp_path / "one" / "two" / "net.transpike"
    with pytest.raises(FileError, match=r"there is no folder .*/one/two; create it first"):
        check_writable(path)
    assert not (tmp_path / "one").exists()
    check_writable(path, make_folder=True)
    assert list(path.parent.iterdir()) == []
    write_atomically(tmp_path / "three" / "x", b"1", make_folder=True)
    assert (tmp_path / "three" / "x").read_bytes() == b"1"


def test_a_folder_under_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError, match=r"files cannot be written into the folder .*file/x"):
        check_folder(tmp_path / "file" / "x")
    with pytest.raises(FileError, match=r"a\\x00b cannot be written"):
        check_writable("a\0b")


def test_two_outputs_in_one_file_are_refused(tmp_path):
    (tmp_path / "link").symlink_to("a")
    check_writable(tmp_path / "a", None, tmp_path / "b")
    with pytest.raises(SettingError, match="link is given for two outputs"):
        check_writable(tmp_path / "a", tmp_path / "link")


def test_the_longest_name_that_a_folder_takes_can_be_written(tmp_path):
    for name in ("a" * 255, "θ" * 127):
        write_atomically(tmp_path / name, b"1")
        assert (tmp_path / name).read_bytes() == b"1"


LEAVES = """
import os, sys
from pathlib import Path
from transpike.results.writing import _temporary
with _temporary(Path(sys.argv[1])) as (file, name):
    print(name.name, flush=True)
    if sys.argv[2] == "dies":
        os._exit(1)
    sys.stdin.read()
"""


def test_leftovers_of_dead_writers_are_removed_and_nothing_else(tmp_path):
    path = tmp_path / "net.transpike"
    dead = process(LEAVES, path, "dies").stdout.decode().strip()
    foreign = [".net.transpike.part", ".net.tp-xyz.part", "net.tp-0123456789ab.part", ".x.part", ".x.42.tmp"]
    for name in foreign:
        (tmp_path / name).write_bytes(b"not ours")
    (tmp_path / ".link.tp-0123456789ab.part").symlink_to("net.transpike")
    alive = subprocess.Popen(
        [sys.executable, "-c", LEAVES, str(path), "lives"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    living = alive.stdout.readline().decode().strip()
    assert {dead, living} < names(tmp_path)
    check_writable(tmp_path / "other.json")
    assert names(tmp_path) == {living, ".link.tp-0123456789ab.part", *foreign}
    alive.communicate(timeout=HANGS)
    assert alive.returncode == 0 and living not in names(tmp_path)


SCRATCH = """
import os, sys
from transpike.results.writing import scratch_folder
with scratch_folder() as folder:
    (folder / "inputs").write_bytes(b"x")
    print(folder.name, flush=True)
    if sys.argv[1] == "dies":
        os._exit(1)
    sys.stdin.read()
"""


def test_temporary_folders_of_dead_processes_are_removed_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, "TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "transpike-abcdefgh").mkdir()  # without a lock it may be anything
    (tmp_path / "transpike-0123456789ab.lock").touch()  # killed before it made its folder
    dead = process(SCRATCH, "dies").stdout.decode().strip()
    alive = subprocess.Popen(
        [sys.executable, "-c", SCRATCH, "lives"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    living = alive.stdout.readline().decode().strip()
    assert dead not in names(tmp_path) and living in names(tmp_path)  # the second process removed it
    with scratch_folder() as folder:
        locks = {f"{living}.lock", f"{folder.name}.lock"}
        assert names(tmp_path) == {living, folder.name, "transpike-abcdefgh", *locks}
        assert names(tmp_path / living) == {"inputs"}
    alive.communicate(timeout=HANGS)
    assert names(tmp_path) == {"transpike-abcdefgh"}


def test_two_writers_of_one_process_do_not_remove_each_others_files(tmp_path):
    errors = []

    def write(number: int) -> None:
        try:
            for _ in range(10):
                write_atomically(tmp_path / "one", b"%d" % number * 1000)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANGS)
    content = (tmp_path / "one").read_bytes()
    assert not errors and names(tmp_path) == {"one"} and len(set(content)) == 1 and len(content) == 1000


def test_a_file_of_tensors_depends_on_its_content_only():
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, 2, dtype=torch.int64), "empty": torch.zeros(0)}
    metadata = {name: name * 3 for name in "zyxwvθ"}
    first = tensor_bytes(tensors, metadata)
    for _ in range(8):  # six names have 720 orders
        assert tensor_bytes(dict(reversed(tensors.items())), dict(reversed(metadata.items()))) == first
    import safetensors.torch

    found = safetensors.torch.load(first)
    assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert int.from_bytes(first[:8], "little") % 8 == 0


def written(tree: ast.AST) -> set[str]:
    """The calls that write a file."""
    found = set()
    for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
        name = ast.unparse(call.func)
        last = name.rpartition(".")[2]
        modes = [part.value for part in call.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        if name == "formatter.write_text":  # of click's help
            continue
        if last in ("write_bytes", "write_text", "save_file", "savefig", "mkstemp", "rename", "NamedTemporaryFile"):
            found.add(name)
        if name in ("os.replace", "torch.save", "shutil.move", "shutil.copy"):
            found.add(name)
        if last in ("open", "fdopen") and any(
            set(mode) <= set("rwaxbt+") and set(mode) & set("wax+") for mode in modes
        ):
            found.add(name)
    return found


def test_no_module_writes_files_in_another_way():
    """``write_atomically`` is the only door; pictures are drawn into memory."""
    sources = Path(ts.__file__).parent
    trees = {path.relative_to(sources).as_posix(): ast.parse(path.read_bytes()) for path in sources.rglob("*.py")}
    found = {path: calls for path, tree in trees.items() if (calls := written(tree))}
    nowhere = {"cli/_common.py": {"Path(os.devnull).open"}, "cli/_errors.py": {"open"}}  # output that is not wanted
    lines = {"workflow/reproduce/run.py": {"log.open"}}  # what a running stage prints, as it comes
    assert found.keys() == {"results/writing.py", "report/_style.py", *nowhere, *lines}
    assert {path: found[path] for path in nowhere | lines} == nowhere | lines
    assert found["report/_style.py"] == {"drawn.savefig"}
