"""Makes the golden files beside it: values and gradients from PyTorch that our kernels, models and training must match.

    python3 test/golden/make_golden.py      (PyTorch 1.13 or newer; seconds; the same bytes every time on one machine)

All arithmetic is in f64 from inputs that are exact in f32. A tensor is written as {"shape", "f32" | "u32"}, its values
little-endian in base64. Shapes are odd on purpose: nothing is divisible by 16.
"""
import base64
import json
import math
import pathlib
import sys

import torch

sys.dont_write_bytecode = True
import reference_decoder as decoder

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
here = pathlib.Path(__file__).parent
generator = torch.Generator().manual_seed(20261107)
version = 1


def normal(*shape, scale=1.0):
    """Normal numbers that are exact in f32, in f64, wanting gradients."""
    values = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale
    return values.float().double().requires_grad_()


def integers(limit, *shape):
    return torch.randint(limit, shape, generator=generator)


def pack(tensor):
    kind, values = ("f32", tensor.detach().float()) if tensor.is_floating_point() else ("u32", tensor.int())
    data = base64.b64encode(values.contiguous().numpy().tobytes()).decode()
    return {"shape": list(tensor.shape), kind: data}


def write(name, content):
    path = here / name
    path.write_text(json.dumps({"version": version, **content}, indent=1) + "\n")
    print(f"{name}: {path.stat().st_size / 1024:.0f} KiB")


def op_case(op, inputs, output, attrs=None):
    """One application: inputs by name, its output, a cotangent, and the gradient of each input that has one."""
    cotangent = torch.randn(output.shape, generator=generator).float().double() if output.dim() else torch.ones(())
    wanted = {name: tensor for name, tensor in inputs.items() if tensor.requires_grad}
    gradients = torch.autograd.grad(output, list(wanted.values()), cotangent)
    return {
        "op": op,
        "attrs": attrs or {},
        "inputs": {name: pack(tensor) for name, tensor in inputs.items()},
        "output": pack(output),
        "cotangent": pack(cotangent),
        "gradients": {name: pack(gradient) for name, gradient in zip(wanted, gradients)},
    }


def make_ops():
    cases = []
    for rows, inner, outer in [(7, 19, 23), (37, 50, 21)]:
        x, w, residual = normal(rows, inner), normal(outer, inner, scale=0.3), normal(rows, outer)
        cases.append(op_case("linear", {"x": x, "weight": w}, x @ w.T))
        cases.append(op_case("linear", {"x": x, "weight": w, "residual": residual}, x @ w.T + residual))
    for rows, size in [(5, 19), (23, 90)]:
        x, w = normal(rows, size, scale=2), normal(size)
        cases.append(op_case("rmsNorm", {"x": x, "weight": w}, decoder.rms_norm(x, w, 1e-5), {"eps": 1e-5}))
    x = normal(2, 13, 3, 10)
    cases.append(op_case("rope", {"x": x}, decoder.rope(x, 10000.0), {"theta": 10000.0}))
    gate, up = normal(9, 29, scale=3), normal(9, 29)
    cases.append(op_case("swiglu", {"gate": gate, "up": up}, decoder.swiglu(gate, up)))
    for rows, length, heads, kv_heads, size in [(2, 13, 3, 1, 12), (1, 37, 3, 1, 20), (3, 5, 2, 2, 4)]:
        q, k, v = normal(rows, length, heads, size), normal(rows, length, kv_heads, size), normal(rows, length, kv_heads, size)
        cases.append(op_case("attention", {"q": q, "k": k, "v": v}, decoder.attention(q, k, v)))
    table, ids = normal(53, 19), integers(53, 41)
    cases.append(op_case("embedding", {"table": table, "ids": ids}, table[ids]))
    for rows, size, vocabulary in [(11, 19, 53), (39, 22, 211)]:
        hidden, weight = normal(rows, size), normal(vocabulary, size, scale=0.5)
        targets = integers(vocabulary, rows)
        loss_weights = torch.rand(rows, generator=generator).float().double()
        loss_weights[integers(rows, 3)] = 0.0
        losses = -(hidden @ weight.T).log_softmax(-1).gather(-1, targets[:, None])[:, 0]
        inputs = {"hidden": hidden, "weight": weight, "targets": targets, "lossWeights": loss_weights}
        cases.append(op_case("linearCrossEntropy", inputs, (losses * loss_weights).sum()))
    write("ops.json", {"cases": cases})


llama = {
    "model_type": "llama", "vocab_size": 53, "hidden_size": 20, "intermediate_size": 27, "num_hidden_layers": 2,
    "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 12, "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False, "initializer_range": 0.02,
}
qwen3 = {
    "model_type": "qwen3", "vocab_size": 53, "hidden_size": 22, "intermediate_size": 37, "num_hidden_layers": 2,
    "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 4, "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "tie_word_embeddings": True, "initializer_range": 0.02,
}


