"""A W&B that keeps runs in memory, as strict about steps as the real one."""

import types


class Run:
  def __init__(self, server: 'Server', id: str) -> None:
    self._server, self._id = server, id
    self._history = server.histories.setdefault(id, {})
    self.step = max(self._history, default=-1) + 1

  def log(self, row: dict, *, step: int, commit: bool) -> None:
    if self._server.down:
      raise ConnectionError('the server is down')
    assert commit
    if step < self.step:
      self._server.refused.append(step)
      return
    self._history[step] = dict(row)
    self.step = step + 1

  def finish(self) -> None:
    self._server.finished += 1


class Server:
  """What W&B knows: by run, its rows by step; steps that it refused."""

  def __init__(self) -> None:
    self.histories: dict[str, dict[int, dict]] = {}
    self.inits: list[dict] = []
    self.refused: list[int] = []
    self.finished = 0
    self.down = False

  def module(self) -> types.ModuleType:
    """What `import wandb` gives."""
    module = types.ModuleType('wandb')
    module.init = self._init
    return module

  def _init(self, **settings) -> Run:
    if self.down:
      raise ConnectionError('the server\nis down')
    self.inits.append(settings)
    return Run(self, settings['id'])
