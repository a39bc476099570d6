"""Language models by libloam: load, tokenize, write, score, embed.

    import loam
    model = loam.Model("models/loam-30m.gguf")
    print(model.generate("The captain", max_tokens=60, seed=7).text)
    for piece in model.stream("The captain"):
        print(piece, end="", flush=True)

Token ids go in as any sequence of numbers or as a buffer of int32 (a NumPy array is read where it lies). Numbers come out as NumPy arrays where NumPy is
installed, else as memoryviews of the same memory; nothing is copied on the way.

Lifetime: objects keep what they stand on alive; close() or `with` frees early.
Threads:  one thread at a time for a Context and what was made with it; the interpreter's lock is released while the library works.
Errors:   loam.Error with the library's sentence; `code` is its name, such as "RANGE".
"""
from __future__ import annotations

import ctypes as C
import os
import queue
import threading
from dataclasses import dataclass
from typing import Any, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from . import _c
from ._c import lib as _lib

try:
    import numpy as _np
except ImportError:                                        # everything works without, with memoryviews in place of arrays
    _np = None

__all__ = ["Context", "Embedder", "Error", "Generated", "Grammar", "Model", "Session", "Tokenizer", "version"]
Ids = Union[Sequence[int], memoryview, Any]
Path = Union[str, "os.PathLike[str]"]


class Error(Exception):
    """What the library refused. code: the error's name without its prefix."""

    def __init__(self, code: int, text: str):
        self.code = _c.ERRORS[code] if 0 <= code < len(_c.ERRORS) else str(code)
        super().__init__(text or self.code)


def version() -> str:
    return _lib.loam_version().decode()


def _floats(*shape: int):
    """New memory for float32 of that shape: what users see, and the pointer to it."""
    n = 1
    for d in shape:
        n *= d
    memory = (C.c_float * max(n, 1))()
    pointer = C.cast(memory, _c.p_float)
    if _np is not None:
        return _np.frombuffer(memory, dtype=_np.float32, count=n).reshape(shape), pointer
    view = memoryview(memory).cast("B")[: 4 * n]
    return (view.cast("f", shape) if n else view.cast("f")), pointer


def _ids(ids: Ids) -> Tuple[Any, Any, int]:
    """(what must stay alive, pointer, how many); a contiguous buffer of int32 is used as it is."""
    try:
        view = memoryview(ids)
        if view.format in ("i", "l") and view.itemsize == 4 and view.c_contiguous:
            n = view.nbytes // 4
            if not view.readonly:
                memory = (C.c_int32 * n).from_buffer(view)
                return (view, memory), C.cast(memory, _c.p_i32), n
    except TypeError:
        pass
    numbers = [int(x) for x in ids]
    if any(not -(2**31) <= x < 2**31 for x in numbers):
        raise Error(_c.ERRORS.index("RANGE"), "a token id does not fit into 32 bits")
    memory = (C.c_int32 * len(numbers))(*numbers)
    return memory, C.cast(memory, _c.p_i32), len(numbers)


def _bytes(text: Union[str, bytes]) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8")


def _name(text: Optional[str]) -> Optional[bytes]:
    return None if text is None else text.encode()


class _Owned:
    """A handle of the library and what it stands on."""

    _free = ""

    def __init__(self, context: "Context", handle: C.c_void_p, base: Any = None):
        self._context, self._handle, self._base = context, handle, base
        self._children: List[Any] = []
        if base is not None:
            base._children.append(_ref(self))

    def _h(self) -> C.c_void_p:
        if not self._handle:
            raise ValueError(f"{type(self).__name__} is closed")
        return self._handle

    def _check(self, code: int) -> None:
        if code:
            raise Error(code, (_lib.loam_error(self._context._h()) or b"").decode(errors="replace"))

    def close(self) -> None:
        """Free it, and what was made from it, now."""
        if self._handle:
            for child in self._children:
                made = child()
                if made is not None:
                    made.close()
            getattr(_lib, self._free)(self._handle)
            self._handle = C.c_void_p()

    def __enter__(self):
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            self.close()
        except Exception:                                  # the interpreter may be ending
            pass


def _ref(x: Any):
    import weakref

    return weakref.ref(x)


class Context(_Owned):
    """Threads and instruction sets. threads 0: one per core; isa: at most "portable", "avx2", "avx512", "avx512bf16" or "amx"."""

    _free = "loam_context_free"

    def __init__(self, threads: int = 0, isa: Optional[str] = None):
        handle = C.c_void_p()
        options = _c.ContextOptions(threads=threads, isa=_name(isa))
        code = _lib.loam_context_new(C.byref(handle), C.byref(options))
        if code:
            raise Error(code, "no context could be made" + (f": isa {isa}" if isa else ""))
        super().__init__(self, handle)


