"""The page that quickstart.py writes: what was searched, how well, and what the encoder has learned."""

import html

import numpy as np
from PIL import Image, ImageDraw
from report_page import (
    Sheet,
    embedding_map,
    loss_curve,
    measure_table,
    method_switch,
    picture_card,
    section,
    time_bars,
    write_page,
)
from retrieval import rank
from tsne import tsne

from refimpl.files import atomic_write

COMPARED = ("trained encoder", "random encoder", "colour histogram", "raw pixels")
EXAMPLES, EXTREMES, ON_MAP, NEIGHBOURS = 10, 4, 360, 8
BEST = "trained encoder"


def write_report(path, outcome, seconds, about):
    """Write report.html from what quickstart.run returns, the stages' seconds, and the environment of the run."""
    collection, settings, training, embeddings, queries, results, metrics = outcome
    sheet = Sheet(cell=settings.stored)
    rng = np.random.default_rng(about["seed"])
    others = f"{len(collection.train):,} others"
    source = (
        f"random views of {others}, without labels,"
        if collection.groups is None
        else f"pairs of pictures of one product among {others},"
    )
    figures, gain = metrics[BEST], metrics[BEST]["map"] / metrics["raw pixels"]["map"]
    header = (
        "<h1>Visual search, learned from scratch</h1>"
        f"<p>{len(collection.test):,} pictures of {html.escape(collection.title)}, "
        f"ranked by an encoder that learned from {source} in "
        f"{training.seconds:.0f} seconds. Convolutions, gradients, training, search and measures: NumPy and Numba.</p>"
        "<div class=facts>"
        f"<div><b>{figures['map']:.2f}</b><span>mAP, {gain:.1f} times raw pixels</span></div>"
        f"<div><b>{figures['ndcg@10']:.2f}</b><span>nDCG@10</span></div>"
        f"<div><b>{figures['mrr']:.2f}</b><span>mean reciprocal rank</span></div>"
        f"<div><b>{len(training.losses):,}</b><span>training steps</span></div>"
        f"<div><b>{sum(seconds.values()):.0f} s</b><span>all together</span></div></div>"
    )
    order = np.argsort(-results[BEST][2]["ndcg@10"], kind="stable")
    order = order[np.isfinite(results[BEST][2]["ndcg@10"][order])]
    shown = np.sort(rng.permutation(len(queries))[:EXAMPLES])
    sections = [
        section(
            "How well",
            f"Means over {len(queries):,} queries, each ranked against all other pictures. A hit is "
            f"“{collection.grade_names[collection.relevant]}”; nDCG weighs the grades 0 to {collection.top_grade} "
            "by 2<sup>grade</sup> − 1.",
            measure_table(metrics, BEST),
        ),
        section(
            "Queries and what was found",
            "Drawn at random. The number is the cosine similarity, the dots are the grade.",
            _legend(collection),
            method_switch(COMPARED),
            *(_result_row(sheet, collection, queries, results, q, COMPARED) for q in shown),
        ),
        section(
            "Best and worst",
            "By nDCG@10 of the trained encoder. The failures say more than the successes.",
            _legend(collection),
            "<h3>Best</h3>",
            *(
                _result_row(sheet, collection, queries, results, q, (BEST,))
                for q in _extremes(order, queries, collection)
            ),
            "<h3>Worst</h3>",
            *(
                _result_row(sheet, collection, queries, results, q, (BEST,))
                for q in _extremes(order[::-1], queries, collection)
            ),
        ),
        section(
            "A map of the embeddings",
            "t-SNE of the embeddings: pictures that the encoder finds similar lie together. Choose one to search with.",
            _map(sheet, collection, embeddings, rng),
        ),
        section(
            "Learning",
            "The loss is the cross-entropy of finding the other view of the same thing among all views in the batch. "
            "Guessing, or a collapsed encoder, stays at the dashed line.",
            loss_curve(training.losses, *_chance(collection, settings)),
        ),
        section("Time", "Seconds a stage, compilation included.", time_bars(seconds)),
    ]
    versions = ", ".join(f"{name} {value}" for name, value in about["environment"].items() if name != "cores")
    footer = (
        f"<code>{html.escape(about['command'])}</code><br>seed {about['seed']}, {about['environment']['cores']} cores, "
        f"{html.escape(versions)}"
    )
    write_page(path, f"Visual search: {collection.title}", header, sections, sheet, footer)


