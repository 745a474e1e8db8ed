"""Networks whose attention goes another way are the networks that they were."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from pico import families

from bespoke.models import attention, backends, find
from bespoke.models.attention import install, remove, shapes_of
from bespoke.models.backends import Shape


@pytest.fixture(scope="module")
def unet():
    return find("pico").denoiser().float()


def adapted(unet):
    """A copy with LoRA beside all of attention's layers, whose second matrices are not zero."""
    network = copy.deepcopy(unet)
    network.add_adapter(LoraConfig(r=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    source = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=source) * 0.02
    return network


def answers(network: UNet2DConditionModel, kind: torch.dtype):
    """The answer and the gradient of all trainable parameters, each as one vector in float64."""
    source = torch.Generator().manual_seed(0)
    latents, texts, target = (
        torch.randn(shape, generator=source) for shape in ((2, 4, 16, 16), (2, 77, 160), (2, 4, 16, 16))
    )
    network.zero_grad()
    answer = network(latents.to(kind), torch.tensor([100, 700]), texts.to(kind)).sample
    F.mse_loss(answer.float(), target).backward()
    grads = [p.grad.double().flatten() for p in network.parameters() if p.requires_grad]
    return answer.detach().double().flatten(), torch.cat(grads)


def cosine(one, two):
    return float(F.cosine_similarity(one, two, dim=0))


def test_pico_answers_as_before_in_bfloat16(unet):
    exact = answers(adapted(unet), torch.float32)
    network = adapted(unet).to(torch.bfloat16)
    before = answers(network, torch.bfloat16)
    assert install(network) == len(network.attn_processors) == 20
    after = answers(network, torch.bfloat16)
    assert not torch.equal(before[1], after[1]), "attention went the same way"
    for one, two, true in zip(after, before, exact, strict=True):
        assert 1 - cosine(one, true) <= 2 * (1 - cosine(two, true)), "further from float32 than torch's own attention"


def test_keys_and_processors_stay_and_come_back(unet):
    network = copy.deepcopy(unet)
    keys, before = [*network.state_dict()], answers(network.requires_grad_(), torch.float32)
    own = {name: type(processor) for name, processor in network.attn_processors.items()}
    assert install(network) == install(network) == 20
    assert [*network.state_dict()] == keys
    assert all(isinstance(one, own[name]) for name, one in network.attn_processors.items())
    remove(network)
    assert {name: type(processor) for name, processor in network.attn_processors.items()} == own
    for one, two in zip(answers(network, torch.float32), before, strict=True):
        assert torch.equal(one, two)


def test_with_a_mask_attention_is_torchs_own():
    query, key, value = (torch.randn(1, 2, 5, 4, generator=torch.Generator().manual_seed(n)) for n in range(3))
    mask, functions = torch.ones(5, 5).tril().bool(), attention._Functions({})
    for kind in (torch.float32, torch.bfloat16):
        states = [one.to(kind) for one in (query, key, value)]
        exact = F.scaled_dot_product_attention(*states, attn_mask=mask)
        assert torch.equal(functions.scaled_dot_product_attention(*states, attn_mask=mask), exact)
        causal = F.scaled_dot_product_attention(*states, is_causal=True)
        assert torch.equal(functions.scaled_dot_product_attention(*states, dropout_p=0.0, is_causal=True), causal)


@pytest.mark.parametrize("shape", [(2, 3, 64, 64, 16), (1, 2, 256, 77, 40), (2, 1, 1, 5, 8)])
@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_few_scores_at_once_give_what_torch_gives(shape, kind):
    batch, heads, rows, keys, width = shape
    source = torch.Generator().manual_seed(0)
    told = [
        torch.randn(batch, n, heads, width, generator=source).to(kind).transpose(1, 2) for n in (rows, keys, keys)
    ]  # the heads of what a layer says do not lie one after another
    exact, given = ([one.detach().clone().to(k).requires_grad_() for one in told] for k in (torch.float64, kind))
    wanted = F.scaled_dot_product_attention(*exact)
    found = attention.at_once(*given)
    gradient = torch.randn(wanted.shape, generator=source, dtype=torch.float64)
    wanted.backward(gradient)
    found.backward(gradient.to(kind))
    assert found.shape == wanted.shape and found.dtype == kind
    for one, two in zip((found, *(g.grad for g in given)), (wanted, *(e.grad for e in exact)), strict=True):
        error = float((one.detach().double() - two.detach()).norm() / two.detach().norm())
        assert error < (1e-12 if kind is torch.float64 else 0.02)


def test_a_networks_shapes_are_known_without_computing(unet):
    network, inputs = copy.deepcopy(unet), (torch.zeros(2, 4, 16, 16), torch.tensor([1, 2]), torch.zeros(2, 77, 160))
    found = shapes_of(network, *inputs)
    sides = [(1, 256), (2, 64), (4, 16)]
    wanted = [Shape(2, h, n, m, 48, torch.float32) for h, n in sides for m in (n, 77)]
    assert sorted(found[:6], key=str) == sorted(wanted, key=str) and len(found) == 6
    assert not any(isinstance(one, attention._Derived) for one in network.attn_processors.values())


def test_what_was_measured_is_kept_and_heeded(unet, tmp_path):
    """In float32, where attention in blocks is never taken unasked."""
    shapes = [Shape(1, 1, 8, 8, 4, torch.float32), Shape(1, 2, 8, 5, 4, torch.bfloat16)]
    device = torch.device("cpu")
    first = backends.quickest(shapes, device, tmp_path)
    assert [*first] == shapes and {*first.values()} <= {"torch", "blocks"}
    (file,) = tmp_path.iterdir()
    content = json.loads(file.read_text())
    assert all({*one["seconds"]} == {"torch", "blocks"} for one in content.values())
    turned = {key: one | {"way": "blocks" if one["way"] == "torch" else "torch"} for key, one in content.items()}
    file.write_text(json.dumps(turned))
    second = backends.quickest(shapes, device, tmp_path)
    assert all(first[shape] != second[shape] for shape in shapes), "it was measured again"
    file.write_text("{torn")
    assert [*backends.quickest(shapes, device, tmp_path)] == shapes

    network = copy.deepcopy(unet).requires_grad_()
    before = answers(network, torch.float32)
    install(network)
    assert torch.equal(answers(network, torch.float32)[0], before[0])
    inputs = torch.zeros(2, 4, 16, 16), torch.tensor([1, 2]), torch.zeros(2, 77, 160)
    install(network, dict.fromkeys(shapes_of(network, *inputs), "blocks"))
    after = answers(network, torch.float32)
    assert not torch.equal(after[0], before[0]), "the choices were not heeded"
    for one, two in zip(after, before, strict=True):
        assert float((one - two).norm() / two.norm()) < 1e-5


def test_a_transformer_of_the_third_kind_answers_as_before(tmp_path):
    families.write("sd3", tmp_path / "model")
    network = find(str(tmp_path / "model")).denoiser().float()
    source = torch.Generator().manual_seed(0)
    config = network.config
    inputs = {
        "hidden_states": torch.randn(1, config.in_channels, 8, 8, generator=source),
        "encoder_hidden_states": torch.randn(1, 5, config.joint_attention_dim, generator=source),
        "pooled_projections": torch.randn(1, config.pooled_projection_dim, generator=source),
        "timestep": torch.tensor([300.0]),
    }
    with torch.no_grad():
        before = network(**inputs).sample
        choices = dict.fromkeys(shapes_of(network, **inputs), "blocks")
        assert choices and install(network, choices)
        after = network(**inputs).sample
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
