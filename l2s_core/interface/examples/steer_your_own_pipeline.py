"""Steer your own pipeline: any pipeline of diffusers, as you have loaded it, with a classifier of its architecture.

A script in cells (# %%): Jupyter and editors open it as a notebook, `python` runs it from top to bottom.
"""

# %% Your pipeline, and a classifier for it. The small model that ships stands in for yours.
from pathlib import Path

from diffusers import DiffusionPipeline

import l2s_core as l2s

PIPELINE = Path(l2s.__file__).parent / "miniworld" / "assets" / "mini-sd"  # a folder, or a hub id
CLASSIFIER = "mini-sd"  # a folder, a hub id, or what MLflow holds: models:/NAME@ALIAS, runs:/ID
PROMPT = "a dog to the left of a cat"
SEEDS = range(4)
OUT = Path("mlruns/examples/steer")

pipeline = DiffusionPipeline.from_pretrained(PIPELINE)  # with your LoRAs, types and offload: all of it stays
pipeline.set_progress_bar_config(disable=True)

# %% Images, steered to show what the prompt says. The plain ones begin with the same noise.
model = l2s.load(pipeline, CLASSIFIER)
result = model(PROMPT, seeds=SEEDS)
OUT.mkdir(parents=True, exist_ok=True)
result.comparison().save(OUT / "steered.png")

# %% What it did and what it cost. `confidence` is what the classifier gave the wanted relation, step by step.
right = {name: sum(image.correct for image in result.judge(plain=name == "plain")) for name in ("plain", "steered")}
print(f"right of {len(result)}: {right}")
print(f"gradients an image: {result.gradients}")
print(f"confidence of the first image: {result.confidence[0, :, 0].round(2)}")

# %% The same in your own call of the pipeline. Its callbacks come after a step, so the first step is steered by hand.
steerer = model.steerer(PROMPT)
own = pipeline(
    PROMPT,
    latents=steerer(result.noise[:1], 0),
    callback_on_step_end=steerer.on_step_end,
    num_inference_steps=model.run.backbone.steps,
    guidance_scale=model.run.backbone.guidance,
).images[0]
own.save(OUT / "own-call.png")

# %% Keep the classifier with its settings and a model card: a folder that `l2s.load` takes; `l2s.push` uploads it.
l2s.save(model, OUT / "classifier")
