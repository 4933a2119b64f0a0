"""llama.cpp on the same language model: its speed and its logits. Run by a Python of its own.

PYTHON bench/llama.py < REQUEST        needs llama_cpp and gguf; prints JSON

Request: {"lm": folder with config.json and model.safetensors, "out": folder for GGUF files,
"threads", "rows": [1, 8], "steps", "rounds", "prompt": ids, "answer": ids, "greedy": count,
"semantic": ids whose logits are wanted}. Answer: {format: {"tokens_per_second": {rows: rate},
"logits": file of float32 [len(answer), len(semantic)], "greedy": ids}}. The head is whole.
"""

from __future__ import annotations

import ctypes
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np

FORMATS = {
    "bf16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
    "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
}
NAMES = {  # of a layer's tensors, theirs by ours
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def tensors(path: Path) -> dict[str, np.ndarray]:
    """Of a safetensors file in float32, mapped."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    if {about["dtype"] for about in header.values()} != {"F32"}:
        raise ValueError(f"{path}: only float32 is read")
    data = np.memmap(path, np.uint8, mode="r", offset=8 + length)
    return {
        name: data[slice(*about["data_offsets"])].view(np.float32).reshape(about["shape"])
        for name, about in header.items()
    }


def their_name(name: str) -> str:
    """A tensor's name in a GGUF file."""
    name = name.removeprefix("model.")
    if name == "embed_tokens.weight":
        return "token_embd.weight"
    if name == "norm.weight":
        return "output_norm.weight"
    _, layer, rest = name.split(".", 2)
    part, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{NAMES[part]}.{kind}"


def write_gguf(lm: Path, path: Path) -> None:
    """The model in float32, tied, without a tokenizer."""
    config = json.loads((lm / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    rope = config.get("rope_parameters", config)  # as transformers 5 and 4 write it
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    for name, tensor in tensors(lm / "model.safetensors").items():
        if name != "lm_head.weight":
            writer.add_tensor(their_name(name), np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantise(source: Path, target: Path, kind: int) -> None:
    """With llama.cpp's own quantiser."""
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = kind
    failed = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(options)
    )
    if failed:
        raise RuntimeError(f"llama.cpp could not write {target.name}")


class Model:
    """A GGUF file with room for some rows."""

    def __init__(self, path: Path, rows: int, positions: int, threads: int) -> None:
        about = llama_cpp.llama_model_default_params()
        about.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), about)
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = options.n_batch = rows * positions
        options.n_seq_max = rows
        options.n_threads = options.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        if not self.context:
            raise RuntimeError(f"llama.cpp could not open {path.name}")
        vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(vocabulary)
        self.batch = llama_cpp.llama_batch_init(rows * positions, 0, rows)

    def run(self, tokens: list[tuple[int, int, int, bool]]) -> None:
        """(id, position, row, whether its logits are wanted) of each."""
        batch = self.batch
        batch.n_tokens = len(tokens)
        for place, (token, position, row, wanted) in enumerate(tokens):
            batch.token[place], batch.pos[place] = token, position
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, row
            batch.logits[place] = wanted
        if llama_cpp.llama_decode(self.context, batch):
            raise RuntimeError("llama.cpp could not decode")

    def logits(self, place: int) -> np.ndarray:
        """Of the token at this place of the last batch: [vocabulary]."""
        pointer = llama_cpp.llama_get_logits_ith(self.context, place)
        return np.ctypeslib.as_array(pointer, (self.vocabulary,))

    def forget(self) -> None:
        """Empty all rows."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def close(self) -> None:
        """Give the memory back."""
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)


def rate(path: Path, rows: int, asked: dict[str, Any]) -> float:
    """Tokens a second of so many rows together, after their prompts; the likeliest is taken."""
    prompt, steps = asked["prompt"], asked["steps"]
    model = Model(path, rows, len(prompt) + steps + 8, asked["threads"])
    rates = []
    for _ in range(asked["rounds"]):
        model.forget()
        for row in range(rows):
            model.run([(t, at, row, at == len(prompt) - 1) for at, t in enumerate(prompt)])
        drawn = [int(model.logits(len(prompt) - 1).argmax())] * rows
        started = time.perf_counter()
        for at in range(len(prompt), len(prompt) + steps):
            model.run([(token, at, row, True) for row, token in enumerate(drawn)])
            drawn = [int(model.logits(row).argmax()) for row in range(rows)]
        rates.append(rows * steps / (time.perf_counter() - started))
    model.close()
    return round(statistics.median(rates), 1)


def judged(path: Path, asked: dict[str, Any], file: Path) -> dict[str, Any]:
    """Logits of a given answer, and the answer that it would give."""
    prompt, answer, semantic = asked["prompt"], asked["answer"], np.array(asked["semantic"])
    room = len(prompt) + max(len(answer), asked["greedy"]) + 8
    model = Model(path, 1, room, asked["threads"])
    ids = prompt + answer
    model.run([(token, at, 0, True) for at, token in enumerate(ids[:-1])])
    places = range(len(prompt) - 1, len(ids) - 1)
    np.save(file, np.stack([model.logits(place)[semantic] for place in places]))
    model.forget()
    model.run([(token, at, 0, at == len(prompt) - 1) for at, token in enumerate(prompt)])
    greedy, place = [], len(prompt) - 1
    for at in range(len(prompt), len(prompt) + asked["greedy"]):
        greedy.append(int(semantic[model.logits(place)[semantic].argmax()]))
        model.run([(greedy[-1], at, 0, True)])
        place = 0
    model.close()
    return {"logits": str(file), "greedy": greedy}


def main() -> None:
    """One JSON object in, one out."""
    asked = json.load(sys.stdin)
    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    out = Path(asked["out"])
    out.mkdir(parents=True, exist_ok=True)
    source = out / "float32.gguf"
    found = {}
    for name, kind in FORMATS.items():
        path = out / f"{name}.gguf"
        if not path.is_file():
            if not source.is_file():
                staged = source.with_suffix(".part")
                write_gguf(Path(asked["lm"]), staged)
                staged.rename(source)
            staged = path.with_suffix(".part")
            quantise(source, staged, kind)
            staged.rename(path)
        rates = {str(rows): rate(path, rows, asked) for rows in asked["rows"]}
        found[name] = {
            "tokens_per_second": rates,
            **judged(path, asked, out / f"{name}.npy"),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
