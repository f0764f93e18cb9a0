"""The method asks for a denoiser and for which tokens each step decides, and for nothing else.

A teacher without a codebook and one with a scattered order go through GTS, CSD, sampling and
refinement as they are.
"""

import pytest
import torch

from dd2core.csd import CSDOptions, CSDTrainer
from dd2core.gts import ScoreOptions, gts_step_loss
from dd2core.pipeline import Pipeline
from dd2core.sampling import Sampling
from dd2core.score_model import ConditionalScoreModel
from dd2core.store.folder import Model
from tests.support.toys import MixtureTeacher, ScatteredTeacher

N = 128
LABELS = torch.zeros(N, dtype=torch.int64)
TEACHERS = {"no codebook": MixtureTeacher, "scattered order": ScatteredTeacher}
TRAINED: dict[str, tuple] = {}


def right(name: str, tokens: torch.Tensor) -> tuple[float, float]:
    """The share of images whose tokens belong together, and that of the two kinds of image."""
    if name == "no codebook":
        first, second = tokens[..., 0].unbind(1)
        near = ((first.abs() - 1).abs() < 0.4) & ((second - first).abs() < 0.4)
        return near.float().mean().item(), (first > 0).float().mean().item()
    a, b, c, d = tokens.unbind(1)
    return ((a == c) & (d == c) & (b != a)).float().mean().item(), c.float().mean().item()


@pytest.fixture(params=TEACHERS)
def trained(request):
    """Name, teacher, GTS losses and a distilled trainer; trained once."""
    name = request.param
    if name not in TRAINED:
        torch.manual_seed(0)
        teacher = TEACHERS[name]()
        nets = [ConditionalScoreModel(teacher.backbone(), 1, 48, 2) for _ in range(2)]
        guidance, generator = nets
        opts = [torch.optim.Adam(m.parameters(), 4e-3, betas=(0.0, 0.99)) for m in nets]
        losses = []
        for _ in range(150):
            data = teacher.sample(LABELS)
            losses.append(gts_step_loss(guidance, teacher, data, LABELS, ScoreOptions(4)))
            opts[0].zero_grad()
            losses[-1].backward()
            opts[0].step()
        generator.load_state_dict(guidance.state_dict())  # GTS starts both (method §4)
        trainer = CSDTrainer(teacher, generator, guidance, opts[1], opts[0],
                             CSDOptions(times=4, ema=0.95))
        numbers = [trainer.step(torch.randn(N, teacher.num_tokens, 1), LABELS)
                   for _ in range(200)]
        TRAINED[name] = teacher, [x.item() for x in losses], trainer, numbers
    return name, *TRAINED[name]


def pipeline(teacher, trainer) -> Pipeline:
    return Pipeline(Model("toy", "toy", ["one"], Sampling(), teacher, trainer.ema.module, None, 2))


@pytest.mark.parametrize("name", TEACHERS)
def test_its_own_samples_are_right_and_of_both_kinds(name):
    share, ones = right(name, TEACHERS[name]().sample(LABELS.repeat(8)))
    assert share > 0.98 and ones == pytest.approx(0.5, abs=0.08)


def test_gts_comes_close_to_the_teachers_score(trained):
    _, _, losses, _, _ = trained
    # 0.06 to 0.12 by seed; another CPU's rounding is as good as another seed after 150 steps.
    assert sum(losses[-10:]) < 0.25 * sum(losses[:10])


def test_csd_learns_the_joint_distribution(trained):
    name, teacher, _, trainer, numbers = trained
    made = trainer.ema.module.generate(torch.randn(1000, teacher.num_tokens, 1),
                                       torch.zeros(1000, dtype=torch.int64))
    share, ones = right(name, teacher.quantise(made.detach()))
    assert share > 0.75 and ones == pytest.approx(0.5, abs=0.25)  # 0.93 to 0.95, by seed
    codes = {"nll", "entropy"} if name == "scattered order" else set()
    assert set(numbers[-1]) == {"fcs", "csd", "to_code", "grad_g", "grad_psi"} | codes


def test_a_pipeline_samples_streams_and_refines_it(trained):
    name, teacher, _, trainer, _ = trained
    pipe, labels = pipeline(teacher, trainer), [0] * 40
    one, whole = pipe.sample_one_step(labels), pipe.sample_teacher(labels)
    assert (one.passes, whole.passes) == (1, teacher.num_steps)
    parts = list(pipe.stream_teacher(labels))
    assert torch.equal(parts[-1].tokens, whole.tokens) and len(parts) == teacher.num_steps
    last = pipe.refine(labels, start=teacher.num_steps - 1)
    index = teacher.spans[-1] if name == "scattered order" else slice(*teacher.spans[-1])
    kept = torch.ones(teacher.num_tokens, dtype=torch.bool)
    kept[index] = False
    assert torch.equal(last.tokens[:, kept], one.tokens[:, kept])
    assert right(name, last.tokens)[0] >= right(name, one.tokens)[0] - 0.05
    assert right(name, pipe.refine(labels, start=0).tokens)[0] > 0.9
