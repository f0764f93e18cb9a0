"""One update: gradients averaged, clipped, taken at the learning rate of their own step."""

import pytest
import torch

from tests.support.train_helpers import config
from train.engine import distributed, loop, optim
from train.settings.schema import Stage

STAGE = Stage(steps=10, warmup=4, lr=0.5, clip=1e9)


def update(i: int, stage: Stage = STAGE, times: int = 1) -> tuple[torch.Tensor, float]:
    """How far plain descent moves weights whose gradient is (3, 4), and the norm it reports."""
    module = torch.nn.Linear(2, 1, bias=False)
    before = module.weight.detach().clone()
    optimizer = torch.optim.SGD(module.parameters(), lr=77.0)
    for _ in range(times):
        module.weight.data.copy_(before)
        loss = (module.weight * torch.tensor([3.0, 4.0])).sum()
        norm = optim.optimise(loss, module, optimizer, stage, i)
    return (before - module.weight.detach())[0], norm


@pytest.mark.parametrize("i", [0, 1, 7])
def test_an_update_takes_the_learning_rate_of_its_own_step(i):
    moved, norm = update(i)
    rate = 0.5 * optim.schedule(i, STAGE)
    assert norm == pytest.approx(5) and optim.schedule(i + 1, STAGE) != optim.schedule(i, STAGE)
    torch.testing.assert_close(moved, rate * torch.tensor([3.0, 4.0]))


def test_an_update_clips_and_reports_the_norm_before():
    moved, norm = update(9, Stage(steps=100, warmup=0, lr=1.0, lr_final=1.0, clip=0.1))
    assert norm == pytest.approx(5) and moved.norm().item() == pytest.approx(0.1, rel=1e-3)


def test_an_update_keeps_no_gradient_of_the_one_before():
    torch.testing.assert_close(update(7, times=2)[0], update(7)[0])


def test_gradients_are_averaged_over_processes_before_they_are_clipped(monkeypatch):
    monkeypatch.setattr(distributed, "average_gradients",
                        lambda module: [p.grad.mul_(100) for p in module.parameters()])
    moved, norm = update(9, Stage(steps=100, warmup=0, lr=1.0, lr_final=1.0, clip=0.1))
    assert norm == pytest.approx(500) and moved.norm().item() == pytest.approx(0.1, rel=1e-3)


def test_the_optimiser_has_the_betas_and_the_decay_of_its_stage():
    optimizer = optim.adam(torch.nn.Linear(2, 2), Stage(beta1=0.3, beta2=0.7, weight_decay=0.2))
    assert [g["betas"] for g in optimizer.param_groups] == [(0.3, 0.7)] * 2
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.2, 0.0]


def test_processes_draw_the_same_numbers_and_take_their_own(monkeypatch):
    class Job:
        networks = {"model": torch.nn.Linear(1, 1)}  # noqa: RUF012

        def step(self, i):
            drawn = torch.rand(4)
            own = distributed.own_part().take(drawn)
            return {"whole": drawn.sum().item(), "own": own[0].item()}

    found = []
    monkeypatch.setattr(distributed, "world", lambda: 2)
    monkeypatch.setattr(distributed, "average", lambda metrics, device: metrics)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        found.append(loop.seeded_step(config(), Job(), 4, "csd"))
    assert found[0]["whole"] == found[1]["whole"] and found[0]["own"] != found[1]["own"]
