"""Moving average of weights: its rule, its precision, what it follows."""

import pytest
import torch
from torch import nn

from dd2core.ema import EMA, ema_weight


def filled(value: float, dtype=torch.float32) -> nn.Linear:
    module = nn.Linear(2, 2).to(dtype)
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(value)
    return module


@pytest.mark.parametrize("n, decay, weight", [
    (0, 0.998, 0.1), (8, 0.998, 0.5), (10**6, 0.998, 0.998), (10**6, 0.5, 0.5), (0, 0.0, 0.0),
])
def test_the_weight_grows_from_short_memory_to_the_decay(n, decay, weight):
    assert ema_weight(n, decay) == pytest.approx(weight)


def test_each_update_is_the_weighted_mean_of_old_and_new():
    ema, expected = EMA(filled(1.0), 0.9), 1.0
    for n, value in enumerate([3.0, -2.0, 5.0, 0.5]):
        ema.update(filled(value))
        w = ema_weight(n, 0.9)
        expected = w * expected + (1 - w) * value
        torch.testing.assert_close(ema.module.weight, torch.full((2, 2), expected))
    assert ema.updates.item() == 4


def test_it_converges_to_weights_that_stand_still():
    ema, target = EMA(filled(0.0), 0.9), filled(4.0)
    for _ in range(200):
        ema.update(target)
    torch.testing.assert_close(ema.module.weight, target.weight, atol=1e-5, rtol=0)


def test_a_bfloat16_module_is_averaged_in_float32():
    ema = EMA(filled(1.0, torch.bfloat16), 0.999)
    ema.updates.fill_(10**6)
    ema.update(filled(2.0, torch.bfloat16))
    assert ema.module.weight.dtype == torch.float32
    torch.testing.assert_close(ema.module.weight, torch.full((2, 2), 1.001))


def test_it_is_a_frozen_copy():
    module = filled(1.0)
    ema = EMA(module, 0.9)
    assert not any(p.requires_grad for p in ema.parameters())
    ema.update(filled(5.0))
    assert (module.weight == 1).all() and module.weight.requires_grad


def test_buffers_are_followed_as_they_are():
    module = nn.BatchNorm1d(3)
    ema = EMA(module, 0.99)
    module(torch.randn(50, 3) + 7)
    ema.update(module)
    assert torch.equal(ema.module.running_mean, module.running_mean)
    assert ema.module.num_batches_tracked == 1


def test_its_state_dict_carries_average_and_count():
    ema, again = EMA(filled(1.0), 0.9), EMA(filled(0.0), 0.9)
    ema.update(filled(3.0))
    again.load_state_dict(ema.state_dict())
    for e in (ema, again):
        e.update(filled(-1.0))
    assert torch.equal(ema.module.weight, again.module.weight)


def test_warmup_one_is_the_plain_mean():
    average = EMA(torch.nn.Linear(2, 1, bias=False), 0.9999, warmup=1.0)
    with torch.no_grad():
        average.module.weight.zero_()
    module, seen = torch.nn.Linear(2, 1, bias=False), [torch.zeros(1, 2)]
    for _ in range(5):
        torch.nn.init.normal_(module.weight)
        seen.append(module.weight.detach().clone())
        average.update(module)
    torch.testing.assert_close(average.module.weight, torch.stack(seen).mean(0))
