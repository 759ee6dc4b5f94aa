"""What a saved comparison says about each topic of a model card, in Markdown, with its places in results.json."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...cache import counted, display
from ..metrics import METRICS
from ..shared import (
    MATRIX_CLASSES,
    as_typed,
    format_interval,
    format_number,
    format_p,
    format_points,
    format_seconds,
    percent,
)
from .saved_results import cache_of

_MOST = 10  # rows of tables of many classes, and of pairs of classes
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$])")


_SPLITS = {
    "random": "drawn at random, stratified by class",
    "grouped": "drawn at random, stratified by class, groups kept together",
    "given": "given by the folders of the images",
    "file": "given by a split file or a column of metadata",
    "custom": "given by the authors",
}


@dataclass(frozen=True)
class RunFacts:
    """A saved comparison, the content of results.json, and the place of the head that the card is about."""

    run: dict[str, Any]
    place: int

    @property
    def head(self) -> dict[str, Any]:
        """The head that the card is about."""
        head: dict[str, Any] = self.run["heads"][self.place]
        return head

    @property
    def at(self) -> str:
        """Its place in results.json."""
        return f"heads[{self.place}]"

    @property
    def metric(self) -> str:
        """Score that orders the heads."""
        return "balanced_accuracy" if self.run.get("skewed") else "accuracy"

    @property
    def features(self) -> tuple[str, int, list[dict[str, Any]]]:
        """Place of the cache of the head, number of its features, and their fingerprints, of joined caches several."""
        place, cache = cache_of(self.run, self.head["head"])
        return place, cache["features"], cache["fingerprint"].get("parts", [cache["fingerprint"]])

    @property
    def split(self) -> dict[str, Any]:
        """The split of the scores."""
        split: dict[str, Any] = self.run["split"]
        return split

    @property
    def is_evaluation(self) -> bool:
        """Whether a trained model was scored."""
        return bool(self.split["method"] == "model")


def facts_of(facts: RunFacts) -> dict[str, str]:
    """Return what the run says, by topic; topics about which it says nothing are left out."""
    texts = {topic: fact(facts) for topic, fact in _FACTS.items()}
    return {topic: text for topic, text in texts.items() if text}


def plain(text: object) -> str:
    """Return a text as Markdown that shows it as it is, in one line."""
    return _SPECIAL.sub(r"\\\1", display(str(text)))


def at(*places: str) -> str:
    """Return places in results.json as they follow a fact."""
    return f"({', '.join(f'`{place}`' for place in places)})"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; cells are Markdown already."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _images(count: int, kind: str = "") -> str:
    return counted(count, f"{kind}image(s)")


def _own_metrics(facts: RunFacts) -> list[str]:
    return [own["name"] for own in facts.run.get("own_metrics", [])]


def _title(metric: str) -> str:
    return METRICS[metric].title if metric in METRICS else plain(metric)


def _score(head: dict[str, Any], metric: str) -> str:
    """Return a score of a head with its interval."""
    value, ends = head.get(metric), (head.get("intervals") or {}).get(metric)
    if value is None:
        return "-"
    as_percent = metric in METRICS and METRICS[metric].percent
    text = percent(value) if as_percent else format_number(value)
    return f"{text} ({format_interval(*ends, as_percent=as_percent)})" if ends else text


def _parameters(head: dict[str, Any]) -> str:
    found = ", ".join(f"{plain(name)} {plain(value)}" for name, value in head["parameters"].items())
    return found or "no parameters"


def _description(facts: RunFacts) -> str:
    counts, (place, features, fingerprints) = facts.run["cache"]["classes"], facts.features
    classes = ", ".join(map(plain, itertools.islice(counts, _MOST)))
    if len(counts) > _MOST:
        classes += f" and {len(counts) - _MOST:,} more"
    networks = " and a frozen ".join(map(_network, fingerprints))
    return (
        f"{plain(facts.head['head'])} classifies images into {len(counts):,} classes: {classes} {at('cache.classes')}. "
        f"It takes {features:,} features of each image {at(f'{place}.features')}, which are computed by a frozen "
        f"{networks} {at(f'{place}.fingerprint')}."
    )


def _network(about: dict[str, Any]) -> str:
    details = [f"alpha {about['alpha']}"] if "alpha" in about else []
    details += [f"{about['image_size']} x {about['image_size']} pixels"] if "image_size" in about else []
    name = plain(about.get("architecture", "network that the cache does not name"))
    return name + (f" ({', '.join(details)})" if details else "")


def _own_parameters(facts: RunFacts) -> str:
    return f"{_parameters(facts.head)} {at(f'{facts.at}.parameters')}."


def _version(facts: RunFacts) -> str:
    made = facts.run["made"]
    version = plain(made["versions"].get("embedonce", "of an unknown version"))
    return f"Results of {plain(made['time'])} by embedonce {version} {at('made.time', 'made.versions')}."


def _limits_of_use(facts: RunFacts) -> str:
    return (
        "For education and research. Never use it for the diagnosis or treatment of patients. It gives one of its "
        "classes to every image, also to an image of something else."
    )


def _input(facts: RunFacts) -> str:
    return (
        "`embedonce predict` names files that it cannot decode, and marks images that are farther from all training "
        "images than 99.9 % of these are from each other. Such predictions should not be used."
    )


def _identity(facts: RunFacts) -> str:
    split = facts.split
    text = f"{_images(facts.run['cache']['images']).capitalize()} with features {at('cache.images')}."
    if "image_digest" not in split:
        return text
    return (
        f"{text} Digests of the contents, which do not depend on names and order: all images "
        f"`{split['image_digest']}` {at('split.image_digest')}, test images with their classes "
        f"`{split['test_digest']}` {at('split.test_digest')}."
    )


def _counts(facts: RunFacts) -> str:
    tested = {one["class"]: one["support"] for one in facts.head["per_class"]}
    counts = facts.run["cache"]["classes"]
    chosen = sorted(counts, key=lambda name: -counts[name])[:_MOST] if len(counts) > MATRIX_CLASSES else list(counts)
    rows = [[plain(name), f"{counts[name]:,}", f"{tested.get(name, 0):,}"] for name in chosen]
    first = f"The {_MOST} largest of {len(counts):,} classes" if len(chosen) < len(counts) else "Images of each class"
    places = at("cache.classes", f"{facts.at}.per_class[].support")
    return f"{first} {places}:\n\n{table(['class', 'images', 'test images'], rows)}"


def _missing(facts: RunFacts) -> str:
    cache = facts.run["cache"]
    unlabelled = cache.get("unlabelled") or 0
    return (
        f"{counted(cache['rejects'], 'file(s)')} could not be embedded {at('cache.rejects')}, and "
        f"{_images(unlabelled)} without a label {'is' if unlabelled == 1 else 'are'} left out "
        f"{at('cache.unlabelled')}. Every other image has all features."
    )


def _preprocessing(facts: RunFacts) -> str:
    place, _, fingerprints = facts.features
    values = [
        "; ".join(f"{plain(name.replace('_', ' '))}: {plain(value)}" for name, value in sorted(about.items()))
        for about in fingerprints
        if about
    ]
    if not values:
        return ""
    text = f"{'. Joined with features of: '.join(values)} {at(f'{place}.fingerprint')}."
    return f"{text} No person assesses the features, and none of them depends on other images or on the split."


def _legitimate(facts: RunFacts) -> str:
    shortcuts = facts.run.get("shortcuts") or {}
    families = shortcuts.get("families")
    if not families:
        return ""
    first, title = families[0], METRICS[families[0]["metric"]].title
    text = (
        f"Classified by values that show no object, such as file size or border: at most {percent(first['score'])} "
        f"{title} ({plain(first['family'])}), the best head {percent(shortcuts['best'])}, the most frequent class "
        f"{percent(shortcuts['majority'])} {at('shortcuts')}."
    )
    found = shortcuts.get("sentence")
    return f"{text} {plain(found)}." if found else f"{text} No such value comes near the best head."


def _split(facts: RunFacts) -> str:
    split = facts.split
    tested = _images(split["test"], "test ")
    if facts.is_evaluation:
        return f"{tested.capitalize()}, on which a trained model was scored {at('split.test')}."
    kind = _SPLITS.get(split["method"], plain(split["method"]))
    seed = "" if split.get("seed") is None else f", seed {split['seed']} {at('split.seed')}"
    if split.get("folds"):
        repeats = split.get("repeats") or 1
        times = f", repeated {repeats} times with other folds" if repeats > 1 else ""
        text = f"Cross-validation in {split['folds']} folds{times}: {kind}{seed}. {tested.capitalize()} in total"
        return f"{text}, each tested by heads that were trained on the other folds {at('split.folds', 'split.test')}."
    trained = _images(split["train"], "training ")
    text = f"{trained.capitalize()} and {tested} {at('split.train', 'split.test')}: {kind}{seed}."
    if split.get("validation"):
        text += f" {_images(split['validation']).capitalize()} for validation {at('split.validation')}."
    return text


def _disjoint(facts: RunFacts) -> str:
    groups = facts.split.get("groups")
    if not groups:
        return ""
    found = groups.get("group_source") == "found"
    kind = (
        "near-duplicates, which embedonce searched" if found else "images that belong together, which the authors gave"
    )
    crossing = groups["crossing"]
    both = "none is" if not crossing else "1 is" if crossing == 1 else f"{crossing:,} are"
    text = f"{groups['groups']:,} groups of {kind}; {both} on both sides of the split {at('split.groups')}."
    if found:
        text += " This does not show that images of one patient, slide or device are on one side."
    return text


def _size(facts: RunFacts) -> str:
    outlook = facts.run.get("learning_outlook")
    return f"{plain(outlook['text'])} {at('learning_outlook.text')}" if outlook else ""


def _heads(facts: RunFacts) -> str:
    rows = [
        [plain(head["head"]), _parameters(head), f"`heads[{number}]`"] for number, head in enumerate(facts.run["heads"])
    ]
    text = table(["head", "parameters", "place"], rows)
    for failed in facts.run.get("failed", []):
        text += f"\n\n{plain(failed['head'])} could not be trained: {plain(failed['error'])} {at('failed')}."
    return text


def _backbone(facts: RunFacts) -> str:
    place, _, fingerprints = facts.features
    if place == "cache":
        weights, weights_at = facts.run["cache"]["provenance"].get("weights"), "cache.provenance.weights"
    else:
        weights, weights_at = (
            ", ".join(cache_of(facts.run, facts.head["head"])[1].get("weights", ())),
            f"{place}.weights",
        )
    digests = dict.fromkeys(f"`{about['weights_sha256']}`" for about in fingerprints if "weights_sha256" in about)
    if not digests and not weights:
        return ""
    text = f"The weights of the backbone, {f'{plain(weights)} {at(weights_at)}' if weights else 'not named'}"
    digest_at = at(f"{place}.fingerprint.weights_sha256" if len(fingerprints) == 1 else f"{place}.fingerprint")
    return text + (f", have the SHA-256 digest {' and '.join(digests)} {digest_at}." if digests else ".")


def _tuning(facts: RunFacts) -> str:
    searches = facts.head.get("tuning")
    if not searches:
        return "" if facts.is_evaluation else "This run searched no parameters of the head."
    names = ", ".join(map(plain, searches[0]["parameters"])) or "no parameter"
    trials = sum(search["trials"] for search in searches)
    where = (
        f"in the training images of each of {len(searches)} folds" if len(searches) > 1 else "in the training images"
    )
    return (
        f"{names} {'was' if len(searches[0]['parameters']) == 1 else 'were'} searched {where}, by "
        f"{METRICS[searches[0]['metric']].title}, with {trials:,} candidates in total {at(f'{facts.at}.tuning')}."
    )


def _selection(facts: RunFacts) -> str:
    best = facts.run.get("best")
    if facts.is_evaluation or not best:
        return ""
    title = METRICS[best["metric"]].title
    if best["heads"] == 1:
        return "One head was trained, so none was chosen on the test images."
    which = (
        f"{plain(best['head'])} has"
        if facts.head["head"] == best["head"]
        else f"The authors chose it. {plain(best['head'])} has"
    )
    return (
        f"{which} the highest {title} of {best['heads']} heads on the test images, {percent(best['score'])} "
        f"{at('best.score')}. Corrected for this choice, {percent(best['expected'])} is expected on other images "
        f"(95 % interval {format_interval(best['low'], best['high'], as_percent=True)}; `best.expected`)."
    )


def _baselines(facts: RunFacts) -> str:
    supports = [one["support"] for one in facts.head["per_class"]]
    text = f"Always the most frequent class: {percent(max(supports) / sum(supports))} accuracy, "
    text += f"{percent(1 / sum(map(bool, supports)))} balanced accuracy {at(f'{facts.at}.per_class[].support')}."
    others = [
        f"{plain(head['head'])}: {_score(head, facts.metric)} {at(f'heads[{number}].{facts.metric}')}"
        for number, head in enumerate(facts.run["heads"])
        if number != facts.place
    ]
    return f"{text} Other heads: {'; '.join(others)}." if others else text


def _only_training(facts: RunFacts) -> str:
    if facts.is_evaluation:
        return ""
    return (
        "Heads learn scaling, weights, number of epochs, calibration and searched parameters from the training images "
        "of each split. The backbone does not learn from the images of the run. The search for near-duplicates looks "
        "at all images, without their classes, to make the split."
    )


def _imbalance(facts: RunFacts) -> str:
    counts = [count for count in facts.run["cache"]["classes"].values() if count]
    weight = facts.head["parameters"].get("class_weight")
    weights = f"Class weights in training: {plain(weight)}" if weight else "No class weights in training"
    leading = METRICS[facts.metric].title
    return (
        f"The largest class has {max(counts) / min(counts):.1f} times as many images as the smallest "
        f"{at('cache.classes')}. The {leading} orders the heads {at('skewed')}. {weights} "
        f"{at(f'{facts.at}.parameters')}."
    )


def _ensemble(facts: RunFacts) -> str:
    return "The predictions of the compared heads are not combined. The parameters say if a head is an ensemble itself."


def _software(facts: RunFacts) -> str:
    versions = facts.run["made"]["versions"]
    return ", ".join(f"{plain(name)} {plain(value)}" for name, value in versions.items()) + f" {at('made.versions')}."


def _machine(facts: RunFacts) -> str:
    head, seconds = facts.head, facts.run.get("phase_seconds") or {}
    times = [
        f"{verb} {format_seconds(head[name])} {at(f'{facts.at}.{name}')}"
        for verb, name in (("training took", "fit_seconds"), ("prediction of the test images", "predict_seconds"))
        if head.get(name)
    ]
    if seconds:
        times.append(f"the whole run {format_seconds(sum(seconds.values()))} {at('phase_seconds')}")
    text = ", ".join(times)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _command(facts: RunFacts) -> str:
    words = facts.run["made"]["command"]
    return f"```bash\n{display(as_typed(list(words)))}\n```\n\n{at('made.command')}" if words and words[0] else ""


def _metrics(facts: RunFacts) -> str:
    names = [_title(name) for name in [*METRICS, *_own_metrics(facts)] if facts.head.get(name) is not None]
    text = f"{', '.join(names)}; precision, recall, specificity and F1 of each class"
    if facts.head.get("ece") is not None:
        text += "; Brier score, calibration error, slope and intercept"
    return f"{text[0].upper()}{text[1:]}. The {METRICS[facts.metric].title} orders the heads {at('skewed')}."


def _results(facts: RunFacts) -> str:
    names = [*METRICS, *_own_metrics(facts)]
    names = [name for name in names if any(head.get(name) is not None for head in facts.run["heads"])]
    names.sort(key=lambda name: name != facts.metric)
    order = sorted(range(len(facts.run["heads"])), key=lambda one: -(facts.run["heads"][one].get(facts.metric) or 0))
    rows = []
    for number in order:
        head = facts.run["heads"][number]
        name = plain(head["head"])
        name = f"**{name}**" if number == facts.place else name
        rows.append([name, *(_score(head, metric) for metric in names), f"`heads[{number}]`"])
    titles = ["head", *map(_title, names), "place"]
    text = f"On {_images(facts.split['test'], 'test ')}, with 95 % intervals:\n\n{table(titles, rows)}"
    independent = facts.run.get("independent")
    if independent:
        score = _score(independent["scores"] | {"intervals": independent["intervals"]}, facts.metric)
        text += (
            f"\n\nWithout images that have a near-duplicate in training ({_images(independent['images'])}): {score} "
        )
        text += f"{at('independent')}."
    return text


def _classes(facts: RunFacts) -> str:
    entries = facts.head["per_class"]
    first = ""
    if len(entries) > MATRIX_CLASSES:
        first = f"The {_MOST} classes of {len(entries):,} with the lowest F1. "
        entries = sorted((one for one in entries if one["support"]), key=lambda one: one["f1"])[:_MOST]
    names = ["recall", "specificity", "precision", "f1"]

    def cell(entry: dict[str, Any], name: str) -> str:
        value, ends = entry.get(name), (entry.get("intervals") or {}).get(name)
        if value is None:
            return "-"
        return percent(value) + (f" ({format_interval(*ends, as_percent=True)})" if ends else "")

    rows = [
        [plain(entry["class"]), f"{entry['support']:,}", *(cell(entry, name) for name in names)] for entry in entries
    ]
    titles = ["class", "test images", "recall (sensitivity)", "specificity", "precision", "F1"]
    return f"{first}{plain(facts.head['head'])} {at(f'{facts.at}.per_class')}:\n\n{table(titles, rows)}"


def _uncertainty(facts: RunFacts) -> str:
    units = "groups" if facts.split.get("groups") else "images"
    return (
        f"95 % confidence intervals, in which {units} count as independent {at(f'{facts.at}.intervals')}. They hold "
        "for this trained head on new images of the same kind, not for training it again. Formulas and simulations "
        "are in the page on results of embedonce's documentation."
    )


def _tests(facts: RunFacts) -> str:
    rows = [row for row in facts.run.get("differences", []) if facts.head["head"] in (row["a"], row["b"])]
    if not rows:
        return "One head was scored, so there is nothing to compare." if len(facts.run["heads"]) == 1 else ""
    lines = [
        f"- {plain(row['a'])} less {plain(row['b'])}: {format_points(row['difference'])} points, 95 % interval "
        f"{format_points(row['low'], row['high'])}, {format_p(row['p_holm'], named=True)}, {plain(row['verdict'])}"
        for row in rows
    ]
    text = f"Test: {plain(rows[0]['test'])}. p is corrected for the number of pairs by Holm's method"
    return f"{text} {at('differences')}.\n\n" + "\n".join(lines)


def _calibration(facts: RunFacts) -> str:
    head = facts.head
    if head.get("ece") is None:
        return "The head has no probabilities."
    parts = [f"calibration error {format_number(head['ece'])} {at(f'{facts.at}.ece')}"]
    if head.get("ece_high") is not None:
        parts[0] += f", by chance up to {format_number(head['ece_high'])}"
    if head.get("calibration_slope") is not None:
        parts.append(f"slope {format_number(head['calibration_slope'], 2)}")
        parts.append(f"intercept {format_number(head['calibration_intercept'], 2)}")
    parts.append(f"Brier score {format_number(head['brier'])}")
    text = ", ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _output(facts: RunFacts) -> str:
    if facts.head.get("log_loss") is None:
        return "The class with the highest score. There is no threshold."
    return "A probability for each class, and the class with the highest probability. There is no threshold."


def _failures(facts: RunFacts) -> str:
    matrix, names = facts.head["confusion"], [one["class"] for one in facts.head["per_class"]]
    errors = sum(count for row, counts in enumerate(matrix) for column, count in enumerate(counts) if row != column)
    if not errors:
        return f"Every test image is classified correctly {at(f'{facts.at}.confusion')}."
    pairs = sorted(
        (
            (-count, row, column)
            for row, counts in enumerate(matrix)
            for column, count in enumerate(counts)
            if row != column and count
        )
    )[:_MOST]
    rows = [[plain(names[row]), plain(names[column]), f"{-count:,}"] for count, row, column in pairs]
    text = f"{counted(errors, 'incorrect prediction(s)')}, most often {at(f'{facts.at}.confusion')}:"
    return f"{text}\n\n{table(['class', 'predicted', 'images'], rows)}\n\nAll predictions are in `predictions.csv`."


def _robustness(facts: RunFacts) -> str:
    lines = []
    gaps = {row["head"]: row for row in facts.run.get("leak_gap", [])}
    if facts.head["head"] in gaps:
        row = gaps[facts.head["head"]]
        kind = "random" if "random" in facts.run else plain(facts.split["method"])
        ends = "" if row.get("low") is None else f" (95 % interval {format_points(row['low'], row['high'])})"
        metric = METRICS[row.get("metric") or "accuracy"].title
        lines.append(
            f"On the {kind} split, in which images of a group can be on both sides, the {metric} differs by "
            f"{format_points(row['gap'])} points{ends} {at('leak_gap')}."
        )
    rounds = facts.head.get("rounds") or []
    scores = [one[facts.metric] for one in rounds if one.get(facts.metric) is not None]
    if scores:
        ends = f"{percent(min(scores))} to {percent(max(scores))}"
        lines.append(
            f"{METRICS[facts.metric].title.capitalize()} of the {len(scores)} folds: {ends} {at(f'{facts.at}.rounds')}."
        )
    for number, row in enumerate(facts.run.get("head_seeds", [])):
        if row["head"] == facts.head["head"]:
            ends = f"{percent(row['minimum'])} to {percent(row['maximum'])}"
            lines.append(f"With {len(row['scores'])} seeds of the head alone: {ends} {at(f'head_seeds[{number}]')}.")
    return " ".join(lines)


def _external(facts: RunFacts) -> str:
    lines = []
    for number, one in enumerate(facts.run.get("external", [])):
        for entry in one["heads"]:
            if entry["head"] == facts.head["head"]:
                percents = METRICS[entry["metric"]].percent
                score = percent(entry["score"]) if percents else format_number(entry["score"])
                lines.append(
                    f"- {plain(one['name'])}, {_images(one['images'])}: {score} {METRICS[entry['metric']].title} "
                    f"({format_interval(entry['low'], entry['high'], as_percent=percents)}), "
                    f"{format_points(entry['difference'])} points from the test part "
                    f"({format_points(entry['difference_low'], entry['difference_high'])}, "
                    f"{format_p(entry['p'], named=True)}) {at(f'external[{number}]')}"
                )
    return "\n".join(lines)


def _subgroups(facts: RunFacts) -> str:
    rows = [
        [
            plain(row["column"]),
            plain(row["value"]),
            f"{row['images']:,}",
            f"{percent(row['score'])} ({format_interval(row['low'], row['high'], as_percent=True)})",
            "-" if row.get("p_holm") is None else format_p(row["p_holm"]),
        ]
        for row in facts.run.get("subgroups", [])
        if row["head"] == facts.head["head"]
    ]
    if not rows:
        return ""
    titles = ["column", "value", "test images", METRICS[facts.metric].title, "p (Holm)"]
    return f"Scores by metadata {at('subgroups')}:\n\n{table(titles, rows)}"


def _updating(facts: RunFacts) -> str:
    method = facts.head["parameters"].get("calibrate")
    calibrated = f"Probabilities are calibrated on training images ({plain(method)}). " if method else ""
    return f"{calibrated}The head was not changed after it was scored."


def _earlier(facts: RunFacts) -> str:
    earlier = facts.run.get("earlier_runs")
    if earlier is None:
        return ""
    text = (
        f"{counted(earlier['runs'], 'earlier run(s)') if earlier['runs'] else 'No earlier run'} on this cache scored "
    )
    text += f"these test images with other results {at('earlier_runs')}."
    if earlier.get("changed"):
        runs = counted(earlier["changed"], "run(s)")
        text += f" Before images were added or removed, {runs} scored test images that may be among these."
    if earlier["runs"] or earlier.get("changed"):
        text += " The best of several scores of the same images is too high by chance."
    return text


def _notes(facts: RunFacts) -> str:
    notes = [f"- {plain(note[0].upper() + note[1:])}." for note in facts.run.get("notes", []) if note]
    return "From `notes`:\n\n" + "\n".join(notes) if notes else ""


def _predict(facts: RunFacts) -> str:
    return (
        "`embedonce train` writes the head to a file, with which `embedonce predict` gives classes and probabilities "
        "of images. Every prediction of the test images is in `predictions.csv`."
    )


_FACTS: dict[str, Callable[[RunFacts], str]] = {
    "model.description": _description,
    "model.parameters": _own_parameters,
    "model.version": _version,
    "use.limits": _limits_of_use,
    "use.input": _input,
    "data.identity": _identity,
    "data.counts": _counts,
    "data.missing": _missing,
    "data.preprocessing": _preprocessing,
    "data.legitimate": _legitimate,
    "training.split": _split,
    "training.disjoint": _disjoint,
    "training.size": _size,
    "training.heads": _heads,
    "training.backbone": _backbone,
    "training.tuning": _tuning,
    "training.selection": _selection,
    "training.baselines": _baselines,
    "training.only_training": _only_training,
    "training.imbalance": _imbalance,
    "training.ensemble": _ensemble,
    "training.software": _software,
    "training.machine": _machine,
    "training.command": _command,
    "evaluation.metrics": _metrics,
    "evaluation.results": _results,
    "evaluation.classes": _classes,
    "evaluation.uncertainty": _uncertainty,
    "evaluation.tests": _tests,
    "evaluation.calibration": _calibration,
    "evaluation.output": _output,
    "evaluation.failures": _failures,
    "evaluation.robustness": _robustness,
    "evaluation.external": _external,
    "evaluation.subgroups": _subgroups,
    "evaluation.updating": _updating,
    "evaluation.earlier": _earlier,
    "limits.notes": _notes,
    "sharing.predict": _predict,
}
