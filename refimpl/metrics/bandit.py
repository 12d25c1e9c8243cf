"""A bandit: try several rankers, and send more and more of the queries to the one that seems best.

An A/B test gives the worse ranker half of the users to the end. Thompson sampling keeps for each arm a Beta
distribution of what its success rate may be, draws one rate from each, and plays the arm with the highest draw: as
often as it is the best, as far as is known. Regret grows with the logarithm of the number of plays.

    prior Beta(1, 1);  after s successes and f failures Beta(1 + s, 1 + f)

Source: Thompson, On the likelihood that one unknown probability exceeds another, Biometrika 1933; Agrawal and Goyal,
Analysis of Thompson sampling for the multi-armed bandit problem, COLT 2012.
"""

import numpy as np

from ..validation import check_array, check_integer


class ThompsonSampling:
    """Thompson sampling for arms that succeed or fail. `successes` and `failures` (n_arms,) are all that it knows."""

    def __init__(self, n_arms, seed=0):
        n_arms = check_integer(n_arms, "n_arms", minimum=1)
        self.successes = np.zeros(n_arms, dtype=np.int64)
        self.failures = np.zeros(n_arms, dtype=np.int64)
        self._rng = np.random.default_rng(seed)
        self._look_rng = self._rng.spawn(1)[0]  # of its own: to look at the chances changes nothing that is played

    def choose(self):
        """The arm to play next."""
        return int(self._rng.beta(1 + self.successes, 1 + self.failures).argmax())

    def update(self, arm, success):
        """What came of playing `arm`."""
        arm = check_integer(arm, "arm", minimum=0, maximum=len(self.successes) - 1)
        counts = self.successes if check_array(success, "success", ndim=0, dtypes=(bool,)) else self.failures
        counts[arm] += 1

    def chance_best(self, draws=10000):
        """(n_arms,): how likely each arm is to be the best, from so many joint draws."""
        draws = check_integer(draws, "draws", minimum=1)
        rates = self._look_rng.beta(1 + self.successes, 1 + self.failures, (draws, len(self.successes)))
        return np.bincount(rates.argmax(axis=1), minlength=len(self.successes)) / draws
