"""Block checkpointing changes what is kept, not what is learnt (sharded: `test_accumulate.py`)."""

import pytest
import torch
import torch.nn.functional as F

from dd2core.csd import Batch, CSDOptions, CSDTrainer
from dd2core.ema import EMA
from dd2core.gts import ScoreOptions, gts_step_loss
from tests.support import tiny, tiny_var
from train.engine.recompute import checkpoint_blocks
from train.settings.schema import Stage

LABELS = torch.tensor([0, 1, 2])
FAMILIES = pytest.mark.parametrize("family", [tiny, tiny_var])
OFF, ON = Stage(), Stage(checkpoint_blocks=True)


def counted(model) -> list[int]:
    """How often blocks compute, filled as they do; each drops a part of what it gives."""
    calls = []
    for i, block in enumerate(model.backbone.blocks):
        forward = block.forward

        def watched(*a, forward=forward, i=i):
            calls.append(i)
            return F.dropout(forward(*a), 0.3)

        block.forward = watched
    return calls


@FAMILIES
def test_gradients_are_those_without_it_dropout_and_all(family):
    teacher = family.teacher().double()
    tokens = torch.randint(teacher.num_codes, (3, teacher.num_tokens))
    found, blocks = [], []
    for stage in (OFF, ON):
        model = family.score_model(teacher).double()
        blocks.append(counted(model))
        checkpoint_blocks(stage, model)
        torch.manual_seed(5)
        loss = gts_step_loss(model, teacher, tokens, LABELS, ScoreOptions(), True)
        after = torch.rand(())
        loss.backward()
        found.append([loss.detach(), after, *(p.grad for p in model.parameters()
                                              if p.grad is not None)])
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
    depth = len(model.backbone.blocks)
    assert blocks == [list(range(depth)), [*range(depth), *reversed(range(depth))]]


def test_where_no_gradient_is_wanted_nothing_is_computed_twice():
    """ψ's features for CSD, and G on hold; the teacher is none of its networks."""
    teacher = tiny.teacher()
    nets = [tiny.score_model(teacher, seed) for seed in (1, 2)]
    generator, guidance = (counted(m) for m in nets)
    checkpoint_blocks(ON, *nets)
    optimizers = [torch.optim.SGD(m.parameters(), 0.1) for m in nets]
    t = CSDTrainer(teacher, *nets, *optimizers, CSDOptions(form="sid"))
    eps, depth = torch.randn(3, 16, 4), len(nets[0].backbone.blocks)
    t.step(eps, LABELS)
    assert (len(generator), len(guidance)) == (2 * depth, 3 * depth)
    generator.clear()
    t.step(eps, LABELS, hold=True)
    assert len(generator) == depth


@pytest.mark.parametrize("form", ["sid", "dmd"])
def test_the_generators_update_keeps_nothing_of_the_teachers_or_psis_blocks(form):
    """SiD differentiates both D's in x_t alone: through the closed form and ψ's head."""
    teacher = tiny.teacher()
    nets = [tiny.score_model(teacher, seed) for seed in (1, 2)]
    t = CSDTrainer(teacher, *nets, None, None, CSDOptions(form=form))
    graphs = []
    for blocks in (teacher.transformer.backbone.blocks, t.guidance.backbone.blocks):
        for block in blocks:
            block.register_forward_hook(lambda m, a, out: graphs.append(out.requires_grad))
    made = t.generate(Batch(torch.randn(3, 16, 4), LABELS))
    t.distil(made).backward()
    assert graphs and not any(graphs)


def test_the_average_made_before_has_blocks_of_its_own():
    model = tiny.score_model(tiny.teacher())
    before = EMA(model, 0.5).module
    checkpoint_blocks(ON, model)
    after = EMA(model, 0.5).module
    for average in (before, after):
        with torch.no_grad():
            average.backbone.blocks[0].wo.weight.zero_()
        x = torch.randn(1, 16, 4)
        assert not torch.equal(average.generate(x, LABELS[:1]), model.generate(x, LABELS[:1]))
