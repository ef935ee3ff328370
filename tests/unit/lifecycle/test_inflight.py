"""A retried request joins the one that runs."""

import asyncio
import gc

import pytest

from crid.errors import AlreadyExistsError
from crid.lifecycle.inflight import Inflight
from crid.tasks import Supervisor


class Work:
    """Counts how often it is begun; ends when `release` is set, with the number of its beginning or with `error`."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.release = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        await self.release.wait()
        self.ended += 1
        if self.error is not None:
            raise self.error
        return number


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def flights() -> Inflight[int]:
    return Inflight(Supervisor("test"), "RunPodSandbox")


@pytest.fixture
def work() -> Work:
    return Work()


async def give_up(*callers: "asyncio.Task[int]") -> None:
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    assert all(caller.cancelled() for caller in callers)


async def test_the_same_request_joins(flights: Inflight[int], work: Work) -> None:
    callers = [asyncio.create_task(flights.run("k", b"r", work)) for _ in range(3)]
    await settle()
    work.release.set()
    assert await asyncio.gather(*callers) == [1, 1, 1]
    assert len(flights) == 0


async def test_another_request_with_the_name_is_refused_while_the_first_runs(flights: Inflight[int], work: Work) -> None:
    first = asyncio.create_task(flights.run("k", b"r", work))
    await settle()
    with pytest.raises(AlreadyExistsError, match="RunPodSandbox k: another request"):
        await flights.run("k", b"other", work)
    work.release.set()
    assert await first == 1
    assert work.begun == 1


async def test_other_names_do_not_wait(flights: Inflight[int], work: Work) -> None:
    callers = [asyncio.create_task(flights.run(key, b"r", work)) for key in "ab"]
    await settle()
    assert work.begun == len(flights) == 2
    work.release.set()
    assert await asyncio.gather(*callers) == [1, 2]


async def test_no_result_is_kept(flights: Inflight[int], work: Work) -> None:
    work.release.set()
    assert await flights.run("k", b"r", work) == 1
    assert await flights.run("k", b"r", work) == 2


async def test_the_work_survives_its_callers(flights: Inflight[int], work: Work) -> None:
    callers = [asyncio.create_task(flights.run("k", b"r", work)) for _ in range(2)]
    await settle()
    await give_up(*callers)
    assert len(flights) == 1
    work.release.set()
    await settle()
    assert (work.begun, work.ended, len(flights)) == (1, 1, 0)


async def test_a_retry_joins_what_an_orphan_still_does(flights: Inflight[int], work: Work) -> None:
    caller = asyncio.create_task(flights.run("k", b"r", work))
    await settle()
    await give_up(caller)
    retry = asyncio.create_task(flights.run("k", b"r", work))
    await settle()
    work.release.set()
    assert await retry == 1


async def test_one_callers_end_does_not_take_the_others_result(flights: Inflight[int], work: Work) -> None:
    leaving, staying = (asyncio.create_task(flights.run("k", b"r", work)) for _ in range(2))
    await settle()
    await give_up(leaving)
    work.release.set()
    assert await staying == 1
    assert len(flights) == 0


async def test_a_failure_reaches_everybody_and_is_not_kept(
    flights: Inflight[int], work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    gc.collect()  # what earlier tests have left may log
    caplog.clear()
    work.error = ValueError("no")
    callers = [asyncio.create_task(flights.run("k", b"r", work)) for _ in range(2)]
    await settle()
    work.release.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert results == [work.error, work.error]
    assert len(flights) == 0
    work.error = None
    assert await flights.run("k", b"r", work) == 2
    gc.collect()
    assert not caplog.records  # whoever asked was told


async def test_the_failure_of_an_orphan_is_logged_and_not_kept(
    flights: Inflight[int], work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    work.error = ValueError("nobody was there")
    caller = asyncio.create_task(flights.run("k", b"r", work))
    await settle()
    await give_up(caller)
    work.release.set()
    await settle()
    assert len(flights) == 0
    assert "RunPodSandbox k" in caplog.text
    assert "nobody was there" in caplog.text
