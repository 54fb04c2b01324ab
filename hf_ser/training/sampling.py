"""The order of clips in training and evaluation, and how a step is shared by processes and cut into micro-batches."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from hf_ser.audio import Segments
from hf_ser.machine import equal_shares
from hf_ser.training.dataset import SpeechDataset

#: Offset in epochs of a repeated draw of a clip within one epoch. It is larger than any number of epochs, and prime, so that the
#: draw takes another cached view.
REPEAT = 1_000_003


class EpochSampler(torch.utils.data.Sampler[int]):
    """
    Yields the keys of a dataset's segments, in another order in each epoch. The keys contain the epoch. At the end of an epoch
    come as many filler keys as `fillers`.
    """

    def __init__(self, dataset: SpeechDataset, batch: int, seed: int | None, fillers: int) -> None:
        self.dataset = dataset
        self.batch = batch
        self.seed = seed
        self.fillers = fillers
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.dataset) + self.fillers


class StepSampler(EpochSampler):
    """
    Shuffles the segments anew in every epoch. The clips of a step of the optimizer are a random sample of all.

    Batches of clips of similar length would save padding, but would not be random samples: length depends on speaker, corpus and
    emotion. On RAVDESS, PEFT-SER's head on a frozen Whisper trained more slowly with them, and its results were worse. Only the
    batches that are accumulated to one step have similar lengths: training does not depend on how a step is cut.

    The order depends only on the seed and the epoch. A resumed run continues as if it had not stopped.

    A balanced epoch has the same number of segments, and each emotion equally often: only some segments of a frequent emotion,
    and those of a rare one several times, each time with another augmentation.

    Args:
        dataset (`SpeechDataset`): The segments.
        batch (`int`): Segments in a batch of all processes; `processes` divides it.
        seed (`int`): The seed.
        accumulated (`int`, defaults to 1): Batches in one step.
        processes (`int`, defaults to 1): Processes that share each batch, its first part for the first process and so on.
            Each gets equally many segments and nearly the same work, see [`equal_shares`]. The segments of a step do not depend
            on it. All must get equally many batches: the last one is filled up with fillers, which do not count, so that several
            processes train the same model as one.
        balanced (`bool`, defaults to False): Whether each emotion is drawn equally often.
    """

    seed: int

    def __init__(
        self,
        dataset: SpeechDataset,
        batch: int,
        seed: int,
        accumulated: int = 1,
        processes: int = 1,
        balanced: bool = False,
    ) -> None:
        super().__init__(dataset, batch, seed, -len(dataset) % batch if processes > 1 else 0)
        self.accumulated = accumulated
        self.processes = processes
        #: The emotion of each segment, -1 for none, if emotions are balanced.
        self.labels = dataset.emotions if balanced else None

    def __iter__(self) -> Iterator[int]:
        lengths = self.dataset.segments.samples
        rng = np.random.default_rng((self.seed, self.epoch))
        drawn = np.arange(len(lengths)) if self.labels is None else balanced_draws(self.labels, rng)
        order = self.epoch * len(lengths) + rng.permutation(drawn)
        step, each = self.batch * self.accumulated, self.batch // self.processes
        for first in range(0, len(order), step):
            keys = order[first : first + step]
            clips = keys % len(lengths)
            if self.fillers and first + step >= len(order):
                shortest = np.full(self.fillers, np.argmin(lengths[clips]))
                clips, keys = np.append(clips, clips[shortest]), np.append(keys, -1 - keys[shortest])
            shares = keys[equal_shares(lengths[clips], self.processes)]  # (processes, segments), the longest first
            for at in range(0, shares.shape[1], each):
                yield from shares[:, at : at + each].ravel().tolist()


def balanced_draws(labels: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """
    Draws as many segments as there are `labels` `(segments,)`, each label equally often; some once more if the number cannot be
    divided. No segment is drawn again before all segments of its label were drawn, and none without a label (-1) is drawn.

    Returns:
        `(segments,)`: a segment's index where it is drawn for the first time, and `REPEAT * segments` more each further time.
    """
    # In this order, so that the remainder goes to other labels in every epoch.
    present = rng.permutation(np.unique(labels[labels >= 0]))
    least, remainder = divmod(len(labels), len(present))
    found = []
    for k, label in enumerate(present.tolist()):
        mine, size = np.flatnonzero(labels == label), least + (k < remainder)
        rounds = -(-size // len(mine))
        repeated = np.concatenate([n * REPEAT * len(labels) + rng.permutation(mine) for n in range(rounds)])
        found.append(repeated[:size])
    return np.concatenate(found)


def micro_batches_of_like_length(lengths: npt.NDArray[np.int64], budget: float, fixed: float = 0.0) -> list[slice]:
    """
    Cuts a batch into micro-batches of clips of similar length, with the least work in total. The work of a micro-batch is its
    number of clips times the longest of them, plus `fixed`.

    Args:
        lengths (`array` of shape `(clips,)`): The clips' lengths, the longest first.
        budget (`float`): The largest micro-batch (clips times longest). A single clip may be longer.
        fixed (`float`, defaults to 0): The fixed cost of each micro-batch, in the same unit.

    Returns:
        The clips of each micro-batch.
    """
    longest = lengths.tolist()
    clips = len(longest)
    # least[i]: the least work for the clips from the i-th longest on; the first micro-batch ends before stop[i].
    least, stop = [0.0] * (clips + 1), [clips] * (clips + 1)
    for first in range(clips - 1, -1, -1):
        most = clips - first if not longest[first] else max(int(budget // longest[first]), 1)
        ends = range(first + 1, min(first + most, clips) + 1)
        work, end = min(((end - first) * longest[first] + fixed + least[end], -end) for end in ends)
        least[first], stop[first] = work, -end  # of equally good cuts the one with larger micro-batches
    found, first = [], 0
    while first < clips:
        found.append(slice(first, stop[first]))
        first = stop[first]
    return found


def longest_first(segments: Segments) -> Segments:
    """The same segments, longest first: for evaluation, where order does not matter but padding costs time."""
    return segments.take(np.argsort(-segments.samples, kind="stable"))
