"""Llama and Qwen3 decoders in plain PyTorch, written from the papers and Hugging Face's documented conventions.

An oracle for our WGSL: shares no code and no intermediate layout with it. Weights are a dict by Hugging Face's names.
"""
import math

import torch


def rms_norm(x, weight, eps):
    """Zhang and Sennrich 2019: x / rms(x) * weight over the last axis."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def rope(x, theta, first_position=0):
    """Su et al. 2021 in Hugging Face's layout: element i is paired with i + d/2. x: [rows, T, heads, d]."""
    length, size = x.shape[1], x.shape[3]
    frequencies = theta ** (-torch.arange(0, size, 2, dtype=x.dtype) / size)
    angles = torch.arange(first_position, first_position + length, dtype=x.dtype)[:, None] * frequencies
    cos, sin = angles.cos()[None, :, None, :], angles.sin()[None, :, None, :]
    left, right = x[..., : size // 2], x[..., size // 2 :]
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)


def attention(q, k, v):
    """Causal, grouped queries: query head h reads key-value head h // (heads // kv heads). [rows, T, heads, d] each."""
    group = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[3])
    future = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool).triu(1)
    return torch.einsum("bhqk,bkhd->bqhd", scores.masked_fill(future, float("-inf")).softmax(-1), v)


def swiglu(gate, up):
    return gate * torch.sigmoid(gate) * up


def parameter_shapes(config):
    """Name to shape, in the order of the forward pass."""
    hidden, size = config["hidden_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}."
        shapes[layer + "input_layernorm.weight"] = (hidden,)
        shapes[layer + "self_attn.q_proj.weight"] = (queries, hidden)
        shapes[layer + "self_attn.k_proj.weight"] = (keys, hidden)
        shapes[layer + "self_attn.v_proj.weight"] = (keys, hidden)
        if config["model_type"] == "qwen3":
            shapes[layer + "self_attn.q_norm.weight"] = (size,)
            shapes[layer + "self_attn.k_norm.weight"] = (size,)
        shapes[layer + "self_attn.o_proj.weight"] = (hidden, queries)
        shapes[layer + "post_attention_layernorm.weight"] = (hidden,)
        shapes[layer + "mlp.gate_proj.weight"] = (config["intermediate_size"], hidden)
        shapes[layer + "mlp.up_proj.weight"] = (config["intermediate_size"], hidden)
        shapes[layer + "mlp.down_proj.weight"] = (hidden, config["intermediate_size"])
    shapes["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    return shapes


def logits(config, weights, ids):
    """ids: [rows, T] → [rows, T, vocabulary]."""
    eps, theta = config["rms_norm_eps"], config["rope_theta"]
    rows, length = ids.shape
    x = weights["model.embed_tokens.weight"][ids]
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}."

        def project(name, source):
            return source @ weights[layer + name + ".weight"].T

        normed = rms_norm(x, weights[layer + "input_layernorm.weight"], eps)
        q = project("self_attn.q_proj", normed).view(rows, length, config["num_attention_heads"], -1)
        k = project("self_attn.k_proj", normed).view(rows, length, config["num_key_value_heads"], -1)
        v = project("self_attn.v_proj", normed).view(rows, length, config["num_key_value_heads"], -1)
        if config["model_type"] == "qwen3":
            q = rms_norm(q, weights[layer + "self_attn.q_norm.weight"], eps)
            k = rms_norm(k, weights[layer + "self_attn.k_norm.weight"], eps)
        mixed = attention(rope(q, theta), rope(k, theta), v)
        x = x + project("self_attn.o_proj", mixed.reshape(rows, length, -1))
        normed = rms_norm(x, weights[layer + "post_attention_layernorm.weight"], eps)
        x = x + project("mlp.down_proj", swiglu(project("mlp.gate_proj", normed), project("mlp.up_proj", normed)))
    x = rms_norm(x, weights["model.norm.weight"], eps)
    head = "model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"
    return x @ weights[head].T


def weighted_loss_sum(config, weights, ids, targets, loss_weights):
    """Sum over positions of loss weight times cross-entropy; targets are shifted already, weight 0 = not scored."""
    log_probabilities = logits(config, weights, ids).log_softmax(-1)
    losses = -log_probabilities.gather(-1, targets[..., None])[..., 0]
    return (losses * loss_weights).sum()
