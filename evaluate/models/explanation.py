"""Which places of an image a head's decision comes from: class activation maps, exact or as Grad-CAM."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...cache import display
from ...errors import ImageError, ImageFolderError, ModelFileError, OutputError, ParameterError
from ...extract import Pixels, find_images, precision_of, recipe_of, resize
from ...extract.backbone import feature_map
from ...heads import class_evidence, require_explainable
from ...heads.io import load_head, read_metadata
from ..shared import INK, percent
from .activation_map import OPACITY, checked_mean, gray, heatmap_colormap, heatmap_of
from .image_model import FeatureSource, backbone_of
from .prediction import embed_files, origin_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where in an image the evidence for a class lies.

    Attributes
    ----------
    path : str
        The image file.
    method : {"cam", "grad-cam"}
        ``cam``, of heads linear in the features: the heatmap is signed, and its sum plus ``bias`` is ``score``.
        ``grad-cam``, of others: the heatmap is 0 or above, and says where the score would rise most with the features
        as they are; it does not add up to anything.
    class_name : str
        What is explained.
    classes : tuple of str, length k
    probabilities : ndarray of float64, shape (k,)
    score : float
        Logarithm of the class's probability less the mean of the logarithms over all classes: 0 where all are equal.
    bias : float or None
        What the head gives the class without looking; None for ``grad-cam``.
    heatmap : ndarray of float64, shape (h, w)
        What each place of the last feature map adds to the score, in the score's unit.
    pixels : ndarray of uint8, shape (height, width, 3)
        The image as it was decoded.
    feature_difference : float
        The largest difference between a pooled feature that the head got and the mean over the places.
    """

    path: str
    method: str
    class_name: str
    classes: tuple[str, ...]
    probabilities: npt.NDArray[np.float64]
    score: float
    bias: float | None
    heatmap: npt.NDArray[np.float64]
    pixels: Pixels
    feature_difference: float

    @property
    def probability(self) -> float:
        """Of the explained class."""
        return float(self.probabilities[self.classes.index(self.class_name)])

    @property
    def predicted(self) -> bool:
        """Whether the explained class is the most probable one."""
        return self.class_name == self.classes[int(self.probabilities.argmax())]

    @property
    def nowhere(self) -> bool:
        """Whether Grad-CAM left nothing: along the gradient, every place lowers the score."""
        return self.method == "grad-cam" and not self.heatmap.any()

    @property
    def remainder(self) -> float | None:
        """What the sum of the heatmap and the bias are beside the score, about 0; None for ``grad-cam``."""
        return None if self.bias is None else float(self.heatmap.sum()) + self.bias - self.score

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-serialisable, without the pixels."""
        return {
            "path": self.path,
            "method": self.method,
            "class": self.class_name,
            "probability": self.probability,
            "probabilities": dict(zip(self.classes, self.probabilities.tolist(), strict=True)),
            "score": self.score,
            "bias": self.bias,
            "remainder": self.remainder,
            "feature_difference": self.feature_difference,
            "heatmap": self.heatmap.tolist(),
        }

    def draw(self, ax: Axes) -> Any:
        """Draw the heatmap over the image on given axes; return the mappable for a colour bar."""
        return draw_overlay(ax, self)

    def figure(self) -> Figure:
        """Return the image beside its heatmap, with colour bar and caption."""
        return explanation_figure(self)

    def save(self, path: Path | str) -> None:
        """Write the figure to a file that ends in ``.png``, ``.svg`` or ``.pdf``; one that is there is replaced.

        Raises
        ------
        OutputError
            When it ends otherwise, or cannot be written.
        """
        from ..shared import save_figure

        require_picture(path)
        save_figure(self.figure(), path)


def explain(
    model: Path | str,
    image: Path | str,
    *,
    class_name: str | None = None,
    weights: Path | str | None = None,
    trust: bool = False,
) -> Explanation:
    """Find the places of an image that speak for a class.

    Parameters
    ----------
    model : path-like
        Of ``embedonce train``, with a head softmax, logreg, linear-svm or svm, on float32 features.
    image : path-like
        One image file.
    class_name : str, optional
        What to explain, by default the predicted class.
    weights : path-like, optional
        The backbone's weights, when they are not where the model says.
    trust : bool
        Allow a model file that runs code when loaded.

    Returns
    -------
    Explanation

    Raises
    ------
    HeadError
        If the head cannot be explained.
    ParameterError
        If the head has no class ``class_name``.
    ModelFileError
        When the model cannot be read, its features are not float32, or the map does not add up to what the head says.
    WeightsError, FingerprintError
        When the backbone is gone or is another one.
    ImageFolderError, ImageError
        When there is no such image file, or it cannot be read.

    Notes
    -----
    Softmax, logreg and linear-svm are linear in the pooled features, and pooling is a mean over h x w places, so that a
    score is a sum over places: ``map = F @ weights[:, c] / (h * w)`` is the class activation map (Zhou et al., 2016,
    arXiv:1512.04150), it needs no gradients and is exact. For svm it is Grad-CAM (Selvaraju et al., 2017,
    arXiv:1610.02391): each feature is weighted with the mean over places of the score's gradient, which behind a mean
    is its gradient with regard to the pooled feature divided by h w, and a ReLU keeps what speaks for the class.

    The score of an RBF machine falls with the distance from its support vectors, so that its gradient can be negative
    for every place of an image that it is sure of: then nothing is left. That was so for 7 of 60 lung images. What
    comes before the ReLU orders places as leaving each of them out does (rank correlation 0.99); its zero means little.
    """
    metadata = read_metadata(model)
    origin = origin_of(model, metadata)
    if precision_of(origin.fingerprint) != "float32":
        raise ModelFileError(
            f"parameter model of explain must be trained on features of precision float32, got {origin.shown} with "
            f"{precision_of(origin.fingerprint)}; extract with --precision float32 to another cache, and train on it"
        )
    head = load_head(model, trust=trust)
    require_explainable(head)
    classes = tuple(str(name) for name in head.classes_)
    if class_name is not None and class_name not in classes:
        raise ParameterError(
            f"parameter class_name of explain must be one of {', '.join(map(display, classes))}, got "
            f"{display(str(class_name))!r}"
        )
    if Path(image).is_dir():
        raise ImageFolderError(
            f"parameter image of explain must be one image file, got the folder {display(str(image))}"
        )
    files = find_images([image]).images
    done = embed_files(files, origin, weights)[files[0].path]
    if done.features is None:
        raise ImageError(f"the image {display(str(image))} cannot be explained: {done.reason}")
    pixels, maps = _places(Path(image), origin, weights)
    difference = checked_mean(maps, done.features)
    evidence = class_evidence(head, done.features)
    chosen = classes.index(str(head.predict(done.features[None])[0]) if class_name is None else class_name)
    return Explanation(
        path=str(image),
        method="grad-cam" if evidence.bias is None else "cam",
        class_name=classes[chosen],
        classes=classes,
        probabilities=head.predict_proba(done.features[None])[0],
        score=float(evidence.scores[chosen]),
        bias=None if evidence.bias is None else float(evidence.bias[chosen]),
        heatmap=heatmap_of(maps, evidence, chosen),
        pixels=pixels,
        feature_difference=difference,
    )


def _places(image: Path, origin: FeatureSource, weights: Path | str | None) -> tuple[Pixels, npt.NDArray[np.float32]]:
    """Return an image's pixels and its last feature map."""
    recipe = recipe_of(origin, weights)
    pixels = recipe.decode(image.read_bytes())
    return pixels, feature_map(backbone_of(origin, weights), resize(pixels, recipe.image_size))


