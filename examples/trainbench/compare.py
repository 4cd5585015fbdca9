"""Reads what both programs printed, DIR/ours.THREADS.ROUND and DIR/torch.THREADS.ROUND, and prints how they compare."""
import json
import statistics
import sys
from pathlib import Path


def read(path):
    """The lines of steps, and the last one."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return lines[:-1], lines[-1]


def apart(ours, theirs, key):
    """The largest difference of a value over all steps, relative to theirs."""
    return max(abs(a[key] - b[key]) / abs(b[key]) for a, b in zip(ours, theirs, strict=True))


def main():
    directory = Path(sys.argv[1])
    for threads in sorted({int(p.suffixes[0][1:]) for p in directory.glob("ours.*.*")}):
        rounds = sorted(directory.glob(f"ours.{threads}.*"))
        pairs = [(read(p), read(directory / p.name.replace("ours", "torch"))) for p in rounds]
        text = f"threads {threads}:"
        for key, by in (("tokens_per_second", "by the clock"), ("tokens_per_cpu_second", "by processor time")):
            ours, theirs = ([last[key] for _, last in side] for side in zip(*pairs))
            ratio = statistics.median(a / b for a, b in zip(ours, theirs))
            text += f" {by}: ours {statistics.median(ours):.0f}, PyTorch {statistics.median(theirs):.0f} tokens/s, ratio {ratio:.2f};"
        (ours, _), (theirs, _) = pairs[0]
        print(f"{text} losses differ by {apart(ours, theirs, 'loss'):.1e}, gradient norms by {apart(ours, theirs, 'norm'):.1e}")


main()
