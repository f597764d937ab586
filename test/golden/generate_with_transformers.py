"""Greedy text of a Hugging Face folder by Python's transformers: `generate_with_transformers.py DIR JOB.json`.

JOB.json: {"prompt": ids, "continuation": ids, "texts": [[text, ids], ...]}, as ours has them. Exits with 1 where transformers has others. Needs
`pip install torch transformers`.
"""
import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(folder, job_file):
    job = json.loads(Path(job_file).read_text())
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    wrong = [text for text, ids in job["texts"] if tokenizer.encode(text, add_special_tokens=False) != ids]
    prompt = torch.tensor([job["prompt"]])
    # An end of text does not end it: ours goes on too.
    made = model.generate(prompt, max_new_tokens=len(job["continuation"]), do_sample=False, eos_token_id=[-1], pad_token_id=0)
    continuation = made[0, prompt.shape[1] :].tolist()
    print(json.dumps({"texts": len(job["texts"]), "wrong": wrong, "sameContinuation": continuation == job["continuation"]}))
    return 1 if wrong or continuation != job["continuation"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
