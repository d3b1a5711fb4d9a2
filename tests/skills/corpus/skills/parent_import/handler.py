import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from beside import BESIDE
from shared.words import joined

from .models import Input, Output


async def handle(input: Input) -> Output:
    return Output(text=f"{joined(input.text)} {BESIDE}")
