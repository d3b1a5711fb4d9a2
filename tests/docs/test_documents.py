"""The documents name files, figures and commands; this is where they are held to it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from swarmharness.kernel.errors import catalogue
from swarmharness.node.config import read_config
from swarmharness.skills import grants, metadata, request
from swarmharness.skills.sandbox import confinement, tiers, uid_slots

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
MAPS = ("ARCHITECTURE.md", "THREATS.md")
FILE = re.compile(r"`((?:[a-z0-9_]+/)*[a-z0-9_.-]+\.(?:py|toml|md|sh|json))`")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)\)")
ERROR_CODE = re.compile(r"`((?:kernel|network|skills|tasks|node|surfaces)\.[a-z]+_[a-z_]+)`")
SKILL_FILES = {"skill.toml", "SKILL.md", "handler.py", "models.py", "config.toml"}


def files_named_in(text):
    return [name for name in FILE.findall(text) if name not in SKILL_FILES]


def exists(name):
    """A path counts from the root of the checkout or from that of the package."""
    return any((base / name).is_file() for base in (ROOT, ROOT / "src" / "swarmharness"))


@pytest.mark.parametrize("document", MAPS)
def test_every_file_that_a_map_names_exists(document):
    names = files_named_in((ROOT / document).read_text())
    assert len(names) > 20
    assert [name for name in names if not exists(name)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    targets = LINK.findall(document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_error_codes_exist(document):
    import swarmharness.network.errors
    import swarmharness.skills.errors  # noqa: F401  imports fill the catalogue

    named = set(ERROR_CODE.findall(document.read_text()))
    assert sorted(code for code in named - set(catalogue()) if not _is_elsewhere(code)) == []


def _is_elsewhere(code):
    """Floors that this test does not import, found by their text."""
    place = {"tasks": "tasks", "node": "node", "surfaces": ""}.get(code.split(".")[0])
    if place is None:
        return False
    sources = (ROOT / "src" / "swarmharness" / place).rglob("*.py")
    return any(f'"{code}"' in source.read_text() for source in sources)


def test_every_decision_is_in_the_index_and_has_its_four_parts():
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    records = sorted(folder.glob("0*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text()
        title = text.splitlines()[0].removeprefix(f"# {record.name[:4]} ")
        assert f"[{record.name[:4]}]({record.name}) | {title} |" in index
        for part in ("Context", "Decision", "Consequences", "What would change our mind"):
            assert f"**{part}.**" in text


def test_the_six_goals_are_ranked_and_each_says_what_it_does_not_mean():
    text = (ROOT / "GOALS.md").read_text()
    assert re.findall(r"^### (\d)\.", text, re.MULTILINE) == list("123456")
    assert text.count("*It does not mean*") == 6


def test_change_notes_follow_the_habit():
    types = re.findall(
        r"^\| `(\w+)` \|", (ROOT / "changes" / "README.md").read_text(), re.MULTILINE
    )
    notes = [path for path in (ROOT / "changes").iterdir() if path.name != "README.md"]
    for note in notes:
        assert re.fullmatch(rf"\d+\.({'|'.join(types)})\.md", note.name), note.name
        assert note.read_text().strip()


def test_the_figures_of_the_sandbox_are_the_true_ones():
    text = (ROOT / "docs" / "sandbox.md").read_text()
    mib = 1024 * 1024
    rows = {
        "memory of one process": f"{confinement.DATA_BYTES // mib} MiB",
        "memory of the whole sandbox": f"{confinement.TOTAL_BYTES // mib} MiB",
        "processes and threads": str(confinement.NPROC),
        "open descriptors": str(confinement.NOFILE),
        "temporary files": f"{confinement.SCRATCH_BYTES // mib} MiB",
        "kept of its standard error": f"{confinement.STDERR_BYTES // 1024} KiB",
        "time of a call": (
            f"the skill's `timeout_secs`, {metadata.DEFAULT_TIMEOUT_MS // 1000} s; "
            f"at most {grants.Ceilings().timeout_ms // 1000} s"
        ),
        "input, output": (
            f"{request.SkillRequest().max_input_bytes // mib} MiB, "
            f"{request.SkillRequest().max_output_bytes // mib} MiB"
        ),
    }
    assert [row for row, value in rows.items() if f"| {row} | {value} |" not in text] == []
    assert f"({uid_slots.FIRST_UID} to {uid_slots.LAST_UID})" in text
    assert re.findall(r"^\| `(\d\w?)` \|", text, re.MULTILINE) == [
        tier.value for tier in tiers.Tier
    ]


def test_the_swarm_table_is_documented_key_by_key():
    text = (ROOT / "docs" / "skills.md").read_text()
    rows = "\n".join(line for line in text.splitlines() if line.startswith("| `"))
    keys = set(request.SkillRequest.__struct_fields__)
    assert sorted(key for key in keys if f"`{key}" not in rows) == []
    table, granted = (tomllib.loads(block) for block in toml_blocks(text))
    asked, warnings = request.parse_request(table["swarm"])
    assert not warnings
    assert grants.missing(asked, grants.Grant())
    assert grants.parse_grant(granted["grants"]["greet"]).requirements


def test_the_setting_that_allows_tier_2_is_read(tmp_path):
    [block] = toml_blocks((ROOT / "docs" / "sandbox.md").read_text())
    (tmp_path / "config.toml").write_text(block)
    assert read_config(tmp_path / "config.toml").sandbox.allow_tier2


def toml_blocks(text):
    return re.findall(r"```toml\n(.*?)```", text, re.DOTALL)


def test_the_skill_of_the_guide_works(tmp_path):
    text = (ROOT / "docs" / "skills.md").read_text()
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, re.DOTALL)
    assert [name for name, _ in blocks] == ["models.py", "handler.py"]
    for name, source in blocks:
        (tmp_path / name).write_text(source)
    shim = ROOT / "src" / "swarmharness" / "skills" / "guest" / "shim"
    program = (
        "import asyncio, importlib, sys, types; sys.path.insert(0, sys.argv[1])\n"
        "package = types.ModuleType('greet'); package.__path__ = [sys.argv[2]]\n"
        "sys.modules['greet'] = package\n"
        "handle = importlib.import_module('greet.handler').handle\n"
        "Input = importlib.import_module('greet.models').Input\n"
        "print(asyncio.run(handle(Input(name='Ada'))).greeting)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", program, str(shim), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "Hello, Ada!\n"
