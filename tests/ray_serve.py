"""Run by test_door.py in a network of its own: an application on a local Ray, asked for some files."""

import importlib
import json
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import ray
from ray import serve


def main(folder: Path, files: list[Path]) -> None:
    sys.path.insert(0, str(folder))  # where inspection.py is
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000)
    serve.run(importlib.import_module("inspection").app)
    answers = []
    for file in files:
        try:
            with urlopen(Request("http://127.0.0.1:8000/", file.read_bytes())) as answer:
                answers.append([answer.status, json.load(answer)])
        except HTTPError as error:
            answers.append([error.code, json.load(error)])
    (folder / "answers.json").write_text(json.dumps(answers))
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(word) for word in sys.argv[2:]])
