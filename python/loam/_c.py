"""libloam as ctypes sees it: structures and functions of include/loam.h, nothing else.

The library is the file that LOAM_LIBRARY names, else libloam.so beside this package, else the system's. Structures begin with their size, so a library
that is newer than this file works; tests/test_loam.py compares the fields with loam.h.
"""
from __future__ import annotations

import ctypes as C
import os
from ctypes.util import find_library

c_size, c_int, c_i32, c_i64, c_u64, c_double, c_char_p, c_void_p = (
    C.c_size_t, C.c_int, C.c_int32, C.c_int64, C.c_uint64, C.c_double, C.c_char_p, C.c_void_p)
p_float, p_i32, p_size, p_char_p = C.POINTER(C.c_float), C.POINTER(C.c_int32), C.POINTER(C.c_size_t), C.POINTER(C.c_char_p)

LOG = C.CFUNCTYPE(None, c_void_p, c_int, c_char_p, c_char_p)
ON_TEXT = C.CFUNCTYPE(c_int, c_void_p, c_int, c_void_p, c_size)


class _Sized(C.Structure):
    """A structure whose first field is its own size."""

    def __init__(self, **fields):
        super().__init__(size=C.sizeof(type(self)), **fields)


class ContextOptions(_Sized):
    _fields_ = [("size", c_size), ("threads", c_int), ("isa", c_char_p), ("log", LOG), ("user", c_void_p)]


class ModelOptions(_Sized):
    _fields_ = [("size", c_size), ("dtype", c_char_p), ("context", c_i64), ("sessions", c_i64), ("kv", c_char_p), ("chunk", c_i64), ("logits_rows", c_i64),
                ("no_tokenizer", c_int), ("device", c_char_p), ("load", c_char_p), ("memory", c_i64), ("deterministic", c_int)]


class GenerateOptions(_Sized):
    _fields_ = [("size", c_size), ("max_tokens", c_i64),
                ("temperature", c_double), ("top_p", c_double), ("min_p", c_double), ("repetition_penalty", c_double), ("top_k", c_i64), ("seed", c_u64),
                ("stop", p_char_p), ("n_stop", c_int), ("on_text", ON_TEXT), ("user", c_void_p), ("n", c_int),
                ("presence_penalty", c_double), ("frequency_penalty", c_double), ("penalty_window", c_i64),
                ("bias_ids", p_i32), ("biases", p_float), ("n_bias", c_int), ("ignore_eos", c_int), ("logprobs", c_int), ("cancel", C.POINTER(c_int)),
                ("grammar", c_void_p), ("speculate", c_char_p), ("draft", c_void_p), ("draft_tokens", c_int),
                ("typical_p", c_double), ("xtc_probability", c_double), ("xtc_threshold", c_double),
                ("dry_multiplier", c_double), ("dry_base", c_double), ("dry_length", c_i64)]


class EmbedderOptions(_Sized):
    _fields_ = [("size", c_size), ("dtype", c_char_p), ("pool", c_char_p), ("normalize", c_int)]


class Text(C.Structure):
    _fields_ = [("text", c_void_p), ("bytes", c_size), ("tokens", p_i32), ("n_tokens", c_size), ("finish", c_char_p), ("logprobs", p_float),
                ("n_top", c_int), ("top_tokens", p_i32), ("top_logprobs", p_float), ("prompt_tokens", c_i64), ("prefill_seconds", c_double),
                ("decode_seconds", c_double), ("runs", c_i64), ("drafted", c_i64), ("kept", c_i64)]


STRUCTURES = {"loam_context_options": ContextOptions, "loam_model_options": ModelOptions, "loam_generate_options": GenerateOptions,
              "loam_embedder_options": EmbedderOptions, "loam_text": Text}

_OUT = C.POINTER(c_void_p)
FUNCTIONS = {
    "loam_context_new": (c_int, [_OUT, C.POINTER(ContextOptions)]), "loam_context_free": (None, [c_void_p]),
    "loam_error": (c_char_p, [c_void_p]), "loam_version": (c_char_p, []),
    "loam_model_open": (c_int, [_OUT, c_void_p, c_char_p, C.POINTER(ModelOptions)]), "loam_model_free": (None, [c_void_p]),
    "loam_model_vocab": (c_i64, [c_void_p]), "loam_model_context": (c_i64, [c_void_p]), "loam_model_tokenizer": (c_void_p, [c_void_p]),
    "loam_tokenizer_open": (c_int, [_OUT, c_void_p, c_char_p]), "loam_tokenizer_free": (None, [c_void_p]),
    "loam_encode": (c_int, [c_void_p, c_char_p, c_size, c_int, p_i32, p_size]),
    "loam_decode": (c_int, [c_void_p, p_i32, c_size, c_int, c_void_p, p_size]),
    "loam_token_text": (c_void_p, [c_void_p, c_i32, p_size]),
    "loam_session_new": (c_int, [_OUT, c_void_p]), "loam_session_free": (None, [c_void_p]), "loam_session_length": (c_i64, [c_void_p]),
    "loam_session_extend": (c_int, [c_void_p, p_i32, c_size, p_float]), "loam_session_logits": (c_int, [c_void_p, p_i32, c_size, p_float]),
    "loam_session_fork": (c_int, [_OUT, c_void_p]), "loam_session_truncate": (c_int, [c_void_p, c_i64]),
    "loam_session_save": (c_int, [c_void_p, c_char_p]), "loam_session_load": (c_int, [_OUT, c_void_p, c_char_p]),
    "loam_session_score": (c_int, [c_void_p, p_i32, c_size, p_float]),
    "loam_grammar_new": (c_int, [_OUT, c_void_p, c_char_p, c_char_p, c_char_p, c_size]), "loam_grammar_free": (None, [c_void_p]),
    "loam_generate": (c_int, [c_void_p, c_char_p, c_size, C.POINTER(GenerateOptions), C.POINTER(Text)]), "loam_text_free": (None, [C.POINTER(Text)]),
    "loam_embedder_open": (c_int, [_OUT, c_void_p, c_char_p, C.POINTER(EmbedderOptions)]), "loam_embedder_free": (None, [c_void_p]),
    "loam_embedder_width": (c_i64, [c_void_p]), "loam_embedder_longest": (c_i64, [c_void_p]),
    "loam_embed": (c_int, [c_void_p, p_char_p, p_size, c_size, p_float]),
}
ERRORS = ("OK", "NOMEM", "IO", "NOSPACE", "NOTFOUND", "FORMAT", "SHAPE", "CONFIG", "RANGE", "UNSUPPORTED", "MISMATCH", "DEVICE", "COMM", "CANCELLED", "DATA",
          "INTERNAL")
ADD, SPECIAL, RAW = 1, 2, 4


def _load() -> C.CDLL:
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libloam.so")
    named = os.environ.get("LOAM_LIBRARY")
    path = named or (here if os.path.exists(here) else find_library("loam") or "libloam.so")
    try:
        lib = C.CDLL(path)
    except OSError as e:
        raise ImportError(f"libloam cannot be loaded: {e}; `make install` puts it into the system, LOAM_LIBRARY=FILE names it") from None
    for name, (result, arguments) in FUNCTIONS.items():
        f = getattr(lib, name)
        f.restype, f.argtypes = result, arguments
    return lib


lib = _load()
