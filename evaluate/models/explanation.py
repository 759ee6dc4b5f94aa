"""Explanations of a head's decision: class activation maps, exact or as Grad-CAM, drawn over the image."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ...cache import display, refuse_input_as_output
from ...errors import (
    ImageError,
    ImageFolderError,
    MissingPackageError,
    ModelFileError,
    OutputError,
    check_choice,
    check_path,
)
from ...extract import AUTO, Pixels, find_images, read_image, recipe_of
from ...extract.backbone import feature_map
from ...extract.engines import plain_feature_map
from ...heads import class_evidence, require_explainable
from ..shared import INK, default_style, percent, set_numbers, short, use_fonts
from .activation_map import OPACITY, check_mean, gray, heatmap_colormap, heatmap_of
from .image_model import backbone_of
from .model_file import FeatureSource, ModelFile, check_order
from .prediction import ROOT, embed_files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")


@dataclass(frozen=True, eq=False)
class Explanation:
    """Evidence for a class at each region of an image.

    Attributes
    ----------
    path : str
        The image file.
    method : {"cam", "grad-cam"}
        ``cam``, for heads that are linear in the features: the heatmap is signed, and its sum plus `bias` is `score`.
        ``grad-cam``, for other heads: the heatmap is 0 or above, and is high where the score rises most with the
        features; it does not add up to the score.
    class_name : str
        The explained class.
    classes : tuple of str, length k
    probabilities : ndarray of float64, shape (k,)
    score : float
        Logarithm of the class's probability less the mean of the logarithms over all classes: 0 if all are equal.
    bias : float or None
        Part of the score that does not depend on the image; None for ``grad-cam``.
    heatmap : ndarray of float64, shape (h, w)
        Contribution of each region of the last feature map to the score.
    pixels : ndarray of uint8, shape (height, width, 3)
        The decoded image, cropped or padded as it was for the backbone.
    feature_difference : float
        Largest difference between a pooled feature of the head and the mean over the regions.
    """

    path: str
    method: Literal["cam", "grad-cam"]
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
        """Probability of the explained class."""
        return float(self.probabilities[self.classes.index(self.class_name)])

    @property
    def predicted(self) -> bool:
        """True if the explained class is the most probable one."""
        return self.class_name == self.classes[int(self.probabilities.argmax())]

    @property
    def empty(self) -> bool:
        """True if Grad-CAM finds no evidence: along the gradient, every region lowers the score."""
        return self.method == "grad-cam" and not self.heatmap.any()

    @property
    def remainder(self) -> float | None:
        """Difference between the sum of heatmap and bias and the score, about 0; None for ``grad-cam``."""
        return None if self.bias is None else float(self.heatmap.sum()) + self.bias - self.score

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pixels as JSON-serialisable values."""
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

    def __repr__(self) -> str:
        return f"<Explanation of {display(self.path)}: {display(self.class_name)} {percent(self.probability)}>"

    def draw(self, ax: Axes) -> Any:
        """Draw the interpolated heatmap over the image in gray; return a ScalarMappable for a colour bar."""
        from matplotlib.cm import ScalarMappable

        height, width = self.pixels.shape[:2]
        norm, colormap = heatmap_colormap(self.heatmap, self.method == "cam")
        ax.imshow(gray(self.pixels), cmap="gray", vmin=0, vmax=255)
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        ax.imshow(self.heatmap, cmap=colormap, norm=norm, alpha=OPACITY, interpolation="bilinear", extent=extent)
        ax.set_axis_off()
        return ScalarMappable(norm, colormap)

    @default_style()
    def figure(self) -> Figure:
        """Return a figure of the image next to its heatmap, with colour bar, title and caption."""
        from matplotlib.figure import Figure

        height, width = self.pixels.shape[:2]
        aspect = float(np.clip(height / width, 0.4, 2.0))
        use_fonts(self.classes)
        figure = Figure(figsize=(9.6, 4.1 * aspect + 0.9), layout="constrained")
        set_numbers(figure, self.classes)
        image, overlay = figure.subplots(1, 2)
        image.imshow(self.pixels)
        image.set_axis_off()
        bar = figure.colorbar(self.draw(overlay), ax=overlay, fraction=0.05, pad=0.02, alpha=OPACITY)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, colors=INK, labelsize=9)
        bar.set_ticks(list(bar.mappable.get_clim()), labels=["less", "more"])
        bar.set_label(f"evidence for {short(self.class_name)}", color=INK, fontsize=9.5)
        title = f"{display(self.class_name)}: probability {percent(self.probability)}"
        image.set_title(title, fontsize=13, fontweight="bold", color=INK, loc="left", pad=10, parse_math=False)
        figure.supxlabel(self._caption(), x=0.01, ha="left", fontsize=9.5, color=INK, parse_math=False)
        return figure

    def save(self, path: Path | str) -> None:
        """Write the figure to a file that ends in ``.png``, ``.svg`` or ``.pdf``; an older one is replaced."""
        from ..shared import save_figure

        require_picture(path)
        refuse_input_as_output(path, self.path)
        save_figure(self.figure(), path)

    def _caption(self) -> str:
        height, width = self.heatmap.shape
        name = display(self.class_name)
        regions = f"{height} x {width} regions, interpolated"
        if self.method == "cam":
            return (
                f"Evidence for {name}: red speaks for it, blue against it ({regions}).\n"
                "The map accounts for the whole score (checked)."
            )
        if self.empty:
            return (
                f"Grad-CAM finds no region that speaks for {name} ({regions}).\n"
                "That happens with this head. Heads that are linear in the features, such as logreg, have exact maps."
            )
        return (
            f"Evidence for {name}: the redder, the more a region speaks for it ({regions}).\n"
            "Grad-CAM, an approximation: the regions do not add up to the score."
        )


