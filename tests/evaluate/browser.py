"""A headless Chromium that tests talk to through pipes, by the Chrome DevTools Protocol."""

from __future__ import annotations

import base64
import glob
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")
# the browser reads from 3 and writes to 4
_START = (
    "import os, sys; a, b = map(int, sys.argv[1:3]); os.dup2(a, 3); os.dup2(b, 4); os.execv(sys.argv[3], sys.argv[3:])"
)


def find_browser() -> str | None:
    """Return Debian's Chromium, Chrome, or the browser that playwright downloaded."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    folder = os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or os.path.expanduser("~/.cache/ms-playwright")
    downloaded = sorted(glob.glob(f"{glob.escape(folder)}/chromium*/chrome*/*"))
    return found or next((path for path in downloaded[::-1] if Path(path).name in ("chrome", "headless_shell")), None)


class Browser:
    """One tab; ``events`` are what the browser reported since the last page was opened."""

    def __init__(self, reading: IO[bytes], writing: IO[bytes]) -> None:
        self._reading, self._writing = reading, writing
        self._number, self._session, self._rest = 0, "", b""
        self.events: list[dict[str, Any]] = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        self._writing.write(json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._reading.fileno(), 1 << 16)
            assert part, "the browser has ended"
            self._rest += part
        text, self._rest = self._rest.split(b"\0", 1)
        return json.loads(text)

    def open(self, path: Path, *, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """Open a page in a window of this size and colour scheme, and wait until it is loaded."""
        self.look(width, height, dark)
        self.events.clear()
        self("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def look(self, width: int, height: int = 800, dark: bool = False) -> None:
        """Change the size of the window and the colour scheme."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])

    def run(self, script: str) -> Any:
        """Return the value of an expression."""
        answer = self("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key, such as Tab, Enter or Escape."""
        code = {"Tab": 9, "Enter": 13, "Escape": 27}[key]
        pressed = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        text = {"text": "\r"} if key == "Enter" else {}
        self("Input.dispatchKeyEvent", type="keyDown", **pressed, **text)
        self("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write a screenshot."""
        data = self("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings on the console, and requests for anything but the page itself."""
        found = []
        for event in self.events:
            params = event["params"]
            if event["method"] == "Log.entryAdded":
                found.append(params["entry"]["text"])
            elif event["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                found.append(json.dumps(params))
            elif event["method"] == "Network.requestWillBeSent" and params.get("type") != "Document":
                url = params["request"]["url"]
                found += [] if url.startswith("data:") else [f"request for {url}"]
        return found


@contextmanager
def start_browser(path: str, folder: Path) -> Iterator[Browser]:
    """Start a browser whose profile is a folder, and end it."""
    (commands, writing), (reading, answers) = os.pipe(), os.pipe()
    start = [sys.executable, "-c", _START, str(commands), str(answers), path]
    options = [*_OPTIONS, "--remote-debugging-pipe", f"--user-data-dir={folder}"]
    process = subprocess.Popen([*start, *options], pass_fds=(commands, answers), stderr=subprocess.DEVNULL)
    os.close(commands)
    os.close(answers)
    try:
        with os.fdopen(reading, "rb") as answered, os.fdopen(writing, "wb", buffering=0) as asked:
            yield Browser(answered, asked)
        process.wait(20)  # it ends with the pipes
    finally:
        process.kill()
        process.wait()
