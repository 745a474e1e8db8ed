"""A Florence-2 of the real architecture and a few thousand weights, taught two colours, read as a real one is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from bespoke.annotation import captioner
from bespoke.errors import BespokeError
from bespoke.models import Florence, Wording

SHORT, BETWEEN, LONG = "a {} field", "a field that is {} all over", "the picture shows {} and nothing but {}"
SAYS = {"<CAPTION>": SHORT, "<DETAILED_CAPTION>": BETWEEN, "<MORE_DETAILED_CAPTION>": LONG}
COLOURS = ("red", "blue")
KEYS = list(COLOURS)
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<image>"]
SIDE = 32


def said(task: str) -> list[str]:
    return [SAYS[task].replace("{}", colour) for colour in COLOURS]


def tokenizer():
    """A tokenizer of BART's kind for the few words that are needed."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet)
    made.train_from_iterator([text for task in SAYS for text in said(task)] * 3, trainer)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=made, **names, sep_token="</s>", extra_special_tokens={"image_token": "<image>"}
    )


def untaught(words: int, image_token: int):
    """A model of the real classes, a few thousand weights large."""
    from transformers import BartConfig, Florence2Config, Florence2ForConditionalGeneration, Florence2VisionConfig

    vision = Florence2VisionConfig(
        depths=(1, 1), patch_size=(7, 3), patch_stride=(4, 2), patch_padding=(3, 1), patch_prenorm=(False, True),
        embed_dim=(16, 32), num_heads=(2, 2), num_groups=(2, 2), window_size=4, projection_dim=32,
        max_temporal_embeddings=4, max_position_embeddings=8, drop_path_rate=0.0,
    )  # fmt: skip
    text = BartConfig(
        vocab_size=words, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=128, dropout=0.0,
    )  # fmt: skip
    both = {"text_config": text.to_dict(), "vision_config": vision.to_dict()}
    return Florence2ForConditionalGeneration(Florence2Config(**both, image_token_id=image_token))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [Image.new("RGB", (40, 30), colour) for colour in COLOURS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pictures: list[Image.Image]) -> Path:
    """The model's folder, in the layout of `florence-community/Florence-2-base`."""
    from transformers import CLIPImageProcessorPil, Florence2Processor

    words = tokenizer()
    shown = CLIPImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, do_center_crop=False, image_seq_length=(SIDE // 8) ** 2 + 1
    )
    asks: Any = Florence2Processor(shown, words)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = untaught(len(words), words.image_token_id)
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
        question = asks(images=pictures * 3, text=[t for t in SAYS for _ in COLOURS], return_tensors="pt", padding=True)
        answers = words([text for task in SAYS for text in said(task)], return_tensors="pt", padding=True).input_ids
        for _ in range(400):
            loss = model(**question, labels=answers.masked_fill(answers == words.pad_token_id, -100)).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if loss < 0.02:
                break
    model.generation_config.update(num_beams=3, no_repeat_ngram_size=3, early_stopping=True)  # as the real one has
    path = tmp_path_factory.mktemp("florence")
    model.save_pretrained(path)
    asks.save_pretrained(path)
    return path


def test_the_kind_of_caption_decides_the_task(folder: Path, pictures: list[Image.Image]) -> None:
    teller = captioner(str(folder), "cpu")
    assert isinstance(teller, Florence)
    for kind, task in (
        ("short", "<CAPTION>"), ("caption", "<DETAILED_CAPTION>"), ("long", "<MORE_DETAILED_CAPTION>"),
        ("of my own", "<DETAILED_CAPTION>"),
    ):  # fmt: skip
        assert teller.captions(pictures, KEYS, Wording(kind=kind)) == said(task)
        assert teller.captions(pictures, KEYS, Wording(prompt=task, kind="short")) == said(task)


def test_a_caption_does_not_depend_on_its_neighbours_and_is_drawn_by_its_key(
    folder: Path, pictures: list[Image.Image]
) -> None:
    teller = Florence(folder)
    for wording in (Wording(), Wording(top_p=0.99, seed=3)):
        alone = [teller.captions([p], [k], wording)[0] for p, k in zip(pictures, KEYS, strict=True)]
        assert teller.captions(pictures, KEYS, wording) == alone
    hot = Wording(top_p=1.0, min_words=12, max_words=30)
    drawn = {teller.captions(pictures[:1], [key], hot)[0] for key in "abcdefgh"}
    assert len(drawn) > 1


def test_captions_have_at_least_and_at_most_so_many_words(folder: Path, pictures: list[Image.Image]) -> None:
    teller = Florence(folder)
    assert teller.captions(pictures, KEYS, Wording(kind="long", max_words=4)) == [
        "the picture shows red", "the picture shows blue",
    ]  # fmt: skip
    assert all(len(t.split()) >= 12 for t in teller.captions(pictures, KEYS, Wording(min_words=12)))


@pytest.mark.parametrize("task", ["<OD>", "<CAPTION> of the cat"])
def test_what_gives_no_caption_is_refused(folder: Path, pictures: Sequence[Image.Image], task: str) -> None:
    with pytest.raises(BespokeError, match="cannot caption by") as caught:
        Florence(folder).captions(pictures, KEYS, Wording(prompt=task))
    assert "<DETAILED_CAPTION>" in caught.value.hint


def test_what_lacks_weights_is_refused_and_not_made_up(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "vision_tower" not in name}
    assert len(kept) < len(weights)
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(BespokeError, match="lacks weights of a Florence-2") as caught:
        captioner(str(tmp_path), "cpu")
    assert "florence-community/Florence-2-base" in caught.value.hint


def test_what_is_no_captioner_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BespokeError, match="gives no captioner"):
        captioner(str(tmp_path), "cpu")
    with pytest.raises(BespokeError, match="gives no captioner"):
        Florence(tmp_path)
