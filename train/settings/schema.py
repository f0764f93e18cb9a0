"""Every setting of an experiment: dataclasses with a unit and what None means on each line.

A preset (`train/presets/NAME.yaml`) and `key=value` words override the defaults; see
`train.settings.cli`. The stages gts and csd inherit the options of the trainers in dd2core.
"""

from dataclasses import dataclass, field

from dd2core.csd import CSDOptions
from dd2core.errors import DD2Error
from dd2core.gts import GTS_TARGETS, ScoreOptions
from dd2core.sampling import Sampling
from train.settings.operations import Operations


@dataclass
class Stage:
    """What every training stage has."""

    steps: int = 1000  # optimiser steps
    batch: int = 64  # images per step, in all processes and passes together
    accumulate: int = 1  # passes that a step's batch is divided into; their gradients are averaged
    checkpoint_blocks: bool = False  # compute blocks again in the backward pass: less memory
    lr: float = 1e-3  # peak learning rate
    warmup: int = 50  # steps of linear warm-up
    lr_start: float = 0.0  # learning rate at which the warm-up begins
    lr_final: float = 0.05  # learning rate at the end, as a fraction of the peak (cosine)
    weight_decay: float = 0.0  # of AdamW, on matrices alone
    beta1: float = 0.9  # of Adam
    beta2: float = 0.99  # of Adam
    clip: float = 1.0  # largest gradient norm
    ema: float = 0.999  # decay of the weight average that is kept
    bf16: bool = False  # autocast of the networks to bfloat16 (closed forms stay float32)
    save_every: int = 200  # steps between resumable states
    log_every: int = 20  # steps between lines of the log
    grid_every: int = 0  # csd, tune: steps between sample grids and snapshots; 0 is never


TRANSFORMS = ("square", "var", "adm")
DISC_NORMS = ("group", "spectral")


@dataclass
class Tokens:
    """How the data's pictures become token sequences (`train.tokens`)."""

    transform: str = "square"  # of pictures: square, or the public teachers' own, var and adm
    flips: bool = False  # also the mirror image of each training picture: twice the sequences
    crops: int = 1  # of each training picture: 1, or 10 as LlamaGen takes them, mirror images too
    workers: int = 0  # of each process, that read pictures ahead of the tokenizer; 0: itself
    per_file: int = 2048  # pictures in a file; each is written by one process, and kept

    def __post_init__(self) -> None:
        if self.transform not in TRANSFORMS:
            raise DD2Error(f"tokens.transform={self.transform} is unknown: use "
                           f"{', '.join(TRANSFORMS)}.")
        if self.crops not in (1, 10):
            raise DD2Error(f"tokens.crops={self.crops} must be 1 or 10.")


@dataclass
class TokenizerStage(Stage):
    """The VQ tokenizer: sizes (see `VQConfig` and `VARTokenizerConfig`) and training."""

    width: int = 16  # channels at full resolution
    mult: list[int] = field(default_factory=lambda: [1, 4, 6])  # channels per level / width
    res_blocks: list[int] = field(default_factory=lambda: [0, 1, 1])  # per level of the encoder
    decoder_res_blocks: list[int] | None = None  # of the decoder; None: one more than the encoder's
    z_channels: int = 64  # channels before the projection to the code
    num_codes: int = 512  # V
    code_dim: int = 8  # C
    groups: int = 8  # of GroupNorm
    attention: bool = True  # at the lowest resolution
    patch: int = 1  # pixels a side that become one position: 3 makes a 48-px picture 16x16
    patch_nums: list[int] = field(default_factory=lambda: [1, 2, 3, 4, 5, 7])  # var: p_k per scale
    phi_convs: int = 4  # var: convolutions φ of the pyramid, shared by the scales
    l1: float = 1.0  # weight of |x − x̂|
    l2: float = 1.0  # weight of (x − x̂)²
    commitment: float = 0.25  # weight of ‖z − sg c‖²
    revive_every: int = 50  # steps between re-seeding the codes unused since the last time
    perceptual: float = 0.0  # weight of the distance in a network's features; 0: none
    perceptual_net: str = "classifier"  # classifier: this run's, or a file of torchvision's VGG16
    adversarial: float = 0.0  # weight of the discriminator's term; 0: none
    adversarial_from: int = 0  # step at which the discriminator begins
    adaptive: bool = True  # times the ratio of the terms' gradients at the decoder's last layer
    r1: float = 0.0  # weight of the discriminator's squared gradient by originals; 0: none
    lr_discriminator: float | None = None  # its peak learning rate; None: `lr`. Its betas: 0.5, 0.9
    disc_width: int = 32  # channels of the discriminator's first convolution
    disc_levels: int = 2  # its halvings: 2 see patches of 34 pixels, 3 of 70
    disc_norm: str = "group"  # group or spectral
    init: str | None = None  # file of tokenizer weights to begin from; None: random ones. One of
    # the other family gives its encoder and decoder
    decoder_only: bool = False  # encoder and codes stay those of `init`: tokens stay what they are
    flip: bool = False  # mirror half of the training images
    crop: float = 0.0  # take a square part of each, its side from 1 − crop to 1 of the picture's
    workers: int = 0  # of each process, that read pictures as they are needed; 0: all in memory

    def __post_init__(self) -> None:
        if self.accumulate != 1:
            raise DD2Error(f"tokenizer.accumulate={self.accumulate} is not possible: only "
                           "processes divide its batch.")
        if self.disc_norm not in DISC_NORMS:
            raise DD2Error(f"tokenizer.disc_norm={self.disc_norm} is unknown: use "
                           f"{' or '.join(DISC_NORMS)}.")


