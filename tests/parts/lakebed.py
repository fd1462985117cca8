"""The program under test as a process: started with a configuration, killed, asked for its end."""

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import yaml

from parts.kafka import Kafka
from parts.rest_catalog import RestCatalog
from parts.run_dir import part_dir
from parts.s3 import S3

# What the configurations made by the parts refer to.
_SECRETS = {
    "KAFKA_USER": Kafka.username,
    "KAFKA_PASSWORD": Kafka.password,
    "S3_ACCESS_KEY": S3.access_key,
    "S3_SECRET_KEY": S3.secret_key,
    "CATALOG_SECRET": RestCatalog.client_secret,
}


def find_binary() -> Path:
    """``LAKEBED_BIN``, else the debug build of this clone."""
    given = os.environ.get("LAKEBED_BIN")
    repository = Path(__file__).parents[2]
    target = Path(os.environ.get("CARGO_TARGET_DIR", repository / "target"))
    binary = Path(given) if given else target / "debug" / "lakebed"
    if not binary.is_file():
        raise FileNotFoundError(f"no lakebed at {binary}: build it, or set LAKEBED_BIN")
    return binary.absolute()


@dataclass
class Running:
    """One started process; its output goes to files, so it can never block on a full pipe."""

    process: subprocess.Popen
    config: Path
    stdout_file: Path
    stderr_file: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: ended by that signal."""
        return self.process.poll()

    @property
    def stdout(self) -> str:
        return self.stdout_file.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self.stderr_file.read_text(errors="replace")

    def wait(self, seconds: float = 60) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"lakebed still runs after {seconds:g} s\n{self.tail()}") from None

    def expect(self, code: int = 0, seconds: float = 60) -> None:
        """Waits for the end and insists on the exit code."""
        actual = self.wait(seconds)
        assert actual == code, f"lakebed ended with {actual}, not {code}\n{self.tail()}"

    def wait_for_output(self, text: str, seconds: float = 60) -> None:
        """Until ``text`` stands in stdout or stderr; fails at once when the process has ended."""
        deadline = time.monotonic() + seconds
        while text not in self.stderr and text not in self.stdout:
            ended = self.exit_code is not None
            if ended and text not in self.stderr and text not in self.stdout:
                raise AssertionError(
                    f"lakebed ended with {self.exit_code}, no {text!r}\n{self.tail()}"
                )
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {text!r} in {seconds:g} s\n{self.tail()}")
            time.sleep(0.05)

    def kill9(self) -> None:
        """As a crash of the machine would, without a word; returns when it is gone."""
        self.process.kill()
        self.process.wait(30)

    def sigterm(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def tail(self, lines: int = 40) -> str:
        parts = []
        for path in (self.stdout_file, self.stderr_file):
            last = path.read_text(errors="replace").splitlines()[-lines:]
            parts += [f"--- end of {path}", *last]
        return "\n".join([*parts, "---"])


class Lakebed:
    """Starts the binary. Each process is killed by ``close()``, or with this process."""

    # Every lake that a process of this run has written to, by its text: the last configuration and
    # what was in its environment.
    lakes: ClassVar[dict[str, tuple[dict, dict[str, str] | None]]] = {}

    def __init__(self, binary: Path | None = None) -> None:
        self.binary = binary or find_binary()
        self._started: list[Running] = []

    def start(
        self,
        config: dict,
        *args: str,
        env: dict[str, str] | None = None,
        config_file: Path | None = None,
    ) -> Running:
        """``start(config, "run", "--until-caught-up")``: writes the configuration and starts.

        ``--config FILE`` is added after the subcommand. With ``config_file`` the configuration
        goes there, which lets a restarted process find it under the same name.
        """
        folder = part_dir("lakebed")
        self._note(config, args, env)
        file = self.write_config(config, config_file or folder / "lakebed.yaml")
        stdout_file, stderr_file = folder / "stdout", folder / "stderr"
        with open(stdout_file, "wb") as stdout, open(stderr_file, "wb") as stderr:
            process = subprocess.Popen(
                [*_WITH_PARENT, *self._command(args, file)],
                stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                env=self._environment(env), start_new_session=True,
            )  # fmt: skip
        running = Running(process, file, stdout_file, stderr_file)
        self._started.append(running)
        return running

    def run(
        self,
        args: list[str],
        config: dict | None = None,
        seconds: float = 120,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess:
        """Runs to the end; output is text. ``args`` are passed as they are, unless a configuration
        is given: then it is written to a file and named by ``--config`` after the subcommand."""
        command = [str(self.binary), *args]
        if config is not None:
            file = self.write_config(config, part_dir("lakebed") / "lakebed.yaml")
            command = self._command(args, file)
        ran = subprocess.run(
            [*_WITH_PARENT, *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=seconds, env=self._environment(env),
        )  # fmt: skip
        if config is not None and ran.returncode == 0:
            self._note(config, args, env)
        return ran

    def _note(self, config: dict, args, env: dict[str, str] | None) -> None:
        if "lake" in config and (not args or args[0] == "run"):
            self.remember(config, env)

    def remember(self, config: dict, env: dict[str, str] | None = None) -> None:
        """As a lake that whoever looks at all of them finds by this configuration."""
        self.lakes[json.dumps(config.get("lake"), sort_keys=True)] = (config, env)

    @staticmethod
    def write_config(config: dict, file: Path) -> Path:
        file.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        return file

    def close(self) -> None:
        for running in self._started:
            if running.exit_code is None:
                running.kill9()
        self._started.clear()

    def _command(self, args, file: Path) -> list[str]:
        subcommand, *rest = args or ("run",)
        return [str(self.binary), subcommand, "--config", str(file), *rest]

    @staticmethod
    def _environment(extra: dict[str, str] | None) -> dict[str, str]:
        return {**os.environ, **_SECRETS, **(extra or {})}


_WITH_PARENT = ["setpriv", "--pdeathsig", "KILL", "--"]
