"""Train a feature extractor: `python -m train.classifier preset=fashion-llamagen`.

It only measures: nothing that is trained for sampling ever sees it. With `classifier.name=judge
classifier.arch=residual seed=1` it is the second one, `runs/NAME/judge`, which `train.export` puts
beside the first and `train.evaluate` measures with as well.
"""

import dataclasses
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dd2core.ema import EMA
from dd2core.errors import DD2Error
from dd2core.store.files import write_json, write_tensors
from dd2core.store.names import CLASSIFIER, JUDGE, RESULT, weights
from dd2core.tools.images import to_float
from train.data.batches import batch_indices
from train.data.fashion import Data
from train.data.labels import load_data
from train.engine import loop, optim
from train.engine.distributed import single_process
from train.engine.record.provenance import digests, provenance
from train.measure.classifier import Classifier, sizes_of
from train.settings.cli import main
from train.settings.schema import Config

EXTRACTORS = (CLASSIFIER, JUDGE)


class ClassifierJob:
    """Networks, optimiser and step of the classifier stage."""

    def __init__(self, cfg: Config, data: Data, device: torch.device):
        self.cfg, self.opts, self.data, self.device = cfg, cfg.classifier, data, device
        o = self.opts
        model = Classifier(**sizes_of(cfg, len(data.class_names)))
        self.model = model.to(device, memory_format=torch.channels_last)
        self.ema = EMA(self.model, o.ema)
        self.networks = {"model": self.model, "ema": self.ema}
        self.optimizers = {"model": optim.adam(self.model, o)}

    def step(self, i: int) -> dict[str, float]:
        """One step on images shifted by up to two pixels; i from 0."""
        o = self.opts
        pick = batch_indices(len(self.data.images), o.batch, i, self.cfg.seed)
        images = to_float(self.data.images[pick]).to(self.device)
        dy, dx = torch.randint(-2, 3, (2,)).tolist()
        images = images.roll((dy, dx), (2, 3)).contiguous(memory_format=torch.channels_last)
        labels = self.data.labels[pick].to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=o.bf16):
            logits = self.model(images)
        loss = F.cross_entropy(logits.float(), labels)
        optim.optimise(loss, self.model, self.optimizers["model"], o, i)
        self.ema.update(self.model)
        right = (logits.argmax(-1) == labels).float().mean().item()
        return {"loss": loss.item(), "accuracy": right}

    def finish(self, folder: Path) -> None:
        """Measure and write the average of the classifier."""
        best, images = self.ema.module.eval(), self.data.test_images
        score = accuracy(best, images, self.data.test_labels, self.device)
        write_tensors(folder / weights(self.opts.name), best.state_dict(), torch.float16)
        origin = provenance(self.device, self.cfg.seed, digests(folder))
        write_json(folder / RESULT, {"test_accuracy": score, "n": len(images),
                                     "provenance": dataclasses.asdict(origin)})
        print(f"{self.opts.name}: accuracy {score:.4f}, N = {len(images)} test images")


@torch.no_grad()
def accuracy(model: Classifier, images: Tensor, labels: Tensor, device: torch.device) -> float:
    """Fraction of uint8 images (N, channels, H, W) put into their class."""
    right = sum(
        (model(to_float(x).to(device)).argmax(-1).cpu() == y).sum().item()
        for x, y in zip(images.split(256), labels.split(256), strict=True)
    )
    return right / len(images)


def run(cfg: Config) -> None:
    """Train, then write `NAME.safetensors` and its accuracy on the held-out images."""
    if cfg.classifier.name not in EXTRACTORS:
        raise DD2Error(f"classifier.name={cfg.classifier.name} is unknown: use "
                       f"{' or '.join(EXTRACTORS)}.")
    device, data = loop.setup(cfg), load_data(cfg)
    single_process("classifier")
    loop.run_stage(cfg, "classifier", ClassifierJob(cfg, data, device), name=cfg.classifier.name)


if __name__ == "__main__":
    main(run)