@dataclass
class ARStage(Stage):
    """Training of an AR transformer."""

    class_dropout: float = 0.1  # chance that a label is replaced by "unconditional"
    dropout: float = 0.0  # part dropped of inputs, and of what attention and feed-forward add


KEPT = ("last", "best")


@dataclass
class TeacherStage(ARStage):
    """The AR transformer: sizes (see `TransformerConfig` and `VARConfig`) and training."""

    depth: int = 8  # blocks
    width: int = 128  # D
    heads: int = 4  # attention heads
    hidden: int = 344  # llamagen: of SwiGLU
    token_input: str = "codes"  # llamagen: codes: Linear(C, D) on code vectors; table: Embedding;
    # mlp: MLP on code vectors, which the stage adapt puts in the place of a table
    input_hidden: int = 256  # llamagen: width of that MLP's hidden layers
    input_layers: int = 2  # llamagen: its hidden layers
    mlp_ratio: float = 4.0  # var: hidden width of the MLP / width
    shared_aln: bool = False  # var: one adaLN Linear for all blocks, plus an offset per block
    attn_l2_norm: bool = True  # var: unit queries and keys, learned scale per head
    keep: str = "last"  # last average, or best: of the lowest cross-entropy on held-out tokens
    check_every: int = 200  # best: steps between measurements of it
    patience: int = 0  # best: measurements without a lower one that end the training; 0: none do

    def __post_init__(self) -> None:
        if self.keep not in KEPT:
            raise DD2Error(f"teacher.keep={self.keep} is unknown: use {' or '.join(KEPT)}.")
        if self.patience and self.keep != "best":
            raise DD2Error(f"teacher.patience={self.patience} needs teacher.keep=best.")


@dataclass
class AdaptStage(ARStage):
    """Training of a teacher whose table became an MLP (`train.adapt`), after `adapt_fit`."""

    steps: int = 0  # at most; 0: no adaptation
    check_every: int = 1000  # steps between measurements of the held-out cross-entropy
    tolerance: float = 0.0  # nats per token above the table's at which it is as good as before


@dataclass
class HeadConfig:
    """The head of guidance network and generator (method §3)."""

    depth: int = 3  # residual adaLN layers
    width: int = 128  # of those layers
    t_init: float = 0.83  # the generator's fixed time, in (0, 1]
    prediction: str = "denoised"  # what it gives: denoised, or velocity as in the paper
    generator_depth: int | None = None  # blocks of the generator; None: all of the teacher's


GTS_DATA = ("data", "samples")


@dataclass
class GTSStage(Stage, ScoreOptions):
    """Ground-truth score initialisation (method §4 (4)); see `ScoreOptions` for the rest."""

    t_min: float = 0.02  # smallest time
    t_max: float = 0.99  # largest time
    head_steps: int = 0  # steps at the start that train the head alone
    sampling: Sampling | None = None  # in the teacher's score; None: the preset's `sampling`
    target: str = "score"  # or sample: the ordinary diffusion loss. Held out: by the score
    data: str = "data"  # what gts and the stages after it learn from: data, or samples (`Samples`)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data not in GTS_DATA:
            raise DD2Error(f"gts.data={self.data} is unknown: use {' or '.join(GTS_DATA)}.")
        if self.target not in GTS_TARGETS:
            raise DD2Error(f"gts.target={self.target} is unknown: use {' or '.join(GTS_TARGETS)}.")


