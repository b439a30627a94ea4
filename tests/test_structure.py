"""The tests stand apart from one another, and the package's lists name what there is."""

import ast
import tomllib

from tests.support.paths import ROOT

PACKAGES = ("maml_rl", "envs", "conf")  # conf/ is installed as maml_rl.conf
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def imports(path):
    """Modules of tests/ that a file imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            # `from tests import support` imports tests.support
            module = node.module
            names = [f"{module}.{alias.name}" for alias in node.names]
            yield from names if module in ("tests", "tests.support") else [module]
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_no_test_imports_another():
    """What two tests need lies in tests/support."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for module in imports(path)
        if module.split(".")[0] == "tests" and not module.startswith("tests.support.")
    ]
    assert wrong == []


def test_the_packages_that_are_listed_are_the_folders():
    """setuptools' explicit list names every folder that holds a file of the package."""
    folders = {
        path.parent.relative_to(ROOT).parts
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = {".".join(("maml_rl", *parts) if parts[0] == "conf" else parts) for parts in folders}
    names.add("maml_rl.pretrained")  # one package: its run folders are data
    assert PYPROJECT["tool"]["setuptools"]["packages"] == sorted(names)


def test_every_kind_of_file_in_the_packages_is_packaged():
    """A file that a program reads at run time is in the wheel: its ending is in package-data."""
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["*"]
    endings = {
        path.suffix
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {f"*{ending}" for ending in endings - {".py"}} == set(patterns)


CHECKS = {"integer_at_least", "number", "one_of", "flag", "pair", "text", "ArgumentError"}


def test_checks_of_arguments_know_no_key_of_a_configuration():
    """They name the argument; what builds the object puts the node's name before it."""
    wrong = [
        f"{path.relative_to(ROOT)}, line {node.lineno}: {name.value}"
        for package in ("maml_rl", "envs")
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.parent.name not in ("commands", "configuration")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in CHECKS
        for name in [node.args[0], *(node.args[1:] if node.func.id == "ArgumentError" else ())]
        if isinstance(name, ast.Constant) and " " not in name.value and "." in name.value
    ]
    assert wrong == []
