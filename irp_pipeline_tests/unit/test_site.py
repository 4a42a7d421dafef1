"""The documentation site: it can be built, needs no other server, and says what the code says."""

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer.main

from irp_pipeline.cli import app
from irp_pipeline.orchestration.jobs import STAGES
from irp_pipeline.settings import variables
from irp_pipeline_docs import reference, run_picture

ROOT = Path(__file__).parents[2]
RASTER_LIMIT = 200_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Page(HTMLParser):
    """What a browser fetches for a page without being asked, and the links and headings of the page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.headings: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        if tag == "link" and found.get("rel") not in {"canonical", "next", "prev"}:
            self.fetched.append(found.get("href", ""))
        elif tag in {"script", "img", "iframe", "source", "video", "audio", "embed", "object", "use"}:
            self.fetched += [found[name] for name in ("src", "srcset", "data", "href") if name in found]
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in {"h1", "h2", "h3"} and "id" in found:
            self.headings.append(found["id"])


def files_of(site: Path, kind: str) -> Iterator[Path]:
    found = sorted(site.rglob(f"*.{kind}"))
    assert found
    yield from found


def test_no_page_fetches_anything_from_another_server(site: Path) -> None:
    for file in files_of(site, "html"):
        assert not [url for url in Page(file).fetched if re.match(r"(?:\w+:)?//", url)], file
    for file in files_of(site, "css"):
        urls = re.findall(r"""(?:url\(|@import\s+)["']?([^"')]+)""", file.read_text(encoding="utf-8"))
        assert not [url for url in urls if re.match(r"(?:https?:)?//", url)], file


def test_what_pages_fetch_and_link_to_is_in_the_site(site: Path) -> None:
    for file in files_of(site, "html"):
        if file.name == "404.html":  # its links are those of a server's root
            continue
        page = Page(file)
        for url in page.fetched + page.links:
            target = url.partition("?")[0].partition("#")[0]
            is_elsewhere = re.match(r"(?:https?|mailto):", target)
            assert not target or is_elsewhere or (file.parent / target).is_file(), f"{file}: {url}"


def test_links_between_pages_are_right_in_the_repository_too() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for url in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            target = url.partition("#")[0]
            is_elsewhere = re.match(r"(?:https?|mailto):", target)
            assert not target or is_elsewhere or (page.parent / target).exists(), f"{page}: {url}"


def test_every_place_for_what_the_code_says_is_filled(site: Path) -> None:
    for file in files_of(site, "html"):
        assert "<!-- made from the code" not in file.read_text(encoding="utf-8"), file


def test_every_command_has_its_section(site: Path) -> None:
    headings = Page(site / "reference" / "commands.html").headings
    for path, _ in reference.all_commands(typer.main.get_command(app)):
        assert "-".join(path) in headings


def test_every_python_name_that_a_page_lists_is_there(site: Path) -> None:
    pages = [
        page for page in (ROOT / "docs" / "reference").glob("*.md") if "\n::: " in page.read_text(encoding="utf-8")
    ]
    assert pages
    for page in pages:
        headings = Page(site / "reference" / f"{page.stem}.html").headings
        for module, names in re.findall(
            r"^::: (\S+)\n    options:\n      members:\n((?:        - \w+\n)+)",
            page.read_text(encoding="utf-8"),
            re.MULTILINE,
        ):
            for name in re.findall(r"- (\w+)", names):
                assert f"{module}.{name}" in headings, page


def test_every_setting_is_in_the_reference_and_no_other() -> None:
    classes = variables._Variables.__subclasses__()
    read = {str(field.validation_alias) for each in classes for field in each.model_fields.values()}
    assert set(reference.variables()) == read | {"IRP_SOURCE_<NAME>_URL", "NUMBA_CACHE_DIR"}
    assert all(reference.variables().values())


def test_the_picture_of_a_run_has_the_stages_of_the_pipeline() -> None:
    assert [stage.lower() for stage in run_picture.STAGES] == [stage.name for stage in STAGES]


def test_the_page_of_the_pipeline_names_every_op() -> None:
    page = (ROOT / "docs" / "pipeline.md").read_text(encoding="utf-8")
    for stage in STAGES:
        for node in stage.nodes_in_topological_order:
            assert f"`{node.name}`" in page


def test_pictures_are_light() -> None:
    pictures = sorted((ROOT / "docs").rglob("*.png"))
    assert pictures
    assert not [picture for picture in pictures if picture.stat().st_size > RASTER_LIMIT]
