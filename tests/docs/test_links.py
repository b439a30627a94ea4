"""The pages: links, paths, modules and commands that they name exist; how a page begins."""

import pkgutil
import re
import shlex
import sys
from importlib.util import find_spec

import pytest

from envs.checking import CHECKS, check_speed
from envs.tools.check import check_command
from maml_rl.commands.cli import compose
from tests.support.paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
TOPS = (
    "maml_rl",
    "envs",
    "conf",
    "docs",
    "tests",
    "benchmarks",
    "examples",
    "results",
    "pretrained",
)
WIDTH = 100


def prose(page):
    """The page without its listings."""
    return FENCED.sub("", page.read_text())


def anchors(page):
    """The headings of a page as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def listings(page):
    """Every line of the page's listings, those that end in a backslash joined."""
    blocks = (block.split("\n", 1)[1] for block in FENCED.findall(page.read_text()))
    return [line for block in blocks for line in block.replace("\\\n", "").splitlines()]


def commands(page, program):
    """The arguments of every call of a program in the page's listings."""
    lines = [re.sub("<[^>]*>", "placeholder", line) for line in listings(page)]
    calls = (re.search(rf"python {re.escape(program)} (.*)", line) for line in lines)
    return [shlex.split(call.group(1), comments=True) for call in calls if call]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    for link in links:
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_path_in_the_repository_exists(page):
    for span in SPAN.findall(prose(page)):
        path = span.split("::")[0].split(" ")[0]
        if path.split("/")[0] in TOPS and "/" in path and not re.search(r"[<*{$(]", path):
            if re.fullmatch(r"maml_rl/\w+-v\d+", path):  # the name of a Gymnasium environment
                continue
            if path.startswith(
                ("docs/api", "examples/rl", "examples/torch")
            ):  # made by `make docs`; others'
                continue
            assert (ROOT / path).exists(), span


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_module_that_is_named_imports(page):
    if page.name == "CHANGELOG.md":
        pytest.skip("it names what was")
    text = page.read_text()
    named = set(re.findall(r"(?:-m|from|import) ((?:maml_rl|envs|benchmarks)(?:\.\w+)*)", text))
    named |= {span for span in SPAN.findall(text) if re.fullmatch(r"(maml_rl|envs)(\.\w+)+", span)}
    for name in named:
        pkgutil.resolve_name(name)
    for name in re.findall(r"python -m ((?:maml_rl|envs|benchmarks|docs)[\w.]*)", text):
        assert find_spec(name).origin.endswith(".py"), name
        package = (ROOT / name.replace(".", "/")).is_dir()
        assert not package or find_spec(f"{name}.__main__"), name


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_of_training_and_evaluation_composes(page):
    if page.name == "new_task_distribution.md":
        pytest.skip("test_tutorial.py runs its commands where its files are")
    for program, config in (("train.py", "config"), ("evaluate.py", "evaluate")):
        for arguments in commands(page, program):
            overrides = [word for word in arguments if not word.startswith("-")]
            if "--multirun" in arguments:
                overrides = [re.sub(r"=([^,\[]*),.*", r"=\1", word) for word in overrides]
            if "--config-dir" in arguments:  # a folder that the page has the reader make
                continue
            overrides = [word for word in overrides if "{}" not in word]
            compose(config, overrides)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_page_begins_with_its_title_and_a_sentence(page):
    title, blank, first = page.read_text().split("\n")[:3]
    assert title.startswith("# ")
    assert blank == ""
    if page.name not in ("CHANGELOG.md", "CONTRIBUTING.md"):
        assert re.match(r"[A-Z]", first), first


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_lines_wrap_at_one_width(page):
    if page.name == "CHANGELOG.md":
        pytest.skip("a list that grows")
    for line in prose(page).splitlines():
        command = re.fullmatch(r"`[^`]*`\S*", line)  # has no place to break
        if not command and not line.startswith(("|", "!", "<!--", "    ")):
            assert len(line) <= WIDTH, line


def test_the_map_has_every_folder():
    page = (ROOT / "docs/architecture.md").read_text()
    folders = {
        f"{path.parent.name}/"
        for top in ("maml_rl", "envs")
        for path in ROOT.glob(f"{top}/*/__init__.py")
    } - {"assets/"}
    assert len(folders) > 10
    assert {folder for folder in folders if f"`{folder}`" not in page} == set()


def test_the_task_of_the_readme_passes_the_checks(work, call, monkeypatch):
    monkeypatch.setitem(CHECKS, "speed", lambda own: check_speed(own, 0.01))
    listing = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (work / "my_tasks.py").write_text(listing.group(1))
    sys.modules.pop("my_tasks", None)
    try:
        outcome = call(check_command, "my_tasks.HopperVelocity")
    finally:
        sys.modules.pop("my_tasks", None)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.endswith("all is well\n")
