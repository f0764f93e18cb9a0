"""The public samplers from a checkout: what is asked of it, and their tokens beside ours.

The stand-in has the public LlamaGen's module names, arguments and weights, and the plain sampler of
`tests.support.plain_llamagen` behind them.
"""

import json
import sys
from pathlib import Path

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.pipeline import Pipeline
from dd2core.sampling import Sampling
from dd2core.store.folder import save_folder
from tests.support import tiny, tiny_var
from tests.support.train_helpers import cli
from train.benchmark import benchmark, table
from train.measure.public.beside import agreement, public_sampler
from train.settings.schema import Benchmark

GPT = """
import dataclasses
from torch import nn
from tests.support.plain_llamagen import gpt_keys

@dataclasses.dataclass
class ModelArgs:
    dim: int
    n_layer: int
    n_head: int
    vocab_size: int
    block_size: int
    num_classes: int
    cls_token_num: int
    model_type: str
    multiple_of: int
    ffn_dim_multiplier: float

class Transformer(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.a = a
        hidden = a.multiple_of * -(-int(a.ffn_dim_multiplier * int(8 * a.dim / 3)) // a.multiple_of)
        keys = gpt_keys(a.n_layer, a.dim, a.vocab_size, a.num_classes, hidden)
        for name, shape in keys.items():
            at = self
            *path, leaf = name.split(".")
            for part in path:
                if part not in dict(at.named_children()):
                    at.add_module(part, nn.Module())
                at = getattr(at, part)
            at.register_parameter(leaf, nn.Parameter(nn.init.normal_(nn.Parameter(
                __import__("torch").empty(shape)))))
"""
GENERATE = """
from tests.support.plain_llamagen import greedy

def generate(model, cond, max_new_tokens, cfg_scale=1.0, temperature=1.0, top_k=0, top_p=1.0,
             sample_logits=True):
    print("their words")
    assert max_new_tokens == model.a.block_size
    return greedy(dict(model.named_parameters()), cond, cfg_scale, model.a.n_head,
                  int(model.a.block_size ** 0.5)).int()
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A folder as git clone makes it."""
    for name in [n for n in sys.modules if n.partition(".")[0] in ("autoregressive", "models")]:
        monkeypatch.delitem(sys.modules, name)
    folder = tmp_path / "LlamaGen" / "autoregressive" / "models"
    folder.mkdir(parents=True)
    (folder / "gpt.py").write_text(GPT)
    (folder / "generate.py").write_text(GENERATE)
    yield tmp_path / "LlamaGen"
    for name in [n for n in sys.modules if n.partition(".")[0] == "autoregressive"]:
        del sys.modules[name]


@pytest.mark.parametrize("token_input", ["codes", "table"])
def test_their_greedy_tokens_are_the_teachers(checkout, token_input):
    teacher, path = tiny.teacher(token_input), list(sys.path)
    theirs, labels = public_sampler(str(checkout), teacher), torch.arange(3)
    assert agreement(theirs, teacher, Sampling(2.0), labels) == 1
    assert agreement(theirs, tiny.teacher(token_input, seed=1), Sampling(2.0), labels) < 0.9
    assert sys.path == path


def test_the_benchmark_times_them_beside_ours(checkout):
    pipe = Pipeline(tiny.model())
    found = benchmark(pipe, Benchmark(batches=[2], repeats=1, public=str(checkout)))
    assert found["public_greedy_agreement"] == 1
    [line] = found["rows"]
    assert line["ms"]["public"] > 0 and "public ms /threads" in table(found)
    assert "100.00% of its tokens are the teacher's" in table(found)
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("kind, says", [
    ("none", "is no checkout of LlamaGen"), ("other family", "the model is of another family"),
    ("broken", "does not run here"), ("bf16", "timed in float32")])
def test_what_cannot_be_timed_is_one_sentence(checkout, kind, says, tmp_path):
    model = tiny.model()
    if kind == "broken":
        (checkout / "autoregressive" / "models" / "generate.py").write_text("import not_there")
    folder = tmp_path if kind == "none" else checkout
    if kind == "other family":
        with pytest.raises(DD2Error, match=says):
            public_sampler(str(folder), tiny_var.teacher())
        return
    save_folder(tmp_path / "model", model)
    stopped = cli("benchmark", "preset=tiny", f"benchmark.model={tmp_path / 'model'}", "device=cpu",
                  f"out={tmp_path / 'run'}", f"benchmark.public={folder}",
                  f"benchmark.bf16={kind == 'bf16'}")
    assert stopped.startswith("error: ") and says in stopped and "\n" not in stopped
