"""How the loop hears signals."""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from lowconmon.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Callable

    Own = Callable[[Any], Any]
    Run = Callable[[Loop], None]
    Turn = Callable[[], None]

SIGNALS = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD, signal.SIGWINCH, signal.SIGHUP]


def test_each_signal_is_told_once(
    loop: Loop, turn: Turn, send_signal: Callable[[int], None]
) -> None:
    heard: list[int] = []
    loop.add_signals(SIGNALS, heard.append)
    for number in SIGNALS * 3:
        send_signal(number)  # pending already: the kernel keeps one of each kind
    for _ in SIGNALS:
        turn()
    assert sorted(heard) == sorted(SIGNALS)
    turn()
    assert len(heard) == len(SIGNALS)
    send_signal(signal.SIGUSR1)
    turn()
    assert heard[len(SIGNALS) :] == [signal.SIGUSR1]


def test_hundreds_of_queued_signals_are_all_told(
    loop: Loop, run: Run, send_signal: Callable[[int], None]
) -> None:
    heard: list[int] = []

    def hear(number: int) -> None:
        heard.append(number)
        if len(heard) == 300:
            loop.stop()

    loop.add_signals([signal.SIGRTMIN, signal.SIGRTMIN + 1], hear)
    for count in range(300):
        send_signal(signal.SIGRTMIN + count % 2)
    run(loop)
    assert heard.count(signal.SIGRTMIN) == heard.count(signal.SIGRTMIN + 1) == 150


def test_a_flood_of_signals_delays_neither_descriptor_nor_timer(
    loop: Loop, own: Own, run: Run, send_signal: Callable[[int], None]
) -> None:
    heard: list[int] = []

    def hear(number: int) -> None:
        heard.append(number)
        send_signal(number)  # the next one is always there

    def event() -> None:
        loop.remove(fd)
        loop.call_later(1, loop.stop)

    loop.add_signals([signal.SIGUSR1], hear)
    fd = own(os.eventfd(1))
    loop.add_reader(fd, event)
    send_signal(signal.SIGUSR1)
    run(loop)
    assert heard


def test_signals_that_come_after_a_stop_are_kept(
    loop: Loop, run: Run, send_signal: Callable[[int], None]
) -> None:
    heard: list[int] = []

    def hear(number: int) -> None:
        heard.append(number)
        loop.stop()

    loop.add_signals(SIGNALS, hear)
    for number in SIGNALS:
        send_signal(number)
    for count in range(1, len(SIGNALS) + 1):
        run(loop)
        assert len(heard) == count
    assert sorted(heard) == sorted(SIGNALS)


def test_a_signal_handler_may_stop_and_close_the_loop(send_signal: Callable[[int], None]) -> None:
    loop = Loop()
    heard: list[int] = []

    def hear(number: int) -> None:
        heard.append(number)
        loop.stop()
        loop.close()

    loop.add_signals(SIGNALS, hear)
    for number in SIGNALS:
        send_signal(number)
    loop.run()
    assert len(heard) == 1


def test_a_signal_handler_that_raises_loses_no_other_signal(
    send_signal: Callable[[int], None],
) -> None:
    heard: list[int] = []
    errors: list[Exception] = []
    loop = Loop(lambda _handler, error: errors.append(error))

    def hear(number: int) -> None:
        heard.append(number)
        if len(heard) == len(SIGNALS):
            loop.stop()
        raise ValueError(number)

    loop.add_signals(SIGNALS, hear)
    for number in SIGNALS:
        send_signal(number)
    loop.run()
    loop.close()
    assert sorted(heard) == sorted(SIGNALS)
    assert len(errors) == len(SIGNALS)


def test_a_signal_that_somebody_else_took_is_no_harm(
    loop: Loop, turn: Turn, send_signal: Callable[[int], None]
) -> None:
    heard: list[int] = []
    taken: list[object] = []
    loop.call_later(0, lambda: taken.append(signal.sigtimedwait([signal.SIGUSR1], 0)))
    loop.add_signals([signal.SIGUSR1], heard.append)
    send_signal(signal.SIGUSR1)
    turn()  # the event is here already when the timer takes the signal
    assert heard == []
    assert len(taken) == 1
    send_signal(signal.SIGUSR1)
    turn()
    assert heard == [signal.SIGUSR1]


@pytest.mark.usefixtures("send_signal")  # puts the mask back
def test_signals_are_blocked_while_the_loop_hears_them(loop: Loop) -> None:
    loop.add_signals([signal.SIGUSR1, signal.SIGUSR2], int)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert {signal.SIGUSR1, signal.SIGUSR2} <= blocked
    loop.close()  # and stay so: whoever let them through would be struck by what is pending
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked


@pytest.mark.usefixtures("send_signal")
def test_a_signalfd_that_cannot_be_had_is_told(loop: Loop, inject: Callable[..., Any]) -> None:
    inject("signalfd", errno=errno.EMFILE)
    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        loop.add_signals([signal.SIGUSR1], int)
