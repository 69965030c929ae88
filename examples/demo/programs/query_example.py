"""Asks the example API for its items. Standard library only; it knows neither address nor token."""

import json
import os
import urllib.request

with urllib.request.urlopen(os.environ["OUTRIDER_URL"] + "/http/example/items", timeout=10) as answer:
    items = json.load(answer)["items"]

print(f"{'item':<14}{'stock':>8}")
for item in items:
    print(f"{item['name']:<14}{item['stock']:>8}")
