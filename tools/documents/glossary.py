"""One entry for each file, since a file holds one concept."""

from __future__ import annotations

from documents import markdown
from documents.sources import FLOORS, SOURCE, docstring, first_sentence, inside, modules

NOT_CONCEPTS = {"__init__.py", "__main__.py"}


def text() -> str:
    return markdown.document(
        "Glossary",
        "One concept, one file, one word. The order is that of the floors, from the ground up; a"
        " file may use what stands below its floor and nothing above.",
        *(_floor(name) for name in FLOORS),
    )


def _floor(name: str) -> str:
    about = " ".join(docstring(SOURCE / name / "__init__.py").partition("\n\n")[0].split())
    rows = [
        (f"**{path.stem.replace('_', ' ')}**", first_sentence(docstring(path)), f"`{inside(path)}`")
        for path in modules(name)
        if path.name not in NOT_CONCEPTS
    ]
    return f"## {name}\n\n{about}\n\n{markdown.table(('Word', 'What it is', 'File'), rows)}"
