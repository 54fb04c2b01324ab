"""Items, batches, and the micro-batches that a batch is cut into."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from datasets import ClassLabel, Dataset
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import make_hubert
from transformers import AutoConfig, AutoModel, PretrainedConfig, Wav2Vec2FeatureExtractor

from hf_ser.audio import Augmentation, Segments, cut, prepare, read_mono
from hf_ser.corpora import Row, to_dataset
from hf_ser.modeling import load_feature_extractor
from hf_ser.modeling.families import minimum_samples
from hf_ser.training.dataset import SpeechCollator, SpeechDataset
from hf_ser.training.sampling import StepSampler


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Six prepared clips of 0.5 to 1 s with labels."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for n in range(6):
        soundfile.write(folder / f"{n}.wav", 0.1 * rng.standard_normal(8000 + 1600 * n), 16_000)
    rows = to_dataset([Row(str(folder / f"{n}.wav"), str(n), "sad") for n in range(6)], "a")
    labelled = prepare([rows], folder / "cache", 1).add_column("label", [n % 2 for n in range(6)])
    return labelled.cast_column("label", ClassLabel(names=["angry", "sad"]))


def whole(clips: Dataset) -> Segments:
    return cut(np.rint(np.array(clips["duration"][:]) * 16_000))


@pytest.mark.parametrize("frames", [1, 5, 11])
def test_the_minimum_gives_as_many_frames_as_asked_and_one_sample_less_does_not(tiny_hubert: Path, frames: int) -> None:
    model = AutoModel.from_pretrained(tiny_hubert, dtype=torch.float32).eval()
    samples = minimum_samples(model.config, frames)
    assert model.feature_extractor(torch.randn(1, samples)).shape[2] == frames
    if frames > 1:
        assert model.feature_extractor(torch.randn(1, samples - 1)).shape[2] == frames - 1


def items(*waveforms: np.ndarray) -> list[dict[str, object]]:
    """What a dataset gives of clips with the labels 0, 1 and so on."""
    return [
        {"waveform": waveform, "labels": np.array([i], np.float32), "clip": i} for i, waveform in enumerate(waveforms)
    ]


def noise(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(length).astype(np.float32) for length in lengths]


def unread(size: int) -> Dataset:
    """Clips without audio."""
    columns = {"label": [0] * size, "samples_hash": [str(i) for i in range(size)]}
    return Dataset.from_dict(columns).cast_column("label", ClassLabel(names=["angry", "sad"]))


class TestFeatureExtractor:
    @pytest.mark.parametrize("own", [True, False])
    def test_normalisation_is_the_checkpoints_unless_asked_for(self, tmp_path: Path, own: bool) -> None:
        folder = make_hubert(tmp_path / "hubert")
        Wav2Vec2FeatureExtractor(do_normalize=own).save_pretrained(folder)
        config = AutoConfig.from_pretrained(folder)
        assert load_feature_extractor(str(folder), config).do_normalize is own
        for asked in (True, False):
            extractor = load_feature_extractor(str(folder), config, do_normalize=asked)
            batch = SpeechCollator(extractor, 400)(items(noise(8000)[0] + 3))
            assert batch["input_values"].mean().item() == pytest.approx(0 if asked else 3, abs=0.05)

    @pytest.mark.parametrize("encoder", ["tiny_whisper", "tiny_wav2vec2_bert"])
    def test_spectrograms_are_not_normalised(self, encoder: str, request: pytest.FixtureRequest) -> None:
        folder = request.getfixturevalue(encoder)
        with pytest.raises(ValueError, match="do_normalize=True: .* takes spectrograms .*; leave it out"):
            load_feature_extractor(str(folder), AutoConfig.from_pretrained(folder), do_normalize=True)

    @pytest.mark.parametrize("encoder", ["tiny_hubert", "group_norm_hubert"])
    def test_each_clip_has_zero_mean_and_unit_variance_whatever_it_is_batched_with(
        self, clips: Dataset, encoder: str, request: pytest.FixtureRequest
    ) -> None:
        """Trap: without the mask, which their checkpoints leave out, padding counts as speech."""
        folder = request.getfixturevalue(encoder)
        extractor = load_feature_extractor(str(folder), AutoConfig.from_pretrained(folder))
        assert extractor.return_attention_mask
        collator = SpeechCollator(extractor, 400)
        dataset = SpeechDataset(clips, whole(clips))
        batch = collator([dataset[0], dataset[5]])
        assert batch["attention_mask"].sum(dim=1).tolist() == [8000, 16_000]
        for values, mask in zip(batch["input_values"], batch["attention_mask"], strict=True):
            assert values[mask.bool()].mean().item() == pytest.approx(0, abs=1e-5)
            assert values[mask.bool()].std().item() == pytest.approx(1, abs=1e-3)
            assert (values[~mask.bool()] == 0).all()
        assert batch["labels"].argmax(dim=1).tolist() == [0, 1]
        assert batch["clip"].tolist() == [0, 5]

    def test_another_sampling_rate_is_refused(self, tiny_hubert: Path, tmp_path: Path) -> None:
        Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="8000 Hz"):
            load_feature_extractor(str(tmp_path), AutoConfig.from_pretrained(tiny_hubert))


class TestSpectra:
    """Wav2Vec2-BERT's frames are pairs of spectra."""

    @pytest.fixture
    def config(self, tiny_wav2vec2_bert: Path) -> PretrainedConfig:
        return AutoConfig.from_pretrained(tiny_wav2vec2_bert)

    @pytest.fixture
    def collator(self, tiny_wav2vec2_bert: Path, config: PretrainedConfig) -> SpeechCollator:
        return SpeechCollator(load_feature_extractor(str(tiny_wav2vec2_bert), config), minimum_samples(config))

    @pytest.mark.parametrize("frames", [1, 2, 11])
    def test_the_minimum_gives_as_many_frames_as_asked_and_one_sample_less_does_not(
        self, collator: SpeechCollator, config: PretrainedConfig, frames: int
    ) -> None:
        samples = minimum_samples(config, frames)
        some = 1 if frames == 1 else 2
        batch = collator(items(*noise(samples, samples - 1)[:some]))
        assert batch["attention_mask"].sum(dim=1).tolist() == [frames, frames - 1][:some]
        assert torch.isfinite(batch["input_features"]).all()

    def test_short_batches_are_as_long_as_asked(self, collator: SpeechCollator, config: PretrainedConfig) -> None:
        long = SpeechCollator(collator.feature_extractor, minimum_samples(config, 12))
        batch = long(items(*noise(1000)))
        assert batch["attention_mask"].shape[1] >= 12
        assert batch["attention_mask"].sum() == 2

    # As many frames as there are features in one, too.
    @pytest.mark.parametrize("lengths", [(16_000, 7000, 4321), (5360, 5200, 2000)])
    def test_a_micro_batch_is_what_its_clips_are_alone(
        self, collator: SpeechCollator, lengths: tuple[int, ...]
    ) -> None:
        clips = items(*noise(*lengths))
        batch, expected = collator([clips[2], clips[0], clips[1]]), collator(clips[1:])
        length = int(expected["attention_mask"].sum(dim=1).max())
        _, part = collator.cut(batch, [slice(0, 1), slice(1, 3)])
        assert part["input_features"].shape == (2, length, 16)
        for name, values in part.items():
            wanted = expected[name][:, :length] if values.ndim > 1 else expected[name]
            torch.testing.assert_close(values, wanted)
            assert values.is_contiguous()  # torch.compile compiles anew for each relation of strides and sizes

    def test_a_micro_batch_without_padding_needs_no_mask(self, collator: SpeechCollator) -> None:
        batch = collator(items(*noise(4321, 16_000, 16_000)))
        assert ["attention_mask" in part for part in collator.cut(batch, [slice(0, 2), slice(2, 3)])] == [
            False,
            False,
        ]
        assert ["attention_mask" in part for part in collator.cut(batch, [slice(0, 1), slice(1, 3)])] == [False, True]
        long = SpeechCollator(collator.feature_extractor, 8000)
        (part,) = long.cut(long(items(*noise(4321, 4321))), [slice(0, 2)])
        assert part["attention_mask"].shape[1] > part["attention_mask"].sum(dim=1).max()


