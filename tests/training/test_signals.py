"""The first signal is a request, the second an interrupt."""

import os
import signal

import pytest

from calco.training.signals import stop_on_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_is_a_request(number: signal.Signals) -> None:
    with stop_on_signals() as request:
        os.kill(os.getpid(), number)
        assert request.by == number.name


def test_second_signal_interrupts() -> None:
    with stop_on_signals(), pytest.raises(KeyboardInterrupt):  # noqa: PT012 - both signals
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
