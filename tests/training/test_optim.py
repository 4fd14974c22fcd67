"""Learning-rate course and averaged weights, checked by hand."""

import pytest
import torch
from torch import nn

from calco.config import OptimizerName
from calco.nets.encoders import EncoderDecoder
from calco.training.optim import (
    AveragedWeights,
    EncoderRates,
    learning_rate_factor,
    make_optimizer,
    set_learning_rate,
)


def test_cosine_rises_peaks_and_lands_on_zero() -> None:
    course = [learning_rate_factor("cosine", i / 100, step=10 * i) for i in range(101)]
    assert course[0] < 0.11
    assert max(course) == pytest.approx(1.0, abs=0.02)
    assert course[100] == 0.0
    peak = course.index(max(course))
    assert all(a >= b for a, b in zip(course[peak:], course[peak + 1 :], strict=False))


def test_warmup_counts_steps_when_the_clock_runs_fast() -> None:
    assert learning_rate_factor("cosine", 0.04, step=0) == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_biases_and_norms_are_not_decayed(name: OptimizerName) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    groups = make_optimizer(network, name, 1e-3, 0.1).param_groups
    assert [g["weight_decay"] for g in groups] == [0.1, 0.0]
    assert [len(g["params"]) for g in groups] == [1, 3]  # one kernel; bias, gain and shift


def test_fp16_undoes_its_loss_scale_before_gradients_are_clipped() -> None:
    # a fused rule undoes it by itself, later, and Fabric refuses to clip then
    network = nn.Conv2d(1, 2, 3)
    assert make_optimizer(network, "adamw", 1e-3, 0.1).param_groups[0]["fused"]
    assert not make_optimizer(network, "adamw", 1e-3, 0.1, "fp16").param_groups[0]["fused"]


def rates_by_name(network: EncoderDecoder, rates: EncoderRates) -> dict[str, float]:
    optimizer = make_optimizer(network, "adamw", 1.0, 0.1, rates=rates)
    set_learning_rate(optimizer, 2.0)
    by_id = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return {name: by_id[id(p)] for name, p in network.named_parameters() if id(p) in by_id}


def test_each_stage_of_an_encoder_learns_slower_than_the_one_below() -> None:
    network = EncoderDecoder(3, "resnet18")
    found = rates_by_name(network, EncoderRates(factor=0.5, layer_decay=0.5))
    assert found.keys() == dict(network.named_parameters()).keys()
    # 2 x 0.5 x 0.5 ^ (stages up from the decoder)
    assert found["head.weight"] == found["decoder.blocks.0.conv1.0.weight"] == 2.0
    assert found["encoder.layer4.0.conv1.weight"] == 0.5
    assert found["encoder.layer3.0.bn1.bias"] == 0.25
    assert found["encoder.conv1.weight"] == 2 * 0.5 * 0.5**5


def test_the_first_group_has_the_planned_rate_and_decay_is_as_everywhere() -> None:
    rates = EncoderRates(layer_decay=0.5)
    groups = make_optimizer(EncoderDecoder(3, "resnet18"), "sgd", 1e-3, 0.1, rates=rates)
    assert groups.param_groups[0]["rate_factor"] == 1.0
    for group in groups.param_groups:
        assert group["weight_decay"] == (0.1 if group["params"][0].ndim > 1 else 0.0)


def test_equal_rates_are_two_groups_as_without_an_encoder() -> None:
    groups = make_optimizer(EncoderDecoder(3, "resnet18"), "adamw", 1e-3, 0.1).param_groups
    assert [g["rate_factor"] for g in groups] == [1.0, 1.0]


def test_a_frozen_encoder_is_left_out() -> None:
    network = EncoderDecoder(3, "resnet18")
    network.freeze_encoder()
    found = rates_by_name(network, EncoderRates(factor=0.5))
    assert found
    assert not [name for name in found if name.startswith("encoder.")]


def test_states_of_before_know_no_factors() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    set_learning_rate(optimizer, 0.25)
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_average_of_constant_weights_is_the_constant() -> None:
    network = nn.Linear(1, 1)
    average = AveragedWeights(network)
    for step in range(1, 50):
        average.update(network, step)
    assert torch.equal(average.network.weight, network.weight)


def test_average_moves_by_one_minus_decay() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    average = AveragedWeights(network, decay=0.9)
    nn.init.ones_(network.weight)
    average.update(network, step=10**6)  # far beyond warm-up: decay 0.9
    assert average.network.weight.item() == pytest.approx(0.1)
    average.update(network, step=10**6)
    assert average.network.weight.item() == pytest.approx(0.19)
    assert network.weight.item() == 1.0


def test_early_averages_follow_the_network_closely() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    average = AveragedWeights(network, decay=0.999)
    nn.init.ones_(network.weight)
    average.update(network, step=1)  # decay 2 / 11
    assert average.network.weight.item() == pytest.approx(9 / 11)


def test_a_settled_average_moves_seldom_and_as_far() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    average = AveragedWeights(network, decay=0.95)
    nn.init.ones_(network.weight)
    for step in range(1001, 1004):
        average.update(network, step)
        assert average.network.weight.item() == 0
    average.update(network, step=1004)
    assert average.network.weight.item() == pytest.approx(1 - 0.95**4)


def test_batch_counters_are_copied() -> None:
    network = nn.BatchNorm2d(2)
    average = AveragedWeights(network)
    network(torch.randn(4, 2, 3, 3))
    average.update(network, step=1)
    assert average.network.state_dict()["num_batches_tracked"] == 1
