"""The rows of docs/results.md: what each is called, the paper's number, the command that writes it.

A row is filled by `docs/results/PRESET/KEY.json`, where KEY is its key here, and by the repetitions
with other seeds beside it, `KEY-s1.json`, `KEY-s2.json`, …: mean and range are shown. Whoever has
trained something writes the file by

    python -m train.evaluate preset=PRESET … results=docs/results/PRESET tag=KEY

and `python -m train.report page=true` makes the page anew. The commands of each row stand below;
`{p}` is the preset. Rows without a file say "not run". What the shipped model folders hold in
their `results` fills the rows that have no file of their own. Files of other tags are listed at
the end of the page, so nothing is lost. Samples have a seed of their own (`evaluate.seed`); another
seed of training is `python -m train.csd seed=1 …`.
"""

from dataclasses import dataclass

PRESETS = {"fashion-llamagen": "LlamaGen-L", "fashion-var": "VAR-d16"}  # ours, the paper's
EVALUATE = "python -m train.evaluate preset={p} results=docs/results/{p}"


@dataclass(frozen=True)
class Row:
    """A row of a table of measurements.

    Attributes:
        key: of its files.
        title: what it is.
        paper: by preset, what the paper has; absent: nothing.
        commands: that write it, in order.
        only: the preset that it is for; None: both.
    """

    key: str
    title: str
    paper: dict[str, str]
    commands: tuple[str, ...]
    only: str | None = None


def both(llamagen: str, var: str) -> dict[str, str]:
    """The paper's numbers, of LlamaGen-L and VAR-d16."""
    return dict(zip(PRESETS, (llamagen, var), strict=True))


def _sampled(key: str, title: str, paper: dict[str, str], words: str, *before: str,
             only: str | None = None) -> Row:
    return Row(key, title, paper, (*before, f"{EVALUATE} {words} tag={key}"), only)


_DD1 = "python -m train.{} preset={{p}} base={{p}} out=runs/{{p}}-dd1"
_DD1_WEIGHTS = "out=runs/{p}-dd1 weights=runs/{p}-dd1/dd1/generator.safetensors"
_TWO = f"{_DD1}-two"
_TWO_WEIGHTS = "out=runs/{p}-dd1-two weights=runs/{p}-dd1-two/dd1/generator.safetensors"
TABLE_1 = (
    _sampled("teacher", "AR teacher", both("4.11 / .85 / .48", "4.15 / .85 / .41"),
             "sampler=teacher"),
    _sampled("parallel", "all tokens at once, no training", both("220.2", "157.5"),
             "sampler=parallel"),
    _sampled("skip_last", "teacher without its last two steps", {"fashion-var": "40.09"},
             "sampler=skip_last", only="fashion-var"),
    _sampled("dd1", "DD1, one step", both("11.35 / .81 / .30", "9.94 / .80 / .37"),
             f"sampler=one_step method=dd1 {_DD1_WEIGHTS}", _DD1.format("gts"), _DD1.format("dd1")),
    _sampled("dd1-two-steps", "DD1, two steps", both("7.58 / .84 / .37", "7.82 / .80 / .41"),
             f"sampler=dd1_two_steps {_TWO_WEIGHTS}", _TWO.format("gts"),
             f"{_TWO.format('dd1')} dd1.second_share=0.5"),
    _sampled("one_step", "**DD2, one step**, our recipe",
             both("8.59 / .77 / .32; longer 7.58 / .77 / .34", "6.21 / .84 / .39"),
             "sampler=one_step"),
    _sampled("one_step-64", "the same with batches of 64 and 900 iterations", {},
             "sampler=one_step weights=runs/{p}-64/csd/generator.safetensors",
             "python -m train.all preset={p} base={p} out=runs/{p}-64 skip=export,evaluate",
             only="fashion-llamagen"),
    _sampled("one_step-256", "the same with batches of 256 and 2,250 iterations", {},
             "sampler=one_step weights=runs/{p}-gpu/csd/generator.safetensors",
             "python -m train.all preset={p}-gpu skip=export,evaluate", only="fashion-var"),
    Row("one_step-paper", "**DD2, one step**, the paper's recipe", {},
        ("python -m train.all preset={p}-paper",
         "python -m train.evaluate preset={p}-paper results=docs/results/{p} sampler=one_step "
         "tag=one_step-paper")),
    _sampled("tokenizer", "floor: the tokenizer's reconstructions", {}, "sampler=tokenizer"),
    _sampled("train_set", "floor: training images", {}, "sampler=train_set"),
)

