"""PyTorch's side of `npm run bench -- gpu`: products and training steps in eager fp32, with TF32 off.

Reads a task as JSON from stdin, writes one JSON object to stdout. Runs on CUDA where there is any, else on the CPU, and says
which. The decoder is written as people write one in PyTorch, with its fused attention where the version has it.
"""
import json
import math
import sys
import time

import torch
import torch.nn.functional as F

torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def wait():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def median_seconds(work, min_seconds, samples=5):
    """Median time of one call, over samples of as many calls as take min_seconds together."""
    work()
    wait()
    started = time.perf_counter()
    work()
    wait()
    calls = max(1, math.ceil(min_seconds / (time.perf_counter() - started)))
    times = []
    for _ in range(samples):
        started = time.perf_counter()
        for _ in range(calls):
            work()
        wait()
        times.append((time.perf_counter() - started) / calls)
    return sorted(times)[samples // 2]


class Decoder(torch.nn.Module):
    """Llama: RMSNorm, rotary embedding, causal attention, SwiGLU, tied head."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        hidden, inner, size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
        queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size

        def linear(rows, columns):
            return torch.nn.Linear(columns, rows, bias=False)

        def norm():
            return torch.nn.Parameter(torch.ones(hidden))

        self.embedding = torch.nn.Embedding(config["vocab_size"], hidden)
        self.layers = torch.nn.ModuleList()
        for _ in range(config["num_hidden_layers"]):
            layer = torch.nn.Module()
            layer.q, layer.k, layer.v = linear(queries, hidden), linear(keys, hidden), linear(keys, hidden)
            layer.o, layer.gate, layer.up = linear(hidden, queries), linear(inner, hidden), linear(inner, hidden)
            layer.down, layer.before, layer.between = linear(hidden, inner), norm(), norm()
            self.layers.append(layer)
        self.final = norm()
        for parameter in self.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.02)

    def norm(self, x, weight):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.config["rms_norm_eps"]) * weight

    def heads(self, x, count):
        return x.view(*x.shape[:2], count, self.config["head_dim"]).transpose(1, 2)

    @staticmethod
    def turn(x, cos, sin):
        left, right = x.chunk(2, -1)
        return x * cos + torch.cat([-right, left], -1) * sin

    def attend(self, q, k, v):
        group = q.shape[1] // k.shape[1]
        if group > 1:
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        if hasattr(F, "scaled_dot_product_attention"):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        future = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device).triu(1)
        return scores.masked_fill(future, float("-inf")).softmax(-1) @ v

    def forward(self, ids, targets, cos, sin):
        config = self.config
        x = self.embedding(ids)
        for layer in self.layers:
            normed = self.norm(x, layer.before)
            q = self.turn(self.heads(layer.q(normed), config["num_attention_heads"]), cos, sin)
            k = self.turn(self.heads(layer.k(normed), config["num_key_value_heads"]), cos, sin)
            v = self.heads(layer.v(normed), config["num_key_value_heads"])
            x = x + layer.o(self.attend(q, k, v).transpose(1, 2).flatten(2))
            normed = self.norm(x, layer.between)
            x = x + layer.down(F.silu(layer.gate(normed)) * layer.up(normed))
        logits = self.norm(x, self.final) @ self.embedding.weight.T
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def step_seconds(task):
    config, length = task["config"], task["contextLength"]
    model = Decoder(config).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1)
    ids = torch.randint(config["vocab_size"], (task["rowsPerMicrobatch"], length + 1), device=DEVICE)
    size = config["head_dim"]
    frequencies = config["rope_theta"] ** (-torch.arange(0, size, 2, device=DEVICE) / size)
    angles = (torch.arange(length, device=DEVICE)[:, None] * frequencies).repeat(1, 2)
    cos, sin = angles.cos(), angles.sin()

    def step():
        optimizer.zero_grad()
        for _ in range(task["microbatches"]):
            (model(ids[:, :-1], ids[:, 1:], cos, sin) / task["microbatches"]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return median_seconds(step, 1.0, samples=3)


def main():
    task = json.load(sys.stdin)
    products = []
    for n in task["products"]:
        a, b = torch.randn(n, n, device=DEVICE), torch.randn(n, n, device=DEVICE)
        products.append(2 * n**3 / median_seconds(lambda: a @ b.T, 0.2) / 1e9)
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    steps = [step_seconds(model) for model in task["models"]]
    json.dump({"device": name, "version": torch.__version__, "gigaflops": products, "stepSeconds": steps}, sys.stdout)


main()
