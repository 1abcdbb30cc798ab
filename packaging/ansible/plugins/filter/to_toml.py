# Copyright the kured-host authors. SPDX-License-Identifier: Apache-2.0
"""to_toml: what YAML holds, as TOML, in the order in which it was given."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
name: to_toml
short_description: Render a dictionary as TOML
version_added: 1.0.0
description:
  - Renders a dictionary as TOML 1.0. Dictionaries become tables, lists of dictionaries below the top become arrays of
    tables, those deeper down inline tables.
  - A key whose value is null is left out, so that a more special variable can take back what a general one says.
  - Dates and times, which YAML makes of such as C(2026-12-20), become strings.
positional: _input
options:
  _input:
    description: What to render.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what kured.toml would be
  ansible.builtin.debug:
    msg: "{{ {'lock': {'max_concurrent': 2}} | kured_host.kured.to_toml }}"
"""

RETURN = r"""
_value:
  description: The text, with a newline at its end if there is anything in it.
  type: str
"""

import datetime
import math
import re

from ansible.errors import AnsibleFilterError

BARE = re.compile(r"^[A-Za-z0-9_-]+$")
SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def string(value, where):
    out = []
    for char in value:
        code = ord(char)
        if 0xD800 <= code <= 0xDFFF:
            raise AnsibleFilterError("to_toml: %s: not valid text" % where)
        if char in SHORT:
            out.append(SHORT[char])
        elif code < 0x20 or code == 0x7F:
            out.append("\\u%04X" % code)
        else:
            out.append(char)
    return '"' + "".join(out) + '"'


def key(name, where):
    if not isinstance(name, str):
        # YAML 1.1 makes booleans of the words on, off, yes and no, also where they are keys.
        raise AnsibleFilterError("to_toml: %s: the key %r is not text; quote it" % (where or "top", name))
    return name if BARE.match(name) else string(name, where)


def under(where, name):
    return "%s.%s" % (where, name) if where else str(name)


def inline(value, where):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise AnsibleFilterError("to_toml: %s: the number has more than 64 bits" % where)
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise AnsibleFilterError("to_toml: %s: the number is not finite" % where)
        return repr(value)
    if isinstance(value, str):
        return string(value, where)
    if isinstance(value, (datetime.date, datetime.time)):
        return string(value.isoformat(), where)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(inline(item, "%s[%d]" % (where, i + 1)) for i, item in enumerate(value)) + "]"
    if isinstance(value, dict):
        pairs = ["%s = %s" % (key(k, where), inline(v, under(where, k))) for k, v in value.items() if v is not None]
        return "{ " + ", ".join(pairs) + " }" if pairs else "{}"
    raise AnsibleFilterError("to_toml: %s: TOML has nothing like %s" % (where, type(value).__name__))


def lines(table, where):
    return ["%s = %s" % (key(k, where), inline(v, under(where, k))) for k, v in table.items() if v is not None]


def tables(value):
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(item, dict) for item in value)


def to_toml(value):
    """The text of a dictionary. AnsibleFilterError names the key that cannot be rendered."""
    if not isinstance(value, dict):
        raise AnsibleFilterError("to_toml: expected a dictionary, got %s" % type(value).__name__)
    # What stands outside of tables has to come before the first one.
    plain = dict((k, v) for k, v in value.items() if not isinstance(v, dict) and not tables(v))
    blocks = ["\n".join(lines(plain, ""))]
    for k, v in value.items():
        name = key(k, "")
        if isinstance(v, dict):
            blocks.append("\n".join(["[%s]" % name] + lines(v, k)))
        elif tables(v):
            for i, item in enumerate(v):
                blocks.append("\n".join(["[[%s]]" % name] + lines(item, "%s[%d]" % (k, i + 1))))
    text = "\n\n".join(block for block in blocks if block)
    return text + "\n" if text else ""


class FilterModule(object):
    """Ansible's entry."""

    def filters(self):
        return {"to_toml": to_toml}
