"""What answers without torch: help, version, wrong commands, the choice of threads and workers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mde import __version__
from mde.cli import main
from mde.cli.environment import Machine, choose, prepare_process, this_machine, usable_cores
from mde.cli.experiments import names, resolve
from mde.cli.problems import exit_code, one_line
from mde.cli.runs import last_checkpoint, new_run_folder
from mde.errors import CheckpointError, ConfigError, DataFormatError, DatasetNotFoundError


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_commands_and_experiments(words, capsys):
    assert main(words) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("fit", "test", "predict", "quickstart", "nyu/densedepth_paper3"))


def test_version_and_experiments(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mde {__version__}\n"
    assert main(["experiments"]) == 0
    assert capsys.readouterr().out.split() == names()


def test_help_does_not_import_torch():
    code = "import sys; from mde.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_wrong_command_names_the_nearest(capsys):
    assert main(["fitt"]) == 2
    assert "nearest: fit" in capsys.readouterr().err


def test_experiments_are_found_by_name_and_by_path(tmp_path):
    assert resolve("quickstart").is_file()
    own = tmp_path / "own.yaml"
    own.write_text("{}")
    assert resolve(str(own)) == own
    with pytest.raises(ConfigError, match="nearest experiments: quickstart"):
        resolve("quikstart")


def test_cores_are_shared_between_threads_and_workers():
    assert choose(Machine(cores=2), in_memory=True).workers == 0
    assert choose(Machine(cores=1), in_memory=False).workers == 0
    assert choose(Machine(cores=8, processes=4), in_memory=True).threads == 2
    assert choose(Machine(cores=8), in_memory=False, workers=5).workers == 5
    assert choose(Machine(cores=8), in_memory=False, workers=5).threads == 3  # a core for each worker
    assert "worker" in choose(Machine(cores=8, accelerator=True), in_memory=False).describe()
    assert usable_cores() >= 1


@pytest.mark.parametrize(("said", "most"), [("1", 1), ("3,2", 3), ("", None), ("many", None), ("0", None)])
def test_the_users_number_of_threads_holds(monkeypatch, said, most):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    machine = this_machine(processes=2)
    assert (machine.processes, machine.most_threads) == (2, most)
    assert choose(Machine(cores=8, most_threads=most), in_memory=True).threads == (most or 8)
    assert choose(Machine(cores=1, most_threads=most), in_memory=True).threads == 1


def test_the_users_wait_policy_stays(monkeypatch):
    monkeypatch.setenv("KMP_BLOCKTIME", "200")
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert prepare_process() is False  # torch is loaded in the tests
    assert os.environ["KMP_BLOCKTIME"] == "200"
    assert os.environ["GOMP_SPINCOUNT"] == "3000"


def test_every_run_gets_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    folders = {new_run_folder(tmp_path, "a") for _ in range(5)}
    assert len(folders) == 5
    assert all(folder.is_dir() for folder in folders)
    monkeypatch.setenv("LOCAL_RANK", "1")  # a process that Lightning started uses the folder of its parent
    assert new_run_folder(tmp_path, "a") in folders


def test_last_is_the_newest_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="no run to go on with"):
        last_checkpoint(tmp_path, "a")
    for age, stamp in enumerate(("2026-01-02", "2026-01-01")):
        path = tmp_path / "a" / stamp / "checkpoints" / "last.ckpt"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    assert last_checkpoint(tmp_path, "a").parts[-3] == "2026-01-02"


def test_errors_become_one_line():
    inner = str(DataFormatError("cut off", where="a.png", next_action="copy it again"))
    from_worker = DataFormatError(
        f"Caught DataFormatError in DataLoader worker 0.\nTraceback\n  ...\nmde.errors.DataFormatError: {inner}\n"
    )
    assert one_line(from_worker) == inner
    assert one_line(OSError(28, "No space left on device", "x.ckpt")).startswith("no space left")
    assert one_line(ZeroDivisionError()) is None
    assert exit_code(DatasetNotFoundError("x")) == exit_code(ConfigError("x")) == 2
    assert exit_code(DataFormatError("x")) == 1