def random_weights(config, scale):
    """Norms around 1, matrices wide enough that every path carries gradient."""
    return {
        name: (1 + 0.2 * normal(*shape)).detach().float().double().requires_grad_()
        if len(shape) == 1
        else normal(*shape, scale=scale)
        for name, shape in decoder.parameter_shapes(config).items()
    }


def make_models():
    models = []
    for config in (llama, qwen3):
        weights = random_weights(config, 0.25)
        rows, length = 3, 13
        ids, targets = integers(config["vocab_size"], rows, length), integers(config["vocab_size"], rows, length)
        loss_weights = torch.rand(rows, length, generator=generator).float().double()
        loss_weights[:, -1] = 0
        loss_weights[1, 7:] = 0  # a short row
        loss_weights[2, :4] = 0  # an unscored prompt
        loss = decoder.weighted_loss_sum(config, weights, ids, targets, loss_weights)
        gradients = torch.autograd.grad(loss, list(weights.values()))
        models.append({
            "config": config,
            "weights": {name: pack(tensor) for name, tensor in weights.items()},
            "ids": pack(ids), "targets": pack(targets), "lossWeights": pack(loss_weights),
            "lossSum": loss.item(),
            "logits": pack(decoder.logits(config, weights, ids[:1])),
            "gradients": {name: pack(gradient) for name, gradient in zip(weights, gradients)},
        })
    write("models.json", {"models": models})


def learning_rate(optimizer, step, steps):
    """DESIGN §5."""
    peak, low, warmup = optimizer["learningRate"], optimizer["minLearningRate"], optimizer["warmupSteps"]
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return low + 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) * (peak - low)


def make_token_rows(count, vocabulary, longest):
    """JSONL rows of uneven lengths, with unscored labels and uneven weights in some."""
    rows = []
    for index in range(count):
        length = longest - int(integers(5, 1)) if index % 3 else longest
        ids = integers(vocabulary, length).tolist()
        row = {"input_ids": ids}
        if index % 2:
            start = 1 + int(integers(length - 2, 1))
            row["labels"] = [-100] * start + ids[start:]
        if index % 4 >= 2:
            row["loss_weights"] = [round(value, 3) for value in torch.rand(length, generator=generator).tolist()]
        rows.append(row)
    return rows


def batch_of(rows, length):
    """Pads and shifts: position i predicts label i + 1."""
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    targets = torch.zeros(len(rows), length, dtype=torch.long)
    loss_weights = torch.zeros(len(rows), length)
    for index, row in enumerate(rows):
        labels = row.get("labels", row["input_ids"])
        weights = row.get("loss_weights", [1.0] * len(labels))
        ids[index, : len(labels)] = torch.tensor(row["input_ids"])
        for position in range(len(labels) - 1):
            if labels[position + 1] != -100:
                targets[index, position] = labels[position + 1]
                loss_weights[index, position] = torch.tensor(weights[position + 1]).float().double()
    return ids, targets, loss_weights


def make_trace(name, config, rows_per_step, rows_per_microbatch):
    steps, length = 20, 11
    optimizer = {
        "learningRate": 0.01, "minLearningRate": 0.001, "warmupSteps": 4, "schedule": "cosine", "beta1": 0.9, "beta2": 0.95,
        "epsilon": 1e-8, "weightDecay": 0.1, "gradientClip": 0.4,
    }
    rows = make_token_rows(17, config["vocab_size"], length)
    weights = random_weights(config, 0.2)
    initial = {key: pack(tensor) for key, tensor in weights.items()}
    adamw = torch.optim.AdamW(
        [
            {"params": [tensor for tensor in weights.values() if tensor.dim() >= 2], "weight_decay": optimizer["weightDecay"]},
            {"params": [tensor for tensor in weights.values() if tensor.dim() < 2], "weight_decay": 0.0},
        ],
        betas=(optimizer["beta1"], optimizer["beta2"]), eps=optimizer["epsilon"],
    )
    saved_step, saved = 7, {}
    trace = []
    for step in range(steps):
        chosen = [rows[(step * rows_per_step + row) % len(rows)] for row in range(rows_per_step)]
        ids, targets, loss_weights = batch_of(chosen, length)
        loss = decoder.weighted_loss_sum(config, weights, ids, targets, loss_weights) / loss_weights.sum()
        adamw.zero_grad()
        loss.backward()
        if step == saved_step:
            saved = {key: pack(tensor.grad) for key, tensor in weights.items()}
        norm = torch.nn.utils.clip_grad_norm_(list(weights.values()), optimizer["gradientClip"])
        for group in adamw.param_groups:
            group["lr"] = learning_rate(optimizer, step, steps)
        adamw.step()
        trace.append({"step": step, "loss": loss.item(), "gradNorm": norm.item(), "lr": learning_rate(optimizer, step, steps)})
    assert all(point["gradNorm"] > optimizer["gradientClip"] for point in trace), "clipping must be active"
    write(f"trace-{name}.json", {
        "config": config,
        "run": {
            "steps": steps, "rowsPerStep": rows_per_step, "rowsPerMicrobatch": rows_per_microbatch, "contextLength": length,
            "order": "sequential", "seed": 1, "codec": "fp32", "evalEvery": 0, "optimizer": optimizer,
        },
        "rows": rows, "initial": initial, "trace": trace, "gradientsAtStep": saved_step, "gradients": saved,
        "final": {key: pack(tensor) for key, tensor in weights.items()},
    })


