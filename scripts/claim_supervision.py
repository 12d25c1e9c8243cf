"""Claim: human labels are the best training data, clicks are noisy, and self-supervision needs neither.

The same network, loss (NT-Xent) and number of pairs; what differs is where the pairs come from:

    labels            two photographs that annotators gave one product; a share `noise` of their labels is wrong
    clicks            a query and what was clicked on its answer page: simulated users look at the top more than at the
                      bottom, and click a share `noise` of what is not similar; drawn as often as they were clicked
    clicks, debiased  the same, each divided by the chance that its position was looked at
    self-supervision  two views of one photograph: no noise, but no second photograph either. The views are stronger
                      (OWN_VIEWS) than those through which the two pictures of the others are seen

An answer page shows the other photographs of the product and the nearest by colour histogram, ordered by the latter:
what production puts on top is what looks alike in colour and background.
"""

import numpy as np
from claim_training import PHOTOGRAPHS, VIEWS, learn, make_shop
from claims import beats, mean_and_spread
from results import step_printer
from retrieval import rank

from refimpl.data import (
    attraction_of_grades,
    click_rates,
    debiased_click_rates,
    examination_by_position,
    grades,
    noisy_labels,
    positives_from_labels,
    sample_click_pairs,
    simulate_searches,
)
from refimpl.images import colour_histogram
from refimpl.losses import nt_xent

TITLE, XLABEL, YLABEL = "Where pairs come from", "noise", "mAP, held-out products"
NOISE = (0.0, 0.3, 0.6)
PAIRS, TEMPERATURE = 64, 0.1
PAGE, PAGES = 12, 5  # pictures on an answer page, pages with each query
OWN_VIEWS = {**VIEWS, "crop_area": (0.25, 1.0), "rotation": 20.0}  # of one photograph: all the variety there is
SOURCES = ("labels", "clicks", "clicks, debiased")
ALONE = "self-supervision"


def measured(options, stages):
    """{"noise": [...], "map": {source: [[by seed] for each noise]}}; self-supervision has one row."""
    shop = make_shop(options.items, options.seed)
    found = {source: [] for source in (*SOURCES, ALONE)}

    def quality(name, pairs, views, seed):
        def draw(rng):
            return pairs[rng.choice(len(pairs), min(PAIRS, len(pairs)), replace=False)].T

        with stages.stage(f"{name}, seed {seed}", "step") as progress:
            return learn(
                shop, draw, lambda z1, z2, rng: nt_xent(z1, z2, temperature=TEMPERATURE), steps=options.steps,
                seed=seed, about={**options.about(), "pairs": name, "temperature": TEMPERATURE}, views=views,
                progress=step_printer(progress),
                path=options.checkpoint(f"supervision-{name.replace(' ', '-')}-{seed}"),
            )  # fmt: skip

    same = np.repeat(shop.train[:, None], 2, axis=1)
    found[ALONE].append([quality(ALONE, same, OWN_VIEWS, seed) for seed in options.seeds])
    for noise in NOISE:
        by_source = {source: [] for source in SOURCES}
        for seed in options.seeds:
            pairs = {"labels": labelled_pairs(shop, noise, seed)}
            pairs |= clicked_pairs(shop, noise, seed)
            for source in SOURCES:
                by_source[source].append(quality(f"{source} {noise}", pairs[source], VIEWS, seed))
        for source in SOURCES:
            found[source].append(by_source[source])
    return {"noise": list(NOISE), "map": found}


def labelled_pairs(shop, noise, seed):
    """(m, 2) rows of the catalogue."""
    labels = noisy_labels(shop.catalogue.item[shop.train], noise, [seed, 0])
    return shop.train[positives_from_labels(labels, [seed, 1], per_query=PHOTOGRAPHS)]


def clicked_pairs(shop, noise, seed):
    """{source: (m, 2) rows of the catalogue}, from one log."""
    queries = np.repeat(np.arange(len(shop.train)), PAGES)
    pages = answer_pages(shop)[queries]
    graded = np.take_along_axis(grades(shop.catalogue, shop.train, shop.train)[queries], pages, axis=1)
    attraction = attraction_of_grades(graded, noise=noise, top=3)
    examination = examination_by_position(PAGE)
    log = simulate_searches(
        queries, pages, attraction, examination, tags=shop.catalogue.item[shop.train], seed=[seed, 2]
    )
    tables = {"clicks": click_rates(log), "clicks, debiased": debiased_click_rates(log, examination)}
    count = PHOTOGRAPHS * len(shop.train)
    return {source: shop.train[sample_click_pairs(table, count, [seed, 3])] for source, table in tables.items()}


def answer_pages(shop):
    """(n, PAGE) of the rows of shop.train: what production shows for each, best first."""
    ranked, _ = rank(colour_histogram(shop.catalogue.images[shop.train]), np.arange(len(shop.train)))
    item = shop.catalogue.item[shop.train]
    own = item[ranked] == item[:, None]
    # the other photographs and, before them or after, the nearest of the rest
    nearest = np.cumsum(~own, axis=1) <= PAGE - (PHOTOGRAPHS - 1)
    return ranked[own | nearest].reshape(len(ranked), -1)


def verdict(found):
    """Held if, without noise, labels beat clicks, the better of the two kinds, and clicks beat self-supervision; in
    part if one of these is so."""
    means = {source: mean_and_spread(rows)[0] for source, rows in found["map"].items()}
    first, last = ({source: rows[at] for source, rows in found["map"].items()} for at in (0, -1))
    clicks = max(("clicks", "clicks, debiased"), key=lambda source: means[source][0])
    halves = (("labels", clicks), (clicks, ALONE))
    held = sum(beats(first[better], first[worse]) for better, worse in halves)
    answer = ("Did not hold", "Held in part", "Held")[held]
    instead = [_instead(first, *half) for half in halves if not beats(*(first[source] for source in half))]
    worst = found["noise"][-1]
    sentences = {
        source: f"{means[source][0]:.3f} without noise and {means[source][-1]:.3f} at {worst:g}" for source in SOURCES
    }
    still = [source for source in SOURCES if beats(last[source], last[ALONE])]
    return (
        f"{answer}: mAP is {means[ALONE][0]:.3f} by self-supervision; by labels {sentences['labels']}; by clicks "
        f"{sentences['clicks']} (debiased {sentences['clicks, debiased']}). "
        f"{''.join(f'Without noise, {words}. ' for words in instead)}At noise {worst:g} "
        f"{', '.join(still) or 'none of them'} still does better than self-supervision."
    )


def _instead(rows, better, worse):
    """What was found in place of the one beating the other."""
    names = {**{source: source for source in rows}, "clicks, debiased": "debiased clicks"}
    if beats(rows[worse], rows[better]):
        return f"{names[worse]} did better than {names[better]}"
    return f"{names[better]} and {names[worse]} could not be told apart"


def draw(axes, found):
    for k, (source, rows) in enumerate(found["map"].items()):
        means, spread = mean_and_spread(rows)
        if source == ALONE:
            axes.axhline(means[0], color="k", ls=":", label=source)
        else:
            axes.errorbar(found["noise"], means, yerr=spread, marker="o", color=f"C{k}", label=source)
    axes.legend(fontsize="small")
