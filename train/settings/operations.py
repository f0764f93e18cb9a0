"""Settings of how a run is operated: none of them changes what it trains."""

from dataclasses import dataclass

from dd2core.errors import DD2Error


@dataclass
class Operations:
    """What a run in several processes, a long one, or a small folder needs beside its recipe."""

    timeout: float = 1800.0  # seconds that one process waits for another before the run fails
    restarts: int = 0  # processes>1: times that train.all starts a stage again after a failure
    shard_in_node: bool = False  # shard=true: among the processes of each node alone (2-D mesh)
    node_size: int = 8  # GPUs of a node, for dry runs of shard_in_node; torchrun knows its own
    keep_snapshots: int = 0  # newest generator-NNNNNN that stay (`average` keeps its own); 0: all
    peak_flops: float | None = None  # FLOP/s of one GPU, for the log's MFU; None: by its name
    neighbours_mb: float = 3.95  # train.neighbours: most megabytes of features and thumbnails
    wandb: bool = False  # also log to Weights & Biases, if it is installed

    def __post_init__(self) -> None:
        if self.shard_in_node and not getattr(self, "shard", False):
            raise DD2Error("shard_in_node=true needs shard=true.")