_default: Optional[Context] = None


def _context(given: Optional[Context]) -> Context:
    global _default
    if given is not None:
        return given
    if _default is None:
        _default = Context()
    return _default


class Tokenizer(_Owned):
    """Text to ids and back. path: a tokenizer file or a model."""

    _free = "loam_tokenizer_free"

    def __init__(self, path: Path, context: Optional[Context] = None):
        context = _context(context)
        handle = C.c_void_p()
        super().__init__(context, handle, context)
        self._check(_lib.loam_tokenizer_open(C.byref(handle), context._h(), os.fsencode(path)))

    def encode(self, text: Union[str, bytes], add: bool = True, special: bool = False, raw: bool = False) -> List[int]:
        """add: BOS and EOS as the tokenizer states; special: "<|…|>" means that token (never for text from users); raw: bytes that are no UTF-8 are taken."""
        flags = (_c.ADD if add else 0) | (_c.SPECIAL if special else 0) | (_c.RAW if raw else 0)
        data, n = _bytes(text), C.c_size_t()
        self._check(_lib.loam_encode(self._h(), data, len(data), flags, None, C.byref(n)))
        ids = (C.c_int32 * max(n.value, 1))()
        self._check(_lib.loam_encode(self._h(), data, len(data), flags, ids, C.byref(n)))
        return ids[: n.value]

    def decode_bytes(self, ids: Ids, special: bool = False) -> bytes:
        alive, pointer, n = _ids(ids)
        size, flags = C.c_size_t(), _c.SPECIAL if special else 0
        self._check(_lib.loam_decode(self._h(), pointer, n, flags, None, C.byref(size)))
        size = C.c_size_t(size.value + 1)
        text = C.create_string_buffer(size.value)
        self._check(_lib.loam_decode(self._h(), pointer, n, flags, text, C.byref(size)))
        del alive
        return text.raw[: size.value]

    def decode(self, ids: Ids, special: bool = False) -> str:
        return self.decode_bytes(ids, special).decode("utf-8", errors="replace")

    def token(self, id: int) -> Optional[bytes]:
        """The bytes that one id stands for; None where there is no such id."""
        n = C.c_size_t()
        p = _lib.loam_token_text(self._h(), id, C.byref(n))
        return None if not p else C.string_at(p, n.value)


class _ModelTokenizer(Tokenizer):
    def __init__(self, model: "Model", handle: int):                   # it is the model's to free
        _Owned.__init__(self, model._context, C.c_void_p(handle), model)

    def close(self) -> None:
        self._handle = C.c_void_p()


@dataclass
class Generated:
    """A text that was written. finish: "length", "stop" or "cancelled"; logprobs and top as asked for."""

    text: str
    tokens: List[int]
    finish: str
    prompt_tokens: int
    prefill_seconds: float
    decode_seconds: float
    logprobs: Any = None                                    # (tokens): natural logarithms before temperature and penalties
    top_tokens: Any = None                                  # (tokens, top)
    top_logprobs: Any = None
    drafted: int = 0
    kept: int = 0


