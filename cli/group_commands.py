"""The command groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..cache import display
from .command import AS_JSON, PATH, Command, option
from .output import print_groups, print_json, print_notes, print_suggestions
from .screen import progress, say, say_next


class _ProposalNumber(click.IntRange):
    """The number of a proposal; 0, which users cannot give, lists all."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or fail with a message for a path, which is then the cache."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is not the number of a proposal. Write CACHE before --suggest.", param, ctx)


@click.command(cls=Command, short_help="Find the near-duplicates among the images of CACHE.")
@click.argument("cache", type=PATH)
@option("-o", "--output", type=PATH, help="Write the groups to this CSV file.")
@option("--within-class/--across-classes", default=False, help="Search within each class only.")
@option("--images", type=PATH, metavar="DIR", help="Image folder or archive, if it has moved.")
@option("--report", type=PATH, metavar="DIR", help="Write pictures and numbers to this folder.")
@option(
    "--suggest",
    type=_ProposalNumber(min=0),
    is_flag=False,
    flag_value="0",
    metavar="[N]",
    help="Propose other groups; with -o, write proposal N.",
)
@AS_JSON
@click.pass_context
def groups(
    ctx: click.Context,
    /,
    cache: Path,
    output: Path | None,
    within_class: bool,
    images: Path | None,
    report: Path | None,
    suggest: int | None,
    as_json: bool,
) -> None:
    """Find the near-duplicates among the images of CACHE: rotated, mirrored, cropped, zoomed or recompressed images.

    Near-duplicates with different labels are listed as suspected label errors; with --within-class they are not
    searched. Groups of an earlier OUTPUT keep their names, so that splits by them do not change.

    --suggest proposes other groups, such as patients or cameras, from file names, folders, metadata and EXIF data, and
    says how much more similar their images are than chance. Only you know whether their images belong together.
    --suggest N -o OUTPUT writes the groups of proposal N.

    For example:

        # write the groups of near-duplicates
        embedonce groups photos.h5 -o groups.csv
        # draw the largest groups and the pairs near the threshold
        embedonce groups photos.h5 -o groups.csv --report groups
        # list other groups that images may belong to
        embedonce groups photos.h5 --suggest
        # write those of the first proposal
        embedonce groups photos.h5 --suggest 1 -o patients.csv
    """
    from ..evaluate import find_groups

    if suggest is not None:
        if within_class or report is not None:
            raise click.UsageError("--within-class and --report are for near-duplicates, not for --suggest.", ctx)
        _suggest(ctx, cache, images, suggest, output, as_json)
        return
    if output is None:
        raise click.MissingParameter(ctx=ctx, param=next(one for one in ctx.command.params if one.name == "output"))
    near_duplicates = find_groups(
        cache, output, within_class=within_class, images=images, report=report, progress=progress()
    )
    if as_json:
        print_json(near_duplicates.to_dict())
        return
    print_groups(near_duplicates)
    for path in near_duplicates.written:
        say(f"Wrote {display(str(path))}")
    print_notes(list(near_duplicates.notes))
    say_next("compare", cache, "--groups", output, "-o", "DIR")


def _suggest(
    ctx: click.Context, cache: Path, images: Path | None, number: int, output: Path | None, as_json: bool
) -> None:
    """Print the proposals of groups, or write the groups of one."""
    from ..cache import FeatureCache, refuse_input_as_output
    from ..evaluate import suggest_groups

    if output is not None:
        if not number:
            raise click.UsageError("-o needs the number of a proposal: --suggest N -o FILE.", ctx)
        refuse_input_as_output(output, cache, images)
    suggestions = suggest_groups(FeatureCache.open(cache), images=images)
    if number > len(suggestions):
        text = f"--suggest must be the number of one of the {len(suggestions)} proposals, got {number}."
        raise click.UsageError(text, ctx)
    chosen = suggestions[number - 1 : number] if number else suggestions
    if output is not None:
        chosen[0].groups.save(output)
    if as_json:
        print_json([one.to_dict() for one in chosen])
        return
    print_suggestions(cache, chosen, number or 1)
    print_notes(suggestions.notes)
    if output is not None:
        say(f"Wrote {display(str(output))}")
        say_next("compare", cache, "--groups", output, "-o", "DIR")


COMMANDS = (groups,)
