"""docs/build_api.py: which symbols it misses words of, and the pages it builds."""

import ast
import dataclasses
import importlib.util
import inspect
import re
import sys
import textwrap
from typing import get_type_hints

import pytest

from tests.support.paths import ROOT

SCRIPT = ROOT / "docs" / "build_api.py"


@pytest.fixture(scope="module")
def build_api():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("build_api", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def package(work, build_api):
    """Write a package of the sources given, and load it."""

    def write(name, **sources):
        (work / name).mkdir()
        for module, source in sources.items():
            (work / name / f"{module}.py").write_text(textwrap.dedent(source))
        return build_api.load([name])

    yield write
    for name in [name for name in sys.modules if name.startswith("sample_")]:
        del sys.modules[name]


def test_every_public_symbol_of_the_packages_has_a_docstring(build_api):
    modules = build_api.load(build_api.PACKAGES)
    names = {module.__name__ for module in modules}
    assert {
        "envs",
        "envs.backends.mujoco.distribution",
        "maml_rl.algorithm.outer_loop.trpo",
        "maml_rl.algorithm.rollout",
    } <= names
    assert "maml_rl.conf" not in names
    assert build_api.undocumented(modules) == []


def test_annotations_of_dataclasses_are_known_where_their_constructor_is_inherited(build_api):
    for module in build_api.load(build_api.PACKAGES):
        for name, cls in vars(module).items():
            defined = isinstance(cls, type) and cls.__module__ == module.__name__
            if defined and dataclasses.is_dataclass(cls):
                assert get_type_hints(cls.__init__, vars(module)), name


def test_no_module_needs_an_optional_package_when_it_is_imported(build_api):
    needed = set()
    for module in build_api.load(build_api.PACKAGES):
        for statement in ast.parse(inspect.getsource(module)).body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                names = [getattr(statement, "module", None), *(one.name for one in statement.names)]
                needed.add((names[0] or names[1]).partition(".")[0])
    assert {"torch", "mujoco", "hydra"} <= needed
    assert not needed & {"metaworld", "wandb", "mlflow", "pygame", "minari"}


WORDLESS = '''
    import dataclasses
    import functools
    from typing import NamedTuple
    from pathlib import Path

    LIMIT = 3


    def explained():
        """Words."""


    def wordless():
        return 1


    @functools.cache
    def cached():
        return 1


    def _private():
        return 1


    class Base:
        """Words."""

        def step(self):
            """Words."""

        def wordless(self):
            return 1

        @property
        def size(self):
            return 1

        @staticmethod
        def static():
            return 1

        def __len__(self):
            return 1


    class Inherits(Base):
        def step(self):
            return 1


    @dataclasses.dataclass
    class Record:
        number: int


    class Pair(NamedTuple):
        first: int


    class Outer:
        """Words."""

        class Inner:
            pass
'''


def test_a_symbol_without_words_is_named(build_api, package):
    modules = package("sample_wordless", __init__='"""Words."""', inner=WORDLESS)
    assert set(build_api.undocumented(modules)) == {
        "sample_wordless.inner",  # the module
        "sample_wordless.inner.wordless",
        "sample_wordless.inner.cached",
        "sample_wordless.inner.Base.wordless",
        "sample_wordless.inner.Base.size",
        "sample_wordless.inner.Base.static",
        "sample_wordless.inner.Inherits",  # its step has the words of Base's
        "sample_wordless.inner.Record",  # dataclasses and named tuples write words of their own
        "sample_wordless.inner.Pair",
        "sample_wordless.inner.Outer.Inner",
    }


def test_exported_variables_need_words_and_exports_must_exist(build_api, package):
    modules = package(
        "sample_exports",
        __init__='"""Words."""\nfrom sample_exports.inner import BELOW, BESIDE, NOTHING\n'
        '__all__ = ["BELOW", "BESIDE", "NOTHING", "missing"]\n',
        inner='"""Words."""\nBELOW = 1\n"""Metres."""\nBESIDE = "é"  # seconds\nNOTHING = 3\n'
        "OTHER = 4\n",
    )
    assert build_api.undocumented(modules) == [
        "sample_exports.missing",
        "sample_exports.inner.NOTHING",
    ]
    assert build_api.explanations(modules[1]) == {
        "BELOW": "Metres.",
        "BESIDE": "seconds",
        "NOTHING": "",
        "OTHER": "",
    }


def test_main_names_what_is_missing_and_builds_nothing(build_api, package, monkeypatch, capsys):
    package(
        "sample_main", __init__='"""Words."""', inner='"""Words."""\n\n\ndef act():\n    pass\n'
    )
    monkeypatch.setattr(build_api, "PACKAGES", ("sample_main",))
    monkeypatch.setattr(build_api, "build", lambda *_: pytest.fail("it was built"))
    assert build_api.main() == 1
    assert capsys.readouterr().out == "sample_main.inner.act has no docstring.\n"


def test_the_pages_say_shapes_and_link_to_pages_that_exist(build_api, tmp_path):
    pytest.importorskip("pdoc")
    names = (
        "maml_rl.algorithm.rollout",
        "maml_rl.algorithm.policies.distribution",
        "envs.arguments",
    )
    modules = [sys.modules[name] for name in names]
    assert build_api.build(modules, tmp_path) == []
    page = (tmp_path / "maml_rl/algorithm/rollout.html").read_text()
    fields = page[page.index('id="Rollout.observations"') : page.index('id="Rollout.actions"')]
    assert "[M, T, B, O]" in fields  # the comment beside the field
    assert "Alias for field number" not in page
    assert "Mean undiscounted return over a task's episodes" in page.replace("&#39;", "'")
    for path in tmp_path.rglob("*.html"):
        for link in re.findall(r'href="([^"#:]+\.html)', path.read_text()):
            assert (path.parent / link).resolve().is_file(), (path.name, link)
    index = (tmp_path / "index.html").read_text()
    assert all(name.replace(".", "/") + ".html" in index for name in names)
    assert "masked_mean" in (tmp_path / "search.js").read_text()


def test_lazy_exports_and_submodules_are_on_a_package_s_page(build_api, package, tmp_path):
    pytest.importorskip("pdoc")
    modules = package(
        "sample_lazy",
        __init__='''
            """Words."""
            __all__ = ["act"]


            def __getattr__(name):
                if name != "act":
                    raise AttributeError(name)
                from sample_lazy.inner import act

                return act
        ''',
        inner='"""Words."""\n\n\ndef act(speed: float) -> float:\n    """Words of act."""\n',
    )
    assert build_api.build(modules, tmp_path) == []
    page = (tmp_path / "sample_lazy.html").read_text()
    assert "Words of act." in page
    assert "sample_lazy/inner.html" in page


def test_a_warning_of_pdoc_is_reported(build_api, package, tmp_path):
    pytest.importorskip("pdoc")
    modules = package(
        "sample_warning",
        __init__='"""Words."""\n\n\ndef act(speed: "Missing"):\n    """Words."""\n',
    )
    (warning,) = build_api.build(modules, tmp_path)
    assert "Missing" in warning
    assert "sample_warning.act" in warning
