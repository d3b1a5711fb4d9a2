"""A skill that is nothing but hostile: it runs whatever it is told to try."""

import json
import os
import sys
from pathlib import Path

from .attempt import attempt
from .models import Input, Output


async def handle(order: Input) -> Output:
    confine = sys.modules[next(name for name in sys.modules if name.endswith(".confine"))]
    facts = {
        **json.loads(order.facts),
        "call_dir": os.environ["TMPDIR"],
        "app": str(Path(__file__).parent),
        "guest": str(Path(confine.__file__).parent),
    }
    return Output(answers=[attempt(code, facts) for code in order.codes])
