"""Small tokenizers of every family the detokenizer must be exact for, trained here on a few lines."""

import functools
import io
import json
from collections.abc import Callable
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "The harbour lights went out one by one; the tide carried the boats home.",
    "def greet(name: str) -> str:\n\treturn f'hello, {name}!'  # 42 + 3.14 == 45.14",
    "Ein Müller aß Äpfel. L'été déjà naît où ça? ¿Mañana? Ça va!",
    "日本語のテキストと、中文字符，以及한국어 문장。",
    "Привет, мир! Γειά σου Κόσμε. שלום עולם مرحبا بالعالم",
    "🙂🚀👩‍👩‍👧‍👦 emoji, ﬁ ligatures, zero\u200bwidth and combining e\u0301 a\u030a",
] * 4

_TIKTOKEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level() -> Tokenizer:
    """GPT-2's way: byte-level BPE."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _trained(tokenizer, pre_tokenizers.ByteLevel.alphabet())


def tiktoken_style() -> Tokenizer:
    """Llama 3's and Qwen's way: a regex splits, then byte-level BPE."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_TIKTOKEN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return _trained(tokenizer, pre_tokenizers.ByteLevel.alphabet())


def byte_fallback() -> Tokenizer:
    """Llama 2's and Mistral's way: SentencePiece's BPE with byte fallback, in tokenizers' form."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    # A small alphabet, so that most scripts must fall back to bytes.
    latin = [chr(code) for code in range(33, 127)] + ["▁"]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        initial_alphabet=latin,
        limit_alphabet=len(latin),
        show_progress=False,
    )
    tokenizer.train_from_iterator([line for line in CORPUS if line.isascii()], trainer)
    # The trainer marks byte tokens special; in real Llama files they are plain tokens of the vocabulary.
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if not token["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(state))


def sentencepiece_unigram() -> Tokenizer:
    """T5's and Gemma's way: a real sentencepiece Unigram model with byte fallback, behind Metaspace."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        vocab_size=400,
        model_type="unigram",
        byte_fallback=True,
        character_coverage=0.98,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.get_piece_size())]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=processor.unk_id(), byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<s>", "</s>")])
    return tokenizer


def with_added_words() -> Tokenizer:
    """Byte-level BPE with added tokens that are text, special tokens, and a BOS in front."""
    tokenizer = byte_level()
    tokenizer.add_tokens([AddedToken("<tool_call>", special=False), AddedToken("né", special=False)])
    tokenizer.add_special_tokens(["<bos>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )
    return tokenizer


def real(engine: Path) -> Tokenizer:
    """A served model's own."""
    return Tokenizer.from_file(str(engine / "tokenizer.json"))


def _trained(tokenizer: Tokenizer, alphabet: list[str]) -> Tokenizer:
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    make.__name__: functools.cache(make)
    for make in (byte_level, tiktoken_style, byte_fallback, sentencepiece_unigram, with_added_words)
}