class TestSpeechDataset:
    def test_segments_are_parts_of_their_clips(self, clips: Dataset) -> None:
        segments = cut(np.rint(np.array(clips["duration"][:]) * 16_000), 0.3, 0.1)
        dataset = SpeechDataset(clips, segments)
        for i in range(len(dataset)):
            item = dataset[i]
            expected = read_mono(clips[item["clip"]]["audio"])[segments.start[i] : segments.stop[i]]
            np.testing.assert_array_equal(item["waveform"], expected)
            assert len(item["waveform"]) == 4800

    @pytest.mark.parametrize("workers", [0, 1, 2])
    def test_augmentation_does_not_depend_on_the_number_of_workers(self, clips: Dataset, workers: int) -> None:
        everything = Augmentation(noise_probability=1, stretch_probability=1, distort_probability=0.5, mixup_alpha=1)
        dataset = SpeechDataset(clips, whole(clips), everything, seed=1)
        sampler = StepSampler(dataset, 2, seed=0)
        sampler.set_epoch(1)
        loader = torch.utils.data.DataLoader(
            dataset, batch_size=2, sampler=sampler, num_workers=workers, collate_fn=list
        )
        found = [item for batch in loader for item in batch]
        expected = [dataset[key] for key in sampler]
        assert [item["clip"] for item in found] == [item["clip"] for item in expected]
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a["waveform"], b["waveform"])
            np.testing.assert_array_equal(a["labels"], b["labels"])

    @pytest.mark.parametrize("key", [0, 5, 8])
    def test_mixup_adds_another_clip_with_its_weight(self, clips: Dataset, key: int) -> None:
        plain = SpeechDataset(clips, whole(clips))
        dataset = SpeechDataset(
            clips, whole(clips), Augmentation(mixup_alpha=1, speed_probability=0, distort_probability=0), seed=3
        )
        item, own = dataset[key], plain[key % 6]
        partner, _, weight = dataset.others(*divmod(key, 6))
        assert partner != key % 6
        other = plain[partner]
        expected = weight * own["waveform"]
        common = min(len(expected), len(other["waveform"]))
        expected[:common] += (1 - weight) * other["waveform"][:common]
        np.testing.assert_allclose(item["waveform"], expected, atol=1e-7)
        assert item["waveform"].dtype == np.float32
        np.testing.assert_allclose(item["labels"], weight * own["labels"] + (1 - weight) * other["labels"], rtol=1e-6)
        filler = dataset[-1 - key]
        assert np.isnan(filler["labels"]).all()
        np.testing.assert_array_equal(filler["waveform"], item["waveform"])

    @given(alpha=st.floats(1e-3, 100), seed=st.integers(0, 9), key=st.integers(0, 999), size=st.integers(2, 50))
    def test_mixup_keeps_a_clip_the_louder_one(self, alpha: float, seed: int, key: int, size: int) -> None:
        segments = cut([800] * size)
        none = unread(size)
        first, again = (
            SpeechDataset(
                none, segments, Augmentation(mixup_alpha=alpha, speed_probability=0, distort_probability=0), seed
            )
            for _ in range(2)
        )
        epoch, i = divmod(key, size)
        partner, voices, weight = drawn = first.others(epoch, i)
        assert drawn == again.others(epoch, i)
        assert 0.5 <= weight <= 1
        assert i not in (partner, *voices)
        assert all(0 <= other < size for other in (partner, *voices))
        # Which clips are drawn does not depend on how they are mixed.
        assert SpeechDataset(none, segments, Augmentation(noise_probability=1), seed).others(epoch, i)[:2] == drawn[:2]

    def test_mixup_weights_are_those_of_the_distribution(self) -> None:
        none = unread(1000)
        dataset = SpeechDataset(
            none, cut([800] * 1000), Augmentation(mixup_alpha=0.2, speed_probability=0, distort_probability=0)
        )
        weights = [dataset.others(0, i)[2] for i in range(1000)]
        rng = np.random.default_rng(0)
        expected = rng.beta(0.2, 0.2, 100_000)
        assert np.mean(weights) == pytest.approx(np.maximum(expected, 1 - expected).mean(), abs=0.02)

    def test_babble_is_made_of_other_clips(self, clips: Dataset) -> None:
        babble = Augmentation(distort_probability=1, distort_kinds=["babble"])
        dataset, again = (SpeechDataset(clips, whole(clips), babble, seed=3) for _ in range(2))
        _, voices, _ = dataset.others(1, 2)
        there = [read_mono(clips[voice]["audio"]) for voice in voices]
        alone = read_mono(clips[2]["audio"])
        expected = babble(torch.from_numpy(alone), dataset.augmentation_seed(1, 2), lambda: there).numpy()
        np.testing.assert_array_equal(dataset[6 + 2]["waveform"], expected)
        np.testing.assert_array_equal(again[6 + 2]["waveform"], expected)
        assert not np.array_equal(alone, expected)

    def test_it_arrives_whole_in_a_spawned_worker(self, clips: Dataset) -> None:
        dataset = SpeechDataset(clips, whole(clips))
        there = pickle.loads(pickle.dumps(dataset))
        np.testing.assert_array_equal(there[3]["waveform"], dataset[3]["waveform"])