def make_masked_rows(count, vocabulary, length):
    """Rows as conversations leave them: an unscored prompt, then reasoning at 0.5, then an answer at 1; every fifth scores nothing."""
    rows = []
    for index in range(count):
        size = length - int(integers(4, 1))
        prompt = 1 + int(integers(size - 2, 1))
        reasoning = prompt + int(integers(size - prompt, 1))
        rows.append({
            "input_ids": integers(vocabulary, size).tolist(),
            "loss_weights": [0.0 if index % 5 == 4 or at < prompt else 0.5 if at < reasoning else 1.0 for at in range(size)],
        })
    return rows


def make_masked_trace(name, config, label_smoothing=0.0, frozen_layers=None):
    """AdamW as in `make_trace`, over uneven masks. `frozen_layers`: the embeddings and so many of the lowest layers want no gradient."""
    steps, length, rows_per_step, rows_per_microbatch = 20, 11, 5, 2
    optimizer = {
        "learningRate": 0.01, "minLearningRate": 0.001, "warmupSteps": 4, "schedule": "cosine", "beta1": 0.9, "beta2": 0.95,
        "epsilon": 1e-8, "weightDecay": 0.1, "gradientClip": 0.4,
    }
    rows = make_masked_rows(17, config["vocab_size"], length)
    weights = random_weights(config, 0.2)
    initial = {key: pack(tensor) for key, tensor in weights.items()}
    lowest = ("model.embed_tokens.", *(f"model.layers.{index}." for index in range(frozen_layers or 0)))
    if frozen_layers is not None:
        for key, tensor in weights.items():
            tensor.requires_grad_(not key.startswith(lowest))
    adamw = torch.optim.AdamW(
        [
            {"params": [tensor for tensor in weights.values() if tensor.dim() >= 2], "weight_decay": optimizer["weightDecay"]},
            {"params": [tensor for tensor in weights.values() if tensor.dim() < 2], "weight_decay": 0.0},
        ],
        betas=(optimizer["beta1"], optimizer["beta2"]), eps=optimizer["epsilon"],
    )
    trace = []
    for step in range(steps):
        chosen = [rows[(step * rows_per_step + row) % len(rows)] for row in range(rows_per_step)]
        ids, targets, loss_weights = batch_of(chosen, length)
        logits = decoder.logits(config, weights, ids)
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), reduction="none", label_smoothing=label_smoothing)
        loss = (losses * loss_weights.flatten()).sum() / loss_weights.sum()
        adamw.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(weights.values()), optimizer["gradientClip"])
        for group in adamw.param_groups:
            group["lr"] = learning_rate(optimizer, step, steps)
        adamw.step()
        trace.append({"step": step, "loss": loss.item(), "gradNorm": norm.item(), "lr": learning_rate(optimizer, step, steps)})
    write(f"trace-{name}.json", {
        "config": config,
        "run": {
            "steps": steps, "rowsPerStep": rows_per_step, "rowsPerMicrobatch": rows_per_microbatch, "contextLength": length,
            "order": "sequential", "seed": 1, "codec": "fp32", "evalEvery": 0, "optimizer": optimizer,
            **({"labelSmoothing": label_smoothing} if label_smoothing > 0 else {}),
            **({} if frozen_layers is None else {"frozen": {"embeddings": True, "layers": frozen_layers}}),
        },
        "rows": rows, "initial": initial, "trace": trace,
        "final": {key: pack(tensor) for key, tensor in weights.items()},
    })


make_ops()
make_models()
make_trace("llama", llama, 6, 3)
make_trace("qwen3", qwen3, 7, 2)
make_masked_trace("masked", qwen3)
make_masked_trace("smoothed", llama, label_smoothing=0.1)
make_masked_trace("frozen", qwen3, frozen_layers=1)