@dataclass
class Samples:
    """Token sequences that the teacher draws (`train.samples`), for `gts.data=samples`."""

    n: int = 50_000  # sequences, the held-out ones (a tenth, at most 2,000) among them
    batch: int = 256  # sequences drawn at a time
    sampling: Sampling | None = None  # of the teacher; None: the preset's `sampling`
    bf16: bool = False  # autocast of the teacher to bfloat16
    per_file: int = 2048  # sequences in a file; each is written by one process, and kept


CSD_STARTS = ("gts", "warm", "csd")


@dataclass
class CSDStage(Stage, CSDOptions):
    """Conditional score distillation (method §4); `lr` is G's. See `CSDOptions` for the rest."""

    lr_guidance: float = 1e-3  # peak learning rate of ψ
    sampling: Sampling | None = None  # in the teacher's score; None: the preset's `sampling`
    average: list[int] | None = None  # first, last step of snapshots to average; None: running one
    start: str = "gts"  # gts: G and ψ from gts; warm: G from warm, ψ from gts; csd: both from csd
    generator_from_teacher: bool = False  # G starts as the teacher with a fresh head, not by GTS
    guidance_from_teacher: bool = False  # so does ψ
    guidance_first: int = 0  # steps at the start in which G stands still and ψ catches up
    warmup_guidance: int | None = None  # warm-up in steps of ψ, in place of `warmup`; None: that
    align_at: int | None = None  # step at which the average goes into G (alignment); None: never
    align_steps: int = 0  # steps from there in which G is held and ψ alone learns
    guidance_steps_after: int | None = None  # r from the end of the alignment on; None: as before
    pair_share: float = 0.0  # part of each batch whose latents are those of the stage warm's pairs
    pair_weight: float = 0.25  # weight of DD1's regression on that part of the batch
    adversarial_from: int = 0  # step from which G feels the discriminator, which learns before it
    lr_discriminator: float = 5e-4  # peak learning rate of the discriminator
    start_share: float = 0.0  # part of the generator it began as in the weights that are kept

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start not in CSD_STARTS:
            raise DD2Error(f"start={self.start} is unknown: use {', '.join(CSD_STARTS)}.")


@dataclass
class DD1Stage(Stage):
    """The DD1 baseline (method §6)."""

    name: str = "dd1"  # folder of this run, so that a sweep keeps its runs apart
    pairs: int = 10_000  # (ε, tokens) pairs generated once
    pair_batch: int = 256  # images per AR pass while generating pairs
    euler_steps: int = 16  # of the ODE per token, t from 1 to 0.03
    sharpness: float = 4.0  # logits of the cross-entropy are −sharpness·‖D − c‖²/2
    latent_weight: float = 1.0  # weight of ‖D − c‖² beside the cross-entropy on codes
    second_share: float = 0.0  # part of each batch that learns the second of two steps; 0: none
    second_start: int | None = None  # teacher's step at which that begins; None: half of them
    sampling: Sampling | None = None  # of the teacher; None: the preset's `sampling`


@dataclass
class ClassifierStage(Stage):
    """The feature extractors of the evaluation (method §9)."""

    name: str = "classifier"  # which of the two this run is: classifier or judge
    arch: str = "plain"  # of its body: plain or residual
    width: int = 32  # channels of the first convolution
    features: int = 128  # penultimate features


@dataclass
class Evaluate:
    """Evaluation (method §9)."""

    features: str = "classifier"  # classifier: train.classifier's; inception: FID and IS
    sampler: str = "one_step"  # see `train.evaluate.SAMPLERS`
    n: int = 10_000  # images (train_set: all there are); fewer is called an estimate
    batch: int = 256  # images per pass
    cfg: float | None = None  # teacher's guidance; None is the model's
    temperature: float | None = None  # teacher's; None is the model's
    top_k: int | None = None  # teacher's; 0 is all codes; None is the model's
    top_p: float | None = None  # teacher's; 1 is all codes; None is the model's
    start: int = 0  # refine: first step that the teacher re-samples
    euler_steps: int = 10  # euler: steps of the ODE per token
    split: str = "test"  # compared with: test; or validation, training images to choose by
    ppl: int = 0  # pairs of places for the perceptual path length; 0: it is not measured
    neighbours: int = 0  # samples whose nearest training images are looked for; 0: none
    quantile: float = 0.05  # neighbours: of real held-out images, nearer than that counts as near
    seed: int = 0  # of the samples
    tag: str | None = None  # name of the result files; None is the sampler's
    method: str | None = None  # what it is in tables (dd1, …); None is the sampler
    note: str | None = None  # what tells it from others there; None: by guidance, start or tag
    table: str | None = None  # quality, guidance, refine, tried; None: by sampler and weights
    weights: str | None = None  # generator weights (.safetensors); None is the model folder's
    results: str | None = None  # folder of the result files; None is evaluate/ of the run
    model: str | None = None  # model folder; None is runs/NAME if it is complete, else assets/NAME
    reference: str | None = None  # inception: folder of pictures, or .npz; None is refused
    inception: str | None = None  # inception: file of its weights; None: torch-fidelity's download
    resize: int | None = None  # inception: pixels a side that are measured; None is image_size
    save_npz: bool = False  # inception: keep the samples as .npz (arr_0), not as .npy


