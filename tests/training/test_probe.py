"""The solved probe, what starts from it, and what is kept at the end of a training."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits
from torch import nn
from transformers import AutoConfig, Data2VecAudioConfig, HubertConfig, TrainerCallback, WhisperConfig

import hf_ser
from hf_ser.hub.card import write_card
from hf_ser.modeling import SERModelConfig, StandardisedLinear, fold_training_layers, load_model
from hf_ser.results import RunResults
from hf_ser.training import SERConfig, finetune, parse_arguments, probe
from hf_ser.training.averaging import WeightAverage, interpolate, trained_weights
from hf_ser.training.base import learning_rates
from hf_ser.training.losses import BALANCES
from hf_ser.training.probe import C_VALUES, START_LOSS, Clips, solve
from hf_ser.wording import per_cent

EMOTIONS = ("angry", "happy", "sad")


def one_hot(labels: Any) -> Any:
    return np.eye(3, dtype=np.float32)[np.asarray(labels)]


def made_up(model: Any, clips: int = 60, shift: float = 1.5) -> Clips:
    """Statistics of clips of separable emotions, with features of very different scale."""
    rng = np.random.default_rng(0)
    labels = np.arange(clips) % 3
    whole = model.config.use_weighted_layer_sum
    width = model.projector.linear.in_features
    layers = model.config.num_hidden_layers + 1
    features = rng.normal(size=(clips, layers, width if whole else width // layers)).astype(np.float32)
    features[:, :, :3] += shift * np.eye(3)[labels][:, None]
    features *= np.logspace(-2, 2, features.shape[-1], dtype=np.float32)
    return Clips(features, one_hot(labels), [f"speaker {i // 6}" for i in range(clips)])


def with_few_sad(clips: Clips, first: int) -> Clips:
    """Those of the `first` clips, and of the others the angry ones alone."""
    kept = np.flatnonzero((clips.labels[:, 2] == 0) | (np.arange(len(clips.labels)) < first))
    return Clips(clips.features[kept], clips.labels[kept], [clips.speakers[i] for i in kept])


def load_linear(checkpoint: object, emotions: Sequence[str] = EMOTIONS, dimensions: Sequence[str] = ()) -> Any:
    """A model with a linear head."""
    return load_model(str(checkpoint), emotions, dimensions, head="linear").model.eval()


@pytest.fixture(params=["tiny_hubert", "tiny_whisper"])
def linear(request: pytest.FixtureRequest) -> Any:
    """A model with a linear head: a stock one, and one of the package's own class."""
    return load_linear(request.getfixturevalue(request.param))


def pooled(model: Any, clips: Clips) -> torch.Tensor:
    """What the head of a model takes of each clip, `(clips, features)`."""
    features = torch.from_numpy(clips.features)
    if model.config.use_weighted_layer_sum:
        return (features * model.layer_weights.detach().softmax(0)[:, None]).sum(1)
    return features.flatten(1)


