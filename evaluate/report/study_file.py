"""The study file: answers of the authors to the questions of a model card, in TOML."""

from __future__ import annotations

import difflib
import json
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...cache import display, kind_of_path, read_regular, write_atomically
from ...errors import OutputError, ParameterError, check_path, describe

HEAD = "model.head"
_TEMPLATE = """# What only the authors of a study know. A model card and its checklists get the answers with
#
#     embedonce card RUN --study {name} -o card.md
#
# An empty answer is open. "Not applicable, because ..." is an answer, too. Answers are Markdown. Long ones have
# three quotes at both ends. Below each question are the items of the checklists that it belongs to.
"""


def read_study(study: Mapping[str, Any] | Path | str, questions: Mapping[str, str]) -> dict[str, str]:
    """Return the answers by topic; ``study`` is a file, or its content as a mapping."""
    if isinstance(study, Mapping):
        return _answers(study, questions, "", [])
    path = check_path("study", "card", study)
    name = display(str(path))
    kind = kind_of_path(path)
    if kind not in ("", "a configuration file"):
        raise ParameterError(f"parameter study of card must be a TOML file, got {name}, which is {kind}")
    try:
        text = read_regular(path).decode("utf-8-sig")  # Windows editors write a byte order mark
        content = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ParameterError(f"cannot read the study file {name}: {reason}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ParameterError(f"the study file {name} is not TOML: {error}") from error
    return _answers(content, questions, name, text.splitlines())


def _answers(content: Mapping[str, Any], questions: Mapping[str, str], name: str, lines: list[str]) -> dict[str, str]:
    answers = {}
    tables = {topic.partition(".")[0]: None for topic in questions}
    for table, values in content.items():
        where = _where(name, lines, "", f"[{table}]")
        if table not in tables:
            near = _nearest(str(table), tables)
            raise ParameterError(f"tables {where} must be {', '.join(tables)}, got {display(str(table))!r}{near}")
        if not isinstance(values, Mapping):
            raise ParameterError(f"{table} {where} must be a table, [{table}], got {describe(values)}")
        for key, value in values.items():
            where = _where(name, lines, f"[{table}]", f"{key}=")
            known = [topic.partition(".")[2] for topic in questions if topic.startswith(f"{table}.")]
            if key not in known:
                near = _nearest(str(key), known)
                raise ParameterError(
                    f"keys of [{table}] {where} must be {', '.join(known)}, got {display(str(key))!r}{near}"
                )
            if not isinstance(value, str):
                raise ParameterError(f"{table}.{key} {where} must be a text in quotes, got {describe(value)}")
            if value.strip():
                answers[f"{table}.{key}"] = value.strip()
    return answers


def _where(name: str, lines: list[str], table: str, start: str) -> str:
    """Return the file, and the line that begins so after the line of a table, if it is written as usual."""
    if not name:
        return "of parameter study of card"
    inside = not table
    for number, line in enumerate(lines, start=1):
        text = line.replace(" ", "")
        if inside and text.startswith(start):
            return f"in line {number} of the study file {name}"
        inside = inside or text.startswith(table)
    return f"of the study file {name}"


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f". Did you mean {near[0]}?" if near else ""


def write_study(path: Path | str, questions: Mapping[str, str], items: Mapping[str, str]) -> Path:
    """Write a study file with all questions and no answers; an existing file is an OutputError.

    ``items`` are the items of the checklists of each topic, in words.
    """
    path = Path(path)
    if path.exists():
        raise OutputError(f"{display(str(path))} exists and is not replaced. Give another path")
    lines, table = [_TEMPLATE.format(name=display(path.name))], ""
    for topic, question in questions.items():
        if topic.partition(".")[0] != table:
            table = topic.partition(".")[0]
            lines += [f"[{table}]", ""]
        lines += [f"# {line}" for line in textwrap.wrap(question, 100)]
        lines += [f"# ({items[topic]})"] if items.get(topic) else []
        lines += [f"{topic.partition('.')[2]} = {json.dumps('')}", ""]
    write_atomically(path, "\n".join(lines).encode())
    return path
