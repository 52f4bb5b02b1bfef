"""The driver's end of a worker's connection; it never blocks.

`Connection.recv` blocks inside a message when the other process stops half-way through it, and no deadline can end
that. Here bytes are taken as they come and a message counts once it is whole; what cannot be sent yet is kept.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
from multiprocessing.connection import Connection
from typing import Any

_READ = 1 << 18
_LONG = -1  # the length that says that eight bytes with the true length follow


class Channel:
    """Speaks the framing of `multiprocessing.connection.Connection`, whose blocking side is the worker's."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inbox = bytearray()
        self._outbox = bytearray()
        os.set_blocking(connection.fileno(), False)

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._connection.fileno()

    @property
    def full(self) -> bool:
        """Whether something still has to be sent."""
        return bool(self._outbox)

    def take(self) -> list[bytes]:
        """Take in what is there, and return the pickled messages that are whole now.

        Raises:
            EOFError: the other end is closed.
            OSError: the connection is broken.
        """
        while True:
            try:
                data = os.read(self.fileno(), _READ)
            except BlockingIOError:
                break
            if not data:
                if self._inbox:
                    break  # what came before the end is delivered first; the next call says that it has come
                raise EOFError
            self._inbox += data
            if len(data) < _READ:
                break
        messages = []
        while (message := self._whole()) is not None:
            messages.append(message)
        return messages

    def send(self, message: Any) -> None:  # noqa: ANN401 - whatever pickles
        """Send a message, or what of it can be sent now; `flush` sends more."""
        data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        short = len(data) <= 0x7FFFFFFF
        self._outbox += struct.pack("!i", len(data)) if short else struct.pack("!iQ", _LONG, len(data))
        self._outbox += data
        self.flush()

    def flush(self) -> None:
        """Send what can be sent now; a closed other end is left for `take` to find."""
        try:
            while self._outbox:
                del self._outbox[: os.write(self.fileno(), self._outbox)]
        except BlockingIOError:
            return
        except OSError:
            self._outbox.clear()

    def close(self) -> None:
        """Close this end of the connection."""
        with contextlib.suppress(OSError):  # somebody closed it already
            self._connection.close()

    def _whole(self) -> bytes | None:
        """Cut the first message off the inbox if all of it is there."""
        start = 4
        if len(self._inbox) < start:
            return None
        (length,) = struct.unpack_from("!i", self._inbox)
        if length == _LONG:
            start = 12
            if len(self._inbox) < start:
                return None
            (length,) = struct.unpack_from("!Q", self._inbox, 4)
        if len(self._inbox) < start + length:
            return None
        message = bytes(memoryview(self._inbox)[start : start + length])
        del self._inbox[: start + length]
        return message
