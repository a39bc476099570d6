"""The bindings against the program beside them and against loam.h. LOAM_LIBRARY names the library, LOAM_PROGRAM the program, LOAM_ROOT the project.

The last line is "N cases, N failed, N skipped", as every test program's here.
"""
import ctypes
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import unittest
from array import array

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import loam                                                                                     # noqa: E402
from loam import _c                                                                             # noqa: E402

ROOT = os.environ.get("LOAM_ROOT", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
PROGRAM = os.environ.get("LOAM_PROGRAM", os.path.join(ROOT, "build", "loam"))
BIG, SMALL = (os.path.join(ROOT, "models", n) for n in ("loam-30m.gguf", "loam-3m.gguf"))
BERT = os.path.join(ROOT, "tests", "fixtures", "embed", "tiny-bert")
PROMPT = "The captain looked at the sea, and"


def program(*words):
    return json.loads(subprocess.run([PROGRAM, *words, "--json"], check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1])


class Header(unittest.TestCase):
    def test_structures_are_those_of_the_header(self):
        text = re.sub(r"/\*.*?\*/", "", open(os.path.join(ROOT, "include", "loam.h"), encoding="utf-8").read(), flags=re.S)
        for name, kind in _c.STRUCTURES.items():
            body = re.search(r"typedef struct \{([^{}]*)\} %s;" % name, text).group(1)
            body = re.sub(r"\(\*(\w+)\)\([^)]*\)", r"\1", body)
            fields = [re.search(r"(\w+)$", part.strip()).group(1) for line in body.split(";") if line.strip() for part in line.split(",")]
            self.assertEqual([f[0] for f in kind._fields_], fields, name)

    def test_functions_are_those_of_the_header(self):
        text = re.sub(r"/\*.*?\*/", "", open(os.path.join(ROOT, "include", "loam.h"), encoding="utf-8").read(), flags=re.S)
        declared = set(re.findall(r"\b(loam_\w+)\([^()]*(?:\([^()]*\)[^()]*)*\);", text))
        self.assertEqual(declared - set(_c.FUNCTIONS), {"loam_train"})
        self.assertFalse(set(_c.FUNCTIONS) - declared)

    def test_errors_are_those_of_the_header(self):
        text = open(os.path.join(ROOT, "include", "loam.h"), encoding="utf-8").read()
        names = re.search(r"enum \{ (LOAM_OK.*?) \};", text, flags=re.S).group(1)
        self.assertEqual(["OK"] + ["" + n for n in re.findall(r"LOAM_E_(\w+)", names)], list(_c.ERRORS))
        self.assertEqual(loam.version(), re.search(r'LOAM_VERSION "(.*?)"', text).group(1))


class Writing(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.context = loam.Context(threads=2)
        cls.model = loam.Model(SMALL, cls.context, sessions=4)

    @classmethod
    def tearDownClass(cls):
        cls.context.close()
        if cls.model._handle:
            raise AssertionError("a model outlived its context")

    def test_writes_what_the_program_writes(self):
        for options, words in (({"temperature": 0}, ["--temperature", "0"]), ({"seed": 7}, ["--seed", "7"])):
            said = program("run", SMALL, "--prompt", PROMPT, "--max-tokens", "40", *words)
            self.assertEqual(self.model.generate(PROMPT, max_tokens=40, **options).text, said["texts"][0]["text"] if "texts" in said else said["text"])

    def test_stream_is_the_text_and_stops_when_left(self):
        whole = self.model.generate(PROMPT, max_tokens=60, seed=3)
        self.assertEqual("".join(self.model.stream(PROMPT, max_tokens=60, seed=3)), whole.text)
        self.assertEqual(whole.finish, "length")
        stream = self.model.stream(PROMPT, max_tokens=100000, ignore_eos=True) if self.model.length > 100000 else self.model.stream(PROMPT, max_tokens=500)
        self.assertTrue(next(stream))
        stream.close()                                      # joins the thread
        with self.assertRaises(loam.Error):
            list(self.model.stream(PROMPT, max_tokens=10**9))

    def test_many_logprobs_and_stops(self):
        texts = self.model.generate_many(PROMPT, 3, max_tokens=12, seed=5, logprobs=2)
        self.assertEqual(len({t.text for t in texts}), 3)
        for t in texts:
            self.assertEqual((len(t.logprobs), len(t.top_tokens), len(t.top_tokens[0])), (len(t.tokens), len(t.tokens), 2))
            self.assertTrue(all(x <= 0 for x in t.logprobs))
        first = texts[0].text.split()[0]
        self.assertEqual(self.model.generate(PROMPT, max_tokens=12, seed=5, stop=[first]).finish, "stop")

    def test_a_grammar_and_a_draft(self):
        schema = json.dumps({"type": "object", "properties": {"name": {"enum": ["Ann", "Bob"]}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
                             "required": ["name", "age"], "additionalProperties": False})
        said = json.loads(self.model.generate(PROMPT, grammar=self.model.grammar(schema), max_tokens=80).text)
        self.assertIn(said["name"], ("Ann", "Bob"))
        self.assertLessEqual(said["age"], 99)
        with loam.Model(BIG, self.context) as big:
            plain = big.generate(PROMPT, max_tokens=40, seed=2)
            drafted = big.generate(PROMPT, max_tokens=40, seed=2, draft=self.model)
            self.assertEqual(plain.tokens, drafted.tokens)
            self.assertGreaterEqual(drafted.drafted, drafted.kept)

    def test_errors_have_the_sentence(self):
        with self.assertRaises(loam.Error) as e:
            loam.Model("/nowhere/at/all", self.context)
        self.assertEqual(e.exception.code, "NOTFOUND")
        self.assertIn("/nowhere/at/all", str(e.exception))
        with self.assertRaises(loam.Error):
            self.model.grammar('{"type": "nonsense"}')
        with self.assertRaises(loam.Error):
            self.model.session().extend([10**6])
        with self.assertRaises(loam.Error):
            self.model.session().extend([2**40])
        with self.assertRaises(TypeError):
            self.model.generate(PROMPT, no_such_option=1)


class Tokens(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = loam.Model(SMALL, loam.Context(threads=1), sessions=3)
        cls.tokenizer = cls.model.tokenizer

    def test_there_and_back(self):
        for text in ("", "The sea.", "naïve — 海 🐋\n", "a" * 2000, "\0"):
            ids = self.tokenizer.encode(text, add=False)
            self.assertEqual(self.tokenizer.decode(ids), text)
            self.assertEqual(b"".join(self.tokenizer.token(i) for i in ids), text.encode())
        self.assertIsNone(self.tokenizer.token(10**6))
        with self.assertRaises(loam.Error):
            self.tokenizer.encode(b"\xff")
        self.assertTrue(self.tokenizer.encode(b"\xff", raw=True))
        with loam.Tokenizer(SMALL) as alone:
            self.assertEqual(alone.encode(PROMPT), self.tokenizer.encode(PROMPT))

    def test_sessions(self):
        ids = self.tokenizer.encode(PROMPT)
        a = self.model.session()
        last = a.extend(ids)
        self.assertEqual((len(a), len(last)), (len(ids), self.model.vocab))
        rows = self.model.session().logits(ids)
        self.assertEqual(list(rows[len(ids) - 1]) if hasattr(rows, "dtype") else rows.tolist()[-1], list(last))
        b = a.fork()
        a.truncate(3)
        self.assertEqual((len(a), len(b)), (3, len(ids)))
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "s.bin")
            b.save(path)
            a.close()
            again = loam.Session.load(self.model, path)
            self.assertEqual(list(again.extend([5])), list(b.extend([5])))

    def test_scores_are_the_logits(self):
        ids = self.tokenizer.encode(PROMPT)
        with self.model.session() as s:
            scores = s.score(array("i", ids))               # a buffer is taken as it is
        with self.model.session() as s:
            rows = s.logits(ids)
        rows = rows.tolist()
        self.assertEqual(scores[0], 0)
        for i in range(1, len(ids)):
            top = max(rows[i - 1])
            expected = rows[i - 1][ids[i]] - top - math.log(sum(math.exp(x - top) for x in rows[i - 1]))
            self.assertAlmostEqual(scores[i], expected, places=4)

    def test_closing(self):
        model = loam.Model(SMALL, loam.Context(threads=1))
        session = model.session()
        model.close()
        for f in (lambda: len(session), lambda: model.vocab, lambda: model.generate("x")):
            with self.assertRaises(ValueError):
                f()
        model.close()

    def test_numpy(self):
        if loam._np is None:
            return
        import numpy as np
        ids = np.array(self.tokenizer.encode(PROMPT), dtype=np.int32)
        alive, pointer, n = loam._ids(ids)
        self.assertEqual(ctypes.addressof(pointer.contents), ids.ctypes.data)
        self.assertEqual(n, len(ids))
        with self.model.session() as s:
            v = s.extend(ids)
        self.assertEqual((v.dtype, v.shape), (np.float32, (self.model.vocab,)))


class Vectors(unittest.TestCase):
    def test_vectors_are_the_programs(self):
        texts = ["the sea", "A ship at anchor, and no wind.", "x"]
        with loam.Embedder(BERT) as e:
            v = e.embed(texts)
            alone = e.embed(texts[1:2])
            said = program("embed", BERT, *texts)["vectors"]
            for i in range(3):
                for j in range(e.width):
                    self.assertAlmostEqual(float(v[i][j] if hasattr(v, "dtype") else v[i, j]), said[i][j], places=6)
            self.assertEqual(alone.tolist()[0], v.tolist()[1])
            self.assertEqual(len(e.embed([]).tolist()), 0)
            with self.assertRaises(loam.Error):
                e.embed(["sea " * (2 * e.longest)])
            with self.assertRaises(TypeError):
                e.embed("one text")
        with self.assertRaises(loam.Error):
            loam.Embedder(SMALL)                             # says of itself no pooling
        with loam.Embedder(SMALL, pool="last", normalize=True) as e:
            self.assertAlmostEqual(sum(x * x for x in e.embed(["the sea"]).tolist()[0]), 1, places=5)


if __name__ == "__main__":
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=1).run(unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__]))
    bad = len(result.failures) + len(result.errors)
    print(f"{result.testsRun} cases, {bad} failed, {len(result.skipped)} skipped")
    sys.exit(1 if bad else 0)
