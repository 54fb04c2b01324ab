"""The fast attention, dropout and convolutions compute what PyTorch's own do, and every encoder takes them."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import make_hubert
from torch import nn
from torch.nn import functional as F
from transformers import WhisperFeatureExtractor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hf_ser.modeling import kernels, load_model
from hf_ser.modeling.kernels import (
    OWN,
    WindowedNormLayer,
    WordDropout,
    plain_on_cpu,
    use_own_attention,
    use_windowed_convolutions,
    use_word_dropout,
    window_weight,
    windows,
)
from hf_ser.tuning import Tuning, tune

#: A share that no word of 16 bits can tell from none, but which is not none.
HARDLY = 1e-9


def projected(batch: int, heads: int, frames: int, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(frames)
    return [torch.randn(batch, heads, frames, 8, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 12),
    st.sampled_from(["none", "boolean", "added"]),
    st.sampled_from([(torch.float32, 1e-5), (torch.bfloat16, 4e-2)]),
    st.data(),
)
def test_outputs_and_gradients_are_pytorchs_own(
    batch: int, heads: int, frames: int, kind: str, precision: tuple[torch.dtype, float], data: st.DataObject
) -> None:
    dtype, tolerance = precision
    mask = None
    if kind != "none":
        lengths = torch.tensor(data.draw(st.lists(st.integers(1, frames), min_size=batch, max_size=batch)))
        mask = (torch.arange(frames) < lengths[:, None])[:, None, None].expand(batch, 1, frames, frames)
        if kind == "added":
            mask = torch.where(mask, torch.linspace(-1, 1, frames), -torch.inf).to(dtype)
    module = nn.Module()
    own, plain = (projected(batch, heads, frames, dtype) for _ in range(2))
    expected = F.scaled_dot_product_attention(*own, attn_mask=mask, scale=0.3).transpose(1, 2)
    found, _ = plain_on_cpu(module, *plain, mask, scaling=0.3, dropout=HARDLY)
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    for outputs in (expected, found):
        (outputs * torch.arange(8)).sum().backward()
    for one, other in zip(plain, own, strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad, other.grad, atol=60 * tolerance, rtol=tolerance)


def test_attention_drops_the_given_share() -> None:
    query = torch.zeros(1, 1, 200, 4)  # everybody looks at everybody alike
    value = torch.eye(200)[None, None]
    torch.manual_seed(0)
    attended, _ = plain_on_cpu(nn.Module(), query, query, value, None, dropout=0.25)
    torch.testing.assert_close(attended.unique(), torch.tensor([0.0, 1 / 150]))
    assert 0.24 < (attended == 0).float().mean() < 0.26


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("float32 without dropout", {}),
        ("a clip of more than 20 s", {"frames": 1001, "dtype": torch.bfloat16}),
        ("a causal layer", {"dtype": torch.bfloat16, "causal": True}),
    ],
)
def test_where_it_is_no_faster_pytorchs_own_is_taken(
    what: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(kernels, "sdpa_attention_forward", lambda *args, **kwargs: asked.append(True))
    module = nn.Module()
    module.is_causal = changes.get("causal", False)
    plain_on_cpu(module, *projected(1, 1, changes.get("frames", 5), changes.get("dtype", torch.float32)), None)
    assert asked, what


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_hubert: Path, tiny_whisper: Path) -> dict[str, Path]:
    others = {name: make_hubert(tmp_path_factory.mktemp(name), "group", name) for name in ("wav2vec2", "wavlm")}
    return {"hubert": tiny_hubert, "whisper": tiny_whisper, **others}


@pytest.mark.parametrize("method", ["full", "prompt"])
@pytest.mark.parametrize(
    ("family", "head"), [("hubert", "stock"), ("wav2vec2", "conv"), ("wavlm", "stock"), ("whisper", "conv")]
)
def test_every_layer_of_every_encoder_takes_it(
    family: str, head: str, method: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(str(folders[family]), ("a", "b", "c"), head=head)
    model: Any = tune(loaded, Tuning(method=method)).model.eval()
    inputs = {"attention_mask": torch.ones(2, 8000, dtype=torch.long), "input_values": torch.randn(2, 8000)}
    if isinstance(loaded.feature_extractor, WhisperFeatureExtractor):
        mel = torch.randn(2, loaded.feature_extractor.feature_size, 50)
        inputs = {"attention_mask": torch.ones(2, 50, dtype=torch.long), "input_features": mel}
    inputs["attention_mask"][1, 40 * inputs["attention_mask"].shape[1] // 50 :] = 0

    calls: list[torch.dtype] = []

    def counted(module: Any, query: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        calls.append(query.dtype)
        return plain_on_cpu(module, query, *args, **kwargs)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, OWN, counted)
    monkeypatch.setattr(kernels, "plain_on_cpu", counted)
    with torch.no_grad():
        expected = model(**inputs).logits
        assert not calls
        use_own_attention(model)
        assert torch.equal(model(**inputs).logits, expected)
        layers = len(calls)
        assert layers == loaded.model.config.num_hidden_layers if family != "whisper" else layers > 0
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(model(**inputs).logits.float(), expected, atol=5e-2, rtol=5e-2)
    assert calls[layers:] == [torch.bfloat16] * layers
    model.save_pretrained(tmp_path)
    assert not any(OWN in file.read_text() for file in tmp_path.glob("*.json"))


def test_what_somebody_has_chosen_stays(folders: dict[str, Path]) -> None:
    model = load_model(str(folders["hubert"]), ("a", "b"), head="stock").model
    model.set_attn_implementation("eager")
    use_own_attention(model)
    assert model.config._attn_implementation == "eager"
    assert OWN not in json.dumps(model.config.to_dict())


@given(
    st.floats(0.0, 1.0),
    st.lists(st.integers(0, 7), min_size=1, max_size=4),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_an_element_is_zero_or_scaled(p: float, shape: list[int], dtype: torch.dtype) -> None:
    values = torch.rand(shape).to(dtype) + 1
    dropped = WordDropout(p)(values)
    assert dropped.shape == values.shape
    assert dropped.dtype == dtype
    kept = dropped != 0
    if p < 1:
        torch.testing.assert_close(dropped[kept], values[kept] / (1 - p), rtol=2e-2, atol=0)
    if p in (0.0, 1.0):
        assert kept.all() if p == 0 else not kept.any()


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_dropout_drops_the_given_share(p: float) -> None:
    torch.manual_seed(0)
    dropped = WordDropout(p)(torch.ones(1000, 1001)) == 0
    # Five standard deviations of a fair draw; of each place within a word, and of neighbours that fall together.
    for one in (dropped, *(dropped.flatten()[place::4] for place in range(4))):
        assert abs(one.double().mean() - p) < 5 * (p * (1 - p) / one.numel()) ** 0.5
    both = (dropped[:, 1:] & dropped[:, :-1]).double().mean()
    assert abs(both - p * p) < 5 * (p * p * (1 - p * p) / dropped.numel()) ** 0.5 + 1e-4


def test_a_share_of_dropout_next_to_one_is_not_taken_for_none() -> None:
    assert (WordDropout(1 - 2**-20)(torch.ones(1000)) == 0).sum() > 900


def test_a_seed_gives_the_same_mask_and_the_next_call_another() -> None:
    dropout, values = WordDropout(0.5), torch.ones(1000)
    torch.manual_seed(1)
    first, second = dropout(values), dropout(values)
    torch.manual_seed(1)
    assert torch.equal(dropout(values), first)
    assert not torch.equal(first, second)


def test_the_gradient_of_dropout_is_that_of_what_was_kept() -> None:
    values = torch.rand(3, 5, requires_grad=True)
    dropped = WordDropout(0.4)(values)
    dropped.sum().backward()
    torch.testing.assert_close(values.grad, (dropped != 0) / 0.6)


def test_dropout_takes_the_place_of_pytorchs_own_and_changes_nothing_in_eval_mode() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.1), nn.Dropout1d(0.2)))
    other = copy.deepcopy(model)
    use_word_dropout(model)
    assert [type(module) for module in model.modules()].count(WordDropout) == 2
    assert model.state_dict().keys() == other.state_dict().keys()
    values = torch.rand(2, 4)
    assert torch.equal(model.eval()(values), other.eval()(values))


@given(
    kernel=st.integers(1, 10),
    stride=st.integers(1, 5),
    channels=st.integers(1, 4),
    batch=st.integers(1, 3),
    longer=st.integers(0, 30),
    last=st.booleans(),
)
def test_a_linear_layer_on_windows_is_a_convolution(
    kernel: int, stride: int, channels: int, batch: int, longer: int, last: bool
) -> None:
    conv = nn.Conv1d(channels, 5, kernel, stride)
    hidden = torch.randn(batch, channels, kernel + longer)
    if last:  # as the layer before leaves it
        hidden = hidden.transpose(1, 2).contiguous().transpose(1, 2)
    found = F.linear(windows(hidden, kernel, stride), window_weight(conv), conv.bias).transpose(1, 2)
    torch.testing.assert_close(found, conv(hidden), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("kind", ["hubert", "wav2vec2", "wavlm"])
@torch.no_grad()
def test_windowed_convolutions_are_as_near_to_float32_as_pytorchs_own(
    kind: str, norm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel_sizes: list[int] = []

    def counted(hidden: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
        kernel_sizes.append(kernel)
        return windows(hidden, kernel, stride)

    monkeypatch.setattr(kernels, "windows", counted)
    model: Any = load_model(str(make_hubert(tmp_path, norm, kind)), ("a", "b")).model.eval()
    waveforms, mask = torch.randn(3, 16_000) + 0.5, torch.ones(3, 16_000, dtype=torch.long)
    mask[1, 9000:], mask[2, 500:] = 0, 0
    waveforms *= mask

    def states() -> list[torch.Tensor]:
        found = model.base_model(waveforms, attention_mask=mask).last_hidden_state.float()
        return [found[0], found[1, : (9000 - 400) // 320 + 1], found[2, :1]]  # without padding

    expected = states()
    with torch.autocast("cpu", torch.bfloat16):
        own = states()
        use_windowed_convolutions(model)
        assert any(isinstance(module, WindowedNormLayer) for module in model.modules()) == (norm == "group")
        assert not kernel_sizes
        fast = states()
    assert kernel_sizes == list(model.config.conv_kernel)
    for true, windowed in zip(expected, fast, strict=True):
        assert (windowed - true).norm() < 0.05 * true.norm()
    true, plain, windowed = map(torch.cat, (expected, own, fast))
    assert (windowed - true).norm() < 1.3 * (plain - true).norm()
    for true, again in zip(expected, states(), strict=True):
        torch.testing.assert_close(again, true, atol=1e-5, rtol=1e-5)


def test_convolutions_that_train_are_pytorchs_own(group_norm_hubert: Path) -> None:
    model: Any = load_model(str(group_norm_hubert), ("a", "b")).model
    other = copy.deepcopy(model)
    use_windowed_convolutions(model)
    waveforms = torch.randn(2, 8000)
    for one in (model, other):
        with torch.autocast("cpu", torch.bfloat16):
            one.base_model.feature_extractor(waveforms).float().square().mean().backward()
    for (name, one), (_, same) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        if "feature_extractor" in name:
            assert one.grad is not None
            assert torch.equal(one.grad, same.grad), name


def test_encoders_with_other_convolutions_do_not_change(tiny_whisper: Path) -> None:
    model = load_model(str(tiny_whisper), ("a", "b")).model
    kinds = list(map(type, model.modules()))
    use_windowed_convolutions(model)
    assert list(map(type, model.modules())) == kinds
