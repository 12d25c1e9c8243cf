"""Differentiable operations on arrays, each with its pullback; encoders and optimizers on flat dicts.

    convolution     conv2d
    normalization   batch_norm  layer_norm  group_norm
    pooling         max_pool2d  avg_pool2d  global_avg_pool
    activation      relu
    dense           linear  l2_normalize  dropout  mlp_init  mlp
    encoder         resnet_init  resnet  fold_batch_norm  resnet_inference
    optimizers      sgd  adam  adamw
    schedules       cosine_schedule
    gradient_check  gradient_check(function, arrays) -> GradientErrors(direction, element)
    checkpoint      save_checkpoint(path, {"params": params, ...}, rng)  load_checkpoint(path) -> sections, rng

    params, state = resnet_init(widths=(32, 64, 128), blocks=1, embedding=64, seed=0)
    embeddings, pullback, state = resnet(params, state, images, training=True)
    gradients = pullback(dembeddings)
    params, opt_state = sgd(params, gradients, opt_state, learning_rate=cosine_schedule(step, total, 0.1, warmup=10),
                            momentum=0.9, nesterov=True)
    embeddings = resnet_inference(fold_batch_norm(params, state), images)
"""

from .activation import relu
from .checkpoint import load_checkpoint, save_checkpoint
from .convolution import conv2d
from .dense import dropout, l2_normalize, linear, mlp, mlp_init
from .encoder import fold_batch_norm, resnet, resnet_inference, resnet_init
from .gradient_check import GradientErrors, gradient_check
from .normalization import batch_norm, group_norm, layer_norm
from .optimizers import adam, adamw, sgd
from .pooling import avg_pool2d, global_avg_pool, max_pool2d
from .schedules import cosine_schedule

__all__ = [
    "GradientErrors",
    "adam",
    "adamw",
    "avg_pool2d",
    "batch_norm",
    "conv2d",
    "cosine_schedule",
    "dropout",
    "fold_batch_norm",
    "global_avg_pool",
    "gradient_check",
    "group_norm",
    "l2_normalize",
    "layer_norm",
    "linear",
    "load_checkpoint",
    "max_pool2d",
    "mlp",
    "mlp_init",
    "relu",
    "resnet",
    "resnet_inference",
    "resnet_init",
    "save_checkpoint",
    "sgd",
]
