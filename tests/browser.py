"""A headless browser without a network, driven by the DevTools protocol."""

import base64
import contextlib
import io
import itertools
import json
import pathlib
import shutil
import subprocess
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image
from websockets.sync import client

_NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
_FLAGS = (
  '--headless',
  '--no-sandbox',  # which refuses to run as root
  '--host-resolver-rules=MAP * ~NOTFOUND',  # no name leads anywhere
  '--remote-debugging-port=0',
  '--window-size=900,600',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-dev-shm-usage',
  '--disable-quic',
  '--disable-sync',
  '--no-first-run',
)
SOFTWARE_GL = ('--use-angle=swiftshader', '--enable-unsafe-swiftshader')
NO_GL = ('--disable-3d-apis',)
_PATIENCE_S = 60.0


class Browser:
  """One tab.

  Attributes:
    problems: what pages complained of: errors, warnings, exceptions.
    requests: the addresses that pages asked for.
  """

  def __init__(self, profile: pathlib.Path, *flags: str) -> None:
    """Starts it; skips the test where there is none."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
      pytest.skip(f'needs a browser: none of {", ".join(_NAMES)} is installed')
    self.problems: list[str] = []
    self.requests: list[str] = []
    self._ids = itertools.count()
    self._events: list[str] = []
    self._session: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
      self._process = stack.enter_context(
        subprocess.Popen(
          [program, *_FLAGS, *flags, f'--user-data-dir={profile}'],
          stdout=subprocess.DEVNULL,
          stderr=subprocess.DEVNULL,
        )
      )
      stack.callback(self._process.terminate)
      port, path = self._address(profile / 'DevToolsActivePort')
      self._socket = stack.enter_context(
        client.connect(
          f'ws://127.0.0.1:{port}{path}', proxy=None, max_size=None
        )
      )
      self._attach()
      self._stack = stack.pop_all()

  def close(self) -> None:
    """Ends it."""
    self._stack.close()

  def open(self, path: pathlib.Path) -> None:
    """Opens a file and waits until all of it has run."""
    self._events.clear()
    self.call('Page.navigate', url=path.as_uri())
    while 'Page.loadEventFired' not in self._events:
      self._receive()

  def run(self, script: str) -> Any:
    """The value of a JavaScript expression; a promise is awaited."""
    answer = self.call(
      'Runtime.evaluate',
      expression=script,
      awaitPromise=True,
      returnByValue=True,
    )
    assert 'exceptionDetails' not in answer, answer['exceptionDetails']
    return answer['result'].get('value')

  def wait_for_frame(self) -> None:
    """Until what is due now has been drawn."""
    self.run(
      'new Promise((done) =>'
      ' requestAnimationFrame(() => requestAnimationFrame(() => done(0))))'
    )

  def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Moves the mouse with its button held; a click where the two agree."""
    places = {'mousePressed': start, 'mouseMoved': end, 'mouseReleased': end}
    for event, (x, y) in places.items():
      self.call(
        'Input.dispatchMouseEvent',
        type=event,
        x=x,
        y=y,
        button='left',
        buttons=int(event != 'mouseReleased'),
        clickCount=1,
      )
    self.wait_for_frame()

  def picture(self) -> np.ndarray:
    """What is to be seen, float [height, width, 3]."""
    png = base64.b64decode(self.call('Page.captureScreenshot')['data'])
    return np.asarray(Image.open(io.BytesIO(png)).convert('RGB'), float)

  def call(self, method: str, **params: Any) -> dict[str, Any]:
    """Sends a command and waits for its answer."""
    own = next(self._ids)
    message = {'id': own, 'method': method, 'params': params, **self._session}
    self._socket.send(json.dumps(message))
    while True:
      answer = self._receive()
      if answer.get('id') == own:
        assert 'error' not in answer, (method, answer['error'])
        return answer['result']

  def _address(self, file: pathlib.Path) -> tuple[str, str]:
    """Port and path; the browser writes them once it listens."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and self._process.poll() is None:
      lines = file.read_text().split() if file.exists() else []
      if len(lines) == 2:
        return lines[0], lines[1]
      time.sleep(0.05)
    raise RuntimeError(f'the browser did not start: {self._process.args}')

  def _attach(self) -> None:
    target = self.call('Target.createTarget', url='about:blank')
    session = self.call('Target.attachToTarget', flatten=True, **target)
    self._session = session
    for domain in ('Page', 'Runtime', 'Log', 'Network'):
      self.call(f'{domain}.enable')
    self.call(
      'Network.emulateNetworkConditions',
      offline=True,
      latency=0,
      downloadThroughput=-1,
      uploadThroughput=-1,
    )

  def _receive(self) -> dict[str, Any]:
    message = json.loads(self._socket.recv(timeout=_PATIENCE_S))
    method, params = message.get('method'), message.get('params', {})
    if method:
      self._events.append(method)
    if method == 'Network.requestWillBeSent':
      self.requests.append(params['request']['url'])
    elif method == 'Runtime.exceptionThrown':
      self.problems.append(json.dumps(params['exceptionDetails']))
    elif method == 'Runtime.consoleAPICalled':
      self.problems.append(f'{params["type"]}: {json.dumps(params["args"])}')
    elif method == 'Log.entryAdded':
      self.problems.append(json.dumps(params['entry']))
    return message
