"""The gradient of an objective moves the latents while an image is sampled."""
