"""A model card of a saved comparison, with checklists of what a study should report."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ...cache import counted, display, write_atomically
from ...errors import HeadError, check_path
from ..metrics import METRICS
from ..shared import Record, Records, format_interval, how_it_was_made, percent
from .card_facts import RunFacts, at, facts_of, plain, table
from .saved_results import SavedResults, load_results
from .study_file import HEAD, read_study, write_study

_STATUS = {"answered": "yes", "partly": "partly", "open": "no"}


class _Topic(NamedTuple):
    """Topic of a card: its key, section and title, and the question to the authors, if there is one.

    A topic that needs ``both`` is answered by the authors only, even if the run says something about it.
    """

    key: str
    section: str
    title: str
    question: str
    both: bool


class _Checklist(NamedTuple):
    """A published checklist: title, source, DOI, and its items: number, short title and topics."""

    title: str
    source: str
    doi: str
    items: list[tuple[str, str, list[str]]]


@dataclass(frozen=True)
class CardItem(Record):
    """An item of a checklist: whether the topics that answer it are; ``status`` is answered, partly or open."""

    checklist: str
    item: str
    title: str
    status: str
    topics: list[str]


@dataclass(frozen=True)
class OpenQuestion(Record):
    """A question that the study file does not answer, and the items of checklists that need it."""

    key: str
    question: str
    items: str


@dataclass(frozen=True, repr=False)
class ModelCard:
    """A model card and its checklists.

    Attributes
    ----------
    text : str
        The card, in Markdown.
    head : str
        The head that it is about.
    items : Records of CardItem
        Items of REFORMS, CLAIM and TRIPOD+AI.
    questions : Records of OpenQuestion
        What the authors have not answered.

    See Also
    --------
    embedonce.card : Returns it.
    """

    text: str
    head: str
    items: Records[CardItem]
    questions: Records[OpenQuestion]

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Number of items of each checklist by status."""
        names = dict.fromkeys(item.checklist for item in self.items)
        return {
            name: {
                status: sum((item.checklist, item.status) == (name, status) for item in self.items)
                for status in _STATUS
            }
            for name in names
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the items and the open questions as JSON-serialisable values."""
        return {
            "head": self.head,
            "counts": self.counts,
            "items": self.items.to_dict(),
            "questions": self.questions.to_dict(),
        }

    def to_frame(self) -> Any:
        """Return the items as a pandas DataFrame."""
        return self.items.to_frame()

    def save(self, path: Path | str) -> Path:
        """Write the card to a file.

        Raises
        ------
        OutputError
            When the file cannot be written.
        """
        path = Path(path)
        write_atomically(path, self.text.encode("utf-8", "replace"))
        return path

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        done = sum(item.status == "answered" for item in self.items)
        return f"<ModelCard of {display(self.head)}: {done} of {len(self.items)} items answered; print shows it>"

    def _repr_markdown_(self) -> str:
        return self.text


def card(run: Path | str, *, study: Mapping[str, Any] | Path | str | None = None) -> ModelCard:
    """Write a model card of a saved comparison, with checklists of what a study should report.

    What the run knows is filled in, with its places in ``results.json``. What only the authors know is taken from a
    study file. Items that neither answers are listed as open.

    The card has the sections of Mitchell and others (2019, Model Cards for Model Reporting) as on Hugging Face. The
    checklists are REFORMS (Kapoor and others 2024), CLAIM (Tejani and others 2024) and TRIPOD+AI (Collins and others
    2024), with short titles of the items in other words.

    Parameters
    ----------
    run : path-like
        Folder that `Comparison.save` or ``embedonce compare`` wrote.
    study : path-like or mapping, default=None
        TOML file with the answers of the authors, or its content. ``embedonce card`` writes one with all questions.
        ``model.head`` names the head that the card is about, by default the best one.

    Returns
    -------
    ModelCard

    Raises
    ------
    ParameterError
        When the folder holds no results, or the study file has an unknown key or a value that is no text.
    HeadError
        When the run has no head of the name in the study file.

    See Also
    --------
    embedonce.compare : Compare heads.
    embedonce.load_results : Read one saved comparison.

    Examples
    --------
    >>> import embedonce as eo, numpy as np, tempfile
    >>> X = np.random.default_rng(0).normal(size=(40, 1280)).astype(np.float32)
    >>> comparison = eo.compare(eo.FeatureCache.from_arrays(X, ["cat", "dog"] * 20), ["knn"], split="random")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = comparison.save(folder, figures="none")
    ...     card = eo.card(folder, study={"model": {"name": "Cats and dogs"}})
    >>> card.text.splitlines()[7]
    '# Model card: Cats and dogs'
    >>> len(card.items)
    128
    """
    saved = load_results(check_path("run", "card", run))
    topics, checklists = _contents()
    questions = {topic.key: topic.question for topic in topics if topic.question}
    answers = {} if study is None else read_study(study, questions)
    facts = RunFacts(saved.content, _place(saved, answers.pop(HEAD, None)))
    known = facts_of(facts)
    statuses = {topic.key: _status(topic, known, answers) for topic in topics}
    items = [
        CardItem(checklist.title, number, title, _together([statuses[key] for key in keys]), keys)
        for checklist in checklists
        for number, title, keys in checklist.items
    ]
    needed = _items_of(checklists)
    open_questions = [
        OpenQuestion(topic.key, topic.question, needed.get(topic.key, ""))
        for topic in topics
        if topic.question and topic.key != HEAD and statuses[topic.key] != "answered"
    ]
    text = _text(facts, topics, checklists, known, answers, items, open_questions)
    return ModelCard(text, facts.head["head"], Records(items), Records(open_questions))


def write_questions(path: Path | str) -> Path:
    """Write a study file with all questions of a card and no answers; an existing file is an OutputError."""
    topics, checklists = _contents()
    questions = {topic.key: topic.question for topic in topics if topic.question}
    return write_study(path, questions, _items_of(checklists))


@functools.cache
def _contents() -> tuple[list[_Topic], list[_Checklist]]:
    """Return the topics of a card in their order, and the checklists."""
    path = Path(__file__).parent / "templates" / "card.toml"
    content = tomllib.loads(path.read_text("utf-8"))
    checklists = [
        _Checklist(
            one["title"], one["source"], one["doi"], [(item, title, keys.split()) for item, title, keys in one["items"]]
        )
        for one in content.pop("checklists").values()
    ]
    topics = [
        _Topic(f"{name}.{key}", section["section"], about["title"], about.get("question", ""), about.get("both", False))
        for name, section in content.items()
        for key, about in section.items()
        if key != "section"
    ]
    return topics, checklists


def _place(saved: SavedResults, head: str | None) -> int:
    """Return the number of a head in the results, by default of the best one."""
    names = [one["head"] for one in saved.content["heads"]]
    if head is None:
        return names.index(saved.table[0].head)
    if head not in names:
        raise HeadError(
            f"{HEAD} of the study file must be one of the compared heads ({', '.join(map(display, names))}), got "
            f"{display(head)}"
        )
    return names.index(head)


def _status(topic: _Topic, known: Mapping[str, str], answers: Mapping[str, str]) -> str:
    if topic.key in answers or (topic.key in known and not topic.both):
        return "answered"
    return "partly" if topic.key in known else "open"


def _together(statuses: Sequence[str]) -> str:
    """Return the status of an item from those of its topics."""
    return statuses[0] if len(set(statuses)) == 1 else "partly"


def _items_of(checklists: Sequence[_Checklist]) -> dict[str, str]:
    """Return the items that each topic answers, such as "REFORMS 1a, 3b; CLAIM 7"."""
    found: dict[str, list[str]] = {}
    for checklist in checklists:
        numbers: dict[str, list[str]] = {}
        for number, _, keys in checklist.items:
            for key in keys:
                numbers.setdefault(key, []).append(number)
        for key, listed in numbers.items():
            found.setdefault(key, []).append(f"{checklist.title} {', '.join(listed)}")
    return {key: "; ".join(parts) for key, parts in found.items()}


def _text(
    facts: RunFacts,
    topics: Sequence[_Topic],
    checklists: Sequence[_Checklist],
    known: Mapping[str, str],
    answers: Mapping[str, str],
    items: Sequence[CardItem],
    questions: Sequence[OpenQuestion],
) -> str:
    name = answers.get("model.name") or plain(facts.head["head"])
    blocks = [_metadata(facts), f"# Model card: {' '.join(name.split())}", _introduction(facts)]
    section = ""
    for topic in topics:
        parts = [text for text in (known.get(topic.key), answers.get(topic.key)) if text]
        if not parts or topic.key == "model.name":
            continue
        if topic.section != section:
            section = topic.section
            blocks.append(f"## {section}")
        blocks += [f"### {topic.title}", *parts]
    titles = {topic.key: topic.title for topic in topics}
    blocks += ["## Checklists", _about_checklists()]
    for checklist in checklists:
        own = [item for item in items if item.checklist == checklist.title]
        done = sum(item.status == "answered" for item in own)
        rows = [
            [item.item, item.title, _STATUS[item.status], _where(item, titles, {**known, **answers}, questions)]
            for item in own
        ]
        blocks += [
            f"### {checklist.title}",
            f"{done} of {len(own)} items are answered. {checklist.source}. [doi:{checklist.doi}](https://doi.org/{checklist.doi})",
            table(["item", "about", "answered", "where"], rows),
        ]
    if questions:
        rows = [[f"`{one.key}`", one.question, one.items or "-"] for one in questions]
        blocks += [
            "## Open questions",
            f"{counted(len(rows), 'question(s) (is|are)')} not answered. Answer them in the study file.",
            table(["key", "question", "items"], rows),
        ]
    made = how_it_was_made()
    blocks.append(f"Written by embedonce {plain(made['versions']['embedonce'])}, {plain(made['time'])}.")
    return "\n\n".join(blocks) + "\n"


def _metadata(facts: RunFacts) -> str:
    """Return the YAML block that Hugging Face reads."""
    metrics = [name for name in ("accuracy", "roc_auc", "matthews_correlation") if facts.head.get(name) is not None]
    lines = [
        "---",
        "library_name: embedonce",
        "pipeline_tag: image-classification",
        "tags: [image-classification, mobilenetv2, transfer-learning, frozen-features]",
        f"metrics: [{', '.join(metrics)}]",
        "---",
    ]
    return "\n".join(lines)


def _introduction(facts: RunFacts) -> str:
    head, metric = facts.head, facts.metric
    ends = (head.get("intervals") or {}).get(metric)
    interval = f" (95 % interval {format_interval(*ends, as_percent=True)})" if ends else ""
    return (
        "> **For education and research. Not for diagnosis or treatment.** A card describes a study; it does not make "
        "a model fit for use.\n\n"
        f"{plain(head['head'])} reaches {percent(head[metric])} {METRICS[metric].title}{interval} on "
        f"{counted(facts.split['test'], 'test image(s)')} {at(f'{facts.at}.{metric}')}. Names such as `{facts.at}` are "
        "places in `results.json`, the file of the run, which has all numbers. Texts without such places "
        "come from the study file of the authors, or hold for every run."
    )


def _about_checklists() -> str:
    return (
        "An item is answered if the card says something on each of its topics; whether that suffices, only readers of "
        "the checklist can judge. Titles of items are short paraphrases. The wording is in the publications."
    )


def _where(item: CardItem, titles: Mapping[str, str], written: Iterable[str], questions: Sequence[OpenQuestion]) -> str:
    """Return links to what the card says on an item, and the keys of questions that are open."""
    links = [f"[{titles[key]}](#{_anchor(titles[key])})" for key in item.topics if key in written]
    keys = [f"`{one.key}`" for one in questions if one.key in item.topics]
    return "; ".join([*links, *([f"open: {', '.join(keys)}"] if keys else [])])


def _anchor(title: str) -> str:
    """Return the anchor of a heading, as GitHub and Hugging Face make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
