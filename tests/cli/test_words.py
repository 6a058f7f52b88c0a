"""Help that ends with examples that work, and wrong words that end in one line with the next action."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from mde.cli import COMMANDS, main
from mde.cli.arguments import Parser
from mde.cli.datasets import make_data_module, take_data_settings
from mde.cli.experiments import comment, names, needs, resolve
from mde.cli.placeholders import PLACEHOLDER, require_given
from mde.cli.problems import one_line
from mde.cli.trainer_words import EXAMPLES, FLAGS
from mde.doctor.examination import SAMPLE
from mde.errors import ConfigError

Err = pytest.CaptureFixture[str]


def parser_of(command: str) -> Parser:
    made = import_module(COMMANDS[command][0]).make_parser()
    assert isinstance(made, Parser)
    return made


def words_of(example: str) -> list[str]:
    return shlex.split(example.replace("\\\n", " "))


# ---- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", ["60", "120"])
def test_help_ends_with_examples(command: str, columns: str, capsys: Err, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main([command, "--help"]) == 0
    head, _, examples = capsys.readouterr().out.partition("\nexamples:\n")
    assert head.startswith(f"usage: mde {command}")
    assert examples.strip("\n") == "\n".join(f"  {each}" for each in parser_of(command).examples)
    prose = [line for line in head.splitlines() if not line.startswith(" ")]
    assert all(len(line) <= int(columns) for line in prose)


@pytest.mark.parametrize(
    ("command", "example"), [(name, each) for name in COMMANDS for each in parser_of(name).examples]
)
def test_examples_parse(command: str, example: str) -> None:
    words = words_of(example)
    if words[0] == "source":  # <(mde completion bash)
        words = example.partition("<(")[2].rstrip(")").split()
    words = words[: next((number for number, word in enumerate(words) if word in (">", "&&")), None)]
    assert words[:2] == ["mde", command]
    own, settings = take_data_settings(words[2:])
    if "--ckpt_path" in own:
        pytest.skip("an example of the Trainer's command: test_examples_of_the_trainer")
    parsed = parser_of(command).parse_intermixed_args(own)
    assert vars(parsed)
    assert not settings or set(settings) == {"root"}


@pytest.mark.slow
def test_examples_of_the_trainer(run: Callable[..., Path], tiny: str, capsys: Err) -> None:
    """On a tiny run in the place of the quickstart's, each is understood to the last word."""
    made = run("fit", "--config", tiny, "--run.name", "quickstart", "--trainer.max_epochs", "1", name="quickstart")
    for command, examples in EXAMPLES.items():
        for example in examples:
            words = [word.replace("<date-time>", made.name) for word in words_of(example)]
            assert words[:2] == ["mde", command]
            capsys.readouterr()
            assert main([*words[1:], "--print_config"]) == 0, capsys.readouterr().err
            assert "class_path: mde.models" in capsys.readouterr().out
        assert main([command, *(["--config", tiny] * (command == "predict")), "--help"]) == 0
        head, _, shown = capsys.readouterr().out.partition("\nexamples:\n")
        assert head.startswith(f"usage: mde {command} [--config NAME]")
        assert shown.strip("\n").splitlines() == [f"  {each}" for each in examples]


@pytest.mark.slow
def test_flags_that_completion_offers_are_known(tmp_path: Path, capsys: Err) -> None:
    values = {
        "--config": "folder/advised", "--ckpt_path": "null", "--run.test": "true", "--trainer.accelerator": "cpu",
        "--trainer.precision": "32", "--model": "mde.models.DepthNet", "--model.encoder.init_args.weights": "null",
        "--data": "mde.data.RGBDFolderDataModule", "--data.root": str(tmp_path), "--data.image_size": "[64,96]",
        "--data.intrinsics": "[1,1,1,1]", "--data.cache": "cache", "--run.log": "''", "--run.name": "a",
        "--run.root": "b", "--data.depth_scale": "0.001",
    }  # fmt: skip
    asked = [flag for flag in FLAGS if flag not in ("--help", "--model.help", "--data.help", "--print_config")]
    asked.remove("--ckpt_path")  # a file that does not exist
    words = [word for flag in asked for word in (flag, values.get(flag, "1"))]
    assert main(["fit", *words, "--print_config"]) == 0, capsys.readouterr().err
    assert "depth_scale: 0.001" in capsys.readouterr().out


def test_numbers_in_help_are_those_of_the_library() -> None:
    assert parser_of("doctor").get_default("sample") == SAMPLE


