"""Makes chats.json: ten conversations, what is scored of each by hand, and from that each position's token, target and weight.

    python3 test/golden/make_chats.py     (with jinja2 the texts are checked against what the templates render; seconds)

`said` is written by hand: stretches of the rendered text, each with the weight of its characters. A token has the weight of the
character that its first byte is of. Tokens are those of test/unit/word-tokenizer.ts, made here a second time.
"""
import json
import pathlib
import unicodedata

here = pathlib.Path(__file__).parent
special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin|>", "<|head|>", "<|/head|>", "<|eot|>", "<s>", "</s>"]
texts = {"bracketed": {"bos_token": "<|begin|>"}, "thinking": {}, "instructed": {"bos_token": "<s>", "eos_token": "</s>"}}

U, A, S, T, END = "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_start|>system\n", "<|im_start|>tool\n", "<|im_end|>"
reasoning = {"kind": "weights", "default": 0, "byRole": {"assistant": 1}, "byDelimiters": [{"open": "<think>", "close": "</think>", "weight": 0.5}]}
bern = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bern"}}}

# (what it shows, template, objective, record, stretches: text, weight, and whether it is from the data where that could be mistaken)
cases = [
    ("messages, one exchange, the assistant's tokens only", "chatml", {"kind": "assistant"},
     {"messages": [{"role": "user", "content": "What is two and two?"}, {"role": "assistant", "content": "Four."}]},
     [(U + "What is two and two?" + END + "\n" + A, 0), ("Four." + END, 1), ("\n", 0)]),
    ("ShareGPT with a system text and two exchanges", "chatml", {"kind": "assistant"},
     {"conversations": [{"from": "system", "value": "Be short."}, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"},
                        {"from": "human", "value": "Bye"}, {"from": "gpt", "value": "So long"}]},
     [(S + "Be short." + END + "\n" + U + "Hi" + END + "\n" + A, 0), ("Hello!" + END, 1), ("\n" + U + "Bye" + END + "\n" + A, 0),
      ("So long" + END, 1), ("\n", 0)]),
    ("Alpaca, where the input follows the instruction after an empty line", "chatml", {"kind": "assistant"},
     {"instruction": "Translate.", "input": "Wal", "output": "Whale"},
     [(U + "Translate.\n\nWal" + END + "\n" + A, 0), ("Whale" + END, 1), ("\n", 0)]),
    ("prompt and completion, with loss on everything", "chatml", {"kind": "everything"},
     {"prompt": "One, two,", "completion": " three"},
     [(U + "One, two," + END + "\n" + A + " three" + END + "\n", 1)]),
    ("thoughts at half, the answer whole, the prompt not at all", "chatml", reasoning,
     {"messages": [{"role": "user", "content": "Is <think>seven</think> odd?"}, {"role": "assistant", "content": "<think>7 = 6 + 1</think>Yes."}]},
     [(U + "Is <think>seven</think> odd?" + END + "\n" + A, 0), ("<think>7 = 6 + 1</think>", 0.5), ("Yes." + END, 1), ("\n", 0)]),
    ("characters beyond the basic plane, and weights by character in the data: four bytes begin in one character", "chatml", {"kind": "assistant"},
     {"messages": [{"role": "user", "content": "Señor 🐳?"},
                   {"role": "assistant", "content": "¡Sí 🐳🐋!", "spans": [{"start": 4, "end": 5, "weight": 0.25}, {"start": 6, "end": 7, "weight": 3}]}]},
     [(U + "Señor 🐳?" + END + "\n" + A, 0), ("¡Sí ", 1), ("🐳", 0.25), ("🐋", 1), ("!", 3), (END, 1), ("\n", 0)]),
    ("what people wrote looks like special tokens, and is text", "chatml", {"kind": "assistant"},
     {"question": "Say <|im_end|>", "answer": "<|im_start|>system"},
     [(U, 0), ("Say <|im_end|>", 0, True), (END + "\n" + A, 0), ("<|im_start|>system", 1, True), (END, 1), ("\n", 0)]),
    ("a model's own template that trims, with an answer that the data leaves out", "bracketed", {"kind": "assistant"},
     {"messages": [{"role": "system", "content": " Be kind. "}, {"role": "user", "content": "Hi\n"}, {"role": "assistant", "content": "No", "weight": 0},
                   {"role": "user", "content": "Please?"}, {"role": "assistant", "content": " Yes \"dear\" "}]},
     [("<|begin|><|head|>system<|/head|>\n\nBe kind.<|eot|><|head|>user<|/head|>\n\nHi<|eot|><|head|>assistant<|/head|>\n\nNo<|eot|>", 0),
      ("<|head|>user<|/head|>\n\nPlease?<|eot|><|head|>assistant<|/head|>\n\n", 0), ("Yes \"dear\"<|eot|>", 1)]),
    ("tools: the call counts, the tool's words do not, old thoughts are left out", "thinking", reasoning,
     {"tools": [{"name": "weather"}],
      "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "<think>\nGreet\n</think>\n\nHello"}, {"role": "user", "content": "Rain?"},
                   {"role": "assistant", "content": "", "tool_calls": [bern]}, {"role": "tool", "content": "{\"rain\": true}"},
                   {"role": "assistant", "content": "<think>\nWet\n</think>\n\nYes"}]},
     [(S + "Tools:\n{\"name\": \"weather\"}" + END + "\n" + U + "Hi" + END + "\n" + A, 0), ("Hello" + END, 1), ("\n" + U + "Rain?" + END + "\n" + A, 0),
      ("\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call>" + END, 1),
      ("\n" + U + "<tool_response>\n{\"rain\": true}\n</tool_response>" + END + "\n" + A, 0), ("<think>\nWet\n</think>", 0.5), ("\n\nYes" + END, 1), ("\n", 0)]),
    ("a template that marks what is generated, and puts the system's words into the first question; roles by weight", "instructed",
     {"kind": "weights", "default": 0, "byRole": {"user": 0.1, "assistant": 2, "system": 0.3}},
     {"messages": [{"role": "system", "content": "Short"}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}, {"role": "user", "content": "So"},
                   {"role": "assistant", "content": "Ok"}]},
     [("<s>[INST] <<", 0), ("Short", 0.3), (">>\n", 0), ("Hi", 0.1), (" [/INST]", 0), (" Yo</s>", 2), ("[INST] ", 0), ("So", 0.1), (" [/INST]", 0), (" Ok</s>", 2)]),
]


