"""Gradio's queue, made so that no request and no exception in it can stop it for everyone.

What was wrong (Gradio 6.31, the newest below 7 when this was written; `gradio/queueing.py`):

- `Queue.push` files a session's messages under the hash that was sent, but `Event` reads an empty
  hash as none and takes its own id instead. `send_message` then looks that id up and raises
  KeyError: first in the request, which leaves the event in line, and then, when the next event
  starts, in `start_processing`, whose `finally` sets `stopped`. From then on everyone hears "503
  Queue is stopped". Three POSTs to /queue/join with the hashes "a", "" and "" were enough.
- The messages live in a dict of 2,000 sessions that forgets its oldest: 2,000 joins with fresh
  hashes make it forget one that still waits, with the same end.
- Nothing that a session leaves behind goes before that dict is full, whether or not anybody has
  ever listened: messages with all their images, event ids, running generators.

So here a message without an addressee ends its event instead of raising, the loop starts again
after an exception, and a session that nobody listens to is forgotten after a while.
"""

import asyncio
import logging
import time
from typing import Any

import gradio as gr
from anyio.to_thread import run_sync
from gradio.queueing import Event, Queue
from gradio.utils import run_coro_in_background

from app.serve.memory import give_back

UPDATE = 2.0  # seconds between two messages about the place in line
UNHEARD = 10.0  # seconds after which a session that never listened is forgotten
# Seconds within which one listens whose turn has come, be the network slow: else nothing is painted
# for it, and a visitor who was only slow would wait for ever.
HEARD = 8.0
DEAF = 30.0  # seconds after which one is that has stopped to listen; a stream asks every ten
# Sessions with messages; beyond, the oldest that nobody hears goes. At most 64 wait and 40 run.
MOST_SESSIONS = 128
MOST_UNREAD = 200  # messages of a session; a comparison sends about thirty
EVERY = 1.0  # seconds between two looks for forgotten sessions
TIDY = 10.0  # seconds between two times of giving freed memory back
_LOG = logging.getLogger(__name__)


class Mailbox(asyncio.Queue):
    """The messages of one session, and whether somebody is there to take them."""

    def __init__(self) -> None:
        super().__init__()
        self.readers, self.heard, self.last = 0, False, time.monotonic()

    async def get(self) -> Any:
        """The next message. A stream asks anew every ten seconds, so a reader is never quiet."""
        self.readers, self.heard, self.last = self.readers + 1, True, time.monotonic()
        try:
            return await super().get()
        finally:
            self.readers, self.last = self.readers - 1, time.monotonic()

    async def is_heard(self) -> bool:
        """Whether somebody listens, or comes to do so in time. A page listens before it asks, a
        program at once after it; a visitor who has left does neither."""
        while not self.readers and time.monotonic() - self.last < HEARD:
            await asyncio.sleep(0.02)
        return self.readers > 0

    def is_forsaken(self, now: float) -> bool:
        """Whether nobody has listened for too long."""
        return not self.readers and now - self.last > (DEAF if self.heard else UNHEARD)


class Mailboxes(dict):
    """Mailbox by session, in the place of Gradio's dict of plain queues."""

    def __setitem__(self, session: str, _: Any) -> None:
        while len(self) >= MOST_SESSIONS and (oldest := self._oldest()) is not None:
            del self[oldest]
        super().__setitem__(session, Mailbox())

    def _oldest(self) -> str | None:
        quiet = ((box.heard, box.last, name) for name, box in self.items() if not box.readers)
        return min(quiet, default=(None, None, None))[2]

    @property
    def full(self) -> bool:
        """Whether every place is taken by a session that listens."""
        return len(self) >= MOST_SESSIONS and self._oldest() is None


