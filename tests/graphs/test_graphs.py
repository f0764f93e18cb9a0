"""The ONNX graphs give what the networks give, at sizes they were not traced with."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from dd2core import DD2Error
from dd2core.graphs import ABOUT, DECODER, GENERATOR, STEP
from dd2core.graphs.engine import TorchEngine, choose_engine, find_graphs
from dd2core.graphs.export import write_graphs
from dd2core.noise import gaussians, uniforms
from dd2core.pipeline import Pipeline
from dd2core.sampling import Sampling
from dd2core.score_model import keep_blocks
from dd2core.store.folder import Model
from dd2core.tools.numerics import nearest_code
from tests.support import tiny, tiny_colour, tiny_var

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def colour() -> Model:
    """The emoji presets' pictures, with a token table and velocity besides."""
    return tiny_colour.model("table", "velocity")


def plain_var() -> Model:
    """RGB, a shared adaLN Linear, no l2 norm, guidance off, a generator of one block."""
    t = tiny_var.teacher(shared=True, l2_norm=False, channels=3)
    generator = tiny.score_model(t).requires_grad_(False).eval()
    keep_blocks(generator.backbone, 1)
    return Model("plain-var", "var", tiny.CLASSES, Sampling(None), t, generator, None, 16)


MADE = {"tiny": tiny.model, "tiny-var": tiny_var.model, "colour": colour, "plain-var": plain_var}


@pytest.fixture(scope="module", params=list(MADE))
def made(request, tmp_path_factory):
    """A model, the folder of its graphs, its engines."""
    torch.manual_seed(0)
    model = MADE[request.param]()
    folder = write_graphs(tmp_path_factory.mktemp("graphs"), model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DD2_GRAPHS", str(folder))
        return model, folder, TorchEngine(model), choose_engine(model, "onnx")


@pytest.mark.parametrize("n", [1, 7])
def test_one_step_gives_the_same_tokens_where_the_margin_is_not_nothing(made, n):
    model, _, own, engine = made
    t = model.teacher
    eps, labels = gaussians(n, t.num_tokens, t.code_dim, 5), torch.arange(n) % 3
    x = model.generator.generate(eps, labels)
    best = (x @ t.codebook.T - 0.5 * t.codebook.square().sum(-1)).topk(2, -1).values
    clear = best[..., 0] - best[..., 1] > 1e-5
    assert torch.equal(engine.tokens(eps, labels)[clear], own.tokens(eps, labels)[clear])
    assert (~clear).float().mean() <= 1e-2
    assert torch.equal(own.tokens(eps, labels), nearest_code(x, t.codebook))


@pytest.mark.parametrize("n", [1, 5])
def test_images_differ_by_one_level_at_most_also_while_they_are_painted(made, n):
    model, _, own, engine = made
    tokens = torch.randint(model.teacher.num_codes, (n, model.teacher.num_tokens))
    for step in (None, 0, model.teacher.num_steps // 2):
        a, b = own.images(tokens, step), engine.images(tokens, step)
        assert a.shape == b.shape and a.dtype == b.dtype
        assert (a.int() - b.int()).abs().max() <= 1


@pytest.mark.parametrize("n, start, top_k", [(1, 0, 0), (3, 0, 1), (3, 2, 5)])
def test_the_teacher_walks_as_in_torch_from_any_step(made, n, start, top_k):
    model, _, own, engine = made
    t = model.teacher
    sampling = dataclasses.replace(model.sampling, top_k=top_k).keywords()
    labels = torch.arange(n) % 3
    prefix = torch.randint(t.num_codes, (n, t.num_tokens), generator=torch.manual_seed(1))
    settings = {**sampling, "noise": uniforms(n, t.num_tokens, 3),
                "prefix": prefix if start else None, "start": start}
    steps = list(zip(own.steps(labels, **settings), engine.steps(labels, **settings), strict=True))
    assert len(steps) == t.num_steps - start
    for (_, mine), (_, theirs) in steps:
        keep = mine > -20
        torch.testing.assert_close(mine[keep], theirs[keep], atol=2e-4, rtol=1e-4)
    (mine, _), (theirs, _) = steps[-1]
    assert torch.equal(mine, theirs)


def test_guidance_other_than_the_presets_still_gives_torchs_tokens(made):
    model, _, own, engine = made
    t = model.teacher
    cfg = t.guidance_off if engine.about["guided"] else 3.0
    u, labels = uniforms(2, t.num_tokens, 1), torch.tensor([0, 2])
    *_, (mine, _) = own.steps(labels, cfg=cfg, noise=u)
    *_, (theirs, _) = engine.steps(labels, cfg=cfg, noise=u)
    assert torch.equal(mine, theirs)


def test_weights_that_changed_in_place_are_never_answered_from_old_graphs(tmp_path, monkeypatch):
    model = tiny.model()
    monkeypatch.setenv("DD2_GRAPHS", str(write_graphs(tmp_path, model)))
    engine, eps = choose_engine(model, "onnx"), gaussians(2, 16, 4, 0)
    with torch.no_grad():
        model.generator.head.out.bias += 5
    now = TorchEngine(model).tokens(eps, torch.tensor([0, 1]))
    assert torch.equal(engine.tokens(eps, torch.tensor([0, 1])), now)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    assert find_graphs(model) is None  # those of the old weights are not this model's


def test_half_precision_is_stored_where_it_is_exact_and_only_there(made):
    _, folder, *_ = made
    for name in (GENERATOR, DECODER, STEP):
        for tensor in onnx.load(folder / name).graph.initializer:
            wide = onnx.numpy_helper.to_array(tensor)
            if wide.dtype == np.float32 and wide.size >= 64:
                assert not np.array_equal(wide.astype(np.float16).astype(np.float32), wide)


def test_shipped_weights_lose_nothing_in_half_precision():
    from dd2core.graphs.write import halve

    weight = torch.randn(64, 64).half().float().numpy()
    odd = torch.randn(64, 64).numpy()
    a = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [64, 64])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["w", "o"], ["y"])], "g", [], [a],
        [onnx.numpy_helper.from_array(weight, "w"), onnx.numpy_helper.from_array(odd, "o")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)],
                                   ir_version=9)
    assert halve(model) == 64 * 64 * 2
    assert [t.data_type for t in model.graph.initializer] == [onnx.TensorProto.FLOAT16,
                                                              onnx.TensorProto.FLOAT]
    import onnxruntime

    run = onnxruntime.InferenceSession(model.SerializeToString()).run
    assert np.array_equal(run(None, {})[0], weight + odd)


