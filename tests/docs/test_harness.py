"""What executes the pages finds what is wrong with a page: small pages, each with its own ailment."""

import os
import socket
from pathlib import Path

import psutil
import pytest

from tests.docs.pages import PageError, found_pages, parse_page, read_page
from tests.docs.visit import visit

JOB = """\
```toml
[job]
name = "digits"

[model]
init = "first-client"

[rounds]
max = 3
clients = 2
```
"""


def do(folder: Path, text: str) -> Path:
    """Visits a page with this text; returns the folder that its commands worked in."""
    assert visit(parse_page("page.md", text), folder) == []
    return folder / "work"


def refusal(folder: Path, text: str) -> str:
    """What is said about a page that does not do what it says."""
    with pytest.raises(PageError) as raised:
        visit(parse_page("page.md", text), folder)
    return str(raised.value)


def complaint(text: str) -> str:
    """What is said about a page that does not keep the conventions."""
    with pytest.raises(PageError) as raised:
        parse_page("page.md", text)
    return str(raised.value)


def sh(*lines: str, directive: str = "") -> str:
    return "\n".join([*([f"<!-- doc: {directive} -->"] if directive else []), "```sh", *lines, "```", "", ""])


def test_commands_run_in_one_folder_and_one_shell(tmp_path: Path) -> None:
    work = do(
        tmp_path, sh("mkdir deep", "cd deep", "export WORD='two words'") + sh('echo "$WORD" > said', "pwd >> said")
    )
    assert (work / "deep" / "said").read_text() == f"two words\n{work}/deep\n"


def test_commands_find_a_newcomers_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDELTA_DEBUG", "1")
    work = do(tmp_path, sh('ls -A "$HOME" > said', "env > environment", "fedelta --version > version"))
    assert (work / "said").read_text() == ""
    assert "FEDELTA_DEBUG" not in (work / "environment").read_text()
    assert (work / "version").read_text().startswith("fedelta")


def test_a_failing_command_is_told_with_page_line_and_output(tmp_path: Path) -> None:
    told = refusal(tmp_path, "# Title\n\n" + sh("echo one", "echo two >&2 &&", "  false", "touch after"))
    assert told.startswith("page.md:6: exit code 1 instead of 0\n    false\n")
    assert told.endswith("one\ntwo\n")
    assert not (tmp_path / "work" / "after").exists()


@pytest.mark.parametrize("line", ["false | true", "nosuchcommand", "exit 3", "(exit 2)"])
def test_every_kind_of_failure_counts(tmp_path: Path, line: str) -> None:
    assert "instead of 0" in refusal(tmp_path, sh("true", line, "true"))


