"""Draws the results of the benchmark `frames`: frames_plot.py RESULTS.json OUT.png"""

import json
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

results = json.load(open(sys.argv[1]))
figure, rows = plt.subplots(2, len(results["one"]), figsize=(15, 9), squeeze=False)
for column, (form, tools) in enumerate(results["one"].items()):
    names = list(tools)[::-1]
    axes = rows[0][column]
    walls = [[one["wall"] * 1e3 for one in tools[name]["taken"]] for name in names]
    axes.boxplot(walls, orientation="horizontal", whis=(5, 95), showfliers=False, tick_labels=names)
    axes.set_title(f"one picture, {form}")
    axes.set_xlabel("ms (whiskers: p5, p95)")
    axes.set_xlim(left=0)
for column, (form, tools) in enumerate(results["batch"].items()):
    names = list(tools)[::-1]
    axes = rows[1][column]
    places = range(len(names))
    axes.barh([place + 0.2 for place in places], [tools[name]["wall"] for name in names], 0.4, label="wall")
    axes.barh([place - 0.2 for place in places], [tools[name]["cpu"] for name in names], 0.4, label="processor")
    axes.set_yticks(list(places), names)
    axes.set_title(f"{results['batch_pictures']} of {results['clip_pictures']} pictures, {form}")
    axes.set_xlabel("s")
    axes.legend()
figure.suptitle(results["machine"], fontsize=9)
figure.tight_layout()
figure.savefig(sys.argv[2], dpi=120)