class SteadyQueue(Queue):
    """See the module. Attributes and methods keep Gradio's names."""

    def __init__(self, page: gr.Blocks, max_size: int) -> None:
        super().__init__(
            live_updates=False,  # the loop that starts events sends nothing else
            concurrency_count=page.max_threads, update_intervals=UPDATE, max_size=max_size,
            blocks=page,
        )
        self.pending_messages_per_session = Mailboxes()
        self.ANALYTICS_MAX_EVENTS = 1  # kept for a dashboard that this page does not have
        self._ended = False

    def start(self) -> None:
        """Start the loops, in the server's event loop."""
        self._ended = False
        super().start()
        run_coro_in_background(self._forget)

    def close(self) -> None:
        """Stop for good: the server is being closed."""
        self._ended = True
        super().close()

    async def push(self, body: Any, request: Any, username: str | None) -> tuple:
        """Put an event in line; refuses when nobody can be forgotten to make room."""
        box = self.pending_messages_per_session.get(body.session_hash)
        if box is not None:
            box.last = time.monotonic()
        elif self.pending_messages_per_session.full:
            return False, "Too many visitors: try again in a minute.", "queue_full"
        return await super().push(body, request, username)

    def send_message(self, event: Event, event_message: Any) -> None:
        """Send, unless the session is gone or lets its messages pile up: then the event ends."""
        box = self.pending_messages_per_session.get(event.session_hash)
        if box is None or box.qsize() >= MOST_UNREAD:
            event.alive = False
            return
        super().send_message(event, event_message)

    async def process_events(self, events: list[Event], *rest: Any) -> None:
        """Run events; one that nobody has come to listen to in time costs no work."""
        for event in events:
            box = self.pending_messages_per_session.get(event.session_hash)
            if box is None or not await box.is_heard():
                event.alive = False
        await super().process_events(events, *rest)

    async def start_processing(self) -> None:
        """Start events as they come, for as long as the server runs, whatever happens."""
        await self._again(super().start_processing)

    async def start_progress_updates(self) -> None:
        """Pass progress on, for as long as the server runs, whatever happens."""
        await self._again(super().start_progress_updates)

    async def notify_clients(self) -> None:
        """Tell who waits about the place in line, for as long as the server runs."""
        await self._again(super().notify_clients)

    async def _again(self, loop: Any) -> None:
        while not self._ended:
            try:
                await loop()
            except Exception:  # Gradio's or ours: one visitor's bad luck, not everybody's
                _LOG.exception("the queue goes on after an error")
            if not self._ended:
                self.stopped = False
                await asyncio.sleep(0.1)

    def _cancel_asyncio_tasks(self) -> None:
        if self._ended:  # else what is running goes on, as the loop does
            super()._cancel_asyncio_tasks()

    async def reset_iterators(self, event_id: str) -> None:
        """Forget a generator; it may have been forgotten meanwhile."""
        try:
            await super().reset_iterators(event_id)
        except KeyError:  # /cancel was faster: Gradio looks first and locks afterwards
            _LOG.debug("%s was reset twice", event_id)

    def compute_analytics_summary(self, records: Any) -> dict[str, Any]:
        """Nothing: Gradio builds a table of all events after each, for a dashboard."""
        return self.cached_event_analytics_summary

    async def _forget(self) -> None:
        """Drop the sessions that nobody listens to, with what they asked for."""
        boxes, ids = self.pending_messages_per_session, self.pending_event_ids_session
        tidied, untidy = time.monotonic(), False
        while not self._ended:
            await asyncio.sleep(EVERY)
            now = time.monotonic()
            gone = {name for name, box in boxes.items() if box.is_forsaken(now)}
            gone |= ids.keys() - boxes.keys()
            for session in gone:
                boxes.pop(session, None)
                await self.clean_events(session_hash=session)
                ids.pop(session, None)
            untidy |= bool(gone)
            if untidy and now - tidied > TIDY:
                tidied, untidy = now, False
                await run_sync(give_back)


def waiting(page: gr.Blocks, line: str) -> int:
    """How many stand in the line of that concurrency id, not counting whose turn it is."""
    lines = getattr(getattr(page, "_queue", None), "event_queue_per_concurrency_id", {})
    return len(lines[line].queue) if line in lines else 0


def install(page: gr.Blocks, max_size: int) -> gr.Blocks:
    """Give `page` this queue instead of Gradio's, before it is launched."""
    # Not open: /run would let anybody paint beside the queue, forty at a time.
    page.queue(max_size=max_size, status_update_rate=UPDATE, api_open=False)
    page._queue = SteadyQueue(page, max_size)
    return page