class TestSolving:
    def test_is_the_logistic_regression_of_scikit_learn_on_features_whitened_within_emotions(self, linear: Any) -> None:
        clips = made_up(linear)
        c = solve(linear, clips, emotions=3).c
        inputs = pooled(linear, clips)
        scaled = StandardScaler().fit_transform(inputs.numpy()).astype(np.float64)
        labels = clips.labels.argmax(1)
        centred = scaled - np.stack([scaled[labels == label].mean(0) for label in range(3)])[labels]
        within = centred.T @ centred / len(centred)
        shrunk = 0.7 * within + 0.3 * np.trace(within) / np.linalg.matrix_rank(scaled) * np.eye(len(within))
        white = scaled @ scipy.linalg.sqrtm(np.linalg.inv(shrunk))
        expected = LogisticRegression(C=c, max_iter=1000).fit(white, labels).predict_proba(white)
        with torch.no_grad():
            found = linear.classifier(linear.projector(inputs)).softmax(-1).numpy()
        assert c in C_VALUES
        np.testing.assert_allclose(found, expected, atol=2e-3)

    def test_every_layer_but_the_input_of_the_first_weighs_alike_on_the_scale_of_its_deviation(
        self, tiny_hubert: Path
    ) -> None:
        model = load_linear(tiny_hubert)
        clips = made_up(model)
        clips.features[:, 2] *= 1000
        solve(model, clips, emotions=3)
        shares = model.layer_weights.softmax(0).detach().numpy() * clips.features.std(axis=(0, 2))
        assert shares[1] == pytest.approx(shares[2], rel=1e-4)
        assert shares[0] < 1e-3 * shares[1]

    def test_the_penalty_is_strong_where_nothing_can_be_learned(self, linear: Any) -> None:
        assert solve(linear, made_up(linear, shift=0.0), emotions=3).c == min(C_VALUES)

    @pytest.mark.parametrize("balance", BALANCES)
    def test_the_views_of_a_clip_count_together_as_one_clip(self, tiny_hubert: Path, balance: str) -> None:
        solutions = []
        for views in (1, 3):
            model = load_linear(tiny_hubert)
            clips = made_up(model, shift=0.3)
            labels = np.tile(clips.labels, (views, 1))
            repeated = Clips(np.tile(clips.features, (views, 1, 1)), labels, clips.speakers * views, views)
            solutions.append(solve(model, repeated, emotions=3, balance=balance))
        once, thrice = solutions
        assert once.c == thrice.c
        torch.testing.assert_close(thrice.start, once.start, atol=5e-3, rtol=5e-3)

    @pytest.mark.parametrize("balance", ["none", "logits"])
    @pytest.mark.parametrize(("shift", "separates"), [(3.0, True), (0.0, False)])
    def test_an_encoder_that_trains_starts_from_the_probes_logits_times_a_number_that_leaves_a_loss(
        self, linear: Any, shift: float, separates: bool, balance: str
    ) -> None:
        clips = with_few_sad(made_up(linear, shift=shift), 24)
        truth = torch.from_numpy(clips.labels)
        solution = solve(linear, clips, emotions=3, balance=balance)
        with torch.no_grad():
            inputs = pooled(linear, clips)
            # As the loss sees them.
            added = truth.mean(dim=0).log() if balance == "logits" else 0
            logits = linear.projector(inputs) + added
            linear.projector.linear.load_state_dict(solution.start)
            start = linear.projector(inputs) + added
        losses = [nn.functional.cross_entropy(each, truth).item() for each in (logits, start)]
        wanted = START_LOSS * math.log(3)
        assert (losses[0] < wanted) == separates
        assert losses[1] == pytest.approx(wanted if separates else losses[0], rel=1e-3)
        torch.testing.assert_close(start, logits * (start.std() / logits.std()), atol=1e-3, rtol=1e-3)

    def test_views_of_a_clip_of_an_unknown_speaker_are_left_out_together(self, linear: Any) -> None:
        """Trap: of what cannot be learned the weakest penalty was chosen, as each left-out view had been seen in another one."""
        clips = made_up(linear, shift=0.0)
        names = [f"clip {i}" for i in range(len(clips.labels))]
        repeated = Clips(np.tile(clips.features, (3, 1, 1)), np.tile(clips.labels, (3, 1)), names * 3, 3)
        assert solve(linear, repeated, emotions=3).c == min(C_VALUES)

    @pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2], [0, 1] * 3, [0, 2] * 3, [1, 1, 1, 1, 1, 2]])
    def test_few_clips_unknown_speakers_and_missing_emotions_are_no_obstacle(
        self, linear: Any, labels: list[int]
    ) -> None:
        clips = made_up(linear, len(labels))
        solve(linear, Clips(clips.features, one_hot(labels), [f"clip {i}" for i in range(len(labels))]), emotions=3)
        assert torch.isfinite(linear.projector.linear.weight).all()
        absent = sorted(set(range(3)) - set(labels))
        if absent:
            assert linear.projector(torch.zeros(linear.projector.linear.in_features)).argmax() not in absent

    def test_balanced_emotions_change_it(self, tiny_hubert: Path) -> None:
        clips = with_few_sad(made_up(load_linear(tiny_hubert), shift=0.3), 12)
        found = {}
        for balance in BALANCES:
            model = load_linear(tiny_hubert)
            solve(model, clips, emotions=3, balance=balance)
            found[balance] = model.projector.linear
        assert found["weights"].bias[2] > found["none"].bias[2]
        torch.testing.assert_close(found["sampling"].bias, found["weights"].bias)
        torch.testing.assert_close(found["logits"].weight, found["none"].weight)
        shares = torch.from_numpy(clips.labels.mean(axis=0))
        torch.testing.assert_close(found["none"].bias - found["logits"].bias, shares.log())


