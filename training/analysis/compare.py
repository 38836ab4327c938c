"""Compares runs: the interquartile mean over seeds and how sure that is, as a table and as a picture.

python -m training.analysis.compare runs/reach-sparse-reach-{0,1,2}                      three seeds
python -m training.analysis.compare runs/* --out curves.png                              groups of seeds, and a picture
python -m training.analysis.compare runs/rates --markdown table.md                       the runs of a sweep
python -m training.analysis.compare runs/* --tag eval/mean_reward --at 10000             another curve, an earlier step
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from tqdm import tqdm

from errors import UserError, check_writable, reporting, write_json
from training.analysis.read_runs import Run, group_runs, read_run, runs_in
from training.command_line import whole_numbers

THRESHOLD = 0.95
"""The rate whose first and last crossing the tables tell."""
FEW = 5
"""Seeds below which the interval is their range."""

File = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: none)")]


@dataclass(frozen=True)
class CompareConfig:
    """Compare runs by one of their curves: for each group of seeds its interquartile mean, with a 95 % interval.

    Runs that differ in nothing but --seed, and in what a resumed run may be told anew, are a group. Where the curve is
    one of evaluations, they have evaluated the same, too: --eval.goal, --eval.episodes.
    Curves of rates also say when each run was first at 0.95 (reached) and from when on it never fell below (kept); of a
    group it is the median over its seeds. Minutes leave out the time between the parts of a resumed run.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run directories, or directories of runs, as a sweep makes them."""
    tag: str = "eval/success_rate"
    """The curve."""
    at: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Environment step to compare at. Default: the last that all of the runs have."""
    out: File = None
    """Draw the curves to this .png."""
    json: File = None
    """Write the table to this file."""
    markdown: File = None
    """Write the table of the groups to this file, as the documentation has it."""


def compare(config: CompareConfig) -> None:
    """Prints the tables, and writes the files that were asked for. Raises UserError, OSError."""
    check_options(config)
    from training.analysis.seed_statistics import summarise

    paths = [run for path in config.runs for run in runs_in(path)]
    runs = [read_run(path, config.tag) for path in tqdm(paths, desc="reading", unit="run", leave=False, disable=None)]
    groups = group_runs(runs, config.tag)
    at = min(int(run.curve.steps[-1]) for run in runs) if config.at is None else config.at
    check_range(runs, config.tag, at)
    rate = config.tag.endswith("_rate") or config.tag.startswith(("eval_funnel/", "funnel/"))
    summaries = [summarise(group, at, THRESHOLD if rate else None) for group in groups]
    last = ", the last that all runs have" if config.at is None else ""
    print(f"{config.tag} at step {at:,}{last}\n")
    print_groups(summaries, rate)
    print()
    print_runs(summaries, rate)
    print_branches(runs)
    if config.json is not None:
        write_json("--json", config.json, {"tag": config.tag, "step": at, "groups": summaries})
    if config.markdown is not None:
        write_markdown(config.markdown, summaries, rate)
    if config.out is not None:
        from training.analysis.plot import draw

        draw(groups, config.tag, rate, config.out)
        print(f"\npicture: {config.out}")


def check_options(config: CompareConfig) -> None:
    """Raises UserError for what could not be done after all the work."""
    if not config.runs:
        raise UserError("which runs? name one directory or more, such as runs/reach-sparse-reach-0")
    if config.out is not None:
        check_picture(config.out)
    if config.json is not None:
        check_writable("--json", config.json)
    if config.markdown is not None:
        check_writable("--markdown", config.markdown)


def check_picture(path: Path) -> None:
    """Raises UserError where --out could draw none to `path`."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("--out needs matplotlib, which is not installed: pip install -e '.[plots]'")
    if path.suffix.lower() != ".png":
        raise UserError(f"--out {path}: the picture is a .png")
    check_writable("--out", path)


def check_range(runs: list[Run], tag: str, at: int) -> None:
    """Raises UserError where a run's curve does not span step `at`."""
    for run in runs:
        first, last = run.curve.steps[[0, -1]]
        if not first <= at <= last:
            raise UserError(
                f"not all of the runs have step {at:,}: {tag} of {run.path} goes from {first:,} to {last:,}; "
                "leave it out, or give another --at"
            )


