"""Turns what a parser or a library throws into one readable line."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from importlib import import_module

from mde.errors import CheckpointError, ConfigError, DatasetNotFoundError, MdeError, nearest

__all__ = ["exit_code", "one_line", "parser_problem"]


_AGAINST = {
    errno.EACCES: "give a path that you may read and write, or change its permissions",
    errno.EPERM: "give a path that you may read and write, or change its permissions",
    errno.EROFS: "give a path on a disk that can be written",
    errno.EISDIR: "give a file, not a folder",
    errno.ENOTDIR: "give a path below a folder: a part of this one is a file",
    errno.EEXIST: "give another name: there is a file in the way",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
}


def exit_code(error: BaseException) -> int:
    """2 when what the user gave is wrong, 1 when the work failed."""
    found = _own_error(error)
    if found is not None:
        return 2 if isinstance(found, ConfigError | DatasetNotFoundError | CheckpointError) else 1
    return 2 if type(error).__name__ == "MisconfigurationException" else 1


def one_line(error: BaseException) -> str | None:
    """The line to show for an error that a user can act on; None for one that is a bug and deserves its traceback."""
    found = _own_error(error)
    if found is not None:
        # a loader worker hands an exception over as the text of its whole traceback: its last line is the message
        lines = [line.strip() for line in str(found).splitlines() if line.strip()]
        return re.sub(r"^[\w.]*Error: ", "", lines[-1])
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, BrokenPipeError):
        return _of_the_system(error)
    if type(error).__name__ == "OutOfMemoryError":
        return "the accelerator's memory is full. Next: lower --data.batch_size, or use --trainer.precision bf16-mixed"
    if type(error).__name__ == "MisconfigurationException":  # Lightning's word for settings that cannot work
        return f"{' '.join(str(error).split())} Next: see mde COMMAND --help"
    return None


def parser_problem(message: str, keys: Iterable[str]) -> ConfigError:
    """Name what is wrong with the words or the YAML, and the nearest valid ones.

    Each class that the settings name has a parser of its own inside the command's: the innermost one finds the
    reason, and its line is what counts.

    Args:
        message: what the parser says; many lines.
        keys: the options of this parser, such as "trainer.max_epochs", or "widths" for that of a class.
    """
    missing = _missing(message)
    if missing:
        return missing
    inner = _said_inside(message)
    if inner:
        return ConfigError(inner)
    unknown = re.search(r"[Uu]nrecognized arguments: -*([\w.]+)|Group '([\w.]+)' does not accept", message)
    unknown = unknown or re.search(r"[Kk]ey ['\"]([\w.]+)['\"] is not expected", message)
    if unknown:
        key = unknown.group(1) or unknown.group(2)
        return ConfigError(f"unknown setting {key!r}", next_action=f"nearest: {nearest(key, keys)}")
    option = re.search(r"Option '([\w.]+)' is not accepted", message)
    if option:
        name = option.group(1)
        return ConfigError(f"unknown setting {name!r}", next_action=f"nearest: {nearest(name, keys)}")
    wrong = re.search(
        r"Expected a dot import path string: ([\w.]+)|[Pp]roblem with given class_path '([\w.]+)'", message
    )
    wrong = wrong or re.search(r"Import path ([\w.]+)|does not correspond to a subclass.*?'([\w.]+)'", message)
    if wrong:
        name = wrong.group(1) or wrong.group(2)
        base = _base_before(message, wrong.start())
        hint = f"nearest: {nearest(name.rpartition('.')[2], base[1])}" if base[1] else "give the import path of a class"
        return ConfigError(f"there is no {base[0]} {name!r}", where=_place(message), next_action=hint)
    if re.search(r"arguments are required: (?:\w+\.)?(?:data|model)\b", message):
        hint = (
            "give --config NAME, such as quickstart (mde experiments lists them), or --ckpt_path, or --model and --data"
        )
        return ConfigError("neither a network nor data are given", next_action=hint)
    return ConfigError(_value_problem(message), where=_place(message), next_action="see mde COMMAND --help")


def _of_the_system(error: OSError) -> str:
    """What the operating system refuses, as an error of ours is told."""
    if error.errno == errno.ENOSPC:
        return f"no space left on the device [{error.filename or 'disk'}]. Next: free space; what was written is whole"
    where = error.filename2 or error.filename
    place = "" if where is None else f" [{where}]"
    return f"{(error.strerror or 'failed').lower()}{place}. Next: {_AGAINST.get(error.errno or 0, 'check the path')}"


def _own_error(error: BaseException | None) -> MdeError | None:
    """The error of this library that another one wraps, as the parser does with those of constructors."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, MdeError):
            return error
        seen.add(id(error))
        missing = _missing(str(error))
        if missing:
            return missing
        said = _said_inside(str(error))
        if said:
            return ConfigError(said)
        error = error.__cause__ or error.__context__
    return None