class TestFolding:
    @given(seed=st.integers(0, 1000), width=st.integers(1, 20), spread=st.floats(0, 3))
    def test_folded_layer_has_the_same_outputs(self, seed: int, width: int, spread: float) -> None:
        generator = torch.Generator().manual_seed(seed)
        head = StandardisedLinear(torch.nn.Linear(width, 4))
        head.mean.copy_(torch.randn(width, generator=generator) * 10**spread)
        head.scale.copy_(10 ** (spread * (torch.rand(width, generator=generator) - 0.5)))
        features = head.mean + head.scale * torch.randn(7, width, generator=generator)
        torch.testing.assert_close(head.folded()(features), head(features), atol=2e-3, rtol=1e-3)

    def test_model_has_the_same_outputs(self, linear: Any) -> None:
        solve(linear, made_up(linear), emotions=3)
        inputs = {linear.main_input_name: torch.randn(2, 8, 300)}
        if linear.main_input_name == "input_values":
            inputs = {"input_values": torch.randn(2, 8000), "attention_mask": torch.ones(2, 8000, dtype=torch.long)}
        with torch.no_grad():
            before = linear(**inputs).logits
            after = fold_training_layers(linear)(**inputs).logits
        assert type(linear.projector) is torch.nn.Linear
        torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


