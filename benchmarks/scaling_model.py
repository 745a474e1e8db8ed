"""What several GPUs would reach, on paper: `python -m benchmarks.scaling_model`, the table of docs/performance.md.

Data parallel training: each GPU has the whole network and its own pictures, and gradients are added up in rings while
the backward pass goes on. Nothing here is measured; what is assumed stands in `Machine`.
"""

import sys
from dataclasses import dataclass

MB, GB = 10**6, 10**9


@dataclass(frozen=True)
class Machine:
    """What is assumed of the GPUs, and of what is between them."""

    operations: float = 350e12
    """Operations a second that one GPU reaches in a step: MLPerf Training 5.0's best H200 had 360e12 in eight."""
    gpus: int = 8
    """GPUs of a node."""
    inside: float = 450 * GB * 0.8
    """Bytes a second and GPU, each way, in a node: NVLink 4, of which four fifths are taken to be reached."""
    between: float = 50 * GB * 0.8
    """Bytes a second of one link of 400 Gb/s between nodes, four fifths of it."""
    links: int = 1
    """Such links of a node."""
    latency: float = 10e-6
    """Seconds that each turn of a ring costs besides."""
    bucket: int = 25 * 2**20
    """Bytes of gradients that are sent together: the default of torch's DistributedDataParallel."""


@dataclass(frozen=True)
class Training:
    """What is trained, by counts of `benchmarks.side_by_side.counted`; gradients are in float32."""

    name: str
    weights: int
    """How many are trained."""
    forward: float
    """Operations of a forward pass of one picture."""
    step: float
    """Operations of a step of one picture, forward and backward."""
    batch: int
    """Pictures of each GPU."""


TRAININGS = (
    Training("SD 1.5, 512 px, LoRA of rank 16", 3_188_736, 0.8033e12, 1.7245e12, 16),
    Training("SD 1.5, 512 px, all weights", 859_520_964, 0.8033e12, 2.4071e12, 16),
    Training("SDXL, 1024 px, LoRA of rank 16", 23_224_320, 6.7612e12, 14.188e12, 4),
    Training("SDXL, 1024 px, all weights", 2_567_463_684, 6.7612e12, 20.229e12, 4),
)


def ring(size: float, members: int, rate: float, latency: float) -> float:
    """Seconds in which `members` add up `size` bytes in a ring.

    Source: Patarasuk & Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations".
    """
    return 2 * (members - 1) * (size / members / rate + latency)


def adding_up(size: float, gpus: int, machine: Machine) -> float:
    """Seconds in which all GPUs add up their gradients: a ring in each node, and one of the nodes.

    The two are taken to follow each other, and a node's GPUs to share its links.
    """
    inside, nodes = min(gpus, machine.gpus), -(-gpus // machine.gpus)
    between = machine.between * machine.links
    return ring(size, inside, machine.inside, machine.latency) + ring(size, nodes, between, machine.latency)


def exposed(training: Training, gpus: int, machine: Machine) -> float:
    """Seconds of a step in which GPUs wait for gradients and do nothing else.

    Buckets are sent while the backward pass goes on, all but the last, which is full when that has ended.
    """
    size = 4.0 * training.weights
    last = min(size, float(machine.bucket))
    backward = training.batch * (training.step - training.forward) / machine.operations
    covered = backward * (1 - last / size)
    return max(adding_up(last, gpus, machine), adding_up(size, gpus, machine) - covered)


def efficiency(training: Training, gpus: int, machine: Machine) -> float:
    """Pictures a second of so many GPUs, as a share of so many times what one does."""
    alone = training.batch * training.step / machine.operations
    return alone / (alone + (exposed(training, gpus, machine) if gpus > 1 else 0.0))


def rows() -> list[str]:
    """The table, in Markdown."""
    one, eight = Machine(), Machine(links=8)
    head = "| training | pictures a GPU | step, one GPU | gradients | added up: 8 GPUs, 64, 64 with 8 links | "
    lines = [head + "efficiency: 8 GPUs, 64, 64 with 8 links |", "|---" * 6 + "|"]
    cases = ((8, one), (64, one), (64, eight))
    for training in TRAININGS:
        size = 4 * training.weights
        step = training.batch * training.step / one.operations
        times = ", ".join(f"{1e3 * adding_up(size, gpus, machine):.3g}" for gpus, machine in cases)
        shares = ", ".join(f"{efficiency(training, gpus, machine):.1%}" for gpus, machine in cases)
        told = f"{training.batch} | {1e3 * step:.0f} ms | {size / MB:,.0f} MB | {times} ms | {shares}"
        lines.append(f"| {training.name} | {told} |")
    return lines


if __name__ == "__main__":
    sys.stdout.write("\n".join(rows()) + "\n")
