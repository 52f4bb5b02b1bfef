"""Ends a command, even if a plugin left a thread or process that never ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading

import psutil

EXIT_SECONDS = 60.0  # for exit handlers of libraries
LEFT_SECONDS = 3.0  # for threads that a plugin started and did not stop


def end_for_sure(code: int) -> None:
    """End this process with an exit code after a short time, if it does not end by itself before.

    Processes that a plugin forked are ended now: each is a copy of this process with the same open files, so a reader
    of the output would wait for it. Programs that a plugin started are left alone.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        if not stream.closed:
            stream.flush()
    for worker in multiprocessing.active_children():
        worker.kill()
    with contextlib.suppress(psutil.Error, OSError):
        this = psutil.Process()
        command = this.cmdline()
        for process in this.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.cmdline() == command:
                    process.kill()
    left = [thread for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon]
    timer = threading.Timer(LEFT_SECONDS if left else EXIT_SECONDS, os._exit, (code,))
    timer.daemon = True
    timer.start()
