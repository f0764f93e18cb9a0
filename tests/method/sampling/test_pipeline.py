"""The samplers that users call: shapes, passes, seeds, progress, and input of every bad kind."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.pipeline import Pipeline, as_labels, check_seed
from dd2core.tools.images import to_uint8
from dd2core.tools.timing import cpu_threads
from tests.support import tiny

L, C, K = 16, 4, 16
LABELS = [2, 0, 1]
NAN, INF = float("nan"), float("inf")

SAMPLERS = {
    "teacher": lambda pipe, labels, **o: pipe.sample_teacher(labels, **o),
    "one_step": lambda pipe, labels, **o: pipe.sample_one_step(labels, **o),
    "refine": lambda pipe, labels, **o: pipe.refine(labels, start=9, **o),
    "stream": lambda pipe, labels, **o: list(pipe.stream_teacher(labels, **o))[-1],
}
samplers = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())


def same(a, b) -> bool:
    return np.array_equal(a.images, b.images) and torch.equal(a.tokens, b.tokens)


# What comes back -----------------------------------------------------------------------------


@samplers
@pytest.mark.parametrize("channels", [1, 3])
def test_a_sample_has_images_tokens_and_times(sampler, channels):
    s = sampler(Pipeline(tiny.model(channels)), LABELS)
    assert s.images.shape == (3, 16, 16, channels) and s.images.dtype == np.uint8
    assert s.tokens.shape == (3, L) and s.tokens.dtype == torch.int64
    assert s.seconds > 0 and s.decode_seconds > 0


@samplers
def test_the_images_are_the_decoded_tokens(sampler, tiny_pipe):
    s = sampler(tiny_pipe, LABELS)
    with torch.no_grad():
        x = tiny_pipe.teacher.decode(s.tokens).permute(0, 2, 3, 1).numpy()  # in [−1, 1]
    assert np.abs(s.images - (x + 1) * 127.5).max() <= 0.501


def test_passes_are_counted(tiny_pipe):
    assert tiny_pipe.sample_teacher(LABELS).passes == K  # guided: 2B rows are one pass
    assert tiny_pipe.sample_one_step(LABELS).passes == 1
    for start in (0, 1, 9, K - 1, K):
        assert tiny_pipe.refine(LABELS, start=start).passes == 1 + K - start


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, tuple,
                                  lambda x: np.array(x, np.uint8)])
def test_labels_may_be_a_list_an_array_or_a_tensor(kind, tiny_pipe):
    assert same(tiny_pipe.sample_one_step(kind(LABELS)), tiny_pipe.sample_one_step(LABELS))


# Seeds and latents ---------------------------------------------------------------------------


@samplers
def test_the_same_seed_gives_the_same_image_and_another_does_not(sampler, tiny_pipe):
    a, b, c = (sampler(tiny_pipe, LABELS, seed=s) for s in (5, 5, 6))
    assert same(a, b) and not same(a, c)


@samplers
def test_an_image_depends_on_its_seed_position_and_label_alone(sampler, tiny_pipe):
    whole = sampler(tiny_pipe, LABELS, seed=3)
    part = sampler(tiny_pipe, LABELS[:2], seed=3)
    assert torch.equal(part.tokens, whole.tokens[:2])
    other = sampler(tiny_pipe, [2, 0, 0], seed=3)
    assert torch.equal(other.tokens[:2], whole.tokens[:2])


def test_latents_are_standard_normal_and_prefix_stable(tiny_pipe):
    eps = tiny_pipe.latents(200, seed=1)
    assert eps.shape == (200, L, C) and eps.dtype == torch.float32
    assert eps.mean().abs() < 0.05 and (eps.std() - 1).abs() < 0.05
    assert torch.equal(tiny_pipe.latents(3, seed=1), eps[:3])


def test_latents_override_the_seed(tiny_pipe):
    eps = tiny_pipe.latents(3, seed=8)
    expected = tiny_pipe.sample_one_step(LABELS, seed=8)
    assert same(tiny_pipe.sample_one_step(LABELS, seed=1, latents=eps), expected)
    assert same(tiny_pipe.sample_one_step(LABELS, latents=eps.double()), expected)
    assert not same(tiny_pipe.sample_one_step(LABELS, latents=-eps), expected)


def test_every_seed_that_is_accepted_has_latents_of_its_own(tiny_pipe):
    seeds = [0, 1, 2**32, 2**53, 2**63 - 2, 2**63 - 1]
    rows = []
    for seed in seeds:
        try:
            check_seed(seed)
        except DD2Error:
            continue
        rows.append(tiny_pipe.latents(1, seed).flatten())
    assert len(rows) >= 5 and len(torch.stack(rows).unique(dim=0)) == len(rows)


# Teacher, refine, stream ---------------------------------------------------------------------


def test_refining_from_K_is_plain_one_step(tiny_pipe):
    one = tiny_pipe.sample_one_step(LABELS, seed=4)
    assert same(tiny_pipe.refine(LABELS, seed=4, start=K), one)
    assert same(tiny_pipe.refine(LABELS, seed=4), one)


def test_refining_from_0_is_the_teacher_at_one_pass_more(tiny_pipe):
    refined = tiny_pipe.refine(LABELS, seed=4, start=0)
    assert same(refined, tiny_pipe.sample_teacher(LABELS, seed=4))
    assert refined.passes == K + 1


@pytest.mark.parametrize("start", [1, 9, K - 1])
def test_refining_keeps_the_one_step_tokens_before_its_start(start, tiny_pipe):
    one = tiny_pipe.sample_one_step(LABELS, seed=4)
    refined = tiny_pipe.refine(LABELS, seed=4, start=start, top_k=1)
    assert torch.equal(refined.tokens[:, :start], one.tokens[:, :start])
    y, cfg = torch.tensor(LABELS), tiny_pipe.sampling.cfg
    greedy = tiny_pipe.teacher.log_probs(refined.tokens, y, cfg).argmax(-1)
    assert torch.equal(refined.tokens[:, start:], greedy[:, start:])


def test_settings_default_to_the_presets(tiny_pipe):
    s = tiny_pipe.sampling
    plain = tiny_pipe.sample_teacher(LABELS)
    given = tiny_pipe.sample_teacher(LABELS, cfg=s.cfg, temperature=s.temperature, top_k=s.top_k,
                                     top_p=s.top_p)
    assert s.cfg == 2.0 and same(plain, given)
    for change in ({"cfg": 0.0}, {"temperature": 3.0}, {"top_k": 1}, {"top_p": 0.1}):
        assert not same(plain, tiny_pipe.sample_teacher(LABELS, **change))


def test_a_stream_yields_every_step_with_growing_times_and_ends_as_the_sample(tiny_pipe):
    parts = list(tiny_pipe.stream_teacher(LABELS, seed=2))
    assert [p.step for p in parts] == [p.passes for p in parts] == list(range(1, K + 1))
    assert all(p.steps == K and p.images.shape == (3, 16, 16, 1) for p in parts)
    seconds = [p.seconds for p in parts]
    assert seconds == sorted(seconds) and seconds[0] > 0
    last = tiny_pipe.sample_teacher(LABELS, seed=2)
    assert same(parts[-1], last)
    for p in parts:  # what has been painted stays
        assert torch.equal(p.tokens[:, : p.step], last.tokens[:, : p.step])


def test_a_part_keeps_its_tokens_and_shows_those_that_are_decided(tiny_pipe):
    found = [(p, p.tokens.clone()) for p in tiny_pipe.stream_teacher(LABELS, seed=2)]
    assert all(torch.equal(p.tokens, then) for p, then in found)
    with torch.no_grad():
        for p, _ in found:
            shown = to_uint8(tiny_pipe.teacher.decode(p.tokens, p.step)).permute(0, 2, 3, 1)
            assert np.array_equal(p.images, shown.numpy())


def test_times_are_those_of_the_call_itself_and_of_its_own_work(monkeypatch):
    """By a clock that moves in the networks alone: 3 s a pass of G, 2 s a step of the teacher, 5 s
    a decoding, 1,000 s to find the count of threads."""
    pipe, clock = Pipeline(tiny.model()), [0.0]

    def takes(seconds, call):
        def run(*a):
            clock[0] += seconds
            return call(*a)
        return run

    monkeypatch.setattr("dd2core.pipeline.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr("dd2core.pipeline.best_threads", takes(1000, lambda run, device: 1))
    for owner, name, seconds in ((pipe.generator, "generate", 3), (pipe.teacher, "advance", 2),
                                 (pipe.teacher, "decode", 5)):
        monkeypatch.setattr(owner, name, takes(seconds, getattr(owner, name)))
    for _ in range(2):  # the first time of a shape, and when all is known
        for sampler, seconds in (("one_step", 3), ("refine", 3 + 2 * (K - 9)), ("teacher", 2 * K),
                                 ("stream", 2 * K)):
            s = SAMPLERS[sampler](pipe, LABELS)
            assert (s.seconds, s.decode_seconds) == (seconds, 5), sampler


@pytest.mark.parametrize("every, steps", [(5, [5, 10, 15, 16]), (16, [16]), (100, [16])])
def test_a_stream_may_be_thinned_and_always_ends(every, steps, tiny_pipe):
    parts = list(tiny_pipe.stream_teacher(LABELS, every=every))
    assert [p.step for p in parts] == steps


def test_the_first_call_of_a_shape_runs_once_untimed():
    pipe, calls = Pipeline(tiny.model()), []
    generate = pipe.generator.generate
    pipe.generator.generate = lambda *a: calls.append(len(a[0])) or generate(*a)
    with cpu_threads(1):
        for n in (2, 2, 3):
            pipe.sample_one_step([0] * n)
    assert calls == [2, 2, 2, 3, 3]


def test_a_later_start_takes_the_count_of_the_whole_run_and_is_warmed_up_once(monkeypatch):
    pipe, tried = Pipeline(tiny.model()), []
    steps = pipe.teacher.num_steps
    monkeypatch.setattr("dd2core.pipeline.best_threads",
                        lambda run, device: tried.append(1) or 1)
    pipe.refine([0], start=steps - 1)
    assert len(tried) == 3  # one step, the teacher from there, decoding: nothing is known yet
    pipe.sample_teacher([0])
    assert len(tried) == 4
    walks, whole = [], pipe.teacher.steps
    monkeypatch.setattr(pipe.teacher, "steps",
                        lambda *a, **o: walks.append(o["start"]) or whole(*a, **o))
    for _ in range(2):
        assert pipe.refine([0], start=steps - 2).threads == 1
    assert len(tried) == 4 and walks == [steps - 2] * 3  # to warm up, and twice for real


@pytest.mark.parametrize("sampler, module", [
    ("teacher", "teacher.advance"), ("one_step", "generator.generate"),
    ("refine", "teacher.advance"), ("stream", "teacher.advance"),
])
def test_a_sampler_runs_on_the_threads_that_suit_it(sampler, module, monkeypatch):
    pipe, seen = Pipeline(tiny.model()), []
    monkeypatch.setattr("dd2core.pipeline.best_threads", lambda run, device: 3)
    owner = getattr(pipe, module.split(".")[0])
    before, name = torch.get_num_threads(), module.split(".")[1]
    call = getattr(owner, name)
    monkeypatch.setattr(owner, name,
                        lambda *a: seen.append(torch.get_num_threads()) or call(*a))
    assert SAMPLERS[sampler](pipe, LABELS).threads == 3
    assert set(seen) == {3} and torch.get_num_threads() == before


# Bad input -----------------------------------------------------------------------------------


def refused(call, word: str | None = None) -> None:
    with pytest.raises(DD2Error, match=word) as error:
        call()
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text and "Error" not in text


@samplers
@pytest.mark.parametrize("labels", [
    [], np.zeros(0, int), [99], [3], [-1], ["a"], ["cat"], [1.5], [NAN], [None], [True], None, 0,
    "cat", [[0, 1]], [[0], [1, 2]], np.zeros((2, 2), int), [0] * 10**5, [2**70],
    torch.tensor([0.0]), torch.zeros(1, dtype=torch.bfloat16), {"a": 1},
], ids=lambda a: repr(a)[:30].replace("\n", ""))
def test_bad_labels_are_one_sentence(sampler, labels, tiny_pipe):
    refused(lambda: sampler(tiny_pipe, labels))


@samplers
@pytest.mark.parametrize("seed", [-1, 1.5, None, True, 2**70, 2**63, NAN, "7", [1]], ids=repr)
def test_a_bad_seed_is_one_sentence(sampler, seed, tiny_pipe):
    refused(lambda: sampler(tiny_pipe, LABELS, seed=seed), "seed")


@pytest.mark.parametrize("n", [0, -1, 4097, 1.5, None, "3"], ids=repr)
def test_a_bad_number_of_latents_is_one_sentence(n, tiny_pipe):
    refused(lambda: tiny_pipe.latents(n), "image")


SETTINGS = [("cfg", v) for v in (NAN, INF, -INF, "high")]
SETTINGS += [("temperature", v) for v in (0, -1, NAN, INF, "hot")]
SETTINGS += [("top_k", v) for v in (-1, 1.5, NAN, INF, "all")]
SETTINGS += [("top_p", v) for v in (0, -0.5, 2, NAN, "most")]


@pytest.mark.parametrize("sampler", ["teacher", "refine", "stream"])
@pytest.mark.parametrize("name, value", SETTINGS, ids=lambda a: str(a))
def test_a_bad_setting_is_one_sentence(sampler, name, value, tiny_pipe):
    refused(lambda: SAMPLERS[sampler](tiny_pipe, LABELS, **{name: value}), name)


@pytest.mark.parametrize("start", [-1, K + 1, 1.5, NAN, "2", True], ids=repr)
def test_a_bad_start_is_one_sentence(start, tiny_pipe):
    refused(lambda: tiny_pipe.refine(LABELS, start=start), "start")


@pytest.mark.parametrize("latents", [
    torch.zeros(2, L, C), torch.zeros(3, L), torch.zeros(3, L, C + 1), torch.full((3, L, C), NAN),
    torch.full((3, L, C), INF), np.zeros((3, L)), [[0.0]], "noise",
], ids=lambda a: f"{type(a).__name__} {getattr(a, 'shape', '')}")
def test_bad_latents_are_one_sentence(latents, tiny_pipe):
    for call in (tiny_pipe.sample_one_step, tiny_pipe.refine):
        refused(lambda: call(LABELS, latents=latents), "latents")  # noqa: B023


def test_bad_input_to_a_stream_is_refused_before_the_first_part(tiny_pipe):
    refused(lambda: tiny_pipe.stream_teacher([99]))  # no iteration needed


def test_class_names_and_numbers_become_labels():
    assert as_labels(["owl", 0, "cat"], tiny.CLASSES) == [2, 0, 0]
    refused(lambda: as_labels(["cow"], tiny.CLASSES), "'cow' is unknown.*cat, dog, owl")