def test_no_node_needs_more_buffers_than_a_kernel_of_webgpu_has(made):
    _, folder, *_ = made
    for name in (GENERATOR, DECODER, STEP):
        for node in onnx.load(folder / name).graph.node:
            assert len([i for i in node.input if i]) + len(node.output) <= 10, node.name


def test_web_json_names_sizes_classes_sampling_and_digests(made):
    model, folder, *_ = made
    about = json.loads((folder / ABOUT).read_text())
    assert about["class_names"] == model.class_names
    assert about["spans"] == [list(span) for span in model.teacher.spans]
    assert about["sampling"] == dataclasses.asdict(model.sampling)
    assert set(about["files"]) == {GENERATOR, DECODER, STEP}
    assert about["channels"] == model.teacher.tokenizer.cfg.in_channels


def test_a_damaged_graph_is_one_sentence(made, tmp_path, monkeypatch):
    model, folder, *_ = made
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / DECODER).write_bytes(b"x" + (tmp_path / DECODER).read_bytes()[1:])
    monkeypatch.setenv("DD2_GRAPHS", str(tmp_path))
    with pytest.raises(DD2Error, match=r"decoder.onnx is missing or damaged"):
        choose_engine(model, "onnx")


def test_an_unknown_engine_is_one_sentence_and_torch_is_the_default(monkeypatch):
    model = tiny.model()
    assert choose_engine(model).name == "torch" and Pipeline(model).engine.name == "torch"
    monkeypatch.setenv("DD2_ENGINE", "tpu")
    with pytest.raises(DD2Error, match="set it to torch, onnx or auto"):
        choose_engine(model)


def test_auto_never_writes_graphs_and_takes_onnx_only_if_both_samplers_are_faster(
        made, tmp_path, monkeypatch):
    from dd2core.graphs import engine

    model, folder, *_ = made
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("DD2_GRAPHS", raising=False)
    assert choose_engine(model, "auto").name == "torch" and not any(tmp_path.iterdir())
    monkeypatch.setenv("DD2_GRAPHS", str(folder))
    for times, name in (([3, 3, 1, 1], "onnx"), ([3, 1, 1, 3], "torch"), ([1, 3, 3, 1], "torch")):
        answers = iter(times)
        monkeypatch.setattr(engine, "_least", lambda run, answers=answers: next(answers))
        assert choose_engine(model, "auto").name == name


def test_pipelines_of_both_engines_agree(made):
    model, _, _, engine = made
    a, b = Pipeline(model), Pipeline(model, engine)
    for f in (lambda p: p.sample_one_step([0, 1], 3), lambda p: p.sample_teacher([0, 1], 3),
              lambda p: p.refine([2], 3, start=1)):
        x, y = f(a), f(b)
        assert torch.equal(x.tokens, y.tokens)
        assert np.abs(x.images.astype(int) - y.images).max() <= 1


def test_a_model_without_a_generator_is_one_sentence(tmp_path):
    model = dataclasses.replace(tiny.model(), generator=None)
    with pytest.raises(DD2Error, match="has no generator"):
        write_graphs(tmp_path, model)
