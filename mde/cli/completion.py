"""``mde completion``: the script with which a shell completes commands at TAB.

All words are in the script: at TAB neither Python nor torch is started.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module

from mde.cli.arguments import Parser

__all__ = ["SHELLS", "CommandWords", "command_words", "make_parser", "run", "script"]

SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True)
class CommandWords:
    """What can be typed after one command.

    Attributes:
        about: one line.
        flags: its options.
        values: of options that take one of a few, by option; after any other option come files.
        first: what can stand directly after it; files, where there is none.
    """

    about: str
    flags: Sequence[str]
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    first: Sequence[str] = ()


def run(words: Sequence[str]) -> int:
    """Print the script; 0."""
    options = make_parser().parse_args(list(words))
    print(script(options.shell, command_words()), end="")
    return 0


def command_words() -> dict[str, CommandWords]:
    """The words of every command."""
    from mde.cli import COMMANDS, TRAINER_COMMANDS
    from mde.cli.experiments import names
    from mde.cli.trainer_words import FLAGS

    known = _known()
    made = {
        name: CommandWords(about, FLAGS, {"--config": names(), "-c": names()})
        for name, about in TRAINER_COMMANDS.items()
    }
    for name, (module, about) in COMMANDS.items():
        made[name] = _of_parser(name, about, import_module(module).make_parser(), known)
    return {**made, "experiments": CommandWords("list the experiments that ship with the library", ())}


def _of_parser(name: str, about: str, parser: Parser, known: Mapping[str, Sequence[str]]) -> CommandWords:
    flags, values = list[str](), dict[str, Sequence[str]]()
    first = list(known.get(name, ()))
    for action in parser._actions:
        flags += action.option_strings
        choices = action.choices or known.get(action.dest if action.option_strings else "", ())
        if not action.option_strings:
            first += map(str, action.choices or ())
        elif choices and not isinstance(action, argparse._HelpAction):
            values |= {flag: [str(choice) for choice in choices] for flag in action.option_strings}
    return CommandWords(about, [*flags, *(["--data.root"] if "--data" in flags else [])], values, first)


def _known() -> dict[str, Sequence[str]]:
    """Names by the command that takes them first, or by the option that does."""
    from mde.cli.experiments import names, sweep_names
    from mde.cli.info import SECTIONS, pretrained
    from mde.data.layouts import layouts
    from mde.data.prepare.known import KNOWN

    forms = list(layouts())
    return {
        "make-data": forms,
        "prepare": list(KNOWN),
        "info": [*SECTIONS, *pretrained(), *names(), *forms],
        "sweep": [name.rpartition("/")[2] for name in sweep_names()],
        "layout": forms,
        "config": names(),
        "data": list(dict.fromkeys([*names(), *forms])),
    }


# ---- scripts ---------------------------------------------------------------------------------------------------------

_BASH = """\
# bash completion of mde, made by: mde completion bash
_mde() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}} head= words=
    if [[ $word == "=" ]]; then
        word=
    elif [[ $before == "=" ]]; then
        before=${{COMP_WORDS[COMP_CWORD-2]}}
    elif [[ $word == --*=* ]]; then
        before=${{word%%=*}} head=${{word%%=*}}= word=${{word#*=}}
    fi
    if (( COMP_CWORD == 1 )); then
        words="{commands}"
    else
        case "$command $before" in
{values}
        *)
            case "$command $COMP_CWORD $word" in
{flags}
{first}
            esac ;;
        esac
    fi
    COMPREPLY=($(compgen -P "$head" -W "$words" -- "$word"))
}}
complete -o bashdefault -o default -F _mde mde
"""

_ZSH = """\
# zsh completion of mde, made by: mde completion zsh
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit; }}
autoload -Uz bashcompinit && bashcompinit
{bash}"""


_FISH = """\
# fish completion of mde, made by: mde completion fish
function __mde_words
    test (count (commandline -opc)) -eq $argv[1]
end
function __mde_command
    set -l words (commandline -opc)
    test (count $words) -ge 2; and test $words[2] = $argv[1]
end"""


def script(shell: str, commands: Mapping[str, CommandWords]) -> str:
    """The script of a shell, for `commands`."""
    if shell == "fish":
        return "\n".join(_fish(commands)) + "\n"
    bash = _bash(commands)
    return bash if shell == "bash" else _ZSH.format(bash=bash.partition("\n")[2])


def _bash(commands: Mapping[str, CommandWords]) -> str:
    values = [_case(8, f'"{name} {flag}"', each) for name, own in commands.items() for flag, each in own.values.items()]
    flags = [_case(12, f'"{name} "[0-9]*" -"*', own.flags) for name, own in commands.items() if own.flags]
    first = [_case(12, f'"{name} 2 "*', own.first) for name, own in commands.items() if own.first]
    return _BASH.format(
        commands=" ".join(commands), values="\n".join(values), flags="\n".join(flags), first="\n".join(first)
    )


def _case(indent: int, pattern: str, words: Sequence[str]) -> str:
    return f'{" " * indent}{pattern}) words="{" ".join(words)}" ;;'


def _fish(commands: Mapping[str, CommandWords]) -> Iterator[str]:
    yield _FISH
    for name, own in commands.items():
        yield f"complete -c mde -n '__mde_words 1' -f -a {name} -d {_quoted(own.about)}"
        when = f"complete -c mde -n '__mde_command {name}'"
        for flag in own.flags:
            option = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
            takes = f" -x -a {_quoted(' '.join(own.values[flag]))}" if flag in own.values else ""
            yield f"{when} {option}{takes}"
        if own.first:
            yield f"complete -c mde -n '__mde_command {name}; and __mde_words 2' -a {_quoted(' '.join(own.first))}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def make_parser() -> Parser:
    """The parser; it imports nothing."""
    made = Parser(
        "completion",
        "Print the script with which a shell completes commands, options, experiments and files at TAB.",
        [
            "source <(mde completion bash)",
            "source <(mde completion zsh)",
            "mde completion fish > ~/.config/fish/completions/mde.fish",
        ],
        "To keep it, put the line of your shell into ~/.bashrc or ~/.zshrc; fish reads the file itself.",
    )
    made.add_argument("shell", choices=SHELLS, help="your shell; echo $SHELL tells it")
    return made
