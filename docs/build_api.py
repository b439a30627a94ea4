"""Build the API reference from the docstrings: `make docs` writes docs/api/index.html.

A public symbol without a docstring fails it, and so does any warning of pdoc, which renders the
pages. Public are the modules, classes, functions, methods and properties of `envs` and `maml_rl`
whose names do not begin with an underscore, and every variable in an `__all__`. A method that
overrides a documented one may leave the words to it; special methods need none, since arguments
are documented on the class. Variables of modules and fields of classes are shown with the comment
beside them where no docstring follows.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import shutil
import sys
import textwrap
import typing
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

PACKAGES = ("envs", "maml_rl")
CONFIGURATION = "maml_rl.conf"  # YAML, in the source tree a folder of its own
OUT = Path(__file__).resolve().parent / "api"
METHODS = (FunctionType, classmethod, staticmethod, property, functools.cached_property)


def load(packages: Sequence[str]) -> list[ModuleType]:
    """Import the public modules of packages, in alphabetical order."""
    loaded = [importlib.import_module(package) for package in packages]
    for package in list(loaded):
        paths = getattr(package, "__path__", [])
        for found in pkgutil.walk_packages(paths, f"{package.__name__}."):
            if "._" not in found.name and found.name != CONFIGURATION:
                loaded.append(importlib.import_module(found.name))
    return sorted(loaded, key=lambda module: module.__name__)


def undocumented(modules: Sequence[ModuleType]) -> list[str]:
    """Full names of public symbols without a docstring."""
    found = dict(pair for module in modules for pair in _symbols(module, modules))
    return [name for name, documented in found.items() if not documented]


def _symbols(module: ModuleType, modules: Sequence[ModuleType]) -> Iterator[tuple[str, bool]]:
    """Yield each public symbol that a module defines, and whether it is documented."""
    yield module.__name__, bool(module.__doc__)
    for name, value in list(vars(module).items()):
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, type):
            yield from _class_symbols(value)
        elif callable(value) and value.__name__ == name:
            yield f"{module.__name__}.{name}", bool(value.__doc__)
    above = [other for other in modules if f"{module.__name__}.".startswith(f"{other.__name__}.")]
    exported = {name for other in above for name in getattr(other, "__all__", ())}
    for name, words in explanations(module).items():
        if name in exported:
            yield f"{module.__name__}.{name}", bool(words)
    for name in getattr(module, "__all__", ()):
        if not hasattr(module, name):
            yield f"{module.__name__}.{name}", False


def _class_symbols(found: type) -> Iterator[tuple[str, bool]]:
    """Yield a class, its public methods and properties, and its public classes."""
    full = f"{found.__module__}.{found.__qualname__}"
    own = found.__dict__.get("__doc__") or ""
    yield full, bool(own) and not own.startswith(f"{found.__name__}(")  # a dataclass's own
    for name, value in vars(found).items():
        if name.startswith("_"):
            continue
        if isinstance(value, type) and value.__module__ == found.__module__:
            yield from _class_symbols(value)
        elif isinstance(value, METHODS):
            overridden = [vars(base)[name] for base in found.__mro__ if name in vars(base)]
            yield f"{full}.{name}", any(method.__doc__ for method in overridden)


def explanations(found: ModuleType | type) -> dict[str, str]:
    """Comment of each variable that a module or class assigns, "" where there is none.

    That is the string below it, else the comment beside it.
    """
    source = textwrap.dedent(inspect.getsource(found))
    body: list[ast.stmt] = ast.parse(source).body
    if isinstance(found, type) and isinstance(body[0], ast.ClassDef):
        body = body[0].body
    lines = source.encode().splitlines()  # an offset in ast is one of bytes
    said = {}
    for statement, after in zip(body, [*body[1:], None], strict=True):
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        for target in targets:
            if isinstance(target, ast.Name) and not target.id.startswith("_"):
                rest = lines[(statement.end_lineno or 1) - 1][statement.end_col_offset or 0 :]
                said[target.id] = _string(after) or rest.decode().strip().removeprefix("#").strip()
    return said


def _string(statement: ast.stmt | None) -> str:
    """Text of a statement that is only a string, "" for any other."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return statement.value.value if isinstance(statement.value.value, str) else ""
    return ""


def build(modules: Sequence[ModuleType], out: Path) -> list[str]:
    """Render modules into the folder `out`, index.html first; return pdoc's warnings."""
    from pdoc import doc, render

    for module in modules:
        _settle(module, modules)
    render.configure(docformat="google", footer_text="maml_rl")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pages = {module.__name__: doc.Module(module) for module in modules}
        for page in pages.values():
            _explain_variables(page)
        written = {f"{name.replace('.', '/')}.html": page for name, page in pages.items()}
        out.mkdir(parents=True, exist_ok=True)
        for path, page in written.items():
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (out / path).write_text(render.html_module(page, pages), encoding="utf-8")
        (out / "index.html").write_text(render.html_index(pages), encoding="utf-8")
        (out / "search.js").write_text(render.search_index(pages), encoding="utf-8")
    return [str(warning.message) for warning in caught]


def _settle(module: ModuleType, modules: Sequence[ModuleType]) -> None:
    """Make plain what pdoc does not look for: lazy exports, modules of a package, tuples' types."""
    exports: list[str] | None = getattr(module, "__all__", None)
    if exports is not None:
        vars(module).update({name: getattr(module, name) for name in exports})
        parts = [other.__name__.rpartition(".") for other in modules]
        below = [name for package, _, name in parts if package == module.__name__]
        exports += [name for name in below if name not in exports]
    for value in list(vars(module).values()):
        if isinstance(value, type) and issubclass(value, tuple) and hasattr(value, "_fields"):
            value.__new__.__annotations__ = typing.get_type_hints(value)


def _explain_variables(page: Any) -> None:
    """Set the comments of the variables of a pdoc page and of its classes."""
    holders = page.obj.__mro__ if page.kind == "class" else [page.obj]
    said = [
        explanations(holder)
        for holder in holders
        if getattr(inspect.getmodule(holder), "__name__", "").startswith(PACKAGES)
    ]
    for member in page.members.values():
        if member.kind == "class":
            _explain_variables(member)
        elif member.kind == "variable":  # a tuple's fields have a string of Python's own
            words = filter(None, (words.get(member.name) for words in said))
            member.docstring = next(words, member.docstring)


def main() -> int:
    """Check the docstrings and build the reference; say what is wrong, and return a status."""
    modules = load(PACKAGES)
    wrong = [f"{name} has no docstring." for name in undocumented(modules)]
    if not wrong:
        shutil.rmtree(OUT, ignore_errors=True)
        wrong = build(modules, OUT)
    print(*(wrong or [f"The API reference: {OUT / 'index.html'}"]), sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