class Model(_Owned):
    """Weights and tokenizer. path: a Hugging Face folder, a GGUF file, or a llama2.c checkpoint. Options are loam_model_options of loam.h."""

    _free = "loam_model_free"

    def __init__(self, path: Path, context: Optional[Context] = None, *, dtype: str = "auto", length: int = 0, sessions: int = 1, kv: str = "f32",
                 device: str = "cpu", load: str = "read", chunk: int = 0, logits_rows: int = 0, memory: int = 0, deterministic: bool = False):
        context = _context(context)
        handle = C.c_void_p()
        options = _c.ModelOptions(dtype=_name(dtype), context=length, sessions=sessions, kv=_name(kv), device=_name(device), load=_name(load), chunk=chunk, memory=memory,
                                  logits_rows=logits_rows, deterministic=int(deterministic))
        super().__init__(context, handle, context)
        self._check(_lib.loam_model_open(C.byref(handle), context._h(), os.fsencode(path), C.byref(options)))

    @property
    def vocab(self) -> int:
        return _lib.loam_model_vocab(self._h())

    @property
    def length(self) -> int:
        """Tokens that a session may hold."""
        return _lib.loam_model_context(self._h())

    @property
    def tokenizer(self) -> Tokenizer:
        return _ModelTokenizer(self, _lib.loam_model_tokenizer(self._h()))

    def session(self) -> "Session":
        return Session(self)

    def grammar(self, text: Union[str, bytes], kind: str = "schema", name: str = "grammar") -> "Grammar":
        return Grammar(self, text, kind, name)

    def _run(self, prompt: Union[str, bytes], n: int, on_text: Any, cancel: Any, *, max_tokens: int = 128, temperature: float = 0.8, top_p: float = 0.95,
             min_p: float = 0.05, top_k: int = 0, seed: int = 1, repetition_penalty: float = 1.0, presence_penalty: float = 0.0,
             frequency_penalty: float = 0.0, penalty_window: int = 0, stop: Sequence[str] = (), bias: Optional[Mapping[int, float]] = None,
             ignore_eos: bool = False, logprobs: Optional[int] = None, grammar: Optional["Grammar"] = None, draft: Optional["Model"] = None,
             speculate: Optional[str] = None, draft_tokens: int = 0, typical_p: float = 0.0, xtc_probability: float = 0.0, xtc_threshold: float = 0.1,
             dry_multiplier: float = 0.0, dry_base: float = 1.75, dry_length: int = 2) -> List[Generated]:
        stops = (C.c_char_p * max(len(stop), 1))(*[_bytes(s) for s in stop])
        bias = bias or {}
        bias_ids, biases = (C.c_int32 * max(len(bias), 1))(*bias.keys()), (C.c_float * max(len(bias), 1))(*bias.values())
        o = _c.GenerateOptions(
            max_tokens=max_tokens, temperature=temperature, top_p=top_p, min_p=min_p, top_k=top_k, seed=seed, repetition_penalty=repetition_penalty,
            stop=stops, n_stop=len(stop), on_text=on_text, n=n, presence_penalty=presence_penalty, frequency_penalty=frequency_penalty,
            penalty_window=penalty_window, bias_ids=bias_ids, biases=biases, n_bias=len(bias), ignore_eos=int(ignore_eos),
            logprobs=0 if logprobs is None else 1 + logprobs, cancel=cancel, grammar=grammar._h() if grammar else None, speculate=_name(speculate),
            draft=draft._h() if draft else None, draft_tokens=draft_tokens, typical_p=typical_p, xtc_probability=xtc_probability,
            xtc_threshold=xtc_threshold, dry_multiplier=dry_multiplier, dry_base=dry_base, dry_length=dry_length)
        texts, data = (_c.Text * n)(), _bytes(prompt)
        self._check(_lib.loam_generate(self._h(), data, len(data), C.byref(o), texts))
        try:
            return [_generated(t) for t in texts]
        finally:
            for t in texts:
                _lib.loam_text_free(C.byref(t))

    def generate(self, prompt: Union[str, bytes], **options: Any) -> Generated:
        """One text. Options: max_tokens, temperature (0: always the likeliest), top_p, min_p, top_k, seed, stop, grammar, draft, logprobs (how many of the
        best beside each token's own), repetition_penalty, bias {id: number}, … as in loam_generate_options."""
        return self._run(prompt, 1, _c.ON_TEXT(), None, **options)[0]

    def generate_many(self, prompt: Union[str, bytes], n: int, **options: Any) -> List[Generated]:
        """n texts from one prompt, side by side; the model wants as many sessions."""
        if n < 1:
            raise ValueError("n must be at least 1")
        return self._run(prompt, n, _c.ON_TEXT(), None, **options)

    def stream(self, prompt: Union[str, bytes], **options: Any) -> Iterator[str]:
        """Pieces of whole characters as they become certain. Leaving the loop stops the writing."""
        pieces: "queue.Queue[Any]" = queue.Queue()
        cancel = C.c_int(0)

        def on_text(_user: Any, _i: int, text: int, n: int) -> int:
            pieces.put(C.string_at(text, n).decode("utf-8", errors="replace"))
            return cancel.value

        callback = _c.ON_TEXT(on_text)

        def work() -> None:
            try:
                self._run(prompt, 1, callback, C.pointer(cancel), **options)
                pieces.put(None)
            except BaseException as e:
                pieces.put(e)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            while True:
                piece = pieces.get()
                if piece is None:
                    return
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            cancel.value = 1
            thread.join()


def _copy(pointer: Any, *shape: int):
    view, to = _floats(*shape)
    n = 1
    for d in shape:
        n *= d
    C.memmove(to, pointer, 4 * n)
    return view


