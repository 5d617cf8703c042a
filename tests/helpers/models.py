"""Tiny models of random weights, written as the real ones' folders are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from l2s_core.backbones.folder import SHIPPED

PIXELS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}


def save_model(folder: Path, model: Any, tokenizer: Any, size: int | dict[str, int], spread: float = 0.5) -> None:
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:  # not the norms
            torch.nn.init.normal_(parameter, std=spread)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PIXELS | {"size": size}))


def bert_tokenizer() -> Any:
    """Words at places from 1030 on; the model knows the ids of [CLS], [SEP], "." and "?" by heart."""
    from transformers import BertTokenizer

    words = ["dog", "cat", "teddy", "bear"]
    vocab = {f"[unused{i}]": i for i in range(1030)}
    for word, place in {
        "[PAD]": 0,
        "[UNK]": 100,
        "[CLS]": 101,
        "[SEP]": 102,
        "[MASK]": 103,
        ".": 1012,
        "?": 1029,
    }.items():
        vocab = {key: value for key, value in vocab.items() if value != place} | {word: place}
    return BertTokenizer(vocab=vocab | {word: 1030 + i for i, word in enumerate(words)})


def clip_tokenizer() -> Any:
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    symbols = ["!", *letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={s: i for i, s in enumerate(symbols)}, merges=[], pad_token="!")


def gguf_file(folder: Path, file: Path, kind: str) -> Path:
    """Write the weights of a network of diffusers as GGUF: matrices quantised, such as "Q4_0", the rest as they are."""
    import gguf
    from safetensors.torch import load_file

    quantised = gguf.GGMLQuantizationType[kind]
    block, _ = gguf.GGML_QUANT_SIZES[quantised]
    writer = gguf.GGUFWriter(file, folder.name)
    for name, weight in load_file(folder / "diffusion_pytorch_model.safetensors").items():
        values = weight.float().numpy()
        if values.ndim == 2 and values.shape[1] % block == 0:
            writer.add_tensor(name, gguf.quantize(values, quantised), raw_dtype=quantised)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def tiny_dino(folder: Path) -> None:
    from transformers import BertConfig, GroundingDinoConfig, GroundingDinoForObjectDetection, SwinConfig

    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=4, out_features=["stage2", "stage3", "stage4"]
        ),
        text_config=BertConfig(
            vocab_size=1040, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        ),
        d_model=32,
        num_queries=12,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        max_text_len=24,
    )
    save_model(
        folder,
        GroundingDinoForObjectDetection(config),
        bert_tokenizer(),
        {"shortest_edge": 64, "longest_edge": 96},
        spread=0.1,
    )


def clip_parts(length: int) -> dict[str, Any]:
    end = {"bos_token_id": 53, "eos_token_id": 54, "pad_token_id": 0}
    small = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    return {
        "text_config": small | end | {"vocab_size": 55, "max_position_embeddings": length},
        "vision_config": small | {"image_size": 32, "patch_size": 8},
        "projection_dim": 16,
    }


def tiny_owl(folder: Path) -> None:
    from transformers import Owlv2Config, Owlv2ForObjectDetection

    save_model(
        folder, Owlv2ForObjectDetection(Owlv2Config(**clip_parts(32))), clip_tokenizer(), {"height": 32, "width": 32}
    )


def tiny_clipseg(folder: Path) -> None:
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    config = CLIPSegConfig(
        **clip_parts(40),
        extract_layers=[0, 1],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )
    save_model(folder, CLIPSegForImageSegmentation(config), clip_tokenizer(), 32)


def tiny_clip(folder: Path) -> Path:
    """Write a CLIP of tiny random weights with mini-sd's tokenizer."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(SHIPPED / "mini-sd" / "tokenizer")
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": 24, **ends}
    config = CLIPConfig(
        text_config=small | words, vision_config=small | {"image_size": 32, "patch_size": 8}, projection_dim=16
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def tiny_mask2former(folder: Path) -> None:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    labels = {0: "dog", 1: "motorbike"}
    config = Mask2FormerConfig(
        backbone_config=SwinConfig(
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 1, 1],
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        hidden_dim=32,
        feature_size=32,
        mask_feature_size=32,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=5,
        id2label=labels,
        label2id={v: k for k, v in labels.items()},
    )
    Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)


def tiny_depth(folder: Path, **settings: Any) -> Path:
    """Write a Depth Anything of tiny random weights that reads 28 x 28 pixels."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=28, patch_size=14,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, neck_hidden_sizes=[4, 4, 8, 8], fusion_hidden_size=8,
        head_hidden_size=4, **settings,
    )  # fmt: skip
    torch.manual_seed(0)
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    pixels = PIXELS | {"size": {"height": 28, "width": 28}}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    return folder
