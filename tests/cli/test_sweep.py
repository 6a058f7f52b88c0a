"""`mde sweep`: every combination with every seed, once; a wrong setting ends it before it begins."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path

import pytest
import yaml

from mde.cli import main
from mde.cli.experiments import names, sweep_names
from mde.cli.sweep_plan import Plan, read_plan, settings_of
from mde.errors import ConfigError, DataFormatError, ProtocolMismatchError
from mde.protocol import get_protocol
from mde.report import Results, Summary

LR = "model.optimizer.init_args.lr"
FAST = ("--set", "trainer.max_epochs=1", "--set", "data.test_scenes=2")


def table(name: str = "tiny") -> list[dict[str, str]]:
    return list(csv.DictReader(Path(f"runs/sweeps/{name}/table.csv").read_text().splitlines()))


def result_files(root: str = "runs/sweeps/tiny") -> list[Path]:
    return sorted(Path(root).glob("*/*/results.json"))


def test_a_sweep_trains_each_combination_once_and_tells_the_spread(tiny, capsys):
    assert main(["sweep", "--config", tiny, "--set", f"{LR}=0.01", *FAST]) == 0
    (alone,) = result_files()
    earlier = alone.stat().st_mtime_ns
    words = ["sweep", "--config", tiny, "--set", f"{LR}=0.01,0.02", "--seeds", "0,1", *FAST]
    assert main(words) == 0
    assert "2 combination(s) of 2 seed(s), 3 run(s) to do" in capsys.readouterr().out
    assert len(result_files()) == 4
    assert alone.stat().st_mtime_ns == earlier
    by_rate: dict[str, list[dict]] = {}
    for path in result_files():
        config = yaml.safe_load((path.parent / "config.yaml").read_text())
        rate = config["model"]["init_args"]["optimizer"]["init_args"]["lr"]
        by_rate.setdefault(str(rate), []).append(json.loads(path.read_text()))

    rows = table()
    assert [row["lr"] for row in rows] == ["0.01", "0.02"]
    for row in rows:
        runs = by_rate[row["lr"]]
        scores = [run["metrics"]["abs_rel"] for run in runs]
        ratios = [run["metrics"]["abs_rel"] / run["baseline"]["abs_rel"] for run in runs]
        assert row["runs"] == "2"
        assert float(row["abs_rel_mean"]) == pytest.approx(statistics.mean(scores))
        assert float(row["abs_rel_std"]) == pytest.approx(statistics.stdev(scores))
        assert float(row["ratio_mean"]) == pytest.approx(statistics.mean(ratios))
        assert len(set(scores)) == 2  # the seeds differ
    page = Path("runs/sweeps/tiny/table.md").read_text()
    assert page.count("\n| 0.0") == 2
    assert "±" in page

    alone.write_text("{")  # as if it had been killed while writing
    assert main([*words, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "1 run(s) to do" in out
    assert "--ckpt_path=last" in out


WRONG = {
    "key": ["--set", "model.optimiser=1", "unknown setting"],
    "value": ["--set", "model.init_args.widths=[4],[4, 8]", "do not fit"],
    "later value": ["--set", "trainer.max_epochs=1,many", "many"],
    "form": ["--set", "trainer.max_epochs", "not a setting"],
    "seeds": ["--set", "trainer.max_epochs=1", "--seeds", "a", "not seeds"],
    "experiment": ["--config", "quikstart", "--set", "trainer.max_epochs=1", "nearest experiments: quickstart"],
    "sweep": ["nowhere", "no such file or sweep"],
    "nothing": ["nothing to compare"],
    "jobs": ["--set", "trainer.max_epochs=1", "-j", "0", "-j must be at least 1"],
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_setting_ends_in_one_line_before_anything_runs(case, tiny, capsys):
    *words, expected = WRONG[case]
    assert main(["sweep", "--config", tiny, *words]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 1, err
    assert expected in err[0]
    assert not Path("runs").exists()


def test_a_failed_run_does_not_stop_the_others(tiny, capsys):
    assert main(["sweep", "--config", tiny, "--set", f"{LR}=1e30,0.01", *FAST]) == 1
    assert len(result_files()) == 1
    captured = capsys.readouterr()
    assert "failed with exit code 1" in captured.out
    rows = table()
    assert [row["runs"] for row in rows] == ["0", "1"]


def test_the_dry_run_lists_commands_that_can_be_called(tiny, capsys):
    assert main(["sweep", "--config", tiny, "--set", f"{LR}=0.01,0.02", "--seeds", "3", *FAST, "--dry-run"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  mde fit")]
    assert len(lines) == 2
    assert not Path("runs").exists()
    assert main([*lines[0][1:], "--print_config"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert (config["seed_everything"], config["run"]["test"], config["trainer"]["max_epochs"]) == (3, True, 1)


def test_an_interrupted_run_goes_on_where_it_was(tiny, capsys):
    words = ["sweep", "--config", tiny, "--set", "data.test_scenes=2", "--set", "trainer.max_epochs=2"]
    assert main(words) == 0
    (whole,) = result_files()
    (whole.parent / "results.json").rename("whole.json")  # as if it had been killed before its test
    assert main(words) == 0
    (again,) = result_files()
    assert again.parent != whole.parent
    assert json.loads(again.read_text())["metrics"] == json.loads(Path("whole.json").read_text())["metrics"]


@pytest.mark.slow
def test_runs_side_by_side_find_the_same(tiny, capfd):
    words = ["sweep", "--config", tiny, "--set", f"{LR}=0.01,0.02", *FAST]
    assert main([*words, "--name", "one"]) == 0
    assert main([*words, "--name", "two", "-j", "2"]) == 0
    one, two = (table(name) for name in ("one", "two"))
    assert [row["lr"] for row in one] == [row["lr"] for row in two] == ["0.01", "0.02"]
    for first, second in zip(one, two, strict=True):  # other threads add in another order
        assert float(first["abs_rel_mean"]) == pytest.approx(float(second["abs_rel_mean"]), rel=1e-4)
    logs = list(Path("runs/sweeps/two").glob("*/log.txt"))
    assert len(logs) == 2
    assert all("results.json" in log.read_text() for log in logs)


def test_recipes_are_rows_and_each_protocol_has_a_table_of_its_own(tiny, capsys):
    """Each recipe trains with its own settings, and recipes of different data sets are not put side by side."""
    other = "data.init_args.protocol"
    sweep = {"recipes": {tiny: {}, "quickstart": {"data.train_scenes": 8, "data.val_scenes": 2, other: "none"}}}
    Path("both.yaml").write_text(yaml.safe_dump(sweep))
    assert main(["sweep", "both.yaml", *FAST]) == 0
    assert "2 combination(s) of 1 seed(s), 2 run(s) to do" in capsys.readouterr().out
    configs = {
        path.parent.parent.name: yaml.safe_load((path.parent / "config.yaml").read_text())
        for path in result_files("runs/sweeps/both")
    }
    assert sorted(config["data"]["init_args"]["train_scenes"] for config in configs.values()) == [7, 8]
    assert all(config["trainer"]["max_epochs"] == 1 for config in configs.values())  # --set wins over the recipes
    page = Path("runs/sweeps/both/table.md").read_text()
    assert page.count("| recipe | runs |") == 2
    assert page.count("protocol rooms (") == page.count("protocol none (") == 1
    assert page.count(f"| {tiny} | 1 |") == page.count("| quickstart | 1 |") == 1


def test_the_shipped_sweeps_make_what_they_name(capsys):
    assert sweep_names() == [
        f"sweeps/{name}" for name in ("comparison", "encoders", "losses", "methods", "methods_folder")
    ]
    embedded = {name for name in names() if name.startswith(("rooms/", "street/"))}
    assert embedded - set(read_plan("methods").recipes) == {"rooms/depth_anything", "rooms/glpn"}  # of other authors
    folder = ["--set", "data.root=.", "--dry-run"]
    assert main(["sweep", "methods_folder", *folder]) == 0
    assert capsys.readouterr().out.count("--data=RGBDFolderDataModule") == 13
    weights = "model.encoder.init_args.weights=null"
    assert main(["sweep", "encoders", "--set", weights, "--seeds", "0", "--dry-run"]) == 0
    assert capsys.readouterr().out.count("mde fit") == 10
    assert main(["sweep", "losses", "--dry-run"]) == 0
    assert capsys.readouterr().out.count("mde fit") == 18
    plan = read_plan("encoders")
    assert plan.head == ["name", "frozen_stages", "weights"]
    assert sum(len(group) for group in plan.groups(Path("x"))) == 60


@pytest.mark.parametrize("content", ["[]", "set: 3", "sets: {}", "a: [unclosed"])
def test_files_that_are_no_sweep_are_refused(content, tmp_path):
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(DataFormatError, match=r"x\.yaml.*Next: give recipes or config, set"):
        read_plan(str(tmp_path / "x.yaml"))


def test_the_folder_of_a_run_changes_with_every_setting_and_with_the_config(tiny, tmp_path):
    def folder(seed: int = 0, **settings: object) -> Path:
        plan = Plan((tiny,), {key: [value] for key, value in settings.items()}, (seed,))
        return plan.groups(tmp_path)[0][0].folder

    names = [folder(a=1), folder(a=2), folder(b=1), folder(seed=1, a=1)]
    Path(tiny).write_text(Path(tiny).read_text() + "\n# another text\n")
    assert len({*names, folder(a=1)}) == 5


def test_settings_are_read_as_yaml():
    assert settings_of(["a.b=1,null,x", "c=[1, 2],[3]", "d=true"]) == {
        "a.b": [1, None, "x"], "c": [[1, 2], [3]], "d": [True],
    }  # fmt: skip
    with pytest.raises(ConfigError, match="not a setting"):
        settings_of(["a=["])
    plan = Plan((), {"a.lr": [1, 2], "b.lr": [1, 2], "c": [1], "d.e": [None, True]}, (0,))
    assert plan.head == ["a.lr", "b.lr", "e"]


def found(abs_rel: float, protocol: str = "rooms", baseline: float | None = 0.4) -> Results:
    metrics = None if baseline is None else {"abs_rel": baseline}
    return Results({"abs_rel": abs_rel}, get_protocol(protocol).to_dict(), images=1, skipped=0, baseline=metrics)


def test_the_summary_tells_mean_and_spread_and_refuses_two_protocols():
    groups = [
        (["a|b"], [found(0.1), found(0.2)]),
        (["c"], [found(0.3)]),
        (["d"], []),
        (["e"], [found(0.1, baseline=None)]),
    ]
    summary = Summary(["name"], groups, ["abs_rel"])
    assert summary.cells()[1:] == [
        ["a|b", "2", "0.150 ± 0.071", "0.400 ± 0.000", "0.375 ± 0.177"],
        ["c", "1", "0.300", "0.400", "0.750"],
        ["d", "0", "-", "-", "-"],
        ["e", "1", "0.100", "-", "-"],
    ]
    assert "| a\\|b | 2 |" in summary.markdown()
    assert summary.csv().splitlines()[2] == "c,1,0.3,nan,0.4,nan,0.7499999999999999,nan"
    with pytest.raises(ProtocolMismatchError):
        Summary(["name"], [(["a"], [found(0.1), found(0.1, "street")])], ["abs_rel"])
