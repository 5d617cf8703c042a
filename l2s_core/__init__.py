"""Learn-to-Steer core: plain PyTorch, no orchestration and no tracking.

Shape legend used in names throughout the package::

    B batch            O objects of a record (subject, object)   M captured channels (layers x heads)
    H heads            P image tokens (pixels of an attention layer)   K text tokens
    G side of the map grid   R relations   C latent channels   h, w latent height and width
"""
