"""The structure of the package: imports go down only, in no circle, and through the faces of packages."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import embedonce
import pytest

ROOT = Path(embedonce.__file__).parent
FOLDERS = ("cli", "evaluate", "heads", "extract", "cache")
ROOMS = (  # of evaluate, the lowest first
    "shared",
    "metrics",
    "splits",
    "duplicates",
    "scoring",
    "models",
    "finetuning",
    "tuning",
    "report",
    "comparison",
)
HEAVY = {"tensorflow", "keras", "matplotlib", "sklearn", "scipy", "skops", "dask", "distributed"}
PATHS = sorted(ROOT / name for name in ("__main__.py", "errors.py", "_hdf5.py", "_keras.py")) + sorted(
    path for folder in FOLDERS for path in (ROOT / folder).glob("**/*.py")
)


def _module(path: Path) -> str:
    """Return the dotted name of a file below the package; of a package, its folder's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path): path for path in PATHS}
PACKAGES = {name for name, path in MODULES.items() if path.name == "__init__.py"} | {""}


def _package(module: str) -> str:
    return module if module in PACKAGES else module.rpartition(".")[0]


def _absolute(node: ast.ImportFrom, package: str) -> str | None:
    """Return the module of embedonce that an import names; None for another package."""
    if node.level == 0:
        return None
    parts = package.split(".") if package else []
    parts = parts[: len(parts) - node.level + 1]
    return ".".join([*parts, *(node.module.split(".") if node.module else [])])


def _face(package: str) -> dict[str, str]:
    """Return the module that each name of a package's face is imported from."""
    stub = ROOT.joinpath(*package.split("."), "__init__.pyi") if package else ROOT / "__init__.pyi"
    source = stub if stub.exists() else stub.with_suffix(".py")
    names = {}
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ImportFrom) and (module := _absolute(node, package)) is not None:
            names |= {alias.asname or alias.name: module for alias in node.names}
    return names


FACES = {package: _face(package) for package in PACKAGES}


def _defining(module: str, name: str) -> str:
    """Return the file that an imported name comes from, through the faces that hand it on."""
    if f"{module}.{name}".lstrip(".") in MODULES:
        return f"{module}.{name}".lstrip(".")
    if module in PACKAGES:
        assert name in FACES[module], f"{name} is not in the face of {module}"
        return _defining(FACES[module][name], name)
    return module


@functools.cache
def _tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def _imports(module: str) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of every import of embedonce, wherever it is in the file."""
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom) and (source := _absolute(node, _package(module))) is not None:
            yield from ((source, alias.name) for alias in node.names)


FILES = [name for name in MODULES if name not in PACKAGES]


@pytest.mark.parametrize("module", FILES)
def test_other_packages_are_imported_through_their_face(module):
    for source, name in _imports(module):
        package = _package(_defining(source, name) if source in PACKAGES else source)
        inside = f"{_package(module)}.".startswith(f"{package}.") or package == ""
        if source not in PACKAGES:
            assert inside, f"{module} takes {name} from the inside of {package}"
        elif f"{source}.{name}".lstrip(".") in MODULES:
            assert inside, f"{module} takes the whole module {name} of {package}"


@pytest.mark.parametrize("module", FILES)
def test_imports_go_down_only(module):
    floors = {folder: floor for floor, folder in enumerate((*FOLDERS, "_hdf5", "_keras", "errors", "__main__"))}
    floors |= {"heads": floors["extract"], "__main__": -1}  # heads and extract are on one floor
    for source, name in _imports(module):
        target = _defining(source, name)
        own, other = module.split("."), target.split(".")
        if own[0] == other[0] == "evaluate":
            assert ROOMS.index(other[1]) <= ROOMS.index(own[1]), f"{module} imports {target}"
        elif own[0] != other[0]:
            assert floors[own[0]] < floors[other[0]], f"{module} imports {target}"


def test_imports_run_in_no_circle():
    arrows = {module: {_defining(*found) for found in _imports(module)} - {module} for module in FILES}
    while arrows:
        leaves = {module for module, targets in arrows.items() if not targets & arrows.keys()}
        assert leaves, f"each of these files imports itself in the end, or one that does: {sorted(arrows)}"
        arrows = {module: targets for module, targets in arrows.items() if module not in leaves}


def test_packages_of_evaluate_import_each_other_in_no_circle():
    assert {path.name for path in (ROOT / "evaluate").iterdir() if path.is_dir() and path.name[0] != "_"} == set(ROOMS)
    assert [path.name for path in (ROOT / "evaluate").glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("package", sorted(PACKAGES - {"", "cli"}))
def test_a_face_has_a_paragraph_and_lists_what_exists(package):
    face = __import__(f"embedonce.{package}", fromlist=["__all__"])
    assert face.__doc__
    assert sorted(face.__all__) == sorted(FACES[package])
    for name in face.__all__:
        assert getattr(face, name) is not None
        assert f"{package}.{name}" not in MODULES, f"{name} is a name of the face and a file of {package}"


def _heavy_imports(tree: ast.Module) -> set[str]:
    """Return the packages that a file imports when it is imported itself."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).partition(".")[0])
    return names & HEAVY


@pytest.mark.parametrize("module", FILES)
def test_heavy_packages_are_imported_where_they_are_used(module):
    # a head is a subclass of scikit-learn's estimators; the registry imports its module when it is made
    allowed = {"sklearn", "scipy"} if module.startswith("heads.") else set()
    assert _heavy_imports(_tree(module)) <= allowed


def test_files_of_the_top_level_are_few():
    names = {path.name for path in ROOT.glob("*.py")}
    assert names <= {"__init__.py", "__main__.py", "errors.py", "_hdf5.py", "_keras.py", "setup.py"}


def test_the_cache_needs_no_tensorflow_and_no_scikit_learn(python):
    code = "import sys; import embedonce.cache.feature_cache, embedonce.cache.partial; print(sorted(sys.modules))"
    loaded = python(code)
    assert "'h5py'" in loaded
    assert not any(f"'{name}'" in loaded for name in ("tensorflow", "sklearn", "matplotlib"))


def test_importing_embedonce_loads_no_heavy_package(python):
    code = "import sys, embedonce, embedonce.cli; print(sorted(sys.modules))"
    loaded = python(code)
    assert not any(f"'{name}'" in loaded for name in (*HEAVY, "numpy", "h5py", "rich"))


def test_every_public_name_resolves():
    for name in embedonce.__all__:
        assert getattr(embedonce, name) is not None
    assert set(embedonce.__all__) <= set(dir(embedonce))


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = embedonce.nonsense
