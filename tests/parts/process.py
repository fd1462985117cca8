"""One child process with a log, a bounded wait for readiness, and a certain end.

The child is killed by the kernel when the Python process dies in whatever way (``setpriv
--pdeathsig``), so a test run that is killed leaves nothing behind. The signal is tied to the
thread that started the child: start parts from threads only that last as long as the process.
"""

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from parts.run_dir import part_dir


# Those that may start parts.
lasting_threads = {threading.main_thread()}


class PartFailed(RuntimeError):
    """A part did not start, or died. The message holds the end of its log."""


def wait_until(ready: Callable[[], bool], seconds: float, what: str, every: float = 0.1) -> None:
    """Returns when ``ready()`` is true; raises TimeoutError naming ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(every)


class Part:
    """Base of all parts: subclasses give the command and say when it is ready."""

    name = "part"
    start_seconds = 60.0
    stop_signal = signal.SIGTERM
    user: str | None = None

    def __init__(self) -> None:
        self.dir = part_dir(self.name)
        self.data = self.dir / "data"
        self.log = self.dir / "log"
        self._process: subprocess.Popen | None = None
        self._watched_until = 0

    # What a subclass says about itself.

    def prepare(self) -> None:
        """Files and formats that must exist before the process starts."""

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return {}

    def is_ready(self) -> bool:
        raise NotImplementedError

    # What every part can do.

    def start(self):
        self.spawn()
        self.wait_ready()
        return self

    def spawn(self) -> None:
        """Starts the process without waiting, so that several parts can come up side by side."""
        if threading.current_thread() not in lasting_threads:
            raise RuntimeError("start parts from a lasting thread: the kernel ends them with it")
        if not self.data.exists():
            self.data.mkdir()
            self.own(self.data)
            try:
                self.prepare()
            except BaseException:
                # Half prepared data would be taken for whole at the next start.
                shutil.rmtree(self.data, ignore_errors=True)
                raise
        self._watched_until = self.log.stat().st_size if self.log.exists() else 0
        self._process = self.child(self.command(), self.environment())
        atexit.register(self.stop)

    def wait_ready(self) -> None:
        def ready() -> bool:
            self.check_alive()
            return self.is_ready()

        try:
            wait_until(ready, self.start_seconds, f"{self.name} ready")
        except TimeoutError as error:
            raise PartFailed(f"{error}\n{self.tail()}") from None

    def check_alive(self) -> None:
        if self._process is None:
            raise PartFailed(f"{self.name} is not started")
        code = self._process.poll()
        if code is not None:
            raise PartFailed(f"{self.name} ended with {code}\n{self.tail()}")

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def stop(self, keep_data: bool = False) -> None:
        """Ends the process, by force after a while. With ``keep_data`` it can be started again."""
        process, self._process = self._process, None
        if process is not None:
            atexit.unregister(self.stop)
            _end(process, self.stop_signal)
        if not keep_data:
            shutil.rmtree(self.data, ignore_errors=True)

    def kill(self) -> None:
        """As a crash would: no warning, data stays."""
        process, self._process = self._process, None
        if process is not None:
            atexit.unregister(self.stop)
            _end(process, signal.SIGKILL)

    def restart(self) -> None:
        self.stop(keep_data=True)
        self.start()

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_) -> None:
        self.stop()

    # Helpers for subclasses.

    def child(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen:
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                self.as_child(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.dir,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def as_child(self, command: Sequence[str]) -> list[str]:
        """The command under the part's own user, bound to the life of this process."""
        wrapper = ["setpriv", "--pdeathsig", "KILL"]
        if self.user and os.geteuid() == 0:
            group = str(pwd.getpwnam(self.user).pw_gid)
            wrapper += ["--reuid", self.user, "--regid", group, "--init-groups"]
        return [*wrapper, "--", *command]

    def own(self, path: Path) -> None:
        if self.user and os.geteuid() == 0:
            entry = pwd.getpwnam(self.user)
            os.chown(path, entry.pw_uid, entry.pw_gid)

    def run_once(self, command: Sequence[str], stdout_to_log: bool = True) -> None:
        """A preparing command that must succeed (formatting a data folder and the like)."""
        with open(self.log, "ab") as log:
            result = subprocess.run(
                self.as_child(command),
                stdin=subprocess.DEVNULL,
                stdout=log if stdout_to_log else subprocess.DEVNULL,
                stderr=log,
                cwd=self.dir,
                timeout=120,
            )
        if result.returncode != 0:
            raise PartFailed(
                f"{self.name}: {command[0]} ended with {result.returncode}\n{self.tail()}"
            )

    def log_since_spawn(self) -> str:
        with open(self.log, "rb") as log:
            log.seek(self._watched_until)
            return log.read().decode(errors="replace")

    def tail(self, lines: int = 30) -> str:
        if not self.log.exists():
            return f"(no log at {self.log})"
        last = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([f"--- end of {self.log}", *last, "---"])


def _end(process: subprocess.Popen, stop_signal: signal.Signals) -> None:
    for chosen, patience in ((stop_signal, 15), (signal.SIGKILL, 15)):
        if process.poll() is not None:
            break
        process.send_signal(chosen)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    # What the process itself left behind in its group.
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