def draw_results(path, outcome, rows=6):
    """A PNG of some queries (left) and what the trained encoder found, framed in the colour of the grade."""
    rows = min(rows, len(outcome.queries))
    collection, cell, gap = outcome.collection, outcome.settings.stored, 8
    colours = ("#c9ccd3", "#d9a404", "#3b8fd4", "#15935c")[: collection.top_grade + 1]
    ids = outcome.results[BEST][0]
    step = len(outcome.queries) // rows
    sheet = Image.new("RGB", ((ids.shape[1] + 1) * (cell + gap) + 3 * gap, rows * (cell + gap) + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for row, q in enumerate(range(step // 2, step * rows, step)):
        grades = collection.grades(outcome.queries[q : q + 1])[0]
        y = gap + row * (cell + gap)
        sheet.paste(Image.fromarray(collection.test[outcome.queries[q]]), (gap, y))
        for column, i in enumerate(ids[q].tolist(), 1):
            x = 3 * gap + column * (cell + gap)
            draw.rectangle((x - 3, y - 3, x + cell + 2, y + cell + 2), fill=colours[grades[i]])
            sheet.paste(Image.fromarray(collection.test[i]), (x, y))
    with atomic_write(path) as file:
        sheet.save(file, "PNG", optimize=True)


def _extremes(order, queries, collection):
    """The first queries in this order, one a label: four views of one product would say one thing four times."""
    first = {}
    for q in order:
        first.setdefault(collection.labels[queries[q]], q)
    return list(first.values())[:EXTREMES]


def _chance(collection, settings):
    """The loss of guessing among the other 2n - 1 views of a batch, and its label."""
    things = len(collection.train) if collection.groups is None else len(np.unique(collection.groups))
    among = 2 * min(settings.batch, things) - 1
    return np.log(among), f"guessing: ln {among}"


def _legend(collection):
    levels = range(1, 4) if collection.top_grade > 1 else (3,)
    names = collection.grade_names[1:]
    marks = "".join(
        f'<span><i style="background:var(--g{level})"></i>{html.escape(name)}</span>'
        for level, name in reversed(list(zip(levels, names)))
    )
    none = f'<span><i style="background:var(--g0)"></i>{html.escape(collection.grade_names[0])}</span>'
    return f"<div class=legend>{marks}{none}</div>"


def _result_row(sheet, collection, queries, results, q, methods):
    """A query beside its results, one strip a method; the first is visible."""
    query = int(queries[q])
    sheet.add(query, collection.test[query])
    grades = collection.grades(queries[q : q + 1])[0]
    strips, values = [], []
    for m, method in enumerate(methods):
        ids, scores, _ = results[method]
        cards = []
        for i, score in zip(ids[q].tolist(), scores[q]):
            sheet.add(i, collection.test[i])
            label = f"{collection.labels[i]}: {collection.grade_names[grades[i]]}"
            cards.append(
                picture_card(
                    sheet, i, f"{score:.2f}", label=label, grade=int(grades[i]), top_grade=collection.top_grade
                )
            )
        switch = f' data-method="{m}"{" hidden" if m else ""}' if len(methods) > 1 else ""
        strips.append(f'<div class="strip"{switch}>{"".join(cards)}</div>')
        values.append(f"<div{switch}>nDCG@10 {results[method][2]['ndcg@10'][q]:.2f}</div>")
    name = html.escape(collection.labels[query])
    return (
        f'<div class=row><figure class="query card">{sheet.figure(query, collection.labels[query])}'
        f"<figcaption>{name}{''.join(values)}</figcaption></figure><div>{''.join(strips)}</div></div>"
    )


def _map(sheet, collection, embeddings, rng):
    rows = np.sort(rng.permutation(len(embeddings))[:ON_MAP])
    positions = tsne(embeddings[rows])
    ids, scores = rank(embeddings, rows)
    for i in {*rows.tolist(), *ids[:, :NEIGHBOURS].ravel().tolist()}:
        sheet.add(i, collection.test[i])
    neighbours = [
        [(i, f"{collection.labels[i]}, {score:.2f}") for i, score in zip(found.tolist(), similar)]
        for found, similar in zip(ids[:, :NEIGHBOURS], scores[:, :NEIGHBOURS])
    ]
    return embedding_map(sheet, rows.tolist(), [collection.labels[i] for i in rows], positions, neighbours)
