"""Every mistake in a configuration is one line that says what is allowed."""

from __future__ import annotations

import re
import shutil
from typing import Annotated, Literal

import pytest
from pydantic import Field

from flows.options import overrides_of
from l2s_core.backbones.load import model_folder, pick_device
from l2s_core.config import CONFIG_FOLDER, Overrides, Section, load_preset, load_run_config, validate
from l2s_core.config.yaml_text import parse_yaml
from l2s_core.errors import UserError
from l2s_core.miniworld.training.pretrain import load_pretrain_config
from l2s_core.relations import ATTRIBUTE, PLANAR

RUNS = sorted(p.stem for p in CONFIG_FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", RUNS)
def test_every_shipped_configuration_is_valid(name: str) -> None:
    assert load_run_config(name).name == name
    assert load_run_config(name, {**load_preset("quick"), "name": "quick"}).data.train < 50
    assert load_pretrain_config().rounds[0].denoiser.steps > 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"steering.confidense": 0.9}, "unknown key 'steering.confidense'; did you mean 'confidence'"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"data.train": 0}, "data.train: .*greater than or equal to 1 .*got 0"),
        (
            {"data.source": "gqa-x"},
            "data.source: unknown source of scenes 'gqa-x'; did you mean 'gqa'. allowed: gqa, jsonl, miniworld, orm",
        ),
        ({"classifier.kind": "convv"}, "classifier.kind: .*'conv' or 'transformer'"),
        ({"backbone.family": "unett"}, "backbone.family: .*'unet'"),
        ({"capture.steps": [3, 1]}, "capture: steps must be .* rising order"),
        ({"capture.steps": [1, 25]}, "capture.steps reaches 25, but backbone.steps is 20"),
        (
            {"inversion.start": 3, "inversion.stop": 3},
            "inversion.start is 3 and inversion.stop 3; allowed: start below stop",
        ),
        ({"inversion.stop": 21}, "inversion.stop 21; allowed: .* at most backbone.steps, 20"),
        ({"inversion.start": 20}, "inversion.start is 20 and inversion.stop 20; allowed"),
        ({"steering.until_step": 19}, "steering.until_step 19 goes past the last captured step"),
        ({"device": "tpu"}, "device: .*'auto', 'cpu' or 'cuda'"),
        ({"name": "Bad Name"}, "name: "),
        (
            {"data.attributes": ["white"]},
            "unknown key 'data.attributes'; allowed: beside, counts, diagonals, held_out_objects, ",
        ),
        ({"data.path": "x"}, "unknown key 'data.path'; allowed: beside, counts, diagonals, held_out_objects, "),
        ({"data": "paper-sd", "data.attributes": ["light blue"]}, "data.attributes.0: .*light blue"),
        (
            {"data": "paper-sd", "data.held_out_pairs": 0.1},
            "unknown key 'data.held_out_pairs'; allowed: attribute_",
        ),
        ({"data": {"source": "orm", "train": 1, "val": 1, "test": 1}}, "missing key 'data.path'; add it"),
        (
            {"data": {"source": "orm", "path": "x", "train": 1, "val": 1, "test": 1, "is_a": "oewn:2024"}},
            "unknown key 'data.is_a'; allowed: attribute_quotas, attributes, beside, path, ",
        ),
        (
            {"data": "paper-sd", "data.beside": [{"source": "ormm", "path": "x", "train": 1, "val": 1, "test": 1}]},
            "data.beside.0.source: unknown source of scenes 'ormm'; did you mean 'orm'",
        ),
        (
            {"data": "paper-sd", "data.beside": [{"source": "miniworld", "train": 1, "val": 1, "test": 1}]},
            "data: beside mixes sources that are read from a folder; miniworld stands alone",
        ),
        ({"name.x": 1}, "cannot set 'name.x'"),
        ({"name": "x" * 300}, "name: .*at most 80 characters"),
        *(
            ({"classifiers": {name: "conv"}}, f"classifiers.{re.escape(name[:80])}: a name has small letters")
            for name in ("../../x", "", "a:b", "Dual", "x" * 400)
        ),
        ({"classifiers": {"main": "conv"}}, "classifiers.main has the name of another method .*rename it"),
        ({"classifiers": {"plain": "conv"}}, "classifiers.plain has the name of another method"),
        ({"classifiers": ["a"]}, r"classifiers is \['a'\]; allowed: names with their settings"),
        ({"classifiers": "dual"}, "classifiers is 'dual'; allowed: names with their settings"),
        ({"methods": ["a"]}, "methods: .*valid dictionary"),
        ({"steering": ["fast"]}, "every run needs 'steering'"),
        ({"capture": ["a"]}, "capture: .*valid dictionary"),
        ({"steering.step_size": float("inf")}, "steering.step_size: .*finite number"),
        ({"classifier.lr": float("nan")}, "classifier.lr: .*finite number"),
        ({"batch": 10**20}, "batch: .*less than or equal to 4096"),
        ({"classifier.width": 10**9}, "classifier.width: .*less than or equal to 16384"),
        ({"data.train": 10**30}, "data.train: .*less than or equal to 10000000"),
        ({"benchmark.seeds": 10**12}, "benchmark.seeds: .*less than or equal to 10000000"),
    ],
)
def test_mistakes(overrides: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_run_config("mini-sd", overrides)
    assert "\n" not in str(caught.value)


def test_a_mistake_is_blamed_on_the_file_or_option_in_which_it_stands(tmp_path) -> None:
    """A misspelt --set was called a mistake of configs/mini-sd.yaml."""
    path = tmp_path / "run.yaml"
    shipped = (CONFIG_FOLDER / "mini-sd.yaml").read_text()
    path.write_text(shipped.replace("data: miniworld", "data: {base: miniworld, tran: 5}"))
    cases = [
        (path, {}, f"{path}: unknown key 'data.tran'"),
        ("mini-sd", Overrides({"data.tran": 5}, "--set"), "--set: unknown key 'data.tran'"),
        ("mini-sd", Overrides({"data": {"base": "miniworld", "tran": 5}}, "--set"), "--set: unknown key 'data.tran'"),
        ("mini-sd", Overrides({"steering": "fats"}, "--set"), "--set: no 'fats' in configs/steering/"),
        ("mini-sd", Overrides({"backbone.steps": 3}, "--set"), "mini-sd.yaml with --set: settings: capture.steps"),
        ("mini-sd", {"data.tran": 5}, "settings: unknown key 'data.tran'"),
        ("mini-sd", overrides_of(("data.train=0",), quick=True, config="mini-sd"), "--set: data.train"),
        ("mini-sd", Overrides({"data.train": 5, "data.val": 0}, "--quick"), "--quick: data.val"),
    ]
    for config, overrides, message in cases:
        with pytest.raises(UserError) as caught:
            load_run_config(config, overrides)
        assert message in str(caught.value)


def test_a_mistake_in_a_sections_file_is_blamed_on_that_file(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("data", "classifiers", "steering", "benchmarks", "backbones"):
        shutil.copytree(CONFIG_FOLDER / folder, tmp_path / folder)
    wrong = tmp_path / "steering" / "odd.yaml"
    wrong.write_text((CONFIG_FOLDER / "steering" / "fast.yaml").read_text() + "updatez: 3\n")
    monkeypatch.setattr("l2s_core.config.loading.CONFIG_FOLDER", tmp_path)
    for steering in ("odd", {"base": "odd", "updates": 3}):
        with pytest.raises(UserError, match="unknown key 'steering.updatez'") as caught:
            load_run_config(CONFIG_FOLDER / "mini-sd.yaml", Overrides({"steering": steering}, "--set"))
        assert str(caught.value).startswith(str(wrong))


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 200))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nbatch: 1\nname: b\n", r"the key 'name' stands twice; leave one \(line 3, column 1\)"),
        ("data: {train: 1, val: 2, train: 3}", "the key 'train' stands twice"),
        (BOMB, "more than 100000 values, aliases spelt out"),
        ("data: &self {base: *self}", "an alias stands inside of what it names"),
        ("a: " + "[" * 5000, "nested more than 40 deep"),
        ("a: [1, 2\n", "expected ',' or .*line 2"),
        ("a: @x", r"found character '@' that cannot start any token.*line 1, column 4"),
        ("1: x", "a key is no text; put it in quotes"),
        ("a: !!python/name:os.system x", "could not determine a constructor"),
        ("a: " + "9" * 5000, "cannot read"),
        ("a: '" + "x" * 200_001 + "'", "characters; allowed: at most 200000"),
        ("- a", "holds no settings"),
    ],
)
def test_yaml_that_is_no_configuration_is_one_line_with_its_place(tmp_path, text: str, message: str) -> None:
    """Of a key written twice the last one won; an alias bomb took minutes and gigabytes."""
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_run_config(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_yaml_has_texts_numbers_lists_and_mappings() -> None:
    """A date is a text: 2001-13-45 ended in a traceback, and 2001-12-24 was no name."""
    text = "a: 2001-13-45\nb: 2001-12-24\nc: &c {x: 1, y: [2.5, null, true]}\nd: {<<: *c, x: 3}\n"
    assert parse_yaml("\ufeff" + text, "a test") == {
        "a": "2001-13-45",
        "b": "2001-12-24",
        "c": {"x": 1, "y": [2.5, None, True]},
        "d": {"x": 3, "y": [2.5, None, True]},
    }


def test_a_quick_run_has_the_name_of_its_configuration(tmp_path) -> None:
    """A file "My Config.yaml" made the name "My Config-quick", which is none."""
    path = tmp_path / "My Config.yaml"
    path.write_text((CONFIG_FOLDER / "mini-sd.yaml").read_text())
    assert load_run_config(path, overrides_of((), quick=True, config=str(path))).name == "mini-sd-quick"
    assert load_run_config("mini-sd", overrides_of((), quick=True, config="mini-sd")).name == "mini-sd-quick"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("backbone.model=@x",), "--set 'backbone.model=@x', whose value is to be YAML"),
        (("data.attributes=[white, green",), "expected ',' or"),
        (("batch",), "is not KEY=VALUE"),
    ],
)
def test_a_setting_that_cannot_be_read_is_one_line(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        overrides_of(settings)


def test_a_model_that_is_no_name_is_not_found() -> None:
    for name in ("../..", "a/" + "b" * 5000, "x" * 5000, "-/a"):
        with pytest.raises(UserError, match="^no model "):
            model_folder(load_run_config("mini-sd", {"backbone.model": name}).backbone)


def test_unknown_names_come_with_a_suggestion(tmp_path) -> None:
    with pytest.raises(UserError, match="no configuration 'mini-ds'; did you mean 'mini-sd'"):
        load_run_config("mini-ds")
    path = tmp_path / "run.yaml"
    path.write_text("name: x\nbackbone: mini-sdd\n")
    with pytest.raises(UserError, match="no 'mini-sdd' in configs/backbones/; did you mean 'mini-sd'"):
        load_run_config(path)
    path.write_text("a: [1, 2\n")
    with pytest.raises(UserError, match="cannot read .*run.yaml"):
        load_run_config(path)


def test_data_without_attributes_is_what_it_was() -> None:
    plain = load_run_config("sd21", {"data": "gqa-orm"}).data
    assert "attributes" not in plain.model_dump(mode="json") and plain.labels == plain.chosen == PLANAR
    assert plain.digest() == "de3a9b83ef000fa2"
    described = load_run_config("sd21", {"data": "paper-sd"}).data
    assert described.labels == described.chosen == (*PLANAR, ATTRIBUTE)
    assert described.attribute_words == ("white", "green", "large", "metal")
    assert [part.train for part in described.parts] == [part.train for part in plain.parts]


def test_centroids_know_no_attributes() -> None:
    colored = {
        "benchmark.protocol": "geneval",
        "benchmark.tags": ["colors"],
        "benchmark.clip": "x",
        "data": "paper-sd",
    }
    with pytest.raises(UserError, match="methods.c steers by centroids, which know no attributes; leave it out"):
        load_run_config("sd21", {**colored, "methods": {"c": {"kind": "centroid"}}})


def test_further_classifiers_inherit_from_the_runs_own() -> None:
    run = load_run_config("mini-sd", {"classifier.epochs": 3})
    assert run.classifiers and all(v.epochs == 3 for v in run.classifiers.values())
    assert run.classifiers["true-only-bare"].prompts == "true" and run.classifier.prompts == "dual"


def test_cuda_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert pick_device("auto") == "cpu"
    with pytest.raises(UserError, match="device: cuda, but .* set device to cpu or auto"):
        pick_device("cuda")


@pytest.mark.parametrize(
    ("name", "size", "steps", "guidance", "captured", "scenes", "steering", "layers_heads_lr"),
    [
        ("sd14", 512, 50, 7.5, (5, 10, 15, 20, 25, 49), (800, 200, 100), (7.5, 25), (2, 2, 1e-4)),
        ("sd21", 512, 50, 7.5, (5, 10, 15, 20, 25, 49), (800, 200, 100), (5.0, 25), (2, 2, 1e-4)),
        ("flux-schnell", 256, 4, 1.0, (1, 3), (2000, 400, 200), (5.0, 1), (4, 4, 5e-5)),
        ("flux-dev", 512, 50, 3.5, (5, 10, 15, 20, 25, 49), (2000, 400, 200), (5.0, 25), (4, 4, 5e-5)),
    ],
)
def test_the_papers_figures(name, size, steps, guidance, captured, scenes, steering, layers_heads_lr) -> None:
    """As Learn-to-Steer (arXiv 2509.02295) publishes them; a guidance of 1 is none."""
    run = load_run_config(name)
    backbone = run.backbone
    data = run.data
    classifier = run.classifier
    rule = run.steering
    assert (backbone.size, backbone.steps, backbone.guidance, tuple(run.capture.steps)) == (
        size,
        steps,
        guidance,
        captured,
    )
    assert (data.train, data.val, data.test) == scenes and run.capture.grid == 16
    assert (rule.step_size, rule.until_step, rule.updates, rule.normalize, rule.several, rule.confidence) == (
        *steering,
        16,
        "none",
        "round-robin",
        None,
    )
    rising = (1e-5, 3e-5, 5e-5, 7e-5)
    assert rule.min_loss == (1e-5 if name == "flux-schnell" else rising) and rule.min_loss_at(0) == 1e-5
    assert name == "flux-schnell" or [rule.min_loss_at(step) for step in (2, 3, 24)] == [5e-5, 7e-5, 7e-5]
    assert (classifier.kind, classifier.width, classifier.dropout, classifier.batch) == ("transformer", 256, 0.3, 64)
    assert (classifier.layers, classifier.heads, classifier.lr) == layers_heads_lr and classifier.prompts == "dual"
    inversion = run.inversion
    if backbone.family == "flux":
        assert (inversion.method, inversion.gamma, inversion.eta) == ("rectified-flow", 1.0, 1.0)
    else:
        assert (inversion.method, inversion.iterations) == ("fixed-point", 5)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("variants", "classifiers"),
        ("baselines.x.kind", "methods"),
        ("data.twins", "is_a"),
        ("backbone.variant", "precision"),
    ],
)
def test_the_error_of_a_renamed_key_says_its_new_name(old: str, new: str) -> None:
    with pytest.raises(
        UserError, match=f"unknown key '{old.removesuffix('.x.kind')}'; did you mean '{new}'\\? allowed"
    ):
        load_run_config("sd21", {old: "x"})


class Small(Section):
    by: Literal["small"]
    size: int = 1


class Large(Section):
    by: Literal["large"]


class Holder(Section):
    inner: Annotated[Small | Large, Field(discriminator="by")] | None = None


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ({}, "x: missing key 'inner.by'; add it"),
        ({"by": "smal"}, "x: inner.by: unknown value 'smal'; did you mean 'small'? allowed: small, large"),
        ({"by": "small", "sizes": 2}, "x: unknown key 'inner.sizes'; did you mean 'size'? allowed: by, size"),
        ({"by": "small", "size": "big"}, "x: inner.size: "),
    ],
)
def test_mistakes_in_a_section_of_several_kinds_name_its_own_place(inner: dict, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        validate(Holder, {"inner": inner}, "x")


def test_of_a_setting_given_twice_on_the_command_line_the_last_counts() -> None:
    assert overrides_of(("batch=4", "shard=1", "batch=8")) == {"batch": 8, "shard": 1}