def test_an_expected_exit_code_is_demanded(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    do(tmp_path / "a", sh("(exit 2)", directive="exit 2") + sh("touch on"))
    assert (tmp_path / "a" / "work" / "on").exists()
    assert "exit code 0 instead of 2" in refusal(tmp_path / "b", sh("true", directive="exit 2"))
    assert "holds one command" in complaint(sh("false", "true", directive="exit 1"))


def test_background_commands_are_waited_for_and_stopped(tmp_path: Path) -> None:
    loop = "trap 'touch stopped-{0}' INT; touch started-{0}; echo ready; sleep 600"
    page = sh(f'bash -c "{loop.format("a")}"', f'bash -c "{loop.format("b")}"', directive='background "ready"')
    work = do(tmp_path, page + sh("ls > seen"))
    assert (work / "seen").read_text().split() == ["seen", "started-a", "started-b"]
    assert {path.name for path in work.iterdir()} >= {"stopped-a", "stopped-b"}


def test_a_background_command_that_does_not_get_ready_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    told = refusal(tmp_path / "a", sh("echo oh", directive='background "ready"'))
    assert told == "page.md:3: it ended without printing 'ready'\n    echo oh\n--- meanwhile in the background:\noh\n"
    monkeypatch.setattr("tests.docs.visit.READY_SECONDS", 0.1)
    assert "'ready' was not printed" in refusal(tmp_path / "b", sh("sleep 600", directive='background "ready"'))


def test_a_command_that_stays_is_told_and_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.docs.visit.BLOCK_SECONDS", 0.3)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert "what stays needs `background`" in refusal(tmp_path / "a", sh("sleep 600 &"))
    work = do(tmp_path / "b", sh("sleep 600 > /dev/null 2>&1 &", "echo $! > pid"))
    left = [process for process in psutil.process_iter() if process.pid == int((work / "pid").read_text())]
    assert psutil.wait_procs(left, timeout=5)[1] == []


def test_a_command_that_ctrl_c_does_not_end_is_told_and_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.docs.shell._STOP_SECONDS", 0.1)
    page = sh("bash -c \"trap '' INT; echo ready; sleep 600\"", directive='background "ready"')
    assert "Ctrl-C did not end it" in refusal(tmp_path, page)


def test_what_the_background_said_is_told_with_a_failure(tmp_path: Path) -> None:
    page = sh("bash -c 'echo ready; exec sleep 600'", directive='background "ready"') + sh("false")
    assert refusal(tmp_path, page).endswith("--- meanwhile in the background:\nready\n")


def test_files_are_written_and_python_is_run_where_the_commands_run(tmp_path: Path) -> None:
    page = "<!-- doc: file deep/part.py -->\n```python\nword = 'hello'\n```\n\n"
    page += sh("cd deep") + "```python\nimport part\nopen('said', 'w').write(part.word)\n```\n"
    assert (do(tmp_path, page) / "deep" / "said").read_text() == "hello"


def test_python_that_raises_is_told(tmp_path: Path) -> None:
    assert "ZeroDivisionError" in refusal(tmp_path, "```python\n1 / 0\n```\n")


def test_addresses_are_the_pages_own(tmp_path: Path) -> None:
    page = "<!-- doc: env PORT=8470 -->\n" + sh('echo 10.0.0.5:8470 localhost:8470 "$PORT" 8471 18470 > said')
    page += "<!-- doc: file job -->\n```text\nat 10.0.0.5:8470\n```\n"
    work = do(tmp_path, page)
    first, second, port, other, untouched = (work / "said").read_text().split()
    assert first == second == f"localhost:{port}"
    assert {port, other}.isdisjoint({"8470", "8471"})
    assert port != other
    assert untouched == "18470"
    assert (work / "job").read_text() == f"at localhost:{port}\n"
    with socket.socket() as free:
        free.bind(("127.0.0.1", int(port)))


def test_job_files_and_json_are_checked(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abcd"]
    for each in folders:
        each.mkdir()
    do(folders[0], JOB + '```json\n{"a": 1}\n```\n```toml\nelse = 1\n```\n')
    assert "rounds.mx" in refusal(folders[1], JOB.replace("max", "mx"))
    assert refusal(folders[2], "\n```json\n{'a': 1}\n```\n").startswith("page.md:3: ")
    assert refusal(folders[3], "```toml\na = \n```\n").startswith("page.md:2: ")


def test_output_shown_is_what_was_printed(tmp_path: Path) -> None:
    shown = "<!-- doc: output -->\n```text\n{}\n```\n"
    commands = sh("printf 'round 1:  accuracy 0.97\\nnoise\\ndone\\n'")
    (tmp_path / "a").mkdir()
    do(tmp_path / "a", commands + shown.format("round 1: accuracy 0...\n...\ndone"))
    for name, wrong in {"b": "done\nround 1", "c": "round 2", "d": "round 1 ... loss"}.items():
        (tmp_path / name).mkdir()
        assert "was not printed" in refusal(tmp_path / name, commands + shown.format(wrong))


def test_a_block_is_left_out_only_where_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = sh("touch made", directive="skip the moon is full") + sh("touch contained", directive="needs docker")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visit(parse_page("page.md", page), tmp_path) == ["docker"]
    assert list((tmp_path / "work").iterdir()) == []


def test_a_page_works_in_a_copy_of_its_folder(tmp_path: Path) -> None:
    page = parse_page("page.md", "<!-- doc: in examples/digits -->\n" + sh("rm digits.py", "ls > said"))
    visit(page, tmp_path)
    assert "digits.toml" in (tmp_path / "work" / "said").read_text()
    example = read_page("examples/digits/README.md")
    assert str(example.folder) == "examples/digits"
    assert example.blocks


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("```\nls\n```\n", "language ''"),
        ("```bash\nls\n```\n", "language 'bash'"),
        ("text\n\n    fedelta job list\n", "an indented block"),
        ("- point\n\n  ```\n  ls\n  ```\n", "language ''"),
        ("<!-- doc: skipp x -->\n```sh\nls\n```\n", "no directive 'skipp x'"),
        ("<!-- doc: skip -->\n```sh\nls\n```\n", "no directive 'skip'"),
        ("<!-- doc exit 2 -->\n<!-- doc: exit 2 --> doc: exit 3\n```sh\nls\n```\n", "is no directive"),
        ("<!-- doc: exit 2 -->\n\ntext\n", "right before a fenced block"),
        ("text <!-- doc: exit 2 --> text\n", "in the middle of a paragraph"),
        ("<!-- doc: exit 2 -->\n", "no block follows"),
        ("<!-- doc: file /etc/passwd -->\n```text\nx\n```\n", "no path below"),
        ("<!-- doc: file ../x -->\n```text\nx\n```\n", "no path below"),
        ("<!-- doc: background two words -->\n```sh\nls\n```\n", "in quotes"),
        ('<!-- doc: background "x" -->\n```python\nx\n```\n', "not for ```python"),
        ("<!-- doc: output -->\n```sh\nls\n```\n", "not for ```sh"),
        ("```sh\nls\n```\n<!-- doc: in examples -->\n", "belongs to its top"),
        ("<!-- doc: env NAME -->\n", "NAME=VALUE"),
    ],
)
def test_nothing_escapes(text: str, part: str) -> None:
    assert part in complaint("intro\n\n" + text if "in examples" not in text else text)


def test_all_pages_are_found(tmp_path: Path) -> None:
    for name in ("README.md", "docs/how-to/deep/page.md", "examples/x/README.md", "deploy/README.md", "other.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert found_pages(tmp_path) == [
        "README.md",
        "deploy/README.md",
        "docs/how-to/deep/page.md",
        "examples/x/README.md",
    ]
    assert os.sep not in found_pages()[0]
