"""Scenarios that take minutes, and mostly wait, beside the tests of other files.

A file names its scenario as ``BESIDE``: a function whose parameters are fixtures of the session. Those of
the chosen tests run one after another from the beginning of a run, in one thread, so that the two cores have
something to do while other tests wait, and the other way round. The file's own fixture asks for what its
scenario returned; ``conftest.py`` puts these files late.
"""

import inspect
import threading
from collections.abc import Callable
from concurrent.futures import Future

from parts.process import lasting_threads

# For the scenario and those before it: several times what they take on an idle machine.
_SECONDS = 3600


class Beside:
    def __init__(self, scenarios: list[Callable[..., object]], request) -> None:
        """``request`` finds the fixtures, here and now: parts are started by the main thread alone."""
        self._found: dict[Callable, Future] = {}
        self._calls = []
        for scenario in scenarios:
            names = inspect.signature(scenario).parameters
            values = {name: request.getfixturevalue(name) for name in names}
            self._found[scenario] = Future()
            self._calls.append((scenario, values))
        # Of no use once the tests have ended, however they did.
        thread = threading.Thread(target=self._run, name="beside", daemon=True)
        lasting_threads.add(thread)
        thread.start()

    def _run(self) -> None:
        for scenario, values in self._calls:
            try:
                self._found[scenario].set_result(scenario(**values))
            except BaseException as error:
                self._found[scenario].set_exception(error)
        # What was started here ends with this thread.
        threading.Event().wait()

    def result(self, scenario: Callable[..., object]):
        """What the scenario returned, once it has; or its failure."""
        return self._found[scenario].result(_SECONDS)