def _generated(t: _c.Text) -> Generated:
    n = t.n_tokens
    g = Generated(C.string_at(t.text, t.bytes).decode("utf-8", errors="replace"), t.tokens[:n], (t.finish or b"").decode(), t.prompt_tokens, t.prefill_seconds,
                  t.decode_seconds, drafted=t.drafted, kept=t.kept)
    if t.logprobs:
        g.logprobs = _copy(t.logprobs, n)
    if t.n_top and t.top_tokens:
        flat = t.top_tokens[: n * t.n_top]
        g.top_tokens = [flat[i * t.n_top: (i + 1) * t.n_top] for i in range(n)]
        g.top_logprobs = _copy(t.top_logprobs, n, t.n_top)
    return g


class Grammar(_Owned):
    """What a text must be. kind: "schema" (JSON Schema), "gbnf" or "regex"."""

    _free = "loam_grammar_free"

    def __init__(self, model: Model, text: Union[str, bytes], kind: str = "schema", name: str = "grammar"):
        handle, data = C.c_void_p(), _bytes(text)
        super().__init__(model._context, handle, model)
        self._check(_lib.loam_grammar_new(C.byref(handle), model._h(), _name(kind), _name(name), data, len(data)))


class Session(_Owned):
    """One timeline over a model: tokens so far and their key-value pages."""

    _free = "loam_session_free"

    def __init__(self, model: Model, _handle: Optional[C.c_void_p] = None):
        self._model = model
        handle = _handle or C.c_void_p()
        super().__init__(model._context, handle, model)
        if _handle is None:
            self._check(_lib.loam_session_new(C.byref(handle), model._h()))

    def __len__(self) -> int:
        return _lib.loam_session_length(self._h())

    def extend(self, ids: Ids, logits: bool = True):
        """Append tokens; what follows the last one: (vocab) float32, or None where logits are not wanted."""
        alive, pointer, n = _ids(ids)
        view, to = _floats(self._model.vocab) if logits and n else (None, None)
        self._check(_lib.loam_session_extend(self._h(), pointer, n, to))
        del alive
        return view

    def logits(self, ids: Ids):
        """Append tokens; what follows each: (n, vocab) float32."""
        alive, pointer, n = _ids(ids)
        view, to = _floats(n, self._model.vocab)
        self._check(_lib.loam_session_logits(self._h(), pointer, n, to))
        del alive
        return view

    def score(self, ids: Ids):
        """Append tokens; log p of each after all before it: (n) float32. The first of an empty session gets 0."""
        alive, pointer, n = _ids(ids)
        view, to = _floats(n)
        self._check(_lib.loam_session_score(self._h(), pointer, n, to))
        del alive
        return view

    def fork(self) -> "Session":
        handle = C.c_void_p()
        self._check(_lib.loam_session_fork(C.byref(handle), self._h()))
        return Session(self._model, handle)

    def truncate(self, n: int) -> None:
        self._check(_lib.loam_session_truncate(self._h(), n))

    def save(self, path: Path) -> None:
        self._check(_lib.loam_session_save(self._h(), os.fsencode(path)))

    @classmethod
    def load(cls, model: Model, path: Path) -> "Session":
        handle = C.c_void_p()
        model._check(_lib.loam_session_load(C.byref(handle), model._h(), os.fsencode(path)))
        return cls(model, handle)


class Embedder(_Owned):
    """Vectors of texts. path: an encoder such as MiniLM, or a language model with `pool` ("mean", "cls", "last")."""

    _free = "loam_embedder_free"

    def __init__(self, path: Path, context: Optional[Context] = None, *, dtype: str = "auto", pool: Optional[str] = None, normalize: Optional[bool] = None):
        context = _context(context)
        handle = C.c_void_p()
        options = _c.EmbedderOptions(dtype=_name(dtype), pool=_name(pool), normalize=0 if normalize is None else 1 if normalize else -1)
        super().__init__(context, handle, context)
        self._check(_lib.loam_embedder_open(C.byref(handle), context._h(), os.fsencode(path), C.byref(options)))

    @property
    def width(self) -> int:
        return _lib.loam_embedder_width(self._h())

    @property
    def longest(self) -> int:
        """Tokens of a text at most."""
        return _lib.loam_embedder_longest(self._h())

    def embed(self, texts: Sequence[Union[str, bytes]]):
        """(texts, width) float32."""
        if isinstance(texts, (str, bytes)):
            raise TypeError("a list of texts is wanted; embed([text]) for one")
        data = [_bytes(t) for t in texts]
        view, to = _floats(len(data), self.width)
        pointers, sizes = (C.c_char_p * max(len(data), 1))(*data), (C.c_size_t * max(len(data), 1))(*[len(t) for t in data])
        self._check(_lib.loam_embed(self._h(), pointers, sizes, len(data), to))
        return view
