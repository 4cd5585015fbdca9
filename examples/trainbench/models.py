"""Llama and GPT-2 as the stock classes define them, written out in PyTorch. A model is a function of its parameters, which
keep the names and shapes of the checkpoint."""
import math

import torch
import torch.nn.functional as F


def attend(q, k, v):
    """Causal attention of q [B, H, T, K] to k and v [B, G, T, K], H a multiple of G; returns [B, T, H*K]."""
    b, heads, t, dim = q.shape
    group = heads // k.shape[1]
    if group > 1:
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    mask = torch.full((t, t), -math.inf, dtype=q.dtype).triu(1)
    q, k, v = (x.reshape(-1, t, dim) for x in (q, k, v))
    p = torch.softmax(torch.baddbmm(mask, q, k.transpose(1, 2), alpha=1 / math.sqrt(dim)), -1)
    return p.bmm(v).view(b, heads, t, dim).transpose(1, 2).reshape(b, t, heads * dim)


def split(x, dim):
    """[B, T, heads*dim] as [B, heads, T, dim]."""
    return x.view(x.shape[0], x.shape[1], -1, dim).transpose(1, 2)


class Llama:
    """LlamaForCausalLM, and what differs from it by biases alone; without rotary scaling and sliding windows."""

    def __init__(self, config, weights):
        if config.get("rope_scaling") or config.get("sliding_window") or config["model_type"] not in ("llama", "mistral", "qwen2"):
            raise ValueError("only plain llama, mistral and qwen2 models without rotary scaling and sliding window")
        self.c, self.w = config, weights
        if config.get("tie_word_embeddings"):
            self.w.pop("lm_head.weight", None)
        self.dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]

    def norm(self, x, name):
        r = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.c["rms_norm_eps"])
        return x * r * self.w[name + ".weight"]

    def linear(self, x, name):
        return F.linear(x, self.w[name + ".weight"], self.w.get(name + ".bias"))

    def rotation(self, t, dtype):
        """Cosines and sines [T, K] of the rotary embedding (arXiv:2104.09864) in its half-split form."""
        inv = self.c["rope_theta"] ** (-torch.arange(0, self.dim, 2, dtype=dtype) / self.dim)
        angle = torch.outer(torch.arange(t, dtype=dtype), inv)
        angle = torch.cat([angle, angle], 1)
        return angle.cos(), angle.sin()

    def logits(self, ids):
        x = F.embedding(ids, self.w["model.embed_tokens.weight"])
        cos, sin = self.rotation(ids.shape[1], x.dtype)

        def rotate(v):
            a, b = v.chunk(2, -1)
            return v * cos + torch.cat([-b, a], -1) * sin

        for layer in range(self.c["num_hidden_layers"]):
            p = f"model.layers.{layer}."
            y = self.norm(x, p + "input_layernorm")
            q, k, v = (split(self.linear(y, p + f"self_attn.{n}_proj"), self.dim) for n in "qkv")
            x = x + self.linear(attend(rotate(q), rotate(k), v), p + "self_attn.o_proj")
            y = self.norm(x, p + "post_attention_layernorm")
            y = F.silu(self.linear(y, p + "mlp.gate_proj")) * self.linear(y, p + "mlp.up_proj")
            x = x + self.linear(y, p + "mlp.down_proj")
        head = self.w.get("lm_head.weight", self.w["model.embed_tokens.weight"])
        return F.linear(self.norm(x, "model.norm"), head)


class GPT2:
    """GPT2LMHeadModel: weights of linear layers are stored [in, out], the head is the embedding."""

    def __init__(self, config, weights):
        if config.get("activation_function", "gelu_new") != "gelu_new":
            raise ValueError("only gelu_new")
        self.c, self.w = config, weights

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.w[name + ".weight"], self.w[name + ".bias"], self.c["layer_norm_epsilon"])

    def linear(self, x, name):
        w = self.w[name + ".weight"]
        return torch.addmm(self.w[name + ".bias"], x.reshape(-1, w.shape[0]), w).view(*x.shape[:-1], w.shape[1])

    def logits(self, ids):
        p = "transformer."
        x = F.embedding(ids, self.w[p + "wte.weight"]) + self.w[p + "wpe.weight"][: ids.shape[1]]
        dim = self.c["n_embd"] // self.c["n_head"]
        for layer in range(self.c["n_layer"]):
            p = f"transformer.h.{layer}."
            q, k, v = self.linear(self.norm(x, p + "ln_1"), p + "attn.c_attn").chunk(3, -1)
            x = x + self.linear(attend(split(q, dim), split(k, dim), split(v, dim)), p + "attn.c_proj")
            y = F.gelu(self.linear(self.norm(x, p + "ln_2"), p + "mlp.c_fc"), approximate="tanh")
            x = x + self.linear(y, p + "mlp.c_proj")
        return F.linear(self.norm(x, "transformer.ln_f"), self.w["transformer.wte.weight"])


def model(config, weights, dtype=torch.float32):
    """The model of a checkpoint, with a trainable copy of its weights."""
    copy = {n: torch.tensor(weights[n], dtype=dtype, requires_grad=True) for n in sorted(weights)}
    return (GPT2 if config["model_type"] == "gpt2" else Llama)(config, copy)


def loss(m, ids):
    """Mean cross entropy of tokens 1..T-1 of all windows [B, T], each predicted from those before it."""
    logits = m.logits(ids)[:, :-1]
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))
