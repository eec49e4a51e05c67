"""The configuration of a surrogate model: its kind, sizes and training."""

import dataclasses

from mbmpo_jax import config


@dataclasses.dataclass(unsafe_hash=True)
class Surrogate:
  """A model that infers its task from a context, and its training.

  Sizes are those of Wang & van Hoof (2022, table 4) for the cart-pole; the
  other environments have `decoder_sizes` (400,) * 5. `docs/gssm.md` lists our
  choices where the paper gives none.

  Attributes:
    kind: `graph` (GSSM), `mean` (MLSM-v0, a neural process), `attentive`
      (MLSM-v1, an attentive neural process) or `dropout` (M-DPILCO, which has
      no context).
    encoder_sizes: units of the layers that encode a context point (x, y); in
      the paper n layers of dim_latxy.
    feature_size: size of the features t(x) whose cosine is the similarity, and
      of queries and keys of the attentive model; dim_latx in the paper.
    latent_size: size of z; dim_lat in the paper.
    decoder_sizes: hidden units of the decoder, m layers of dim_h in the paper;
      of the whole network if there is no encoder.
    beta: sharpness of the similarities' softmax; 0 weights all points equally.
    dropout_rate: probability with which `dropout` drops a hidden unit.
    min_latent_std: floor of the deviations of z, which are below 1.
    min_std: floor of the predicted deviations of y, in the units of y that the
      network uses.
    target: whether y is the change (`delta`) or the `next` observation.
    standardize: whether x and y are standardised by moments of the data.
    sample_output: whether a prediction is sampled from p(y | x, z). Otherwise
      it is the mean, and only z is random.
    clip_margin: predictions are clipped to the range of the data, widened by
      this multiple of the range; `None` leaves only a wide finite bound.
    num_particles: samples of z per target in the loss; K of equation 10.
    context_size: greatest number of context points.
    min_context: least number of context points in training; the number is
      uniform between the two.
    target_size: greatest number of targets per task and gradient step.
    kl_weight: of the KL divergence in the loss; 1 is the evidence lower bound.
    learning_rate: Adam's step size.
    weight_decay: of AdamW; the equivalent of M-DPILCO's prior on the weights.
    gradient_steps: per fit.
    precision: of the model's matrix products.
  """

  kind: str = config.setting(
    'graph', choices=('graph', 'mean', 'attentive', 'dropout')
  )
  encoder_sizes: tuple[int, ...] = config.setting(
    (32, 32), low=1, high=2**16, tiny=4
  )
  feature_size: int = config.setting(32, low=1, high=2**16, tiny=4)
  latent_size: int = config.setting(16, low=1, high=2**16, tiny=2)
  decoder_sizes: tuple[int, ...] = config.setting(
    (200, 200), low=1, high=2**16, tiny=8
  )
  beta: float = config.setting(1.0, low=0, high=1e4)
  dropout_rate: float = config.setting(0.05, low=0, below=1)
  min_latent_std: float = config.setting(0.1, above=0, below=1)
  min_std: float = config.setting(0.01, above=0, high=1e3)
  target: str = config.setting('delta', choices=('delta', 'next'))
  standardize: bool = True
  sample_output: bool = False
  clip_margin: float | None = config.setting(1.0, low=0, high=1e6)
  num_particles: int = config.setting(1, low=1, high=10_000, tiny=2)
  context_size: int = config.setting(50, low=1, high=10**5, tiny=5)
  min_context: int = config.setting(1, low=0, high=10**5)
  target_size: int = config.setting(100, low=1, high=10**6, tiny=8)
  kl_weight: float = config.setting(1.0, low=0, high=1e6, sweep=True)
  learning_rate: float = config.setting(5e-4, above=0, high=1, sweep=True)
  weight_decay: float = config.setting(0.0, low=0, high=1e3, sweep=True)
  gradient_steps: int = config.setting(500, low=1, high=10**6, tiny=2)
  precision: str = config.setting(
    'highest', choices=('highest', 'tensorfloat32', 'bfloat16')
  )

  def check(self, name: str = 'model') -> None:
    """Raises `ConfigError` for inconsistent context or encoder sizes.

    Args:
      name: of this section in the configuration.
    """
    if not self.encoder_sizes and self.kind != 'dropout':
      raise config.ConfigError(
        f'{name}.encoder_sizes=(): must have at least one layer'
      )
    if not self.decoder_sizes and self.kind == 'dropout':
      raise config.ConfigError(
        f'{name}.decoder_sizes=(): must have at least one layer with'
        f" {name}.kind='dropout', which drops hidden units"
      )
    if self.min_context > self.context_size:
      raise config.ConfigError(
        f'{name}.min_context={self.min_context}: must be <='
        f' {self.context_size}, {name}.context_size'
      )