class TestLearningRates:
    CONFIG = HubertConfig(do_stable_layer_norm=True)
    NAMES = (
        "base_model.model.hubert.feature_projection.projection.weight",
        "base_model.model.hubert.encoder.layers.0.attention.q_proj.lora_A.default.weight",
        "hubert.encoder.layers.2.final_layer_norm.bias",
        "projector.modules_to_save.default.linear.weight",
        "layer_weights",
    )

    def rates(self, *words: str) -> list[float]:
        arguments = parse_arguments(["--output_dir", "x", "--learning_rate", "0.1", *words])
        found = learning_rates(self.NAMES, arguments.training, self.CONFIG)
        return [found[name] for name in self.NAMES]

    def test_head_has_its_own(self) -> None:
        assert self.rates("--head_learning_rate", "0.01") == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01])

    def test_layers_have_less_towards_the_input(self) -> None:
        assert self.rates("--layer_decay", "0.5") == pytest.approx([0.0125, 0.025, 0.1, 0.1, 0.1])

    def test_positional_convolutions_are_no_layers_and_a_norm_behind_the_last_layer_has_its_rate(self) -> None:
        """Trap: data2vec's layers of convolutions counted; the norm at the output had the rate of the input."""
        training = parse_arguments(["--output_dir", "x", "--learning_rate", "1", "--layer_decay", "0.5"]).training
        for config, rates in (
            (
                Data2VecAudioConfig(),
                {"encoder.pos_conv_embed.layers.4.conv.weight": 0.25, "encoder.layer_norm.weight": 0.25},
            ),
            (HubertConfig(), {"encoder.pos_conv_embed.conv.weight": 0.25, "encoder.layer_norm.weight": 0.25}),
            (
                HubertConfig(do_stable_layer_norm=True),
                {"encoder.layer_norm.weight": 1, "feature_projection.layer_norm.weight": 0.25},
            ),
            (WhisperConfig(), {"layer_norm.bias": 1, "layers.0.self_attn_layer_norm.bias": 0.5, "conv1.weight": 0.25}),
        ):
            last = (
                "layers.1.final_layer_norm.bias"
                if config.model_type == "whisper"
                else "encoder.layers.1.layer_norm.bias"
            )
            names = {f"base_model.model.encoder.{name}": rate for name, rate in {**rates, last: 1}.items()}
            assert learning_rates([*names], training, SERModelConfig(encoder=config)) == pytest.approx(names)

    def test_are_those_of_the_optimizer(self, make: Callable[..., Any]) -> None:
        trainer, _ = make(
            "--head", "linear", "--method", "full", "--head_learning_rate", "0.01", "--layer_decay", "0.5"
        )
        trainer.create_optimizer_and_scheduler(10)
        at = {id(p): group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]}
        named = {name: at[id(p)] for name, p in trainer.model.named_parameters() if p.requires_grad}
        assert len(at) == len(named)
        rates = {group["initial_lr"] for group in trainer.optimizer.param_groups}
        assert sorted(rates) == pytest.approx([2.5e-4, 5e-4, 1e-3, 1e-2])

    @pytest.mark.parametrize(
        ("method", "parameters", "head", "expected"),
        [
            ("full", 50e6, "linear", (5e-5, 1e-4)),
            ("full", 50e6 + 1, "linear", (1e-5, 1e-4)),
            ("full", 50e6 + 1, "stock", (1e-5, None)),
            ("lora_qkv", 1e9, "linear", (5e-4, 1e-4)),
            ("adapter+prompt+lora_ff", 1e6, "conv", (5e-4, None)),
            ("lora_classifier+lora_qkv", 1e6, "linear", (5e-4, 1e-4)),  # the smallest counts
            ("ia3", 1e6, "linear", (5e-4, 1e-4)),
            ("lora_classifier", 1e6, "linear", (1e-4, 1e-4)),  # it starts at a solution
            ("lora_classifier", 1e6, "stock", (1e-2, None)),
            ("frozen", 1e6, "linear", (1e-4, 1e-4)),
            ("frozen", 1e6, "conv", (5e-4, None)),
        ],
    )
    def test_depend_by_default_on_method_size_and_head(
        self, method: str, parameters: float, head: str, expected: tuple[float, float | None], tmp_path: Path
    ) -> None:
        args = SERConfig(str(tmp_path), head=head)
        args.resolve_learning_rates(method, int(parameters))
        assert (args.learning_rate, args.head_learning_rate) == expected

    @pytest.mark.parametrize("method", ["frozen", "lora_classifier"])
    @pytest.mark.parametrize(("given", "rate"), [({"learning_rate": 0.3}, 0.3), ({"head_learning_rate": 0.2}, 0.2)])
    def test_that_are_given_hold_where_the_head_trains_alone(
        self, method: str, given: dict[str, float], rate: float, make: Callable[..., Any]
    ) -> None:
        """Trap: with a linear head `learning_rate` had no effect."""
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        trainer, _ = make("--head", "linear", "--method", method, "--learning_rate", "0.1", *words)
        trainer.create_optimizer_and_scheduler(10)
        assert {group["initial_lr"] for group in trainer.optimizer.param_groups} == {rate}