def explain(
    model: Path | str,
    image: Path | str,
    *,
    class_name: str | None = None,
    weights: Path | str | None = None,
    engine: str = "auto",
    trust: bool = False,
) -> Explanation:
    """Find the regions of an image that speak for a class.

    Parameters
    ----------
    model : path-like
        Model file with a head softmax, logreg, linear-svm or svm, trained on float32 features.
    image : path-like
        One image file.
    class_name : str, default=None
        Class to explain, by default the predicted one.
    weights : path-like, default=None
        File with the backbone's weights, if they are not where the model says.
    engine : str, default="auto"
        Engine that computes the features: see `extract_features`. The feature map is computed by Keras, and by NumPy
        with ``native``, or if TensorFlow cannot be imported.
    trust : bool, default=False
        Allow a model file that runs code when it is loaded.

    Returns
    -------
    Explanation

    Raises
    ------
    HeadError
        If the head cannot be explained.
    ParameterError
        If the head has no class `class_name`.
    ModelFileError
        If the model cannot be read, its features are not float32, or the map does not add up to the head's score.
    WeightsError, FingerprintError
        If the backbone is gone or is another one.
    ImageFolderError, ImageError
        If there is no such image file, or it cannot be read.

    See Also
    --------
    predict : Classify images.

    Notes
    -----
    Softmax, logreg and linear-svm are linear in the pooled features, and pooling is a mean over h x w regions, so
    a score is a sum over regions: ``map = F @ weights[:, c] / (h * w)`` is the class activation map (Zhou et al., 2016,
    arXiv:1512.04150). It needs no gradients and is exact. For svm it is Grad-CAM (Selvaraju et al., 2017,
    arXiv:1610.02391): each feature is weighted with the mean over regions of the score's gradient, which behind a mean
    is its gradient with regard to the pooled feature divided by h w, and a ReLU keeps the evidence for the class.

    The score of an RBF machine falls with the distance from its support vectors, so that its gradient can be negative
    for every region of an image that it is confident of: then the map is empty. That was so for 7 of 60 lung images.
    The values before the ReLU order regions as leaving each of them out does (rank correlation 0.99); their zero means
    little.

    Examples
    --------
    >>> import embedonce as eo
    >>> explanation = eo.explain("photos.npz", "new/a.jpg")  # doctest: +SKIP
    >>> explanation.save("a.png")  # doctest: +SKIP
    """
    check_order("explain", model, "IMAGE", image)
    image_file = check_path("image", "explain", image)
    file = ModelFile.open(model, trust)
    source = file.source
    source.require_float32("an explanation")
    head, classes = file.head, tuple(file.classes)
    require_explainable(head)
    check_choice("class_name", "explain", class_name, classes, optional=True)
    if image_file.is_dir():
        raise ImageFolderError(
            f"parameter image of explain must be one image file, got the folder {display(str(image))}"
        )
    files = find_images([image]).images
    if files[0].path != os.path.abspath(os.fsencode(image)):
        raise ImageFolderError(
            f"parameter image of explain must be one image file, got the archive {display(str(image))}. Name an image "
            f"in it, such as {display(files[0].path)}"
        )
    embedded = embed_files(files, source, weights, engine=engine)[files[0].path]
    if embedded.features is None:
        raise ImageError(f"the image {display(str(image))} cannot be explained: {embedded.reason}")
    recipe = recipe_of(source, weights)
    pixels = recipe.decode(read_image(ROOT, files[0])[0])
    maps = _feature_map(recipe.decoder.resize(pixels), source, weights, engine)
    difference = check_mean(maps, embedded.features)
    features = embedded.features[None]
    with file.classifying():
        evidence = class_evidence(head, embedded.features)
        index = classes.index(str(head.predict(features)[0]) if class_name is None else class_name)
        probabilities = head.predict_proba(features)
        heatmap = heatmap_of(maps, evidence, index)
    file.require_probabilities(probabilities, len(classes))
    if not np.isfinite(heatmap).all():
        raise ModelFileError(f"{file.name} gives evidence that is not finite")
    return Explanation(
        path=str(image),
        method="grad-cam" if evidence.bias is None else "cam",
        class_name=classes[index],
        classes=classes,
        probabilities=probabilities[0],
        score=float(evidence.scores[index]),
        bias=None if evidence.bias is None else float(evidence.bias[index]),
        heatmap=heatmap,
        pixels=recipe.decoder.framed(pixels),
        feature_difference=difference,
    )


def _feature_map(
    image: npt.NDArray[np.float32], source: FeatureSource, weights: Path | str | None, engine: str
) -> npt.NDArray[np.float32]:
    if engine != "native":
        try:
            return feature_map(backbone_of(source, weights), image)
        except MissingPackageError:
            if engine != AUTO:
                raise
    return plain_feature_map(recipe_of(source, weights), image)


def require_picture(path: Path | str) -> None:
    """Raise an OutputError if a path does not end in .png, .svg or .pdf."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"parameter output of explain must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, got "
            f"{display(str(path))}"
        )
