"""What the command line prints: results as lines and tables for people, as JSON for scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..cache import display
from ..evaluate.metrics import METRICS

if TYPE_CHECKING:
    from ..evaluate.comparison import Comparison
    from ..evaluate.duplicates import FoundGroups
    from ..evaluate.models import Explanation
    from ..evaluate.scoring import HeadResult
    from ..extract import Check, ExtractionReport, Verification


def print_json(value: Any) -> None:
    """Print a result as the one JSON document on standard output."""
    from ..evaluate.shared import as_json

    click.echo(as_json(value).decode("ascii"), nl=False)


def announce(head: str) -> None:
    """Print on standard error which head is trained."""
    click.echo(f"training {display(head)} …", err=True)


def print_report(report: ExtractionReport) -> None:
    """Print what an extraction did."""
    total = len(report.cache) + report.rejected
    if not report.published:
        click.echo(f"Nothing to embed: {report.cache.display_path} is up to date with {total:,} images.")
    else:
        kinds = ("added", "changed", "moved", "removed", "repaired", "unchanged", "resumed")
        parts = [f"{getattr(report, kind):,} {kind}" for kind in kinds if getattr(report, kind)]
        rate = f" in {report.seconds:.1f} s ({report.images_per_second:.0f} images/s)" if report.embedded else ""
        click.echo(f"Embedded {report.embedded:,} images{rate}: {', '.join(parts)}.")
        if report.copied:
            click.echo(f"{report.copied:,} took the features of a file of the same content.")
        click.echo(f"Wrote {report.cache.display_path}: {len(report.cache):,} x {report.cache.shape[1]:,} features.")
    if report.rejected:
        click.secho(f"{report.rejected:,} image(s) could not be embedded:", fg="yellow")
        for path, reason in report.cache.rejects[:5]:
            click.echo(f"  {display(path)}: {reason}")
        if report.rejected > 5:
            click.echo(f"  … all of them: embedonce info {report.cache.display_path}")
    print_notes(report.notes)
    for name, view in report.views.items():
        rate = f" in {view.seconds:.1f} s" if view.embedded else ""
        click.echo(f"View {name}: {view.embedded:,} embedded{rate}, {view.cache.display_path}")


def print_check(check: Check) -> None:
    """Print what was found of one thing, and what to do about it."""
    colour = {"PASS": "green", "WARN": "yellow", "FAIL": "red"}[check.status]
    click.echo(f"{click.style(check.status, fg=colour)}  {check.name:<10} {check.found}")
    if check.remedy:
        click.echo(f"{'':<17}{check.remedy}")


def print_verification(done: Verification) -> None:
    """Print what a verification found, and what to do about it."""
    files = "one file" if done.files == 1 else f"{done.files:,} files"
    if done.intact:
        click.echo(f"Cache        intact: {done.rows:,} images in {files}, every checksum matches")
    else:
        usable = done.rows - len(done.damaged)
        click.secho(f"Cache        DAMAGED, but {usable:,} images can still be used", fg="red")
    _print_some(done.problems, "red")
    if done.images is not None:
        kinds = {kind: getattr(done, kind) for kind in ("added", "changed", "moved", "removed")}
        counts = ", ".join(f"{len(names):,} {kind}" for kind, names in kinds.items())
        click.echo(f"Images       {done.unchanged:,} unchanged, {counts} in {display(done.images)}")
        for kind, names in kinds.items():
            shown = [" -> ".join(map(display, [name] if isinstance(name, str) else name)) for name in names]
            _print_some([f"{kind}: {name}" for name in shown], "yellow")
    if done.sampled:
        verdict = f"{len(done.differing)} DIFFER" if done.differing else "all agree"
        click.echo(
            f"Re-embedded  {done.sampled:,} images, {verdict}: largest difference {done.largest_difference:.2g} "
            f"({done.allowed_difference:.2g} is allowed), {done.identical:,} equal to the last bit"
        )
        _print_some([f"differs: {display(path)}" for path in done.differing], "red")
    if done.intact and done.matches and done.differing:
        click.echo("This machine, or these weights, do not give the stored features: do not add to this cache here.")
    elif not done.intact or not done.matches:
        click.echo("To bring it up to date: embedonce extract IMAGES CACHE; it embeds only what is damaged or differs.")


def _print_some(lines: list[str], colour: str) -> None:
    for line in lines[:5]:
        click.secho(f"  {line}", fg=colour)
    if len(lines) > 5:
        click.echo(f"  … and {len(lines) - 5:,} more; all of them with --json")


def print_comparison(comparison: Comparison) -> None:
    """Print scores, differences, the leakage gap and notes."""
    titles, rule, *lines = str(comparison.score_table()).splitlines()
    click.echo("\n".join([titles, rule, click.style(lines[0], bold=True), *lines[1:]]) + "\n")
    for row in comparison.differences:
        click.echo(f"{row.text[0].upper()}{row.text[1:]}." if row.verdict == "undecided" else f"{row.text}.")
    if comparison.differences:
        corrected = ", corrected by Holm's method" if len(comparison.differences) > 1 else ""
        click.echo(f"(Test: {comparison.differences[0].test}{corrected})")
    if comparison.leaky is not None:
        click.echo(f"\n{comparison.gap_table()}\n")
        report = comparison.leaky.split.groups
        if report is not None:
            click.echo(
                f"In the random split, {100 * report['leak_share']:.1f} % of the test images have a near-duplicate in "
                "training; in the grouped split, none. The scores above are those of the grouped split."
            )
    print_notes(comparison.notes)


def print_groups(found: FoundGroups) -> None:
    """Print which copies were found, and how sure that is."""
    about = found.summary()
    if not about["groups_of_several"]:
        click.echo(f"No copies among {about['images']:,} images ({about['seconds']:.1f} s).")
    else:
        click.echo(
            f"{about['images_with_a_copy']:,} of {about['images']:,} images have a copy: "
            f"{about['groups_of_several']:,} groups of 2 to {about['largest']:,} images, "
            f"half of them of {about['median_size']:.0f} or more ({about['seconds']:.1f} s)."
        )
    if about["identical_files"]:
        click.echo(f"{about['identical_files']:,} files have the very content of another.")
    on_images = about["threshold_on_images"]
    decided = about["proven_on_images"] + about["rejected_on_images"]
    click.echo(
        f"Doubtful: {len(about['doubtful']):,} of {about['pairs_tested']:,} compared pairs scored within "
        f"0.1 of the threshold, {about['threshold']:.2f}"
        + ("." if on_images is None else f" ({on_images:.2f} for the {decided:,} that were compared on the images).")
    )
    if on_images is None:
        click.echo(
            "The images are not at hand, so pairs that their signatures leave in doubt were not taken for copies."
        )
    if about["without_structure"]:
        click.echo(
            f"{about['without_structure']:,} images are too plain to be recognised, other than as the same file."
        )
    conflicts = about["label_conflicts"]
    if conflicts:
        click.secho(
            f"{len(conflicts):,} group(s) hold images with different labels, probably label errors:", fg="yellow"
        )
        _print_some(
            [", ".join(map(display, paths[:4])) + (" …" if len(paths) > 4 else "") for paths in conflicts], "yellow"
        )


def print_scores(result: HeadResult) -> None:
    """Print one head's scores, a line per class."""
    from ..evaluate.shared import TextTable, format_number

    scores, rows = result.scores, []
    for row in scores["per_class"]:
        values = [format_number(row[key]) for key in ("precision", "recall", "f1")]
        rows.append([display(row["class"]), *values, f"{row['support']:,}"])
    click.echo(TextTable(["class", "precision", "recall", "F1", "images"], rows))
    shown = [metric for metric in METRICS.values() if metric.shown]
    values = [f"{metric.column} {format_number(scores[metric.name])}" for metric in shown]
    click.echo(f"{display(result.name)}: {', '.join(values)}")


def print_explanation(done: Explanation) -> None:
    """Print what was explained, and whether it adds up."""
    seen = "" if done.predicted else " (another class is more probable)"
    click.echo(f"{display(done.path)}: {display(done.class_name)} {100 * done.probability:.1f} %{seen}")
    height, width = done.heatmap.shape
    places = f"{height} x {width} places"
    if done.bias is not None and done.remainder is not None:
        click.echo(
            f"The {places}, {done.heatmap.sum():+.3f}, and the bias, {done.bias:+.3f}, add up to the score "
            f"{done.score:+.3f} within {abs(done.remainder):.1g}."
        )
    else:
        click.echo(
            f"Grad-CAM over {places}, which do not add up to the score, {done.score:+.3f}; their mean is what the head "
            f"saw within {done.feature_difference:.1g}."
        )
    if done.empty:
        print_notes(["Grad-CAM finds no place that speaks for this class; a head that is linear has an exact map"])


def print_notes(notes: list[str]) -> None:
    """Print what the user should know besides."""
    for note in notes:
        click.secho(f"Note: {note}.", fg="yellow")
