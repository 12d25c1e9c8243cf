"""The losses as their papers print them: loops over anchors, float64, no shared code."""

from math import exp, log, sqrt


def cross_entropy(logits, labels):
    return -sum(row[y] - log_sum_exp(row) for row, y in zip(logits, labels)) / len(labels)


def log_sum_exp(values):
    top = max(values)
    return top + log(sum(exp(v - top) for v in values))


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def unit(a):
    return [x / sqrt(dot(a, a)) for x in a]


def distance(a, b):
    return sqrt(sum((x - y) ** 2 for x, y in zip(a, b)))


def weighted_cross_entropy(logits, labels, weights, smoothing):
    total = 0.0
    for row, y in zip(logits, labels):
        for j, x in enumerate(row):
            target = smoothing / len(row) + (1 - smoothing) * (j == y)
            total -= weights[j] * target * (x - log_sum_exp(row))
    return total / sum(weights[y] for y in labels)


def softmax_focal(logits, labels, weights, gamma):
    total = 0.0
    for row, y in zip(logits, labels):
        log_p = row[y] - log_sum_exp(row)
        total -= weights[y] * (1 - exp(log_p)) ** gamma * log_p
    return total / sum(weights[y] for y in labels)


def contrastive(x1, x2, same, margin):
    total = 0.0
    for a, b, s in zip(x1, x2, same):
        d = distance(a, b)
        total += 0.5 * d * d if s else 0.5 * max(0.0, margin - d) ** 2
    return total / len(same)


def triplet(anchor, positive, negative, margin):
    terms = [max(0.0, distance(a, p) - distance(a, n) + margin) for a, p, n in zip(anchor, positive, negative)]
    return sum(terms) / max(len(terms), 1)


def triplets_of(labels):
    """Every (anchor, positive, negative) that the labels allow, in order."""
    n = range(len(labels))
    pairs = [(a, p) for a in n for p in n if a != p and labels[a] == labels[p]]
    return [(a, p, q) for a, p in pairs for q in n if labels[q] != labels[a]]


def batch_all(z, labels, margin, mean_over):
    terms = [distance(z[a], z[p]) - distance(z[a], z[n]) + margin for a, p, n in triplets_of(labels)]
    violating = [t for t in terms if t > 0]
    return sum(violating) / (max(len(violating), 1) if mean_over == "violating" else len(terms))


def candidates(query, rows, position, temperature):
    logits = [[dot(q, c) / temperature for c in row] for q, row in zip(query, rows)]
    return cross_entropy(logits, position)


def info_nce(query, positive, negatives_of, temperature):
    rows = [
        [dot(q, p) / temperature] + [dot(q, n) / temperature for n in negatives]
        for q, p, negatives in zip(query, positive, negatives_of)
    ]
    return cross_entropy(rows, [0] * len(rows))


def nt_xent(z1, z2, temperature):
    z = [unit(a) for a in [*z1, *z2]]
    n, total = len(z1), 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        others = [dot(z[i], z[j]) / temperature for j in range(2 * n) if j != i]
        total -= dot(z[i], z[partner]) / temperature - log_sum_exp(others)
    return total / (2 * n)


def decoupled(z1, z2, temperature):
    z = [unit(a) for a in [*z1, *z2]]
    n, total = len(z1), 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        negatives = [dot(z[i], z[j]) / temperature for j in range(2 * n) if j not in (i, partner)]
        total -= dot(z[i], z[partner]) / temperature - log_sum_exp(negatives)
    return total / (2 * n)


def sup_con(z, labels, temperature):
    z = [unit(a) for a in z]
    terms = []
    for i in range(len(z)):
        positives = [j for j in range(len(z)) if j != i and labels[j] == labels[i]]
        if positives:
            among = log_sum_exp([dot(z[i], z[j]) / temperature for j in range(len(z)) if j != i])
            terms.append(-sum(dot(z[i], z[p]) / temperature - among for p in positives) / len(positives))
    return sum(terms) / len(terms)


def soft_nearest_neighbor(z, labels, temperature):
    terms = []
    for i in range(len(z)):
        s = {j: -(distance(z[i], z[j]) ** 2) / temperature for j in range(len(z)) if j != i}
        positives = [s[j] for j in s if labels[j] == labels[i]]
        if positives:
            terms.append(log_sum_exp(list(s.values())) - log_sum_exp(positives))
    return sum(terms) / len(terms)


def focal(logits, targets, alpha, gamma):
    total = 0.0
    for x, t in zip(logits, targets):
        p = 1 / (1 + exp(-x))
        p_t, alpha_t = (p, alpha) if t else (1 - p, 1 - alpha)
        total -= alpha_t * (1 - p_t) ** gamma * log(p_t)
    return total / len(logits)


def distillation(student, teacher, temperature):
    total = 0.0
    for s_row, t_row in zip(student, teacher):
        s_row, t_row = [s / temperature for s in s_row], [t / temperature for t in t_row]
        for s, t in zip(s_row, t_row):
            log_q, log_p = s - log_sum_exp(s_row), t - log_sum_exp(t_row)
            total += exp(log_p) * (log_p - log_q)
    return temperature**2 * total / len(student)
