"""Asks the mesh's Prometheus about the mesh. Standard library only; it knows neither address nor password."""

import json
import os
import urllib.parse
import urllib.request

METRICS = os.environ["OUTRIDER_URL"] + "/prometheus/metrics/api/v1/query?"


def by_part(query):
    url = METRICS + urllib.parse.urlencode({"query": query})
    with urllib.request.urlopen(url, timeout=10) as response:
        answer = json.load(response)
    return {row["metric"]["part"]: float(row["value"][1]) for row in answer["data"]["result"]}


memory = by_part("process_resident_memory_bytes")
cpu = by_part("process_cpu_seconds_total")
started = by_part("time() - process_start_time_seconds")

print(f"{'part':<10}{'memory':>12}{'cpu':>10}{'running for':>14}")
for part in sorted(memory):
    print(
        f"{part:<10}{memory[part] / 2**20:>8.1f} MiB{cpu.get(part, 0):>8.2f} s"
        f"{started.get(part, 0):>12.0f} s"
    )
