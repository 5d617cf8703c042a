"""The items of a run's benchmark, by protocol: own seeded prompts in its form, or a file of the official ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from l2s_core.config import COLOR_TAGS, BenchmarkConfig, RunConfig
from l2s_core.data.miniworld import partition_pairs
from l2s_core.errors import UserError
from l2s_core.evaluation.protocols import (
    compbench,
    compbench_prompts,
    geneval_metadata,
    geneval_prompts,
    several_prompts,
)
from l2s_core.evaluation.protocols.compbench import SpatialPrompt
from l2s_core.evaluation.protocols.geneval import GENEVAL_CLASSES, GenevalRecord
from l2s_core.evaluation.protocols.items import EvalItem, pair_items
from l2s_core.evaluation.protocols.suites import noise_seed
from l2s_core.miniworld.world.sprites import OBJECTS
from l2s_core.prompts.prompt import Phrases, SeveralPrompt
from l2s_core.relations import ATTRIBUTE


def benchmark_items(config: RunConfig) -> list[EvalItem]:
    """Return the images to make, each prompt `seeds` times; raises UserError for a protocol that the run's world has no prompts in.

    `dev` and `test` share neither prompts nor noise. The prompts of a file are the ones they are, whatever the suite.
    """
    benchmark, small = config.benchmark, config.data.source == "miniworld"
    if benchmark.protocol == "pairs":
        if not small:
            raise UserError(
                f"benchmark.protocol pairs is the small world's; for data.source {config.data.source} set it to geneval"
            )
        return pair_items(benchmark, partition_pairs(config.data))
    prompts = {"geneval": _geneval, "spatial": _spatial, "several": _several}[benchmark.protocol](config, small)
    return [
        EvalItem(
            item_id=(
                item_id
                := f"{benchmark.protocol}-{'file' if benchmark.file else benchmark.suite}-{split}-{number:03d}-{k}"
            ),
            prompt_group=split,
            prompt=prompt,
            seed=noise_seed(item_id, prompt.text),
            record=record,
            label=label,
        )
        for split, number, prompt, record, label in prompts
        for k in range(benchmark.seeds)
    ]


def geneval_records(config: RunConfig) -> list[GenevalRecord]:
    """Return the records of a run of the protocol geneval, in the order of its prompts."""
    benchmark, small = config.benchmark, config.data.source == "miniworld"
    if small and benchmark.asks_for_colors:
        raise UserError(
            f"benchmark.tags {' and '.join(COLOR_TAGS)} ask for colours, and the small world's objects have their own; "
            "allowed here: single_object, two_object"
        )
    if benchmark.file is not None:
        records = geneval_metadata.read_metadata(benchmark.file, benchmark.tags)
        _require_color_tags(records)
        return [record for tag in benchmark.tags for record in _first(benchmark, [r for r in records if r.tag == tag])]
    if small and "position" in benchmark.tags:
        raise UserError(
            "benchmark.tags position is the protocol pairs in the small world; allowed here: single_object, two_object"
        )
    names = OBJECTS if small else GENEVAL_CLASSES
    return [
        record
        for tag in benchmark.tags
        for record in geneval_prompts.generate_records(tag, benchmark.suite, benchmark.prompts, names)
    ]


def _require_color_tags(records: Sequence[GenevalRecord]) -> None:
    """Raise UserError for a colour in a task without: whether a run needs a reader of colours is known by its tags."""
    for record in records:
        if record.tag not in COLOR_TAGS and any(clause.color is not None for clause in record.include):
            raise UserError(
                f"the prompt {record.prompt!r} asks for a colour in the task {record.tag}; allowed in: {', '.join(COLOR_TAGS)}"
            )


Row = tuple[
    str, int, Phrases, GenevalRecord | SpatialPrompt | None, str
]  # kind of prompt, number, prompt, record, label


def _first(benchmark: BenchmarkConfig, values: Sequence) -> Sequence:
    return values[: benchmark.prompts]


def _geneval(config: RunConfig, small: bool) -> Iterator[Row]:
    for number, record in enumerate(geneval_records(config)):
        if record.tag == "position":
            prompt = geneval_metadata.position_prompt(record)
            yield record.tag, number, prompt, record, prompt.triplet.relation
        else:
            names = tuple(clause.name for clause in record.include)
            steered = (
                geneval_metadata.attribute_prompt(record)
                if record.tag in COLOR_TAGS and ATTRIBUTE in config.data.labels
                else None
            )
            yield (
                record.tag,
                number,
                steered or SeveralPrompt(text=record.prompt, triplets=(), objects=names, spans=()),
                record,
                record.tag,
            )


def _spatial(config: RunConfig, small: bool) -> Iterator[Row]:
    benchmark = config.benchmark
    if small and benchmark.file is None:
        raise UserError(
            "benchmark.protocol spatial asks for people and furniture, which the small world lacks; use it for photographs"
        )
    prompts = (
        _first(benchmark, compbench.read_prompts(benchmark.file))
        if benchmark.file
        else compbench_prompts.generate_prompts(benchmark.suite, benchmark.prompts)
    )
    for number, spatial in enumerate(prompts):
        nothing = SeveralPrompt(text=spatial.text, triplets=(), objects=(spatial.subject, spatial.object), spans=())
        yield "spatial", number, spatial.as_prompt() or nothing, spatial, spatial.phrase


def _several(config: RunConfig, small: bool) -> Iterator[Row]:
    benchmark = config.benchmark
    if benchmark.file is not None:
        for number, prompt in enumerate(_first(benchmark, several_prompts.read_several(benchmark.file))):
            yield "file", number, prompt, None, _label(prompt)
        return
    if small and "2+1" in benchmark.forms:
        raise UserError(
            "benchmark.forms 2+1 is the protocol pairs in the small world; allowed here: 2+2 (diagonals), 3+2, 4+2, 4+3, 5+3"
        )
    for form in benchmark.forms:
        size = tuple(map(int, form.split("+")))
        for number, prompt in enumerate(
            several_prompts.generate_several(benchmark.suite, size, benchmark.prompts, _names(config, small))
        ):
            yield f"{form.replace('+', '-')}-{benchmark.objects}", number, prompt, None, _label(prompt)


def _names(config: RunConfig, small: bool) -> Sequence[str]:
    """The objects of prompts; in the small world the novel ones are those that the classifier never met."""
    if not small:
        return several_prompts.OBJECT_LISTS[config.benchmark.objects]
    novel = config.data.held_out_objects
    return {"common": [name for name in OBJECTS if name not in novel], "novel": list(novel), "mixed": list(OBJECTS)}[
        config.benchmark.objects
    ]


def _label(prompt: SeveralPrompt) -> str:
    return f"{len(prompt.objects)} objects, {len(prompt.triplets)} relations"
