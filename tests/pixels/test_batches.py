import pytest
import torch
from PIL import Image
from sample_images import difference, encode, noise

from imagedb import writer
from imagedb.reader import ImageDatabase
from imagedb.sources.source import IndexedSource, SourceImage
from imagedb.writer import write_database
from pixels.augmentation import Augmentation, InputFormat
from pixels.batches import BatchPartition, OrderedBatches, Pixels, TrainingBatches
from pixels.gpu import DeviceRenderer
from pixels.views import center_views, random_views
from storage.errors import InputError

RGB = InputFormat(size=8, color_space="rgb", resize=None, resample="bilinear")
AUGMENTATION = Augmentation(
    crop="padded",
    crop_scale=(1, 1),
    crop_ratio=(1, 1),
    crop_padding=3,
    flip=0.5,
    color_jitter=(0.5, 0.5, 0, 0),
    policy=None,
    policy_operations=2,
    policy_magnitude=9,
    extra=None,
    erase=0,
)
ON_DEVICE = DeviceRenderer(RGB, torch.device("cpu"))
RENDERERS = pytest.mark.parametrize("renderer", [None, ON_DEVICE], ids=["by workers", "on the device"])


def augmented(database, seed=0):
    return Pixels(database, random_views(AUGMENTATION, RGB), RGB, seed)


def plain(database, seed=0):
    """Pixels whose values are the number of the image."""
    return Pixels(database, center_views(RGB), RGB, seed)


def whole(batches, epoch):
    """The whole batches of an epoch."""
    return (batch for (batch,) in batches.epoch(epoch))


def numbers(batches):
    """The image numbers in each batch of `plain`."""
    return [pixels[:, 0, 0, 0].tolist() for pixels, _ in batches]


def flat(lists):
    return [number for numbers in lists for number in numbers]


def same(left, right):
    pairs = zip(left, right, strict=True)
    return all(torch.equal(p, q) and torch.equal(k, m) for (p, k), (q, m) in pairs)


def test_a_sample_depends_on_seed_epoch_and_index_alone(database):
    sample, label = augmented(database)[1, 20]
    assert (sample.dtype, sample.shape, label) == (torch.uint8, (3, 8, 8), 20 % 3)
    torch.manual_seed(99)
    pixels = augmented(database)
    for other in ((1, 19), (0, 20)):
        pixels[other]
    assert torch.equal(pixels[1, 20][0], sample)
    assert len({pixels[epoch, 20][0].numpy().tobytes() for epoch in range(10)}) > 5
    assert len({augmented(database, seed)[1, 20][0].numpy().tobytes() for seed in range(10)}) > 5


@RENDERERS
def test_reading_leaves_the_global_generator_as_it_was(database, renderer):
    state = torch.get_rng_state()
    batches = TrainingBatches(augmented(database), 8, 0, renderer)
    for epoch in range(2):
        list(whole(batches, epoch))
    list(OrderedBatches(plain(database), 8, 0))
    assert torch.equal(torch.get_rng_state(), state), "or dropout would depend on how batches are read"


