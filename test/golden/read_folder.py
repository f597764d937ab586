"""Reads a Hugging Face folder with a decoder that shares no code with ours: `read_folder.py DIR IDS.json LOGITS.f32`.

IDS.json holds rows of token ids of one length; LOGITS.f32 gets [rows, T, vocabulary], little-endian. The safetensors file is read
here by its format's description, without the package that bears its name.
"""
import json
import struct
import sys
from pathlib import Path

import torch

from reference_decoder import logits, parameter_shapes

types = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        values = torch.frombuffer(bytearray(data[begin:end]), dtype=types[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"]).float()
    return tensors


def main(folder, ids_file, target):
    config = json.loads((folder / "config.json").read_text())
    weights = read_safetensors(folder / "model.safetensors")
    expected = {name: list(shape) for name, shape in parameter_shapes(config).items()}
    assert {name: list(tensor.shape) for name, tensor in weights.items()} == expected, "names or shapes differ"
    ids = torch.tensor(json.loads(Path(ids_file).read_text()))
    with torch.no_grad():
        Path(target).write_bytes(logits(config, weights, ids).contiguous().numpy().tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
