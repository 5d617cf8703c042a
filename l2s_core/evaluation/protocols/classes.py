"""Names of classes: the 80 of COCO's detection task, in the order of its category ids, and what GenEval calls them."""

from __future__ import annotations

_NAMES = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
    parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
    handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove,
    skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple,
    sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining
    table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink,
    refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush"""
COCO_CLASSES: tuple[str, ...] = tuple(" ".join(name.split()) for name in _NAMES.split(","))
# Classes that GenEval names otherwise than COCO does.
GENEVAL_NAMES = {"mouse": "computer mouse", "remote": "tv remote", "keyboard": "computer keyboard"}
GENEVAL_CLASSES: tuple[str, ...] = tuple(GENEVAL_NAMES.get(name, name) for name in COCO_CLASSES)


def geneval_name(name: str) -> str:
    """Return GenEval's name of a class, in small letters; it may carry COCO's."""
    return GENEVAL_NAMES.get(name.lower(), name.lower())