@dataclass
class Report:
    """What `train.report` writes."""

    page: bool = False  # the pages alone (README.md, docs/): assets stay as they are


@dataclass
class Benchmark:
    """Timing of the samplers (`train.benchmark`)."""

    batches: list[int] = field(default_factory=lambda: [1, 8, 64])  # images per call
    repeats: int = 7  # rounds; each times every sampler once, the median is kept
    thread_counts: list[int] = field(default_factory=list)  # CPU threads: each sampler's fastest
    starts: list[int] = field(default_factory=list)  # refine: also time it from these steps on
    cfg: float | None = None  # teacher's guidance; None is the model's
    bf16: bool = False  # autocast of both samplers to bfloat16
    model: str | None = None  # model folder; None is as in `Evaluate`
    public: str | None = None  # checkout of the public LlamaGen or VAR, timed too; None: neither


@dataclass
class Config(Operations):
    """A whole experiment: one preset."""

    name: str = "unnamed"  # of the preset; also the folder under runs/
    family: str = "llamagen"  # the teacher's: llamagen or var
    base: str | None = None  # whose tokenizer and teacher this run distils; None: its own stages'
    # A base is a model folder, a shipped preset or a hub id (owner/name@revision).
    data: str = "fashion-mnist"  # fashion-mnist, or a folder (IDX files or class folders)
    image_size: int = 28  # pixels a side
    channels: int = 1  # 1 grey, 3 RGB
    seed: int = 0  # of everything but the samples that are measured (evaluate.seed)
    device: str = "auto"  # auto: CUDA, else Apple MPS, else CPU
    threads: int | None = None  # CPU threads; None leaves torch's choice
    processes: int = 1  # that train.all gives each stage but the classifier, through torchrun
    shard: bool = False  # transformers: divide weights, moments, averages among processes (FSDP2)
    out: str | None = None  # folder of the run; None is runs/NAME
    resume: str = "same"  # same: refuse a run of other settings, data or weights; anyway: go on
    export: str | None = None  # folder that train.export writes; None is runs/NAME/model
    onnx: bool = False  # train.export writes the ONNX graphs of a finished model, nothing else
    onnx_of: str | None = None  # whose: folder, preset or hub id; None: the run's, else the shipped
    export_hub: str | None = None  # hub id (owner/name) that train.export also uploads to; None: no
    export_license: str = "mit"  # of the weights, in the model card; your data may ask for another
    tensorboard: bool = False  # also write TensorBoard files
    skip: str | None = None  # stages that train.all leaves out, separated by commas; None is none
    dry_run: bool = False  # print sizes and one step's cost, write nothing
    tokenizer: TokenizerStage = field(default_factory=TokenizerStage)
    teacher: TeacherStage = field(default_factory=TeacherStage)
    adapt_fit: Stage = field(default_factory=Stage)  # the MLP alone; its `batch` is all codes
    adapt: AdaptStage = field(default_factory=AdaptStage)
    head: HeadConfig = field(default_factory=HeadConfig)
    tokens: Tokens = field(default_factory=Tokens)
    samples: Samples = field(default_factory=Samples)
    gts: GTSStage = field(default_factory=GTSStage)
    csd: CSDStage = field(default_factory=CSDStage)
    tune: CSDStage = field(default_factory=lambda: CSDStage(steps=0, start="csd"))  # 0: no tuning
    dd1: DD1Stage = field(default_factory=DD1Stage)
    warm: DD1Stage = field(default_factory=lambda: DD1Stage(steps=0, name="warm"))  # 0: none
    classifier: ClassifierStage = field(default_factory=ClassifierStage)
    evaluate: Evaluate = field(default_factory=Evaluate)
    benchmark: Benchmark = field(default_factory=Benchmark)
    report: Report = field(default_factory=Report)
    sampling: Sampling = field(default_factory=lambda: Sampling(cfg=1.5))  # of the teacher


