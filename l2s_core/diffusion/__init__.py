"""The sampler and its reverse: one denoising loop, inversion, the noise of scenes."""
