"""A real browser for tests: headless Chromium driven over a pipe, without a driver or network.

    with open_page(path, width=390, dark=True) as page:
        page.evaluate("document.title"); page.screenshot(); page.pdf(); page.messages

Speaks the DevTools protocol on file descriptors 3 and 4 (JSON messages that end with a zero byte).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
    # A page that tries to reach anything gets an error, which shows among its messages.
    *("--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND"),
)


class Page:
    """One open page. messages: what its console, its log and its exceptions said, in order."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self.messages: list[str] = []
        self.requests: list[str] = []
        self._to, self._from = to_browser, os.fdopen(from_browser, "rb")
        self._count, self._session, self._rest = 0, "", b""
        self.events: list[str] = []

    def send(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a protocol method and return its result; events that arrive meanwhile are kept."""
        self._count += 1
        request = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            request["sessionId"] = self._session
        os.write(self._to, json.dumps(request).encode() + b"\0")
        while True:
            message = self._receive()
            if message.get("id") == self._count:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self._note(message)

    def wait_for(self, event: str) -> None:
        """Block until the browser has sent an event of this name."""
        while event not in self.events:
            self._note(self._receive())

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, run by the debugger (the page's own policy does not apply)."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def screenshot(self, *, whole: bool = True) -> bytes:
        """The page as PNG; whole: from top to bottom, not only the window."""
        return base64.b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def pdf(self) -> bytes:
        """The page printed on A4."""
        parameters = {"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True, "printBackground": False}
        return base64.b64decode(self.send("Page.printToPDF", **parameters)["data"])

    def press(self, key: str) -> None:
        """Press and release a key such as "Tab" or "Enter"."""
        codes = {"Tab": 9, "Enter": 13}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key],
                **(text if kind == "keyDown" else {}),
            )  # fmt: skip

    def close(self) -> None:
        """Ask the browser to end; it may be gone already."""
        with suppress(RuntimeError, OSError):
            self._session = ""
            self.send("Browser.close")

    def attach(self, url: str, *, width: int, height: int, dark: bool) -> None:
        """Open `url` in a new target of this size and colour scheme and wait until it has loaded."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        phone = width < 600
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.send("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired")

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            chunk = os.read(self._from.fileno(), 1 << 16)
            if not chunk:
                raise RuntimeError("the browser closed its pipe")
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)

    def _note(self, message: dict[str, Any]) -> None:
        method, parameters = message.get("method", ""), message.get("params", {})
        self.events.append(method)
        if method == "Log.entryAdded":
            self.messages.append(parameters["entry"]["text"])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.messages.append(json.dumps(parameters))
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])


@contextmanager
def open_page(path: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Page]:
    """A file opened in a fresh browser with an empty profile; the browser ends with the block."""
    assert BROWSER is not None, "no Chromium on this machine"
    to_browser, from_page = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:

        def wire() -> None:
            os.dup2(to_browser[0], 13)  # first out of the way: the pipes may themselves be 3 or 4
            os.dup2(from_page[1], 14)
            os.dup2(13, 3)
            os.dup2(14, 4)

        process = subprocess.Popen(
            [BROWSER, *FLAGS, f"--user-data-dir={profile}", "about:blank"], preexec_fn=wire, close_fds=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser[0])
        os.close(from_page[1])
        page = Page(to_browser[1], from_page[0])
        try:
            page.attach(path.resolve().as_uri(), width=width, height=height, dark=dark)
            yield page
        finally:
            page.close()
            try:
                process.wait(timeout=20)  # it writes its profile on the way out
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(to_browser[1])
            page._from.close()
