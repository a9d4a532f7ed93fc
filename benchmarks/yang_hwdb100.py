"""M-RBC, its baselines and iterative refinement on 100 real HWDB classes at 32×32.

  .venv/bin/python benchmarks/yang_hwdb100.py \
      --source CASIA-HWDB_Train.zip CASIA-HWDB_Test.zip --runs runs/hwdb100

Prepares the store, trains every run of `RUNS` (or those named by --only) and writes, through
`hccr reproduce yang_table1`, results/yang_hwdb100.csv (a row a run), yang_hwdb100_steps.csv
(accuracy at each of eight steps, samples corrected and broken), yang_hwdb100_gain.csv (what
refinement adds, by seed), yang_hwdb100_pairs.csv, yang_hwdb100_history.csv and
yang_hwdb100_cases.csv (figure 5: the first five readings at each step of samples that it corrects
and breaks). Figures 1 and 5 of those as images go into the runs' folder: they're of the data set
and may not be passed on. Each step is a `hccr` command, printed before it runs; what is done
already is not done again. --collect trains nothing.
"""

from pathlib import Path

import pandas as pd
from real_runs import (
    RESULTS,
    hccr,
    histories,
    keep_results,
    main,
    reproduce,
    trained,
    with_earlier,
    with_state,
)

from hccr_tf.papers.yang_2017.experiments import gain_of_refinement

SMALL = ["--image-size", "32", "--epochs", "8", "--mixed-precision", "bfloat16"]
RUNS = {
    **{
        name: [name, *SMALL]
        for name in ("convnet", "resnet", "mrbc", "convnet_ir", "resnet_ir", "mrbc_ir")
    },
    **{
        f"{name}_seed{seed}": [name, *SMALL, "--seed", str(seed)]
        for seed in (2, 3)
        for name in ("mrbc", "mrbc_ir")
    },
    # What might be behind the gain, or the lack of one from step to step: one seed each.
    "mrbc_max": ["mrbc", *SMALL, "--model.pooled", "max"],
    "mrbc_ir_last": ["mrbc_ir", *SMALL, "--loss-weights.step*", "0"],
    # The paper's schedule, which adds up to two epochs at its first rate.
    "yang_mrbc_ir": ["yang_mrbc_ir", *SMALL],
}


def collect(runs: Path) -> None:
    """Tabulates everything that the folder holds, beside what earlier ones held."""
    names, out = trained(runs, RUNS), runs / "results.yang"
    reproduce("yang_table1", runs, names, out)
    keep_results(out, RUNS)

    def keep(table: pd.DataFrame, name: str, *columns: str) -> pd.DataFrame:
        path = RESULTS / f"yang_hwdb100{name}.csv"
        table = with_earlier(table, path, names, *columns)
        table.to_csv(path, index=False)
        return table

    ours = pd.read_csv(out / "yang_table1_ours.csv")
    ours = with_earlier(ours, RESULTS / "yang_hwdb100.csv", names)
    # Earlier tables had neither.
    ours["changed"] = ours["changed"].astype(object).fillna("")
    ours["recipe"] = ours["recipe"].fillna(ours["network"])
    ours = ours[ours["run"].isin(RUNS)]
    table = with_state(ours.sort_values("run", key=lambda r: r.map(list(RUNS).index)), RUNS)
    # Whole numbers stay whole beside cells that are empty.
    table.convert_dtypes().to_csv(RESULTS / "yang_hwdb100.csv", index=False)
    gain_of_refinement(ours).to_csv(RESULTS / "yang_hwdb100_gain.csv", index=False)
    for name, columns in (("steps", ["run"]), ("pairs", ["first", "second"])):
        if (path := out / f"yang_table1_{name}.csv").exists():
            keep(pd.read_csv(path), f"_{name}", *columns)
    keep(histories(runs, names), "_history")
    if "mrbc_ir" in names:
        hccr(
            "refine",
            "--data",
            runs / "store",
            "--workdir",
            runs / "mrbc_ir",
            "--out",
            runs / "refined",
        )
        cases = [
            pd.read_csv(runs / "refined" / f"{case}.csv").assign(case=case)
            for case in ("corrected", "broken")
        ]
        pd.concat(cases).to_csv(RESULTS / "yang_hwdb100_cases.csv", index=False)
    print(table[["run", "accuracy", "low", "high", "gmac", "state"]].to_string(index=False))


if __name__ == "__main__":
    main(__doc__, RUNS, collect)
