"""The check that all encoders share: gradients against central differences."""

import numpy as np

from refimpl.nn.gradient_check import relative_error


def assert_gradients(encoder, params, state, x, training, pullback, rng):
    """Every parameter's gradient of <dy, embeddings>, for a random dy, against a difference in a random direction."""

    def embeddings(changed):
        return encoder(params | changed, state, x, training=training)[0]

    dy = rng.standard_normal(embeddings({}).shape)
    gradients = pullback(dy)
    assert list(gradients) == list(params)
    for name, gradient in gradients.items():
        step = 1e-6 * rng.standard_normal(gradient.shape)
        above, below = (np.vdot(dy, embeddings({name: params[name] + way * step})) for way in (1, -1))
        assert relative_error(np.vdot(gradient, step), (above - below) / 2) < 1e-5, name