def _missing(message: str) -> ConfigError | None:
    """A setting without a default that a class was not given; None where the parser says something else."""
    required = re.search(r"arguments are required: (\w+)", message)
    if required is None:
        return None
    name, place = required.group(1), _place(message)
    owners = re.findall(rf"class_path='([\w.]+)', init_args=Namespace\((?:(?!class_path=).)*?\b{name}=None", message)
    if not owners or place is None:
        return None
    hint = f"give --{place}.{name} VALUE"
    if re.search(r"class_path='([\w.]+)'", message).group(1) != owners[0]:  # type: ignore[union-attr]
        hint = f"give it among the init_args of that class below {place}"
    return ConfigError(f"{owners[0].rpartition('.')[2]} needs {name}, and got none", where=place, next_action=hint)


def _said_inside(message: str) -> str | None:
    """A line of ours among those of the parser."""
    said = re.search(r"^\s*- (?:Parser key \"[\w.]+\": )?(.+\. Next: .+)$", message, flags=re.MULTILINE)
    return said.group(1) if said else None


def _place(message: str) -> str | None:
    """The dotted key that the message is about: the parser nests "Parser key" lines."""
    return ".".join(re.findall(r'Parser key "([\w.]+)"', message)) or None


def _base_before(message: str, position: int) -> tuple[str, list[str]]:
    """The class that was expected, or the choice of classes, by the last one named before the mistake, and the names
    that would fit."""
    choices = re.findall(r"Subtypes: \[(.*)\]", message[:position])
    named, choice = (
        [name for name in re.findall(r"<class '([\w.]+)'>", text) if "NoneType" not in name]
        for text in (message[:position], choices[-1] if choices else "")
    )
    if not named:
        return "class", []
    expected = choice if named[-1] in choice else named[-1:]
    bases = [getattr(import_module(module), name) for module, _, name in (path.rpartition(".") for path in expected)]
    fitting = {cls.__name__ for base in bases for cls in _subclasses(base) if not cls.__name__.startswith("_")}
    return " or ".join(base.__name__ for base in bases), sorted(fitting)


def _subclasses(cls: type) -> set[type]:
    direct: set[type] = set(cls.__subclasses__())
    return direct.union(*(_subclasses(child) for child in direct))


def _value_problem(message: str) -> str:
    expected = re.findall(r"Expected an? (?:<class '([\w.]+)'>|([^.\n]+))", message)
    wanted = [first.rpartition(".")[2] or second.strip() for first, second in expected]
    wanted = list(dict.fromkeys(word for word in wanted if word and "NoneType" not in word and "path but" not in word))
    given = re.findall(r"(?:Given|Got) value: (.+?)\.?$", message, flags=re.MULTILINE)
    if wanted and given:
        return f"expected {' or '.join(wanted[-3:])}, got {given[0]}"
    text = " ".join(message.split())
    return text if len(text) < 300 else text[:297] + "..."
