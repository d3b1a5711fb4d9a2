"""The peers are what people would use instead, each in its own process with its own packages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx

from bench.child import ROOT, child
from bench.sampling import Sampler, repeating
from bench.skills import INPUT, WARM

PYTHON = ROOT / ".venvs" / "bench" / "bin" / "python"
MISSING = "not measured: .venvs/bench is missing; `make bench` builds it"
_SIDE = Path(__file__).with_name("peer_side")
ANSWER_S = 30.0
Peer = Callable[[Path, Path], AbstractAsyncContextManager[dict[str, Sampler]]]


def is_there() -> bool:
    """Whether the environment with the peers was built."""
    return PYTHON.exists() and PYTHON.parents[1].joinpath(".ready").exists()


@asynccontextmanager
async def harnessapi(directory: Path, skills: Path) -> AsyncIterator[dict[str, Sampler]]:
    """Its server with the very same folder; the client keeps its connection."""
    command = [str(PYTHON), str(_SIDE / "harness_server.py"), str(skills)]
    async with (
        child(command, directory) as server,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{server.hello['port']}", timeout=ANSWER_S, trust_env=False
        ) as client,
    ):
        path = f"/skills/{WARM}"

        async def ask_json() -> None:
            answer = await client.post(path, content=INPUT, headers=_headers("application/json"))
            assert answer.json()["text"], "the peer answers like the skill"

        async def ask_stream() -> None:
            headers = _headers("text/event-stream")
            async with client.stream("POST", path, content=INPUT, headers=headers) as answer:
                answer.raise_for_status()
                async for _ in answer.aiter_lines():
                    pass

        yield {"harnessapi_json": repeating(ask_json), "harnessapi_sse": repeating(ask_stream)}


@asynccontextmanager
async def ray(directory: Path, _skills: Path) -> AsyncIterator[dict[str, Sampler]]:
    """A local cluster of its own, without dashboard and without reports to anybody."""
    command = [str(PYTHON), str(_SIDE / "ray_driver.py"), str(directory / "ray")]
    variables = {"RAY_USAGE_STATS_ENABLED": "0"}
    async with child(command, directory, variables=variables) as driver:

        async def sample(count: int) -> list[float]:
            samples: list[float] = await driver.ask(str(count))
            return samples

        yield {"ray_task": sample}


PEERS: dict[Peer, tuple[str, ...]] = {
    harnessapi: ("harnessapi_json", "harnessapi_sse"),
    ray: ("ray_task",),
}
NAMES = tuple(name for names in PEERS.values() for name in names)


def _headers(accept: str) -> dict[str, str]:
    return {"Content-Type": "application/json", "Accept": accept}
