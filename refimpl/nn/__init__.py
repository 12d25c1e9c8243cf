"""Differentiable operations on arrays, each with its pullback; encoders and optimizers on flat dicts.

    y, pullback = linear(x, weight, bias)
    dx, dweight, dbias = pullback(dy)

A pullback is the backward pass of one call, as a function: it takes the gradient of a loss with respect to the result y
and returns the gradients with respect to the arguments. An encoder's returns a dict with those of its parameters.

    convolution     conv2d  depthwise_conv2d
    normalization   batch_norm  layer_norm  group_norm
    pooling         max_pool2d  avg_pool2d  global_avg_pool
    activation      relu  leaky_relu  elu  gelu  tanh  sigmoid  add
    softmax         softmax  log_softmax
    dense           linear  l2_normalize  dropout  mlp_init  mlp
    encoder         cnn_init  cnn  resnet_init  resnet  embedding_size
    whitened        patch_whitening  whitened_init  whitened  whitened_embedder  whitened_maps: a network for few passes
    inference       fold_batch_norm  cnn_inference  resnet_inference  cnn_embedder  resnet_embedder
    optimizers      sgd  adam  adamw  lars  rmsprop  adagrad  clip_gradients
    muon            muon  orthogonalize: steps whose directions all have about the same length
    schedules       warmup_schedule  cosine_schedule  one_cycle_schedule  step_schedule
    regularization  l1_penalty  l2_penalty  entropy_penalty
    gradient_check  gradient_check(function, arrays) -> GradientErrors(direction, element)
    pretrained      pretrained  save_pretrained  Pretrained: the encoder that comes with the package
    checkpoint      save_checkpoint(path, {"params": params, ...}, rng)  load_checkpoint(path) -> sections, rng

The files behind these make the encoders fast and can be skipped at first: fused.py (the layers in training, with fewer
passes over memory), winograd.py (3x3 convolutions with a quarter of the multiplications), few_pixels.py (convolutions
of pictures so small that most products would be with the padding) and memory.py (arrays that reuse memory).

    params, state = resnet_init(widths=(32, 64, 128), blocks=1, embedding=64, seed=0)
    embeddings, pullback, state = resnet(params, state, images, training=True)
    gradients = pullback(dembeddings)
    params, opt_state = sgd(params, gradients, opt_state, learning_rate=cosine_schedule(step, total, 0.1, warmup=10),
                            momentum=0.9, nesterov=True)
    embeddings = resnet_inference(fold_batch_norm(params, state), images)
    embed = resnet_embedder(fold_batch_norm(params, state))      # the same for many calls: embed(images)
"""

from .activation import add, elu, gelu, leaky_relu, relu, sigmoid, tanh
from .checkpoint import load_checkpoint, save_checkpoint
from .convolution import conv2d, depthwise_conv2d
from .dense import dropout, l2_normalize, linear, mlp, mlp_init
from .encoder import cnn, cnn_init, embedding_size, resnet, resnet_init
from .gradient_check import GradientErrors, gradient_check
from .inference import cnn_embedder, cnn_inference, fold_batch_norm, resnet_embedder, resnet_inference
from .muon import muon, orthogonalize
from .normalization import batch_norm, group_norm, layer_norm
from .optimizers import adagrad, adam, adamw, clip_gradients, lars, rmsprop, sgd
from .pooling import avg_pool2d, global_avg_pool, max_pool2d
from .pretrained import Pretrained, pretrained, save_pretrained
from .regularization import entropy_penalty, l1_penalty, l2_penalty
from .schedules import cosine_schedule, one_cycle_schedule, step_schedule, warmup_schedule
from .softmax import log_softmax, softmax
from .whitened import patch_whitening, whitened, whitened_embedder, whitened_init, whitened_maps

__all__ = [
    "GradientErrors",
    "Pretrained",
    "adagrad",
    "adam",
    "adamw",
    "add",
    "avg_pool2d",
    "batch_norm",
    "clip_gradients",
    "cnn",
    "cnn_embedder",
    "cnn_inference",
    "cnn_init",
    "conv2d",
    "cosine_schedule",
    "depthwise_conv2d",
    "dropout",
    "elu",
    "embedding_size",
    "entropy_penalty",
    "fold_batch_norm",
    "gelu",
    "global_avg_pool",
    "gradient_check",
    "group_norm",
    "l1_penalty",
    "l2_normalize",
    "l2_penalty",
    "lars",
    "layer_norm",
    "leaky_relu",
    "linear",
    "load_checkpoint",
    "log_softmax",
    "max_pool2d",
    "mlp",
    "mlp_init",
    "muon",
    "one_cycle_schedule",
    "orthogonalize",
    "patch_whitening",
    "pretrained",
    "relu",
    "resnet",
    "resnet_embedder",
    "resnet_inference",
    "resnet_init",
    "rmsprop",
    "save_checkpoint",
    "save_pretrained",
    "sgd",
    "sigmoid",
    "softmax",
    "step_schedule",
    "tanh",
    "warmup_schedule",
    "whitened",
    "whitened_embedder",
    "whitened_init",
    "whitened_maps",
]
