"""docs/extending.md is true: its code runs, its lists of methods are those of the interfaces."""

import re
from pathlib import Path

import gradio as gr
import pytest
import torch

from app import page
from app.address import View
from app.serve.models import Models
from dd2core import families, losses
from dd2core.csd import Batch, CSDOptions, CSDTrainer
from dd2core.families.codebook import CodebookTeacher
from dd2core.score_model import ConditionalScoreModel
from dd2core.store.folder import load_folder, save_folder
from dd2core.teacher import Backbone, Teacher
from tests.support import tiny
from tests.support.app_helpers import demo_pipe
from tests.support.pairs import PairTeacher

PAGE = (Path(__file__).parents[1] / "docs/extending.md").read_text()
BLOCKS = dict(re.findall(r"```python\n# (\S+?)[:,] [^\n]*\n(.*?)```", PAGE, re.S))


def run(file: str) -> dict:
    """The names that the page's code for `file` defines."""
    names: dict = {"__name__": "extension"}
    exec(BLOCKS[file], names)
    return names


def test_each_extension_that_is_short_has_its_code():
    assert set(BLOCKS) == {"dd2core/families/NAME/__init__.py", "dd2core/losses.py",
                           "app/tabs/NAME.py"}


def test_each_list_of_files_is_at_most_seven_long():
    lengths = [int(re.findall(r"^\| (\d)\. ", table, re.M)[-1])
               for table in PAGE.split("| file | what goes into it |")[1:]]
    assert len(lengths) == 5 and max(lengths) <= 7


@pytest.mark.parametrize("kind, begin, end", [
    (CodebookTeacher, "**Tokens are codes.**", "**Tokens are not codes**"),
    (Teacher, "**Tokens are not codes**", "A **span**"),
    (Backbone, "The **backbone**", "`train.tokenizer`"),
])
def test_the_methods_to_write_are_the_abstract_ones(kind, begin, end):
    part = PAGE.split(begin)[1].split(end)[0]
    if kind is Backbone:
        listed = re.findall(r"\(`(\w+)`\)", part)
    else:
        listed = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", part, re.M)))
    assert set(listed) == kind.__abstractmethods__


def test_the_family_makes_loads_and_samples_a_model(monkeypatch, tmp_path):
    family = run("dd2core/families/NAME/__init__.py")["FAMILY"]
    monkeypatch.setitem(families.FAMILIES, "name", family)
    known = tiny.model()
    made = families.find_family("name").teacher(known.teacher.tokenizer, known.teacher.transformer)
    model = type(known)(**{**vars(known), "family": "name", "teacher": made})
    save_folder(tmp_path, model)
    teacher = load_folder(tmp_path, torch.device("cpu")).teacher
    assert type(teacher).__name__ == "NameTeacher"
    labels, uniforms = torch.tensor([0, 1]), torch.rand(2, teacher.num_tokens)
    off, on = (teacher.sample(labels, cfg=cfg, noise=uniforms) for cfg in (0.0, 3.0))
    plain, same = (known.teacher.sample(labels, cfg=cfg, noise=uniforms) for cfg in (1.0, 4.0))
    assert torch.equal(off, plain) and torch.equal(on, same) and not torch.equal(on, plain)


def test_the_loss_is_chosen_by_its_name_and_moves_the_generator_alone(monkeypatch):
    monkeypatch.setattr(losses, "CSD_FORMS", dict(losses.CSD_FORMS))
    run("dd2core/losses.py")
    teacher = PairTeacher()
    networks = [ConditionalScoreModel(teacher.backbone(), 1, 16, 1) for _ in range(2)]
    optimizers = [torch.optim.SGD(m.parameters(), 0.1) for m in networks]
    trainer = CSDTrainer(teacher, *networks, *optimizers, CSDOptions(form="plain", omega_min=1e9))
    made = trainer.generate(Batch(torch.randn(8, 2, 1), torch.zeros(8, dtype=torch.int64)))
    network, loss = list(trainer.updates())[-1]
    assert network is trainer.generator
    loss(made).backward()
    norm = sum(p.grad.square().sum() for p in trainer.generator.parameters()).sqrt()
    assert norm > 1e-4  # in the built-in forms ω ≥ omega_min would leave next to nothing
    assert all(p.grad is None for p in trainer.guidance.parameters())


def test_the_tab_fits_and_paints_in_the_page(monkeypatch):
    kind, pipe = run("app/tabs/NAME.py")["NameTab"], demo_pipe()
    monkeypatch.setattr(page, "TABS", (*page.TABS, kind))
    models = Models.of(pipe)
    titles = [block.label for block in page.build_page(models).blocks.values()
              if isinstance(block, gr.Tab)]
    assert titles[-1] == "Name"
    tab = kind(models)
    with gr.Blocks():
        tab.build(page.Shared(models))
    assert len(tab.fit(pipe, View())) == len(tab.fitted)
    panel, query = tab.sample(pipe.name, pipe.class_names[1])
    assert "<img" in panel or "data:image" in panel
    assert "tab=name" in query
