"""A judge that is a language model, from its options."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tutelage.judges.assist.assistant import Assistant
from tutelage.judges.assist.build import build_assistant
from tutelage.judges.llm.asking import Asker, Pace, Prices
from tutelage.judges.llm.critic import Critic
from tutelage.judges.llm.judge import LLMJudge
from tutelage.judges.llm.questions import Exemplar
from tutelage.judges.llm.templates import HELPED, Template, read_constitution, read_template
from tutelage.settings.assist import HELP as ABOUT_HELP
from tutelage.settings.describe import mark
from tutelage.settings.judges import LATER, LLM, LLMOptions
from tutelage.store import Store

if TYPE_CHECKING:
    from tutelage.parallel import World


def llm_judge(
    model: str, options: LLMOptions, store: str, project: str | None, world: World | None, max_tokens: int
) -> LLMJudge:
    """The judge `model`: a name that the endpoint knows, or without `url` a run folder, folder or hub name.

    Raises ValueError, one sentence, for a template, a file of exemplars or a model that cannot be used.
    """
    template = read_template(options.template)
    if options.mode not in template.how:
        raise ValueError(
            f"the template {options.template} does not say how to answer with mode: {options.mode}: take mode: "
            f"{next(iter(template.how))}, or add {options.mode} to its how."
        )
    for name, asks in (
        ("orders", ("pair", "ranking")),
        ("unrated", ("rating",)),
        ("answers", ("rating",)),
    ):
        if template.asks not in asks and options.set_of(name):
            raise ValueError(
                f"{name} is for a template that asks for a {' or a '.join(asks)}, and {options.template} does not: leave it out."
            )
    if options.assistant and template.asks not in ("pair", "rating"):
        raise ValueError(
            f"assistant is for a template that asks for a pair or a rating, and {options.template} does not: leave it out."
        )
    if options.adversarial and template.asks == "rating":
        raise ValueError(
            f"adversarial is for a template that compares, and {options.template} asks for a rating: leave it out."
        )
    assistant = (
        build_assistant(options.assistant, world, max_tokens, store, project) if options.assistant else None
    )
    exemplars = _exemplars(options, template)
    constitution = _constitution(options, template)
    name = f"llm:{model}/{_told_apart(model, options, template, assistant)}"
    asker, endpoint = asking(name, model, options, store, project, world, max_tokens)
    return LLMJudge(
        name,
        template,
        options,
        asker,
        endpoint,
        local=not options.url,
        exemplars=exemplars,
        constitution=constitution,
        assistant=assistant,
    )


def critic(
    given: str,
    options: LLMOptions,
    store: str | None,
    project: str | None,
    world: World | None,
    max_tokens: int,
) -> Critic:
    """A language model as an assistant; where nothing else is said (`store` None) its questions stand where its options say."""
    template = read_template(options.template, ["finding"])
    model = given.removeprefix(LLM)
    name = f"{given}/{_told_apart(model, options, template, None)}"
    asker, endpoint = asking(name, model, options, store or options.calls, project, world, max_tokens)
    return Critic(name, options, asker, endpoint, template)


def asking(
    name: str,
    model: str,
    options: LLMOptions,
    store: str,
    project: str | None = None,
    world: World | None = None,
    max_tokens: int = 8192,
) -> tuple[Asker, Callable[[], Any]]:
    """Who puts questions to a model under a name, and what opens the model: an endpoint's client, or the model here."""
    prices = Prices(options.price_in, options.price_out, options.max_cost)
    who = model if options.url else _weights(model)
    asker = Asker(
        name,
        f"{who}@{urlsplit(options.url).netloc}",
        lambda: Store(store),
        project,
        prices,
        options.concurrency,
        Pace(options.requests_per_minute, options.tokens_per_minute),
    )
    if options.url:
        return asker, _remote(model, options, prices)
    return asker, _local(model, world, max_tokens)


def _constitution(options: LLMOptions, template: Template) -> list[str]:
    if options.constitution and not template.wants_principle:
        raise ValueError(
            f"the template {options.template} judges by no principle: take template: constitution, or leave constitution out."
        )
    return read_constitution(options.constitution) if template.wants_principle else []


def _told_apart(model: str, options: LLMOptions, template: Template, assistant: Assistant | None) -> str:
    """The template's name, and eight hex digits of all that changes a verdict."""
    fields = type(options).model_fields
    marked = {name: getattr(options, name) for name, one in fields.items() if mark(one, "changes_result")}
    marked = {name: value for name, value in marked.items() if name not in LATER or value != LATER[name]}
    if assistant is None:
        marked = {name: value for name, value in marked.items() if name not in ABOUT_HELP}
    else:
        marked["help"] = [assistant.template, HELPED]
    content = json.dumps([model, template.sha, marked, *_constitution(options, template)], sort_keys=True)
    return f"{template.name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def _remote(model: str, options: LLMOptions, prices: Prices) -> Callable[[], Any]:
    from tutelage.judges.llm.endpoint import Endpoint

    return lambda: Endpoint(
        options.url, model, prices, options.key_env, options.timeout, options.patience, options.concurrency
    )


def _weights(model: str) -> str:
    """A model that runs here, known by its weights: another one in the same folder is another one."""
    from tutelage.data.reading.sources import content_hash
    from tutelage.runs import result_folder

    folder = result_folder(model)
    return content_hash(folder) or folder


def _local(model: str, world: World | None, max_tokens: int) -> Callable[[], Any]:
    @cache
    def loaded() -> Any:
        from tutelage.judges.llm.local import LocalModel
        from tutelage.models.loading import load_policy, load_tokenizer
        from tutelage.parallel import World
        from tutelage.runs import result_folder

        here = world or World.here()
        folder = result_folder(model)
        policy = load_policy(folder, dtype=here.dtype, device=here.device)
        return LocalModel(policy, load_tokenizer(folder), here, f"llm:{model}", max_tokens)

    return loaded


def _exemplars(options: LLMOptions, template: Template) -> list[Exemplar]:
    """Judged examples, the better one in the second place and in the first by turns."""
    if not options.exemplars:
        return []
    if template.asks != "pair":
        raise ValueError(
            f"exemplars are comparisons, and the template {options.template} asks for {template.asks}: leave exemplars out."
        )
    from tutelage.data.reading.formats import read_comparisons

    found: list[Exemplar] = []
    for row in read_comparisons(options.exemplars):
        second = len(found) % 2 == 0
        texts = (row.rejected, row.chosen) if second else (row.chosen, row.rejected)
        found.append(Exemplar(row.prompt, texts, 2 if second else 1))
        if len(found) == options.exemplar_count:
            return found
    raise ValueError(
        f"{options.exemplars} has {len(found)} comparisons, and exemplar_count={options.exemplar_count} wants "
        "more: ask for fewer."
    )