_START = ("python -m train.csd preset={{p}} base={{p}} out=runs/{{p}}-start-{0} csd.start=gts "
          "csd.steps=300 csd.average=null {1}")
_GTS = ("python -m train.gts preset={p} base={p} out=runs/{p}-start",
        "cp -r runs/{p}-start runs/{p}-start-KEY  # once for each row")


def _start(key: str, title: str, paper: dict[str, str], words: str) -> Row:
    return _sampled(f"start-{key}", title, paper,
                    f"sampler=one_step weights=runs/{{p}}-start-{key}/csd/generator.safetensors",
                    *(line.replace("KEY", key) for line in _GTS), _START.format(key, words).strip())


TABLE_4 = (
    _start("both", "both by GTS", both("14.77", "– (VAR-d24: 11.53)"), ""),
    _start("psi", "ψ alone; G: the teacher with a fresh head",
           both("16.08", "– (VAR-d24: > 200)"), "csd.generator_from_teacher=true"),
    _start("g", "G alone; ψ: the teacher with a fresh head",
           both("21.76", "– (VAR-d24: > 200)"), "csd.guidance_from_teacher=true"),
)


def _euler(target: str, title: str, paper: dict[str, str]) -> Row:
    run = f"runs/{{p}}-{target}"
    return _sampled(f"euler-{target}", title, paper,
                    f"sampler=euler n=2000 weights={run}/gts/generator.safetensors",
                    f"python -m train.gts preset={{p}} base={{p}} out={run} gts.target={target}")


TABLE_7 = (
    _euler("score", "GTS: the teacher's score as target", both("15.66", "11.41")),
    _euler("sample", "ordinary diffusion loss: a sample as target",
           both("–", "17.98 after 500k iterations")),
)

_ALIGN = ("python -m train.all preset={p} base={p} out=runs/{p}-align csd.steps=1200 "
          "csd.align_at=900 csd.align_steps=150 csd.grid_every=100 csd.average=null tune.steps=0 "
          "skip=export,evaluate")
TABLE_9 = tuple(
    _sampled(f"align-{when}", f"{when} alignment", both("–", fid), "sampler=one_step out=runs/"
             f"{{p}}-align weights=runs/{{p}}-align/csd/{file}.safetensors", _ALIGN)
    for when, fid, file in (("before", "8.35", "generator-000900"), ("after", "6.21", "generator")))


def refined(starts: list[int], steps: int, preset: str) -> tuple[Row, ...]:
    """Table 2: one step, then the teacher from a step on, after DD2 and after DD1."""
    paper = {"one_step": {3: "5.24", 4: "4.88", 6: "4.47"},
             "dd1": {3: "6.54", 4: "5.47", 6: "5.03"}}
    rows = []
    for name, key, words in (("DD2", "one_step", ""), ("DD1", "dd1", f" {_DD1_WEIGHTS}")):
        for start in starts:
            passes = 1 + steps - start
            known = paper[key].get(passes) if preset == "fashion-var" else None
            before = "" if key == "one_step" else "dd1-"
            rows.append(_sampled(f"{before}refine-{start}", f"{name}, then the teacher: {passes} "
                                 "passes", {preset: known} if known else {},
                                 f"sampler=refine start={start}{words}"))
    return tuple(rows)


TABLE_5 = tuple(
    _sampled(f"ppl-{key}", title, both(*[f"{value} (model not named)"] * 2),
             f"sampler=one_step n=100 ppl=2000{words}")
    for key, title, value, words in (
        ("dd1", "DD1", "18,437.6", f" method=dd1 {_DD1_WEIGHTS}"),
        ("one_step", "DD2", "7,231.9", "")))
NEIGHBOURS = tuple(
    _sampled(f"neighbours-{sampler}", title, {}, f"sampler={sampler} n=2000 neighbours=2000")
    for sampler, title in (("teacher", "AR teacher"), ("one_step", "DD2, one step")))