@RENDERERS
@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(database, workers, renderer):
    alone, shared = (TrainingBatches(augmented(database), 8, n, renderer) for n in (0, workers))
    for epoch in range(3):
        assert same(whole(alone, epoch), whole(shared, epoch))
    state = torch.get_rng_state()
    list(whole(shared, 3))
    assert torch.equal(torch.get_rng_state(), state)
    assert same(OrderedBatches(plain(database), 8, 0), OrderedBatches(plain(database), 8, workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_a_renderer_are_those_of_the_workers(database, workers):
    rendered = TrainingBatches(augmented(database), 8, workers, ON_DEVICE)
    for (found, labels), (pixels, expected) in zip(
        whole(rendered, 1), whole(TrainingBatches(augmented(database), 8, 0), 1), strict=True
    ):
        assert found.dtype == torch.uint8
        assert difference(found, pixels).max() <= 1
        assert torch.equal(labels, expected)


@RENDERERS
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_what_was_read_before(database, workers, renderer):
    straight, resumed = (TrainingBatches(augmented(database), 8, workers, renderer) for _ in range(2))
    list(whole(straight, 0))
    next(whole(straight, 1))  # left in the middle
    assert same(whole(straight, 2), whole(resumed, 2))


@RENDERERS
def test_an_epoch_holds_every_image_at_most_once(database, renderer):
    batches = TrainingBatches(plain(database), 8, 0, renderer)
    assert batches.steps == 3
    epochs = [numbers(whole(batches, epoch)) for epoch in range(30)]
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == [8, 8, 8]
        assert len(set(flat(epoch))) == 24
    assert set(flat(flat(epochs))) == set(range(26))


def test_an_epoch_of_whole_batches_is_a_permutation(database):
    (batch,) = numbers(whole(TrainingBatches(plain(database), 26, 0), 0))
    assert sorted(batch) == list(range(26))
    assert batch != sorted(batch)


def test_order_differs_by_epoch_and_seed(database):
    orders = [numbers(whole(TrainingBatches(plain(database, s), 13, 0), e)) for s in range(3) for e in range(3)]
    assert len({str(order) for order in orders}) == 9


@RENDERERS
def test_labels_belong_to_their_images(database, renderer):
    for pixels, labels in whole(TrainingBatches(plain(database), 8, 0, renderer), 0):
        assert labels.dtype == torch.int64
        assert torch.equal(pixels[:, 0, 0, 0].long() % 3, labels)


@RENDERERS
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [0, 1, 3])
def test_an_epoch_resumes_after_the_batches_that_are_done(database, workers, done, renderer):
    batches = TrainingBatches(augmented(database), 8, workers, renderer)
    assert same([batch for (batch,) in batches.epoch(1, done)], list(whole(batches, 1))[done:])


@pytest.mark.parametrize(("processes", "accumulate"), [(1, 2), (2, 1), (2, 2), (1, 4), (4, 1), (3, 1), (1, 3)])
def test_processes_and_parts_split_each_batch_and_keep_pairs_together(database, processes, accumulate):
    def split(rank):
        partition = BatchPartition(rank, processes, accumulate)
        return TrainingBatches(plain(database), 24, 0, partition=partition).epoch(0)

    pairs = [set(zip(b, b[::-1], strict=True)) for b in numbers(whole(TrainingBatches(plain(database), 24, 0), 0))]
    for step, ranks in enumerate(zip(*map(split, range(processes)), strict=True)):
        parts = [numbers([part])[0] for rank in ranks for part in rank]
        assert len(parts) == processes * accumulate
        assert {len(part) for part in parts} == {24 // len(parts)}
        found = [pair for part in parts for pair in zip(part, part[::-1], strict=True)]
        assert len(found) == 24 and set(found) == pairs[step], "what timm's Mixup pairs is the same in parts"


def test_parts_do_not_depend_on_who_computes_them(database):
    """Part n of a batch is the same for one process with four parts, two with two, and four with one."""
    found = []
    for processes, accumulate in ((1, 4), (2, 2), (4, 1)):
        ranks = [BatchPartition(rank, processes, accumulate) for rank in range(processes)]
        assert [number for partition in ranks for number in partition.numbers()] == [0, 1, 2, 3]
        epochs = [TrainingBatches(plain(database), 8, 0, partition=partition).epoch(0) for partition in ranks]
        found.append([numbers([part]) for step in zip(*epochs, strict=True) for parts in step for part in parts])
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_processes_share_all_batches_of_a_validation(database, processes):
    partitions = [BatchPartition(rank, processes) for rank in range(processes)]
    shared = [OrderedBatches(plain(database), 10, 0, partition=partition) for partition in partitions]
    straight = list(OrderedBatches(plain(database), 10, 0))
    for number, batch in enumerate(straight):
        assert same([list(shared[number % processes])[number // processes]], [batch])
    assert sum(map(len, shared)) == len(straight)
    assert sorted(index for batches in shared for index in batches.indices) == list(range(26))


def test_a_batch_larger_than_the_database_is_refused(database):
    with pytest.raises(ValueError, match="a batch of 27 images is more than the 26 in the training database"):
        TrainingBatches(plain(database), 27, 0)


@pytest.mark.parametrize("indices", [None, range(26), [0, 6, 13, 19], [25], [*range(13)]])
def test_ordered_batches_are_the_given_records_in_order(database, indices):
    batches = OrderedBatches(plain(database), 10, 0, indices)
    for _ in range(2):
        found = numbers(batches)
        assert flat(found) == list(range(26) if indices is None else indices)
        assert all(len(batch) == 10 for batch in found[:-1])
        assert len(found) == len(batches)


class Damaged(IndexedSource):
    """A whole image, and one without quantization tables, which packing refuses."""

    class_names = ("a",)

    def __len__(self):
        return 2

    def __getitem__(self, index):
        jpeg = encode(noise(8, 8), "JPEG")
        return SourceImage(("whole", "damaged")[index], 0, jpeg.replace(b"\xff\xdb", b"\xff\xef") if index else jpeg)


@RENDERERS
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:The image decoding")  # torchvision's will move to TorchCodec
def test_a_damaged_record_is_named(tmp_path, workers, renderer, monkeypatch):
    path = tmp_path / "train.lmdb"
    with pytest.raises(InputError, match=r"^image damaged: the image cannot be decoded: "):
        write_database(Damaged(), path)
    monkeypatch.setattr(writer, "inspect_image", lambda data, name: (Image.new("RGB", (8, 8)), []))
    write_database(Damaged(), path)
    message = r"train\.lmdb: record 1 \(damaged\): the image cannot be decoded: "
    with pytest.raises(ValueError, match=message):
        list(whole(TrainingBatches(plain(ImageDatabase(path)), 2, workers, renderer), 0))