def test_help_of_no_command_imports_torch() -> None:
    code = (
        "import sys; from mde.cli import COMMANDS, main\n"
        "for name in COMMANDS: main([name, '--help'])\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("examples:") == len(COMMANDS)


# ---- wrong words -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_names_the_nearest(command: str, capsys: Err) -> None:
    flag = max(parser_of(command).flags(), key=len)
    needed = ["a", "b"] * 2
    for count in range(4):
        assert main([command, *needed[:count], f"{flag}x"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("mde: error: ")
        assert said.count("\n") == 1
        assert said.endswith(f"see mde {command} --help\n") or ". Next: " in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predict"], "required: -c/--checkpoint, -o/--out [mde predict]. Next: see mde predict --help"),
        (["make-data", "folder/rgb", "x"], "nearest: folder/rgbd"),
        (["make-data", "folder/rgbd", "x", "-n", "many"], "invalid int value: 'many' [mde make-data]. Next: "),
        (["export", "a.ckpt", "-o", "a.onnx", "--format", "onx"], "nearest: onnx; see mde export --help"),
        (["evaluate", "--predictons", "x"], "Next: see mde evaluate --help"),
        (["compare", "a", "--metric", "x"], "unrecognized arguments: --metric x"),
        (["report", "nowhere"], "no such file or folder [nowhere]"),
        (["dashbord"], "nearest: dashboard"),
        (["info", "quickstrat"], "nearest: quickstart"),
        (["prepare", "nuy"], "Next: nearest: nyu"),
        (["sweep", "encoder"], "no such file or sweep: 'encoder'. Next: nearest sweeps: sweeps/encoders"),
    ],
)
def test_what_a_newcomer_mistypes(words: list[str], said: str, capsys: Err) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("mde: error: ")
    assert said in error
    assert "Next: " in error


def test_a_file_where_a_folder_belongs(tmp_path: Path, capsys: Err) -> None:
    (tmp_path / "file").write_text("x")
    assert main(["make-data", "folder/rgbd", "file"]) == 2
    assert capsys.readouterr().err.startswith("mde: error: there is a file of this name [file]. Next: ")
    assert main(["make-data", "folder/rgbd", "file/new", "-n", "1"]) == 2
    assert capsys.readouterr().err == (
        "mde: error: not a directory [file/new]. Next: give a path below a folder: a part of this one is a file\n"
    )
    assert main(["dashboard", "--print-sweep"]) == 0


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(tmp_path: Path, capsys: Err) -> None:
    tmp_path.chmod(0o500)
    assert main(["make-data", "folder/rgbd", "new", "-n", "1"]) == 2
    assert "permission denied [new]. Next: give a path that you may read and write" in capsys.readouterr().err


def test_what_the_system_refuses() -> None:
    assert one_line(PermissionError(13, "Permission denied", "/x")) == (
        "permission denied [/x]. Next: give a path that you may read and write, or change its permissions"
    )
    assert one_line(IsADirectoryError(21, "Is a directory", "/x")).endswith("Next: give a file, not a folder")
    assert one_line(BrokenPipeError(32, "Broken pipe")) is None


def test_ctrl_c_during_any_command(monkeypatch: pytest.MonkeyPatch, capsys: Err) -> None:
    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("mde.cli.info.run", stop)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "mde: stopped\n"


# ---- placeholders ----------------------------------------------------------------------------------------------------

LEFT_OUT = [name for name in names() if PLACEHOLDER in resolve(name).read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", LEFT_OUT)
def test_every_experiment_says_what_its_data_are(name: str) -> None:
    assert needs(name).startswith("--data.")
    assert needs(name) in " ".join(comment(resolve(name)))
    if name.startswith("mixed/"):
        return
    with pytest.raises(ConfigError) as caught:
        make_data_module(name, {})
    said = str(caught.value)
    assert said.startswith(f"the folder of the data set was not given [{name}]. Next: give --data.root ")
    assert needs(name) in said
    assert "mde make-data" in said
    assert PLACEHOLDER not in said


def test_placeholders_of_several_data_sets() -> None:
    data = {"init_args": {"parts": {n: {"init_args": {"root": f"{PLACEHOLDER}--{n}"}} for n in "ab"}}}
    with pytest.raises(ConfigError, match="give --a FOLDER and --b FOLDER"):
        require_given(data)
    require_given({"init_args": {"root": "somewhere", "scales": [1, 2]}})


@pytest.mark.slow
@pytest.mark.parametrize("command", ["fit", "test"])
def test_the_trainer_asks_for_the_folder_first(command: str, tmp_path: Path, capsys: Err) -> None:
    """Before weights are downloaded, and without leaving a run folder."""
    assert main([command, "--config", "nyu/densedepth"]) == 2
    assert "Next: give --data.root FOLDER with nyu_depth_v2_labeled.mat" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/*/*"))
    assert main([command]) == 2
    assert (
        "neither a network nor data are given. Next: give --config NAME, such as quickstart" in capsys.readouterr().err
    )
