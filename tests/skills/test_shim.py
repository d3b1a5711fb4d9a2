"""The shim stands in for HarnessAPI, or steps aside for the real package; never a mixture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from swarmharness.skills.guest import imports
from swarmharness.skills.guest.imports import SHIM_NAMES, names_beyond_shim
from swarmharness.skills.guest.shim import harnessapi as shim
from swarmharness.skills.guest.shim.harnessapi import models

CORPUS = Path(__file__).parent / "corpus"
MODELS = (CORPUS / "skills" / "edited" / "models.py").read_text()


def test_the_scan_knows_every_name_of_the_shim():
    assert set(shim.__all__) | {"models"} == SHIM_NAMES["harnessapi"]
    bases = {n for n, v in vars(models).items() if isinstance(v, type) and v is not BaseModel}
    assert bases - {"ConfigDict"} == SHIM_NAMES["harnessapi.models"]


def test_models_refuse_unknown_fields_and_nothing_else():
    class Input(shim.SkillInput):
        a: int

    assert shim.SkillInput.model_config == {"extra": "forbid"} == shim.SkillOutput.model_config
    assert Input(a="1").a == 1
    with pytest.raises(ValidationError):
        Input(a=1, b=2)


def test_the_decorator_gives_the_function_back():
    class Input(shim.SkillInput): ...

    class Output(shim.SkillOutput): ...

    async def handle(input: Input) -> Output: ...  # noqa: A002  the word of the format

    assert shim.skill(name="x")(handle) is handle
    assert shim.skill(input_model=Input, output_model=Output)(print) is print
    with pytest.raises(TypeError, match="input_model"):
        shim.skill()(lambda value: value)


@pytest.fixture
def skills(tmp_path: Path) -> Path:
    directory = tmp_path / "skills"
    (directory / "made").mkdir(parents=True)
    (directory / "made" / "models.py").write_text(MODELS)
    return directory


@pytest.mark.parametrize(
    ("source", "beyond"),
    [
        ("from harnessapi import SkillInput, SkillOutput, skill, models", []),
        ("import harnessapi\nfrom harnessapi.models import SkillInput", []),
        ("from harnessapi import *", []),
        ("from harnessapi import HarnessAPI", ["harnessapi.HarnessAPI"]),
        ("from harnessapi.skill import SkillMeta", ["harnessapi.skill.SkillMeta"]),
        ("import harnessapi.multitenancy", ["harnessapi.multitenancy"]),
        ("def f():\n    from harnessapi import Skill", ["harnessapi.Skill"]),
        ("from .harnessapi import Anything", []),
        ("from other.harnessapi import Anything", []),
        ("a = = 1", []),
    ],
)
def test_names_beyond_the_shim(skills, source, beyond):
    (skills / "made" / "handler.py").write_text(source)
    assert names_beyond_shim(skills / "made") == beyond


def test_the_scan_follows_imports_beside_the_folder_only(skills):
    (skills / "shared").mkdir()
    (skills / "shared" / "server.py").write_text("from harnessapi import HarnessAPI")
    (skills / "serve.py").write_text("from harnessapi import SkillMeta")
    handler = skills / "made" / "handler.py"
    handler.write_text("import json")
    assert names_beyond_shim(skills / "made") == []
    handler.write_text("from shared.server import x")
    assert names_beyond_shim(skills / "made") == ["harnessapi.HarnessAPI"]
    handler.write_text("import skills.serve")
    assert names_beyond_shim(skills / "made") == ["harnessapi.SkillMeta"]


def test_the_scan_has_limits(skills, monkeypatch):
    monkeypatch.setattr(imports, "MAX_SCANNED_FILES", 2)
    monkeypatch.setattr(imports, "MAX_SCANNED_BYTES", 100)
    source = "from harnessapi import Skill"
    (skills / "made" / "a.py").write_text(source)
    (skills / "made" / "b.py").write_text(source.replace("Skill", "SkillMeta"))
    (skills / "made" / "c.py").write_text(source.replace("Skill", "HarnessAPI"))
    assert names_beyond_shim(skills / "made") == ["harnessapi.Skill", "harnessapi.SkillMeta"]
    (skills / "made" / "a.py").write_text(source + " " * 100)
    assert names_beyond_shim(skills / "made") == ["harnessapi.SkillMeta"]


def test_importing_the_skills_directory_itself_leads_nowhere(skills):
    (skills / "made" / "handler.py").write_text("import skills")
    assert names_beyond_shim(skills / "made") == []


LOAD = """
import sys
from pathlib import Path
from swarmharness.skills.guest.loader import SkillLoadError, load_skill
try:
    loaded = load_skill(Path(sys.argv[1]), "_made")
except SkillLoadError as error:
    print(error.reason)
else:
    import harnessapi
    print(harnessapi.__file__, loaded.input_model.__base__.__module__)
"""


def load(folder: Path, path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-B", "-c", LOAD, str(folder)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_real_package_is_used_when_the_shim_is_not_enough(skills, tmp_path):
    real = tmp_path / "site" / "harnessapi"
    real.mkdir(parents=True)
    (real / "__init__.py").write_text("from .models import *\nclass SkillMeta: ...\n")
    (real / "models.py").write_text(
        "from pydantic import BaseModel\n"
        "class SkillInput(BaseModel): ...\nclass SkillOutput(BaseModel): ...\n"
    )
    handler = skills / "made" / "handler.py"
    handler.write_text("from harnessapi import SkillMeta\nasync def handle(input): ...\n")
    assert load(skills / "made", real.parent) == f"{real / '__init__.py'} harnessapi.models"
    handler.write_text("async def handle(input): ...\n")
    assert "shim" in load(skills / "made", real.parent)


def test_without_the_real_package_the_reason_says_how_to_get_it(skills, tmp_path):
    (skills / "made" / "handler.py").write_text("from harnessapi import SkillMeta\n")
    reason = load(skills / "made", tmp_path)
    if "harnessapi.SkillMeta" not in reason:
        pytest.skip("the real HarnessAPI is installed in this environment")
    assert 'requirements = ["harnessapi"]' in reason
