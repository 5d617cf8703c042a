"""Train a classifier for a new model: scenes, inversion, attention maps, training, and the first steered images.

A script in cells (# %%): Jupyter and editors open it as a notebook, `python` runs it from top to bottom. `l2s train`
does the same for a configuration: in shards, resumable, on several machines, with MLflow.
"""

# %% The model. A folder in diffusers' layout or a hub id, of a known family; the small model stands in for yours.
from pathlib import Path

import l2s_core as l2s
from l2s_core.backbones.load import image_size, load_backbone
from l2s_core.backbones.window import window_test
from l2s_core.classifier.experiment import run_experiment
from l2s_core.config import load_run_config
from l2s_core.data.scenes import PromptForm, images_of
from l2s_core.data.source import source_of
from l2s_core.dataset.collect import collect_maps, map_source
from l2s_core.dataset.reader import badly_returned, reconstructions
from l2s_core.dataset.writer import write_shard
from l2s_core.diffusion.noise import invert_scenes
from l2s_core.report.figures import curves_figure

SETTINGS = {"backbone.model": "mini-sd", "data.train": 24, "data.val": 6, "data.test": 8}  # scenes a relation
PROMPT = "a dog to the left of a cat"
SEEDS = range(4)
OUT = Path("mlruns/examples/train")

run = load_run_config("mini-sd", SETTINGS)
backbone = load_backbone(run.backbone, "cpu")

# %% Scenes: images in which it is known what is true. Your own: configs/README.md, l2s_core/data/README.md.
source = source_of(run.data)
size = image_size(run.backbone)
scenes, skipped = source.load_entries(source.catalogue_for(size, window_test(run.backbone)).entries, size)
print(f"{len(scenes)} scenes; the first: {scenes[0].triplet}")

# %% Every scene is inverted twice, under a true and a wrong prompt.
noise = invert_scenes(
    backbone,
    scenes,
    run.inversion,
    steps=run.backbone.steps,
    batch=run.batch,
    form=PromptForm.of(run.data),
)

# %% The attention of the two objects' phrases while that noise is denoised again, to Parquet. What comes back badly is
# left out by whoever reads it.
wanted = map_source(backbone, run.capture, run.backbone.steps, run.data.labels)
maps = collect_maps(backbone, noise, images_of(scenes), wanted, batch=run.batch)
OUT.mkdir(parents=True, exist_ok=True)
write_shard(OUT / "maps.parquet", maps, "example")
returned = reconstructions(OUT / "maps.parquet")
bad = badly_returned(returned, run.inversion.min_psnr)
print(f"PSNR of what the noise gives back: {returned.psnr.mean():.1f} dB; {len(bad)} of {len(scenes)} images left out")

# %% Training stops early. Its test has true and wrong prompts: who reads the prompt instead of the maps fails on these.
classifier, trained = run_experiment(run.classifier, [OUT / "maps.parquet"], min_psnr=run.inversion.min_psnr)
curves_figure(trained.history, trained.best_epoch).savefig(OUT / "curves.png", dpi=80)
for kind in ("true_prompts", "wrong_prompts"):
    print(f"test accuracy, {kind}: {trained.test[f'accuracy_{kind}']:.2f}")

# %% Steer with it, and keep it.
model = l2s.SteeredModel(backbone=backbone, classifier=classifier, run=run, trained=trained)
result = model(PROMPT, seeds=SEEDS)
result.comparison().save(OUT / "steered.png")
l2s.save(model, OUT / "classifier")
