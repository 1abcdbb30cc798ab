"""Tests of the filter to_toml: what it writes is what Python's own TOML reader reads."""

import datetime
import os
import random
import sys
import tomllib
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "plugins", "filter"))

from ansible.errors import AnsibleFilterError  # noqa: E402
from to_toml import to_toml  # noqa: E402


class ToTOML(unittest.TestCase):
    def test_exact(self):
        for name, given, want in [
            ("nothing", {}, ""),
            ("an empty table", {"lock": {}}, "[lock]\n"),
            ("numbers and text", {"lock": {"max_concurrent": 2, "min_ready": "60%"}},
             '[lock]\nmax_concurrent = 2\nmin_ready = "60%"\n'),
            ("booleans are no numbers", {"reboot": {"dry_run": True}}, "[reboot]\ndry_run = true\n"),
            ("null is left out", {"lock": {"name": None, "priority": 1}, "log": None}, "[lock]\npriority = 1\n"),
            ("tables in a row", {"window": [{"start": "22:00"}, {"start": "04:00"}], "log": {"level": "info"}},
             '[[window]]\nstart = "22:00"\n\n[[window]]\nstart = "04:00"\n\n[log]\nlevel = "info"\n'),
            ("a table in a table", {"node": {"labels_before": {"example.com/x": "1"}}},
             '[node]\nlabels_before = { "example.com/x" = "1" }\n'),
            ("an empty list", {"gates": {"blocking_pods": []}, "window": []}, "window = []\n\n[gates]\nblocking_pods = []\n"),
            ("what is outside of tables comes first", {"a": {"b": 1}, "c": "d"}, 'c = "d"\n\n[a]\nb = 1\n'),
            ("a date of YAML", {"freeze": [{"from": datetime.date(2026, 12, 20)}]}, '[[freeze]]\nfrom = "2026-12-20"\n'),
            ("no text leaves its quotes", {"x": {"y": '"\n[lock]\nname = "evil\\'}},
             '[x]\ny = "\\"\\n[lock]\\nname = \\"evil\\\\"\n'),
        ]:
            with self.subTest(name):
                self.assertEqual(to_toml(given), want)

    def test_refused(self):
        for name, given, words in [
            ("no dictionary", [1], "expected a dictionary, got list"),
            ("a key that YAML made a boolean", {"x": {True: 1}}, "x: the key True is not text; quote it"),
            ("not finite", {"x": {"y": float("nan")}}, "x.y: the number is not finite"),
            ("too large", {"x": {"y": 2**63}}, "x.y: the number has more than 64 bits"),
            ("null in a list", {"x": {"y": [1, None]}}, "x.y[2]: TOML has nothing like NoneType"),
            ("half a character", {"x": {"y": "\ud800"}}, "x.y: not valid text"),
        ]:
            with self.subTest(name):
                with self.assertRaisesRegex(AnsibleFilterError, words.replace("[", r"\[")):
                    to_toml(given)

    def test_random(self):
        """What it writes reads back as it was, whatever is in it."""
        for seed in range(2000):
            rand = random.Random(seed)
            given = dict((word(rand), table(rand, 3)) for _ in range(rand.randrange(4)))
            given.update((word(rand), [table(rand, 2) for _ in range(1 + rand.randrange(3))]) for _ in range(rand.randrange(3)))
            with self.subTest(seed=seed):
                self.assertEqual(tomllib.loads(to_toml(given)), given)


def word(rand):
    return "".join(chr(rand.choice([rand.randrange(0x80), rand.randrange(0xD800), rand.randrange(0xE000, 0x110000)]))
                   for _ in range(rand.randrange(6)))


def table(rand, depth):
    return dict((word(rand), value(rand, depth)) for _ in range(rand.randrange(4)))


def value(rand, depth):
    kind = rand.randrange(7 if depth else 5)
    if kind == 0:
        return rand.random() < 0.5
    if kind == 1:
        return rand.randrange(-(2**63), 2**63)
    if kind == 2:
        return rand.choice([0.0, 1e300, -1.5e-7, rand.random()])
    if kind < 5:
        return word(rand)
    if kind == 5:
        return table(rand, depth - 1)
    return [value(rand, depth - 1) for _ in range(rand.randrange(4))]


if __name__ == "__main__":
    unittest.main()
