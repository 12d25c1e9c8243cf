"""Knowledge distillation: a student learns the teacher's softened distribution.

Softened is softmax(logits / T) at a temperature T > 1. It raises the small probabilities of the wrong classes, so that
the student also learns which of them the teacher finds likely.
"""

import numpy as np

from ..nn import log_softmax
from ..validation import FLOATS, check_array, check_number
from .checks import no_overflow


def distillation_loss(student_logits, teacher_logits, *, temperature):
    """Divergence of the student's softened distribution from the teacher's.

        p = softmax(teacher / T),  q = softmax(student / T)            loss = T^2 / n sum_i KL(p_i || q_i)

    student_logits, teacher_logits  (n, c) float
    Returns loss (float), (dstudent, dteacher); a fixed teacher's gradient is simply not used. T^2 keeps the gradient's
    size when T changes: dstudent = T (q - p) / n.
    Raises ValueError for wrong shapes, non-finite values, temperature <= 0; for logits so far apart, or a temperature
    so near 0 or so large, that logits / T or the results are beyond the dtype.
    Source: Hinton, Vinyals and Dean 2015, section 2 and 2.1.
    """
    student = check_array(student_logits, "student_logits", ndim=2, dtypes=FLOATS, finite=True, min_rows=1)
    teacher = check_array(teacher_logits, "teacher_logits", shape=student.shape, dtypes=[student.dtype], finite=True)
    temperature, n = check_number(temperature, "temperature", above=0), student.dtype.type(len(student))
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        t = student.dtype.type(temperature)
        no_overflow(t * t, "square", "temperature")
        log_p = _log_softened(teacher, t, "teacher_logits, temperature")
        log_q = _log_softened(student, t, "student_logits, temperature")
        p, q = np.exp(log_p), np.exp(log_q)
        log_ratio = log_p - log_q
        kl = np.sum(p * log_ratio, axis=1, keepdims=True)
        loss, dstudent, dteacher = t * t * kl.sum() / n, t * (q - p) / n, t * p * (log_ratio - kl) / n
    for result in (loss, dteacher):
        no_overflow(result, "difference", "student_logits, teacher_logits, temperature")
    return float(loss), (dstudent, dteacher)


def _log_softened(logits, t, name):
    """log softmax(logits / t), all of it finite."""
    return no_overflow(log_softmax(no_overflow(logits / t, "quotient", name))[0], "difference of quotients", name)