def kind(character):
    category = unicodedata.category(character)
    return "letter" if category[0] in "LM" else "number" if category[0] == "N" else "other"


def words(text):
    """Words and numbers with the space before them, and single characters, with where each begins; four bytes beyond the basic plane."""
    at = 0
    while at < len(text):
        begin, first = at, at + (text[at] == " " and at + 1 < len(text) and kind(text[at + 1]) != "other")
        if kind(text[first]) == "other":
            at += 1
            for byte in [text[begin]] if ord(text[begin]) < 0x10000 else [f"byte {byte:02x}" for byte in text[begin].encode()]:
                yield byte, begin
            continue
        at = first + 1
        while at < len(text) and kind(text[at]) == kind(text[first]):
            at += 1
        yield text[begin:at], begin


def tokens(text, from_data):
    """Special tokens where the template wrote them, words between; `from_data[i]`: character i can't be one."""
    at = start = 0
    while at <= len(text):
        found = next((token for token in special if text.startswith(token, at) and not any(from_data[at:at + len(token)])), None)
        if found is None and at < len(text):
            at += 1
            continue
        yield from ((word, start + begin) for word, begin in words(text[start:at]))
        if found is None:
            return
        yield found, at
        at = start = at + len(found)


def rendered(name, record):
    try:
        from jinja2.sandbox import ImmutableSandboxedEnvironment
        from jinja2.ext import Extension
        from jinja2 import nodes
    except ModuleNotFoundError:
        return None

    class Generation(Extension):
        """The tag means nothing but a mark."""
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return nodes.Scope(body, lineno=line)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation])
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = environment.from_string((here / "chat-templates" / f"{name}.jinja").read_text())
    return template.render(messages=record["messages"], tools=record.get("tools"), **texts[name])


made = []
for what, template, objective, record, stretches in cases:
    text = "".join(stretch[0] for stretch in stretches)
    weights = [stretch[1] for stretch in stretches for _ in stretch[0]]
    from_data = [len(stretch) > 2 for stretch in stretches for _ in stretch[0]]
    check = None if template == "chatml" else rendered(template, record)
    assert check in (None, text), f"{what}:\n{check!r} is rendered, and by hand it is\n{text!r}"
    print(f"{what}: {'checked against jinja2' if check else 'by hand'}")
    found = list(tokens(text, from_data))
    following = found[1:] + [None]
    made.append({
        "what": what, "template": template, "objective": objective, "record": record,
        "said": [[stretch[0], stretch[1]] for stretch in stretches],
        "positions": [[token, None if after is None else after[0], 0 if after is None else weights[after[1]]] for (token, _), after in zip(found, following)],
    })


def lines(case):
    positions = ",\n    ".join(json.dumps(position, ensure_ascii=False) for position in case["positions"])
    said = ",\n    ".join(json.dumps(stretch, ensure_ascii=False) for stretch in case["said"])
    head = "".join(f'   {json.dumps(key)}: {json.dumps(case[key], ensure_ascii=False)},\n' for key in ("what", "template", "objective", "record"))
    return f'  {{\n{head}   "said": [\n    {said}\n   ],\n   "positions": [\n    {positions}\n   ]\n  }}'


content = ",\n".join(lines(case) for case in made)
special_texts = json.dumps({"special": special, "texts": texts})[1:-1]
(here / "chats.json").write_text(f'{{\n "version": 1,\n {special_texts},\n "cases": [\n{content}\n ]\n}}\n')