class TestKeeping:
    @pytest.mark.parametrize("validates", [True, False])
    def test_the_probe_is_kept_where_training_diverged(
        self, validates: bool, make: Callable[..., Any], tmp_path: Path
    ) -> None:
        """Trap: between a number and NaN there is NaN, at no distance from the number, too."""

        class Diverge(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
                with torch.no_grad():
                    next(p for p in model.parameters() if p.requires_grad).fill_(math.nan)

        trainer, clips = make("--head", "linear", "--method", "lora_qkv", "--max_steps", "2", "--eval_strategy", "no",
                              "--save_strategy", "no", "--frozen_cache_gb", "0")  # fmt: skip
        if not validates:
            trainer.eval_dataset = None
        trainer.add_callback(Diverge())
        trainer.train()
        found = trainer.evaluate(clips["test"])
        assert found["eval_uar"] == pytest.approx(trainer.probe["test"]["uar"], abs=1e-6)
        assert trainer.kept_between == {"interpolation": 0.0, "validation_scores": []}
        trainer.create_model_card()
        card = (tmp_path / "run/README.md").read_text(encoding="utf-8")
        assert "Training diverged, so the probe was kept." in card

    def test_points_with_outputs_that_are_not_finite_are_not_kept(self, make: Callable[..., Any]) -> None:
        """Finite weights can have them. Trap: the run ended with an error."""

        class Explode(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
                with torch.no_grad():
                    for layer in (model.projector.linear, model.classifier):
                        layer.weight.fill_(1e30)

        trainer, _ = make("--head", "linear", "--method", "frozen", "--max_steps", "1", "--eval_strategy", "no",
                          "--save_strategy", "no", "--average_share", "0")  # fmt: skip
        trainer.add_callback(Explode())
        trainer.train()
        assert trainer.kept_between["interpolation"] == 0.0
        assert trainer.kept_between["validation_scores"][1:] == [-1.0] * 4

    def test_mean_of_the_last_weights(self) -> None:
        """It takes all of its memory at the beginning: a run does not end for want of it after hours."""
        model = torch.nn.Linear(1, 1)
        average = WeightAverage(0.5)
        state = type("State", (), {"max_steps": 4, "global_step": 0})()
        average.on_train_begin(None, state, None, model=model)
        place = average.mean["weight"].data_ptr()
        for step in range(1, 5):
            with torch.no_grad():
                model.weight.fill_(step)
            state.global_step = step
            average.on_step_end(None, state, None, model=model)
            assert average.mean["weight"].data_ptr() == place
        average.on_train_end(None, state, None, model=model)
        assert model.weight.item() == pytest.approx(3.5)  # of steps 3 and 4
        assert average.steps == 2

    @pytest.mark.parametrize(
        ("uar", "clips", "kept"),
        [
            ([0.50, 0.50, 0.50, 0.50, 0.50], 100, 0.5),
            ([0.50, 0.51, 0.52, 0.54, 0.56], 100, 0.5),  # the standard error is 5 points
            ([0.50, 0.51, 0.52, 0.54, 0.56], 10_000, 1.0),
            ([0.60, 0.52, 0.51, 0.50, 0.40], 100, 0.0),
            ([0.50, 0.60, 0.50, 0.40, 0.30], 100, 0.25),
            ([0.60, math.nan, math.nan, math.nan, math.nan], 4, 0.0),
        ],
    )
    def test_half_way_is_kept_unless_another_point_is_clearly_better(
        self, uar: list[float], clips: int, kept: float
    ) -> None:
        model = torch.nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            model.weight.fill_(2.0)
        start = trained_weights(model)
        with torch.no_grad():
            model.weight.fill_(4.0)
        found = interpolate(model, start, lambda: (uar[round(2 * (model.weight.item() - 2))], clips))
        assert found["interpolation"] == kept
        assert model.weight.item() == pytest.approx(2 + 2 * kept)


@pytest.fixture
def run(run_words: Callable[..., list[str]], tmp_path: Path) -> Callable[..., RunResults]:
    """Trains briefly on the small synthetic corpus."""

    def run(model: Path, *words: str, folder: str = "run") -> RunResults:
        return finetune(parse_arguments(run_words(tmp_path / folder, "--bf16", "False", *words, model=model)))

    return run


class TestRuns:
    def test_no_probe_is_solved_for_another_head(self, run: Callable[..., RunResults], tiny_hubert: Path) -> None:
        with pytest.raises(ValueError, match="method='probe': expected head='linear', found head='conv'"):
            run(tiny_hubert, "--method", "probe", "--head", "conv")

    def test_it_stands_beside_the_metrics_of_a_model_with_any_head(
        self, run: Callable[..., RunResults], tiny_hubert: Path
    ) -> None:
        """Whatever its own head makes of the clips."""
        probe = run(tiny_hubert, "--method", "probe").metrics
        for head in ("stock", "conv", "batchnorm"):
            words = ("--method", "frozen", "--head", head, "--max_steps", "1", "--save_strategy", "no")
            results = run(tiny_hubert, *words, folder=head)
            assert results.head == head
            for part in ("validation", "test"):
                assert results.probe[part] == {name: probe[part][name] for name in results.probe[part]}
                assert "uar" in results.probe[part]
            assert results.metrics != probe

    def test_it_is_solved_on_the_cores_of_the_process(
        self, run: Callable[..., RunResults], tiny_hubert: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Trap: accelerate launch leaves NumPy and SciPy a single thread, and `torch.set_num_threads` does not change that."""
        found: list[int] = []

        def watched(*args: Any, **kwargs: Any) -> probe.Solution:
            found.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
            return solve(*args, **kwargs)

        monkeypatch.setattr(probe, "solve", watched)
        with threadpool_limits(1, "blas"):
            run(tiny_hubert, "--method", "probe", "--cpu_threads", "2")
        assert set(found) == {2}

    @pytest.mark.parametrize("encoder", ["group_norm_hubert", "tiny_whisper"])
    def test_a_probe_is_a_model_like_any_other(
        self, encoder: str, run: Callable[..., RunResults], request: pytest.FixtureRequest, tmp_path: Path
    ) -> None:
        results = run(request.getfixturevalue(encoder), "--method", "probe")
        assert results.test["uar"] == results.probe["test"]["uar"]
        assert (tmp_path / "run" / "model.safetensors").exists()
        assert "logistic regression" in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
        assert type(hf_ser.pipeline(tmp_path / "run").model.projector) is torch.nn.Linear
        if encoder != "tiny_whisper":
            assert AutoConfig.from_pretrained(tmp_path / "run").model_type != "ser"

    def test_it_can_be_trained_again_after_it_was_saved(self, make: Callable[..., Any]) -> None:
        trainer, _ = make("--method", "probe", "--head", "linear")
        trainer.train()
        trainer.save_model()
        trainer.train()
        assert (trainer.args.folder / "model.safetensors").exists()

    @pytest.mark.parametrize("method", ["lora_qkv", "lora_classifier"])
    def test_what_is_kept_lies_between_the_probe_and_the_end_of_training(
        self, method: str, run: Callable[..., RunResults], tiny_hubert: Path, tmp_path: Path
    ) -> None:
        results = run(tiny_hubert, "--method", method, "--learning_rate", "0", "--head_learning_rate", "0")
        card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
        assert f"{per_cent(results.probe['test']['uar'])} % |" in card
        found = results.kept.validation_scores
        assert found[0] == pytest.approx(results.probe["validation"]["uar"], abs=1e-6)
        if method == "lora_classifier":  # it starts from the probe itself
            assert results.test["uar"] == pytest.approx(results.probe["test"]["uar"], abs=1e-6)

    def test_a_run_that_ends_at_its_probe_says_so(
        self, run: Callable[..., RunResults], tiny_hubert: Path, tmp_path: Path
    ) -> None:
        results = run(tiny_hubert, "--method", "full", "--learning_rate", "1000", "--head_learning_rate", "1000")
        assert len(results.kept.validation_scores or []) == 5
        assert RunResults.read(tmp_path / "run").probe["C"] in C_VALUES
        write_card(replace(results, kept=replace(results.kept, interpolation=0.0)), tmp_path / "run")
        assert "the probe was kept" in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")

    @pytest.mark.parametrize(("encoder", "speed", "views"), [("tiny_hubert", "1", 3), ("tiny_whisper", "0", 1)])
    def test_a_large_encoder_has_its_probe_solved_on_fewer_clips(
        self,
        encoder: str,
        speed: str,
        views: int,
        run: Callable[..., RunResults],
        request: pytest.FixtureRequest,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        model = load_linear(request.getfixturevalue(encoder))
        layers = len(model.layer_weights) if encoder == "tiny_hubert" else 1
        monkeypatch.setattr(probe, "LEAST_CLIPS", 1)
        monkeypatch.setattr(probe, "MOST_NUMBERS", 20 * views * layers * model.projector.linear.in_features + 1)
        found = run(request.getfixturevalue(encoder), "--method", "probe", "--speed_probability", speed).probe
        assert (found["clips"], found["views"]) == (20, views)

    def test_where_no_views_are_kept_the_probe_is_solved_on_clips_as_they_are(
        self, run: Callable[..., RunResults], tiny_hubert: Path
    ) -> None:
        noisy = ["--method", "probe", "--noise_probability", "1", "--noise_snr", "-40", "-40"]
        clean = run(tiny_hubert, "--method", "probe", folder="clean").probe
        for words in (["--frozen_cache_views", "0"], ["--frozen_cache_gb", "0"]):
            found = run(tiny_hubert, *noisy, *words, folder=words[0]).probe
            assert found["views"] == 1
            assert found["test"] == pytest.approx(clean["test"], abs=1e-6)


class TestDimensions:
    def test_the_penalty_is_neither_weak_nor_strong_where_a_single_speaker_leaves_it_open(self, linear: Any) -> None:
        """Trap: it was the weakest."""
        clips = made_up(linear)
        truth = np.random.default_rng(0).uniform(size=(len(clips.labels), 1)).astype(np.float32)
        model = load_linear(linear.config._name_or_path, (), ("arousal",))
        assert solve(model, Clips(clips.features, truth, ["anna"] * len(truth)), emotions=0).penalties == [1e3]

    def test_is_a_ridge_regression_with_the_spread_of_the_labels(self, linear: Any) -> None:
        clips = made_up(linear)
        rng = np.random.default_rng(1)
        truth = (0.2 * clips.labels + rng.uniform(0.3, 0.5, clips.labels.shape))[:, :2].astype(np.float32)
        model = load_linear(linear.config._name_or_path, (), ("arousal", "valence"))
        solution = solve(model, Clips(clips.features, truth, clips.speakers), emotions=0)
        inputs = pooled(model, clips)
        scaled = StandardScaler().fit_transform(inputs.numpy())
        with torch.no_grad():
            found = model.classifier(model.projector(inputs)).numpy()
        assert solution.penalties is not None
        for k, penalty in enumerate(solution.penalties):
            expected = Ridge(alpha=penalty).fit(scaled, truth[:, k]).predict(scaled)
            assert np.corrcoef(found[:, k], expected)[0, 1] > 0.9999
            assert found[:, k].mean() == pytest.approx(truth[:, k].mean(), abs=1e-3)
            assert np.corrcoef(found[:, k], truth[:, k])[0, 1] > 0.7

    def test_clips_without_a_label_count_for_the_others(self, linear: Any) -> None:
        clips = made_up(linear)
        truth = np.full((len(clips.labels), 2), np.nan, np.float32)
        truth[::2, 0], truth[:, 1] = clips.labels[::2, 0], clips.labels[:, 1]
        rows = np.concatenate([clips.labels, truth], axis=1)
        rows[1::3, :3] = np.nan
        model = load_linear(linear.config._name_or_path, EMOTIONS, ("arousal", "valence"))
        solution = solve(model, Clips(clips.features, rows, clips.speakers), emotions=3)
        assert solution.c in C_VALUES
        for parameter in model.projector.parameters():
            assert torch.isfinite(parameter).all()
