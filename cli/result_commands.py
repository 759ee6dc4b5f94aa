"""Commands for saved results: diff and leaderboard."""

from __future__ import annotations

from pathlib import Path

import click

from ..cache import counted, display
from .command import AS_JSON, PATH, Command, option
from .output import print_json
from .screen import fitting, say, say_left_out, say_next, wrapped_lines


@click.command(cls=Command)
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@AS_JSON
def diff(a: Path, b: Path, as_json: bool) -> None:
    """Show the differences between two folders of results, A and B.

    For example:

        # compare the results before and after a change
        embedonce diff runs/before runs/after
    """
    from ..evaluate.report import diff as diff_runs

    differences = diff_runs(a, b)
    if as_json:
        print_json(differences.to_dict())
    else:
        click.echo(wrapped_lines(str(differences)))


@click.command(cls=Command)
@click.argument("runs", type=PATH, nargs=-1, required=True)
@option("--where", multiple=True, metavar="NAME=VALUE", help="Keep rows of this value; repeatable.")
@option("--metric", metavar="METRIC", help="Score that orders the rows; also one of compare --metric.")
@option("-o", "--output", type=PATH, metavar="FILE", help="Write .csv, .json or .html.")
@AS_JSON
def leaderboard(
    runs: tuple[Path, ...], where: tuple[str, ...], metric: str | None, output: Path | None, as_json: bool
) -> None:
    """Show the scores of many folders of results, RUNS, in one table.

    A folder of such folders counts as all of them. Scores of different test images get different letters. --where takes
    run, head, tested, or a setting or parameter such as seed, alpha or C.

    For example:

        # all comparisons in a folder
        embedonce leaderboard runs
        # those of one head, as a page with links to the reports
        embedonce leaderboard runs --where head=svm -o runs/svm.html
    """
    from ..evaluate.report import leaderboard as make_leaderboard

    board = make_leaderboard(runs, where=where, metric=metric)
    if output is not None:
        board.save(output)
    if as_json:
        print_json(board.to_dict())
        return
    whole = board.table()
    table, left_out = fitting(whole, len(whole.titles) - 1)
    click.echo(f"{table}\n")
    say_left_out(left_out)
    for note in board.notes:
        say(note)
    if output is not None:
        say(f"Wrote {display(str(output))}")


@click.command(cls=Command, short_help="Write a model card of the results in RUN.")
@click.argument("run", type=PATH)
@option("--study", type=PATH, metavar="FILE.toml", help="Answers of the authors; a new file gets the questions.")
@option("-o", "--output", type=PATH, metavar="FILE.md", help="Write the card to this file.")
@AS_JSON
def card(run: Path, study: Path | None, output: Path | None, as_json: bool) -> None:
    """Write a model card of the results in RUN, with the checklists REFORMS, CLAIM and TRIPOD+AI, as Markdown.

    What RUN knows is filled in, with its places in results.json. What only the authors know is read from FILE.toml. If
    there is no such file, it is written with all questions. Items without an answer are listed as open.

    For example:

        # write the questions, and a card with what is known
        embedonce card runs/photos --study study.toml -o card.md
        # after answering them, the same command again
        embedonce card runs/photos --study study.toml -o card.md
    """
    from ..cache import refuse_input_as_output
    from ..evaluate.report import card as make_card
    from ..evaluate.report import write_questions

    made = make_card(run, study=study if study is not None and study.exists() else None)
    if output is not None:
        refuse_input_as_output(output, study, run / "results.json")
        made.save(output)
    if study is not None and not study.exists():
        write_questions(study)
        say(f"Wrote {display(str(study))} with the questions to the authors.", err=True)
    if as_json:
        print_json(made.to_dict())
        return
    if output is None:
        click.echo(made.text, nl=False)
        return
    say(f"Wrote {display(str(output))}, about {display(made.head)}.")
    for name, counts in made.counts.items():
        total = sum(counts.values())
        say(
            f"{name}: {counts['answered']} of {total} items answered, {counts['partly']} partly, {counts['open']} open."
        )
    if made.questions:
        say(counted(len(made.questions), "question(s) to the authors (is|are) open."))
        if study is None:
            say_next("card", run, "--study", "study.toml", "-o", output)


COMMANDS = (card, diff, leaderboard)
