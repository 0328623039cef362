"""The ``stepstream`` command: finds the subcommand and turns errors into exit codes."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Literal, NoReturn

from pydantic import ValidationError
from pydantic_settings import SettingsError as SourceError

from stepstream import __version__
from stepstream.arguments import EXIT_CODES, log_format, nearest, read_arguments
from stepstream.environment import check_environment, explain_source
from stepstream.errors import StepstreamError
from stepstream.logs import configure_logging, log_everything
from stepstream.native import decoder_name
from stepstream.settings import ENV_PREFIX, LoggingSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stepstream.settings import CommandSettings

__all__ = ["main", "program"]

COMMANDS = {
    "run": ("Run", "read readings, publish step events"),
    "backfill": ("Backfill", "read a past range of readings once more, into topics of its own"),
    "serve": ("Serve", "find steps over HTTP, without Kafka"),
    "demo": ("Demo", "everything in one process, with simulated walkers and nothing to install"),
    "simulate": ("Simulate", "send the readings of simulated devices to Kafka"),
    "detect": ("Detect", "find the steps in CSV recordings"),
    "check": ("Check", "show how messages are understood, and what the settings should be"),
    "schema": ("Schema", "print AsyncAPI and JSON Schema of the topics"),
    "tail": ("Tail", "show events, minutes, walks, counts and dead letters as they come"),
    "topics": ("Topics", "create the topics, and say what is wrong with existing ones"),
    "replay-dead-letters": (
        "ReplayDeadLetters",
        "publish dead letters again to where they came from",
    ),
    "compare": ("Compare", "compare the steps of two groups with different models, as they run"),
    "forget": ("Forget", "delete the step counts of devices, while consumers run"),
    "release-partition": (
        "ReleasePartition",
        "let a partition go on that is held for too many dead letters",
    ),
    "move-counts": (
        "MoveCounts",
        "bring step counts to where devices are after partitions were added",
    ),
    "capacity": ("Capacity", "compute what a number of devices needs, from a run on this machine"),
    "train": ("Train", "train a model on labelled recordings"),
    "quantize": ("Quantize", "convert a trained model to int8"),
    "evaluate": ("Evaluate", "score a model on labelled recordings"),
}
"""Command name: class in ``stepstream.commands.<name>``, what it does."""
CONSUMERS = ("run", "backfill", "serve")
"""Commands that run until they are stopped, so that all they write is a log."""


def program() -> NoReturn:
    """The program itself: `main`, then the end of the process.

    A consumer has closed everything by then, and ends the process at once. A normal end of the
    interpreter can crash while native threads run, such as those of the Kafka client, and the
    crash hides the exit code.
    """
    is_consumer = sys.argv[1:2] in ([name] for name in CONSUMERS)
    # Until the command has its settings, and if it doesn't get that far.
    level: Literal["info", "warning"] = "info" if is_consumer else "warning"
    configure_logging(LoggingSettings(format=log_format(sys.argv[2:]), level=level), str)
    log_everything()
    if is_consumer:
        # The first process of a container ignores what it doesn't handle. Until it can do better:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    code = main()
    if is_consumer:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code, one of `EXIT_CODES`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"-h", "--help"}:
        sys.stdout.write(_usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        sys.stdout.write(f"stepstream {__version__}, decoder: {decoder_name()}\n")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        hint = nearest(name, COMMANDS)
        _report(f"no command {name}{hint} (stepstream --help lists all)", "", rest)
        return 2
    module = importlib.import_module(f"stepstream.commands.{name.replace('-', '_')}")
    command: type[CommandSettings] = getattr(module, COMMANDS[name][0])
    hide_secrets: Callable[[str], str] = str
    try:
        check_environment()
        settings = command(_cli_settings_source=read_arguments(command, name, rest))
        hide_secrets = settings.hide_secrets
        return settings.execute()
    except ValidationError as error:
        for problem in _explain(error):
            _report(problem, name, rest)
        return 2
    except SourceError as error:
        _report(explain_source(error), name, rest)
        return 2
    except StepstreamError as error:
        _report(hide_secrets(str(error)), name, rest)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return (
        "usage: stepstream COMMAND [OPTIONS]\n\n"
        "Footstep events from accelerometer and gyroscope readings, over Kafka.\n\n"
        "commands:\n" + "\n".join(lines) + "\n\n"
        "stepstream COMMAND --help lists the options of a command. Settings may also be in\n"
        f"the environment ({ENV_PREFIX}KAFKA__BOOTSTRAP_SERVERS=...) or in a .env file.\n\n"
        f"{EXIT_CODES}"
    )


def _report(problem: str, name: str, arguments: Sequence[str]) -> None:
    """Say why a command ends: in the log, or in a line for people who called it."""
    kind = log_format(arguments)
    if kind == "text" and name not in CONSUMERS:
        sys.stderr.write(f"{f'stepstream {name}'.rstrip()}: {problem}\n")
        return
    configure_logging(LoggingSettings(format=kind), str)
    logger = logging.getLogger(f"stepstream.commands.{name}" if name else "stepstream")
    logger.error("%s", problem)


def _explain(error: ValidationError) -> Iterator[str]:
    # The input is left out: it may be a secret.
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        setting = ".".join(str(part) for part in problem["loc"]) or "settings"
        yield f"{setting}: {problem['msg'].removeprefix('Value error, ')}"
