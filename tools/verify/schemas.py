#!/usr/bin/env python3
"""Random sentences of JSON Schemas' grammars, validated by PyPI jsonschema (made with 4.26).

    python tools/verify/schemas.py build/bench_schemas SENTENCES FOLDER_OR_FILE...

Every sentence must be JSON and valid (formats too, where jsonschema checks them). Prints what was refused, by reason, and exits with 1 if a sentence is invalid.
"""
import collections
import json
import os
import re
import subprocess
import sys

import jsonschema

program, sentences = sys.argv[1], sys.argv[2]
files = []
for p in sys.argv[3:]:
    files += sorted(os.path.join(p, f) for f in os.listdir(p) if f.endswith(".json")) if os.path.isdir(p) else [p]
run = subprocess.run([program, sentences] + files, capture_output=True, text=True, check=True)
bad = good = skipped = 0
reasons = collections.Counter()
for line in run.stdout.splitlines():
    r = json.loads(line)
    if "error" in r:
        reasons[re.sub(r"^.*?: /?[^ ]*: ", "", r["error"])[:90]] += 1
        continue
    schema = json.load(open(r["file"]))
    try:
        v = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
        v.check_schema(schema)
    except jsonschema.SchemaError:
        skipped += 1
        continue
    for text in r["texts"]:
        try:
            e = next(v.iter_errors(json.loads(text)), None)
            e = e and e.message
        except Exception as x:  # not JSON, or the schema is one that jsonschema itself cannot apply
            e = repr(x)
        if e:
            bad += 1
            print(f"{r['file']}: {text[:200]}: {e[:200]}")
        else:
            good += 1
print(run.stderr.strip())
for k, n in reasons.most_common(25):
    print(f"{n:5} {k}")
print(f"{good} sentences valid, {bad} invalid, {skipped} schemas that jsonschema refuses")
sys.exit(1 if bad else 0)
