"""The process beside the server that runs the models: one JSON request per line in, one JSON line out.

    {"prompt": ..., "task": "", "begun": null, "one_step": null, "writers": [0, 1], "seed": 7}  ->  {"candidates": [...]}
    a prompt that does not fit                                                ->  {"invalid": "one sentence"}

It ends when its input ends, so it never outlives the server.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import torch

from tutelage.feedback.asking.payloads import Splitter
from tutelage.feedback.asking.steps import split_steps
from tutelage.files import sha256_of
from tutelage.models.cpu.compiler import use
from tutelage.models.loading import load_policy, load_tokenizer
from tutelage.models.precision import choose, device_for
from tutelage.records import Prompt, Response
from tutelage.rollout.generator import Prefix, Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.runs import result_folder

PARAMS = ("temperature", "max_new_tokens", "seed", "step")  # of the sampling that a candidate names
AT_ONCE = 24  # tokens between two looks at whether a step is whole


class Writer:
    """One loaded model and what candidates say of it."""

    def __init__(self, name: str, path: str, device: str, dtype: torch.dtype) -> None:
        folder = result_folder(path)
        self.name, self.sha256 = name, sha256_of(folder) if Path(folder).exists() else ""
        policy = load_policy(folder, dtype=dtype, device=device)
        self.generator = LocalGenerator(policy, load_tokenizer(folder))

    def write(self, request: dict[str, Any], number: int, drawing: dict[str, Any]) -> dict[str, Any]:
        """One candidate; `number` tells the draws of the same model apart."""
        sampling = Sampling(
            max_new_tokens=drawing["max_new_tokens"],
            temperature=drawing["temperature"],
            seed=request["seed"],
            step=number,
        )
        prompt = Prompt.from_json(request["prompt"], request["task"])
        if request["one_step"]:
            response = self._one_step(prompt, sampling, request["one_step"])
        elif request["begun"] is None:
            response = self.generator.generate([prompt], sampling)[0]
        else:
            prefix = self.generator.begun(prompt, request["begun"])
            longer = replace(sampling, max_new_tokens=sampling.max_new_tokens + len(prefix.begun))
            response = self.generator.continue_from([prefix], longer)[0]
        return self._candidate(response, sampling)

    def _one_step(self, prompt: Prompt, sampling: Sampling, splitter: Splitter) -> Response:
        """A response as far as its first step is whole, and a few tokens more: nobody waits for what is not used."""
        begun: tuple[int, ...] = ()
        logprobs: tuple[float, ...] = ()
        while True:
            some = replace(sampling, max_new_tokens=min(len(begun) + AT_ONCE, sampling.max_new_tokens))
            part = self.generator.continue_from([Prefix(prompt, begun)], some)[0]
            begun, logprobs = (*begun, *part.ids), (*logprobs, *part.logprobs)
            text = self.generator.tokenizer.batch_decode(
                [list(begun)], skip_special_tokens=True, clean_up_tokenization_spaces=False
            )[0]
            over = part.finish == "eos" or len(begun) >= sampling.max_new_tokens
            if over or len(split_steps(text.strip(), splitter)) > 1:
                return replace(part, text=text, ids=begun, logprobs=logprobs)

    def _candidate(self, response: Response, sampling: Sampling) -> dict[str, Any]:
        return {
            "text": response.text,
            "model": self.name,
            "model_sha256": self.sha256,
            "engine": "local",
            "params": {name: getattr(sampling, name) for name in PARAMS},
            "finish": response.finish,
            "n_tokens": len(response.ids),
            "logprob": sum(response.logprobs),
        }


def serve(config: dict[str, Any], requests: IO[str], answers: IO[str]) -> None:
    """Load the models, then answer until the input ends."""
    drawing = config["drawing"]
    device = device_for(drawing["device"])
    dtype = choose(drawing["precision"], device).dtype
    use(drawing["kernels"])
    writers = [Writer(model["name"], model["path"], device, dtype) for model in config["models"]]
    for line in requests:
        request = json.loads(line)
        try:
            found = [
                writers[who].write(request, number, drawing) for number, who in enumerate(request["writers"])
            ]
            answer: dict[str, Any] = {"candidates": found}
        except ValueError as error:
            answer = {"invalid": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> int:
    """Keep standard output for answers alone: whatever libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        serve(json.loads(sys.argv[1]), sys.stdin, answers)
    except (ValueError, OSError) as error:
        print(f"error: the models cannot be loaded: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # Ctrl-C reaches the whole group; the server says goodbye
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
