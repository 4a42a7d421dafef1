"""A headless Chromium, driven by the DevTools protocol through a pipe: no driver and no network port is needed.

Only what the tests of a page ask for. https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
_FIRST_FREE: Final = 10
"""Chromium reads from descriptor 3 and writes to 4: the ends of our pipes must be others."""


def find_browser() -> str | None:
    """Return the path of a Chromium on this machine, if there is one."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


needs_browser: Final = pytest.mark.skipif(find_browser() is None, reason="there is no Chromium on this machine")
"""Marks tests that a machine without a browser skips."""


class BrowserError(Exception):
    """The browser refused a command, or ended."""


class Browser:
    """A page in a headless Chromium."""

    def __init__(self, reads: int, writes: int) -> None:
        self._reads, self._writes = reads, writes
        self._buffer = b""
        self._last = 0
        self._session: str | None = None
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.command("Page.enable")

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the protocol and return its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._writes, content) :]
        while (answer := self._next()).get("id") != self._last:
            pass
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, page: Path | str, width: int, height: int, *, dark: bool = False) -> None:
        """Load a page and wait until it is loaded.

        Args:
            page: a file, or an address.
            width: of the window, in CSS pixels.
            height: likewise.
            dark: whether the reader prefers dark pages.
        """
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])
        self.command("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def value_of(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript in the page; promises are waited for."""
        found = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise BrowserError(f"{expression}: {found['exceptionDetails']['text']}")
        return found["result"].get("value")

    def faint_words(self) -> list[str]:
        """Return the beginnings of elements whose words do not stand out from what is behind them.

        WCAG 2.2, success criterion 1.4.3: a contrast of 4.5 or more.
        """
        found: list[str] = self.value_of(_FAINT)
        return found

    def press_tab(self) -> None:
        """Press the Tab key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)

    def picture(self, *, whole: bool = False) -> bytes:
        """Return what is shown as PNG: the window, or the whole page."""
        found = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(found["data"])

    def printed(self) -> bytes:
        """Return the page as it is printed on A4, as PDF."""
        found = self.command("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=False)
        return base64.b64decode(found["data"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            received = os.read(self._reads, 1 << 20)
            if not received:
                raise BrowserError("The browser ended")
            self._buffer += received
        content, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(content)
        return message


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a Chromium, and end it with all its processes.

    Raises:
        FileNotFoundError: there is none on this machine.
    """
    program = find_browser()
    if program is None:
        raise FileNotFoundError(f"None of {', '.join(PROGRAMS)} is installed")
    ends = [_moved(end) for pipe in (os.pipe(), os.pipe()) for end in pipe]
    its_input, our_output, our_input, its_output = ends
    with tempfile.TemporaryDirectory(prefix="irp-browser-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                "/bin/sh", "-c", f'exec "$@" 3</dev/fd/{its_input} 4>/dev/fd/{its_output}', "sh",
                program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-background-networking", f"--user-data-dir={profile}", "--remote-debugging-pipe",
            ],
            pass_fds=(its_input, its_output), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(its_input)
        os.close(its_output)
        try:
            yield Browser(our_input, our_output)
        finally:
            os.close(our_output)
            os.close(our_input)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _moved(descriptor: int) -> int:
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
    os.close(descriptor)
    return moved


_FAINT = """(() => {
    const parts = colour => colour.match(/[\\d.]+/g).map(Number);
    const isSeen = colour => parts(colour).length < 4 || parts(colour)[3] > 0;
    const behind = element => {
        while (element && !isSeen(getComputedStyle(element).backgroundColor)) element = element.parentElement;
        return element ? getComputedStyle(element).backgroundColor : "rgb(255, 255, 255)";
    };
    const luminance = colour => parts(colour).slice(0, 3).map(value => value / 255)
        .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, place) => sum + value * [0.2126, 0.7152, 0.0722][place], 0);
    const contrast = (one, other) => {
        const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    };
    return [...document.querySelectorAll("main *")]
        .filter(each => !each.closest("svg") && each.checkVisibility())
        .filter(each => [...each.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.textContent.trim()))
        .filter(each => contrast(getComputedStyle(each).color, behind(each)) < 4.5)
        .map(each => each.outerHTML.slice(0, 100));
})()"""