def print_groups(summaries: list[dict[str, Any]], rate: bool) -> None:
    rows = [["group", "seeds", "IQM", "95 % interval", "mean", "lowest", "highest", *headings(rate), "name"]]
    for i, group in enumerate(summaries, 1):
        iqm, *others = (number(group[name], rate) for name in ("iqm", "mean", "lowest", "highest"))
        interval = "none of one seed"
        if group["seeds"] > 1:
            interval = f"{number(group['low'], rate)} to {number(group['high'], rate)}"
        rows.append([str(i), str(group["seeds"]), iqm, interval, *others, *moments(group, rate), group["group"]])
    print_aligned(rows)
    if any(1 < group["seeds"] < FEW for group in summaries):
        print(f"Of fewer than {FEW} seeds the interval is their range, of fewer than 4 the IQM is their mean.")


def print_runs(summaries: list[dict[str, Any]], rate: bool) -> None:
    rows = [["group", "seed", "value", "from step", "to step", *headings(rate), "run"]]
    for i, group in enumerate(summaries, 1):
        for run in group["runs"]:
            steps = (f"{run[name]:,}" for name in ("first_step", "last_step"))
            value = number(run["value"], rate)
            rows.append([str(i), str(run["seed"]), value, *steps, *moments(run, rate), run["run"]])
    print_aligned(rows)


def print_branches(runs: list[Run]) -> None:
    """Says below the tables which runs branched off from others, and what they changed."""
    for run in runs:
        if start := run.branch:
            changed = "; ".join(f"--{name}: {old}, now {new}" for name, (old, new) in start["changed"].items())
            told = f"; changed: {changed}" if changed else ""
            print(f"{run.path} branched from {start['branched_from']}, step {start['env_steps']:,}{told}")


def write_markdown(path: Path, summaries: list[dict[str, Any]], rate: bool) -> None:
    """Writes a row for each group. Raises OSError."""
    rows = [["what differs", "seeds", "IQM", "95 % interval", "lowest", "highest", *headings(rate)]]
    for group in summaries:
        iqm, low, high, lowest, highest = (
            "–" if group[name] is None else number(group[name], rate)
            for name in ("iqm", "low", "high", "lowest", "highest")
        )
        name = f"`{group['group']}`".replace("|", "\\|")
        rows.append([name, str(group["seeds"]), iqm, f"{low} to {high}", lowest, highest, *moments(group, rate)])
    rows.insert(1, ["---", *["--:"] * (len(rows[0]) - 1)])
    path.write_text("".join(f"| {' | '.join(cells)} |\n" for cells in rows))


def number(value: float, rate: bool) -> str:
    return f"{value:.3f}" if rate else f"{value:.4g}"


def headings(rate: bool) -> list[str]:
    return [f"{THRESHOLD} {name}" for name in ("reached", "kept")] if rate else []


def moments(summary: dict[str, Any], rate: bool) -> list[str]:
    """Tells when a run or a group's median seed reached the threshold, and from when on it was kept."""
    points = [summary[name] for name in ("reached", "kept")] if rate else []
    return ["never" if point is None else f"{point['step']:,.0f}, {point['minutes']:.1f} min" for point in points]


def print_aligned(rows: list[list[str]]) -> None:
    """Prints every column to the right but the last, which is of names."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for *cells, name in rows:
        print("   ".join([*(cell.rjust(width) for cell, width in zip(cells, widths[:-1], strict=True)), name]))


def main() -> None:
    with reporting("training.analysis.compare"):
        with whole_numbers():
            config = tyro.cli(CompareConfig, prog="python -m training.analysis.compare")
        compare(config)


if __name__ == "__main__":
    main()
