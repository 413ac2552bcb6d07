"""The files that a repository is expected to have, and the programs that make releases and pictures."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from tools.figures import Flow, Step, draw_flow, draw_step
from tools.release_notes import release_notes

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "0.2.0"\n')
    (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 0.2.0\n")
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-12-01\n\n### Added\n\n- A thing.\n\n"
        "## [0.1.0] - 2026-01-01\n\n- Old.\n"
    )
    return tmp_path


def test_release_notes_are_the_section_of_the_version(repository: Path) -> None:
    assert release_notes("v0.2.0", repository) == "### Added\n\n- A thing."


@pytest.mark.parametrize("file", ["pyproject.toml", "CITATION.cff"])
def test_a_tag_that_a_file_does_not_agree_with_is_refused(file: str, repository: Path) -> None:
    path = repository / file
    path.write_text(path.read_text().replace("0.2.0", "0.1.9"))
    with pytest.raises(ValueError, match=re.escape(f"{file} says version 0.1.9, the tag v0.2.0")):
        release_notes("v0.2.0", repository)


def test_a_version_without_a_dated_section_is_refused(repository: Path) -> None:
    changelog = repository / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace(" - 2026-12-01", ""))
    with pytest.raises(ValueError, match=r"no section '## \[0\.2\.0\] - YYYY-MM-DD'"):
        release_notes("v0.2.0", repository)


def test_the_citation_names_the_package_of_this_version_and_its_three_papers() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["version"], citation["license"]) == (package["version"], package["license"])
    found = {paper["url"].rpartition("/")[2] for paper in citation["references"]}
    assert found == {"2104.07540", "2103.00453", "2305.15077"}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_pin_what_they_use_and_ask_for_few_rights(workflow: Path) -> None:
    text = workflow.read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    assert content["permissions"] == {"contents": "read"}
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action) for action in used)
    for script in re.findall(r"(tools/[\w.]+)", text):
        assert (ROOT / script).is_file()


def test_the_tested_pythons_are_those_that_the_package_allows() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(package["classifiers"]))
    assert jobs["test"]["strategy"]["matrix"]["python"] == named


def test_pictures_are_well_formed_whatever_the_sentences_hold() -> None:
    odd = 'A <b>"bold"</b> & long sentence that goes on until it has to be wrapped somewhere.'
    texts = dict.fromkeys(("1", "0.5", "0"), odd)
    flow = draw_flow(Flow(odd, texts, texts, [(0.9, odd), (0.5, odd), (0.1, odd), (0, odd)]))
    step = draw_step(Step(odd, odd, [(" <w>", 0.6, 0.7, 0.01), (" &", 0.1, 0.0, 0.5)]))
    for picture in (flow, step):
        words = " ".join(ElementTree.fromstring(picture).itertext())
        assert 'A <b>"bold"</b> &' in words


def test_the_pictures_of_the_site_show_the_pairs_that_they_speak_of() -> None:
    picture = ElementTree.fromstring((ROOT / "docs/images/dataflow.svg").read_text(encoding="utf-8"))
    flow = " ".join(" ".join(picture.itertext()).split())
    assert all(text in flow for text in ("A dog is asleep under the counter.", "0.9", "0.1", "dino-st generate"))
