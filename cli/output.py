"""Output of the commands: lines and tables for people, JSON for scripts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..cache import counted, display, printable
from .screen import fitting, say, say_left_out, wrapped

if TYPE_CHECKING:
    from pathlib import Path

    from ..cache import FeatureCache
    from ..evaluate.comparison import Comparison, GridResult
    from ..evaluate.duplicates import NearDuplicates
    from ..evaluate.models import Explanation
    from ..evaluate.scoring import EarlierRuns, HeadResult
    from ..evaluate.splits import GroupSuggestion
    from ..extract import Check, Timed, Verification


def print_json(value: Any) -> None:
    """Print a result as JSON."""
    from ..evaluate.shared import as_json

    click.echo(as_json(value).decode("ascii"), nl=False)


def print_report(cache: FeatureCache) -> None:
    """Print the report of an extraction."""
    report, path = cache.report, cache.display_path
    if not report.published:
        say(f"Nothing to embed: {path} is up to date with {counted(len(cache) + report.rejected, 'image(s)')}.")
    else:
        kinds = ("added", "changed", "moved", "removed", "repaired", "unchanged", "resumed")
        parts = [f"{getattr(report, kind):,} {kind}" for kind in kinds if getattr(report, kind)]
        rate = f" in {report.seconds:.1f} s ({report.images_per_second:.0f} images/s)" if report.embedded else ""
        say(f"Embedded {counted(report.embedded, 'image(s)')}{rate}: {', '.join(parts)}.")
        if report.copied:
            say(f"{report.copied:,} took the features of a file of the same content.")
        say(f"Wrote {path}: {len(cache):,} x {cache.shape[1]:,} features.")
    if report.rejected:
        say(counted(report.rejected, "image(s) could not be embedded:"), fg="yellow")
        for name, reason in report.rejects[:5]:
            say(f"  {display(name)}: {printable(reason)}")
        if report.rejected > 5:
            say(f"  … all of them: embedonce info {path}")
    print_notes(report.notes)
    for name, view in report.views.items():
        rate = f" in {view.seconds:.1f} s" if view.embedded else ""
        say(f"View {name}: {view.embedded:,} embedded{rate}")


def print_labels(cache: FeatureCache) -> None:
    """Print the labels of a cache that were changed."""
    if cache.report.published:
        counts = ", ".join(f"{display(name)} {count:,}" for name, count in cache.class_counts.items())
        say(f"Wrote {cache.display_path}: {counts}.")
    else:
        say(f"Nothing to change: {cache.display_path} has these labels.")
    print_notes(cache.report.notes)


def print_check(check: Check) -> None:
    """Print the result of one check."""
    colour = {"PASS": "green", "WARN": "yellow", "FAIL": "red"}[check.status]
    indent = " " * 17
    finding = wrapped(f"{check.status}  {check.name:<10} {check.finding}", indent)
    click.echo(click.style(check.status, fg=colour) + finding.removeprefix(check.status))
    if check.remedy:
        say(indent + check.remedy, indent)


def print_verification(result: Verification) -> None:
    """Print a verification, and what to do."""
    files = "one file" if result.files == 1 else f"{result.files:,} files"
    if result.intact:
        say(f"Cache        intact: {counted(result.rows, 'image(s)')} in {files}, every checksum matches")
    else:
        usable = result.rows - len(result.damaged)
        say(f"Cache        DAMAGED, but {counted(usable, 'image(s)')} can still be used", fg="red")
    _print_some(result.problems, "red")
    if result.images is not None:
        kinds = {kind: getattr(result, kind) for kind in ("added", "changed", "moved", "removed")}
        counts = ", ".join(f"{len(names):,} {kind}" for kind, names in kinds.items())
        say(f"Images       {result.unchanged:,} unchanged, {counts} in {display(result.images)}")
        for kind, names in kinds.items():
            lines = [" -> ".join(map(display, [name] if isinstance(name, str) else name)) for name in names]
            _print_some([f"{kind}: {name}" for name in lines], "yellow")
    if result.sampled:
        verdict = f"{len(result.differing)} DIFFER" if result.differing else "all agree"
        say(
            f"Re-embedded  {counted(result.sampled, 'image(s)')}, {verdict}: largest difference "
            f"{result.largest_difference:.2g} ({result.allowed_difference:.2g} is allowed), {result.identical:,} equal "
            "to the last bit"
        )
        _print_some([f"differs: {display(path)}" for path in result.differing], "red")
    if result.intact and result.matches and result.differing:
        say("This machine, or these weights, do not give the stored features. Do not add images here.")
    elif not result.intact or not result.matches:
        say("To update the cache: embedonce extract IMAGES CACHE. It embeds only damaged and different images.")


def _print_some(lines: list[str], colour: str) -> None:
    for line in lines[:5]:
        say(f"  {printable(line)}", fg=colour)
    if len(lines) > 5:
        say(f"  … and {len(lines) - 5:,} more; all of them with --json")


def print_comparison(comparison: Comparison) -> None:
    """Print scores, differences, the leakage gap and notes."""
    from ..evaluate.report import best_head_verdicts, differences_by, has_many_verdicts, subgroups_of_best
    from ..evaluate.scoring import (
        about_own_metric,
        cache_sentences,
        cache_table,
        cache_table_legend,
        own_metric_table,
        seed_table,
        subgroup_sentence,
        subgroup_table,
    )
    from ..evaluate.shared import percent

    table, left_out = fitting(comparison.score_table(), 3, ("fit s", "predict s"))
    titles, rule, *lines = str(table).splitlines()
    click.echo("\n".join([titles, rule, click.style(lines[0], bold=True), *lines[1:]]) + "\n")
    say_left_out(left_out, end="\n")
    best = comparison.best()
    if best is not None and best.heads > 1:
        text = (
            f"{display(best.head)} is the best of {best.heads} heads. Corrected for the choice, its {best.title} on "
            f"other images is {best.expected:.4f} (95 % interval {best.low:.4f} to {best.high:.4f})."
        )
        say(text)
    if has_many_verdicts(comparison):
        say(f"{best_head_verdicts(comparison)[0]}. The report has the verdicts on all pairs.")
    else:
        for row in comparison.differences:
            text = f"{row.text[0].upper()}{row.text[1:]}." if row.verdict == "undecided" else f"{row.text}."
            say(text)
    if comparison.differences:
        corrected = ", corrected by Holm's method" if len(comparison.differences) > 1 else ""
        text = (
            "(p: how probable such a difference, or a larger one, is by chance if both heads are equally good. Test: "
        )
        say(f"{text}{comparison.differences[0].test}{corrected}.)")
    if comparison.both_splits is not None:
        splits = f"{comparison.leaky_name} split", "grouped split"
        table, left_out = fitting(comparison.gap_table(), 2, ("95 % interval", *splits))
        click.echo(f"\n{table}\n")
        say_left_out(left_out, end="\n")
        leaky = comparison.both_splits[0].split
        if leaky.groups is not None:
            related = "a near-duplicate" if leaky.has_near_duplicates else "an image of their group"
            text = (
                f"In the {comparison.leaky_name} split, {percent(leaky.groups['leak_share'])} of the test images "
                f"have {related} in training; in the grouped split, none. The scores above are those of the "
                f"{comparison.split.method} split."
            )
            say(text)
    if comparison.learning_outlook is not None:
        say(comparison.learning_outlook.text)
    if comparison.head_seeds:
        click.echo(f"\n{seed_table(comparison.head_seeds)}\n")
        for row in comparison.head_seeds:
            say(row.text)
    for own in comparison.own_metrics.values():
        click.echo(f"\n{own_metric_table(comparison.table, own.metric)}\n")
        say(about_own_metric(own.metric))
        for text in differences_by(comparison, own):
            say(f"{text}.")
    if comparison.caches:
        table, left_out = fitting(cache_table(comparison), 2, ("predict s", "features"))
        click.echo(f"\n{table}\n")
        say_left_out(left_out)
        say(f"({cache_table_legend(comparison)})")
        for text in cache_sentences(comparison):
            say(text)
    for rows in subgroups_of_best(comparison):
        click.echo(f"\n{subgroup_table(rows)}\n")
        say(subgroup_sentence(rows))
    for one in comparison.external:
        table, left_out = fitting(one.table(), 3, ("all images", "test part"))
        click.echo(f"\nExternal images: {display(one.name)}\n\n{table}\n")
        for text in one.sentences:
            say(text)
    print_earlier_runs(comparison.earlier)
    print_notes(comparison.notes)


def print_grid(results: Sequence[GridResult], folder: Path) -> None:
    """Print a line per comparison of a grid, with its best head."""
    from ..evaluate.metrics import METRICS
    from ..evaluate.shared import TextTable, format_interval

    rows, metrics = [], dict[str, None]()
    for result in results:
        if not result.results:
            rows.append([display(result.name), "-", "-", "-", "failed"])
            continue
        best = result.results["best"]
        metrics[best["metric"]] = None
        intervals = next(one["intervals"] for one in result.results["heads"] if one["head"] == best["head"])
        interval = format_interval(*intervals.get(best["metric"], (None, None)))
        status = "failed" if result.error is not None else "found" if result.found else "new"
        rows.append([display(result.name), display(best["head"]), f"{best['score']:.4f}", interval, status])
    title = " or ".join(METRICS[metric].title for metric in metrics) or "score"
    click.echo(str(TextTable(["comparison", "best head", title, "95 % interval", "results"], rows)))
    found = sum(result.found for result in results)
    text = f"\n{counted(len(results), 'comparison(s)')} in {display(str(folder))}"
    click.echo(f"{text}, {found:,} of them from earlier runs." if found else f"{text}.")


def print_timings(timed: Timed, further: Mapping[str, float] | None = None, *, as_json: bool = False) -> None:
    """Print the wall time of each phase; beside JSON, on standard error."""
    from ..evaluate.shared import TextTable

    seconds, total = timed.seconds | dict(further or {}), time.perf_counter() - timed.begin
    phases = seconds | {"other": total - sum(seconds.values()), "total": total}
    rows = [[phase, f"{value:.2f}"] for phase, value in phases.items() if value >= 0.005]
    click.echo(f"\n{TextTable(['phase', 'wall s'], rows)}", err=as_json)


def print_groups(near_duplicates: NearDuplicates) -> None:
    """Print the groups of near-duplicates, and how certain they are."""
    about = near_duplicates.to_dict()
    if not about["groups_of_several"]:
        say(f"No near-duplicates among {counted(about['images'], 'image(s)')} ({about['seconds']:.1f} s).")
    else:
        groups, largest = about["groups_of_several"], about["largest"]
        sizes = f"2 to {largest:,} images, half of them of {about['median_size']:.0f} or more" if largest > 2 else "2"
        say(
            f"{about['images_with_near_duplicates']:,} of {about['images']:,} images have near-duplicates: "
            f"{counted(groups, 'group(s)')} of {sizes} ({about['seconds']:.1f} s)."
        )
    if about["identical_files"]:
        say(f"{about['identical_files']:,} files have the same bytes as another.")
    doubtful = len(about["doubtful"])
    count = counted(doubtful, "borderline pair(s)") if doubtful else "No borderline pairs"
    say(f"{count} among the {about['pairs_tested']:,} compared (similarity within 0.1 of the threshold).")
    if about["threshold_on_images"] is None:
        say("The images are not available, so pairs that are in doubt from their thumbnails do not count.")
    if about["without_structure"]:
        say(
            f"{counted(about['without_structure'], 'image(s) (has|have)')} too little structure to be compared; "
            "only identical files are found among them."
        )
    conflicts = about["label_conflicts"]
    if conflicts:
        say(
            counted(
                len(conflicts), "group(s) (has|have) images with different labels, which are suspected label errors:"
            ),
            fg="yellow",
        )
        _print_some(
            [", ".join(map(display, paths[:4])) + (" …" if len(paths) > 4 else "") for paths in conflicts], "yellow"
        )


def print_suggestions(cache: Path, suggestions: Sequence[GroupSuggestion], first: int = 1) -> None:
    """Print proposals of groups, numbered from ``first``."""
    if not suggestions:
        text = (
            "No pattern of file names, folders, metadata or EXIF data makes groups. If images belong together, such as "
            "those of one patient, give their groups with --groups FILE."
        )
        say(text)
        return
    for number, one in enumerate(suggestions, first):
        about = one.to_dict()
        say(f"{number}. {printable(one.pattern)}", bold=True)
        sizes = f"up to {about['largest']:,} images, half of them of {about['median_size']:.0f} or more"
        alone = about["groups"] - about["groups_of_several"]
        lines = [
            f"{about['groups_of_several']:,} groups of {sizes}" + (f"; {alone:,} images alone" if alone else ""),
            f"such as {', '.join(map(display, one.example))}",
            f"similarity of features in a group: {_similarities(one)}",
        ]
        if one.column is not None:
            lines.append(f"use: --groups @{display(one.column)}")
        else:
            lines.append(f"write: embedonce groups {display(str(cache))} --suggest {number} -o groups.csv")
        for line in lines:
            say(f"   {line}")
    text = (
        "Similarity is the cosine after the mean of the class is subtracted. Use a proposal only if the images of its "
    )
    say("\n" + text + "groups do belong together, such as those of one patient.")


def _similarities(suggestion: GroupSuggestion) -> str:
    texts = [
        f"{one.value:.2f} {name}, {one.by_chance:.2f} by chance" + ("" if one.above_chance else " (not above chance)")
        for name, one in (("within a class", suggestion.within), ("across classes", suggestion.across))
        if one is not None
    ]
    return "; ".join(texts)


def print_scores(result: HeadResult) -> None:
    """Print the scores of one head with their intervals, and a line per class."""
    from ..evaluate.metrics import METRICS
    from ..evaluate.scoring import format_value
    from ..evaluate.shared import TextTable, format_number

    rows = []
    for name, value in result.values.items():
        if name not in METRICS or METRICS[name].shown:
            ends = " to ".join(map(format_value, result.intervals.get(name, ()))) or "-"
            rows.append([METRICS[name].column if name in METRICS else name, format_value(value), ends])
    click.echo(TextTable([display(result.name), "score", "95 % interval"], rows))
    classes = []
    for row in result.scores["per_class"]:
        values = [format_number(row[key]) for key in ("precision", "recall", "f1")]
        classes.append([display(row["class"]), *values, f"{row['support']:,}"])
    click.echo(f"\n{TextTable(['class', 'precision', 'recall', 'F1', 'images'], classes)}")


def print_explanation(result: Explanation) -> None:
    """Print an explanation, and the sum of its map."""
    from ..evaluate.shared import percent

    note = "" if result.predicted else " (another class is more probable)"
    say(f"{display(result.path)}: {display(result.class_name)} {percent(result.probability)}{note}")
    height, width = result.heatmap.shape
    if result.bias is not None and result.remainder is not None:
        say(f"The map of {height} x {width} regions accounts for the whole score (checked).")
    else:
        say(f"The map is Grad-CAM over {height} x {width} regions, which does not account for the whole score.")
    if result.empty:
        print_notes(["Grad-CAM finds no region that speaks for this class. A linear head has an exact map"])


def print_earlier_runs(earlier: EarlierRuns | None) -> None:
    """Print how often the same test images were scored before, if it is more than a few times."""
    if earlier is not None and earlier.warning:
        say(earlier.warning, fg="yellow")


def print_notes(notes: Sequence[str], err: bool = False) -> None:
    """Print notes for the user, if asked on standard error."""
    for note in notes:
        say(f"Note: {printable(note)}.", fg="yellow", err=err)