SUFFIXES = (".png", ".svg", ".pdf")


def require_picture(path: Path | str) -> None:
    """Refuse a file name that no picture of ours has.

    Raises
    ------
    OutputError
        When it does not end in .png, .svg or .pdf.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"parameter output of explain must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, got "
            f"{display(str(path))}"
        )


def draw_overlay(ax: Axes, explanation: Explanation) -> Any:
    """Draw the heatmap, interpolated, over the image in gray.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    explanation : Explanation

    Returns
    -------
    matplotlib.cm.ScalarMappable
        For a colour bar: symmetric around 0 for ``cam``, from 0 for ``grad-cam``.
    """
    from matplotlib.cm import ScalarMappable

    height, width = explanation.pixels.shape[:2]
    norm, colours = heatmap_colormap(explanation.heatmap, explanation.method == "cam")
    ax.imshow(gray(explanation.pixels), cmap="gray", vmin=0, vmax=255)
    ax.imshow(
        explanation.heatmap,
        cmap=colours,
        norm=norm,
        alpha=OPACITY,
        interpolation="bilinear",
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )
    ax.set_axis_off()
    return ScalarMappable(norm, colours)


def explanation_figure(explanation: Explanation) -> Figure:
    """Draw the image beside the heatmap over it, with a colour bar, a title and a caption in plain words.

    Parameters
    ----------
    explanation : Explanation

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    height, width = explanation.pixels.shape[:2]
    aspect = float(np.clip(height / width, 0.4, 2.0))
    figure = Figure(figsize=(9.6, 4.1 * aspect + 0.9), layout="constrained")
    image, overlay = figure.subplots(1, 2)
    image.imshow(explanation.pixels)
    image.set_axis_off()
    mappable = explanation.draw(overlay)
    bar = figure.colorbar(mappable, ax=overlay, fraction=0.05, pad=0.02, alpha=OPACITY)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, colors=INK, labelsize=9)
    signed = explanation.method == "cam"
    bar.set_label("added to the score" if signed else "what speaks for the class", color=INK, fontsize=9.5)
    title = f"{display(explanation.class_name)}: probability {percent(explanation.probability)}"
    image.set_title(title, fontsize=13, fontweight="bold", color=INK, loc="left", pad=10, parse_math=False)
    figure.supxlabel(caption(explanation), x=0.01, ha="left", fontsize=9.5, color=INK, parse_math=False)
    return figure


def caption(explanation: Explanation) -> str:
    """Return what the picture shows, in words."""
    height, width = explanation.heatmap.shape
    name = display(explanation.class_name)
    places = f"{height} x {width} places, interpolated"
    if explanation.method == "cam":
        return (
            f"Where the evidence for {name} lies: red speaks for it, blue against it ({places}).\n"
            f"All places add {explanation.heatmap.sum():+.2f} to the {explanation.bias:+.2f} that the class has before "
            f"looking: score {explanation.score:+.2f} (0 if all classes were equally probable)."
        )
    if explanation.nowhere:
        return (
            f"Grad-CAM finds no place that speaks for {name} ({places}).\n"
            "That happens with this head; those linear in the features, such as logreg, have exact maps."
        )
    return (
        f"Where the evidence for {name} lies: the redder, the more a place speaks for it ({places}).\n"
        "Grad-CAM, an approximation: the places do not add up to the score."
    )
