# Copyright the kured-host authors. SPDX-License-Identifier: Apache-2.0
"""from_daemonset: the kured.toml that does what the flags of a DaemonSet kured did. docs/migration.md is its table."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
name: from_daemonset
short_description: Turn the flags of the DaemonSet kured into kured.toml
version_added: 1.0.0
description:
  - Reads the flags and KURED_ variables of the DaemonSet kured, as C(kubectl get daemonset -o json) prints it, and returns
    the configuration that does the same, what cannot be carried over, and what the DaemonSet needs for the time of the move.
  - The addresses of notifications, which hold secrets, are returned apart from the rest.
positional: _input
options:
  _input:
    description: The DaemonSet.
    type: dict
    required: true
  answers:
    description:
      - The Secrets and ConfigMaps from which the DaemonSet takes flags, as C(kubectl get -o json) prints them, in the order of
        C(references) in the result that there is without them.
    type: list
    elements: str
    default: []
  url_files:
    description: Let C(notify) name files, whose content C(files) in the result has, in place of holding the addresses.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show what would be lost
  ansible.builtin.debug:
    msg: "{{ (lookup('ansible.builtin.file', 'daemonset.json') | from_json | kured_host.kured.from_daemonset).unsupported }}"
"""

RETURN = r"""
_value:
  description:
    - C(config) is for C(to_toml); C(sentinel_command) the command that says whether a reboot is wanted, or empty;
      C(files) a list of C(path) and C(content), secret.
    - C(unsupported) is a list of C(flag) and C(why); C(notes) is what is different, in sentences.
    - C(references) is a list of C(variable), C(kind), C(name), C(key) and C(namespace) to be read first.
    - C(namespace) and C(name) are those of the DaemonSet; C(patch) keeps its pods off nodes that have the label
      kured.dev/migrated, and keeps it from beginning a reboot, at once and whatever its updateStrategy is.
  type: dict
"""

import base64
import copy
import json
import re
import shlex

from ansible.errors import AnsibleFilterError

try:
    from urllib.parse import urlsplit
except ImportError:
    urlsplit = None

BOOLEANS = frozenset(["force-reboot", "alert-filter-match-only", "alert-firing-only", "annotate-nodes"])
# Flags that may be given several times; those of the second kind also have a comma between their items.
ARRAYS = frozenset(["blocking-pod-selector"])
SLICES = frozenset(["reboot-days", "pre-reboot-node-labels", "post-reboot-node-labels"])
SINGLE = frozenset([
    "node-id", "period", "reboot-sentinel", "reboot-sentinel-command", "reboot-method", "reboot-command", "reboot-signal",
    "drain-grace-period", "drain-timeout", "drain-pod-selector", "skip-wait-for-delete-timeout", "drain-delay",
    "reboot-delay", "concurrency", "ds-namespace", "ds-name", "lock-annotation", "lock-ttl", "lock-release-delay",
    "prometheus-url", "alert-filter-regexp", "start-time", "end-time", "time-zone", "prefer-no-schedule-taint", "notify-url",
    "slack-hook-url", "slack-username", "slack-channel", "message-template-drain", "message-template-reboot",
    "message-template-uncordon", "metrics-host", "metrics-port", "log-format",
])
FLAGS = BOOLEANS | ARRAYS | SLICES | SINGLE

DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
LABEL = "kured.dev/migrated"
# What the patch has taken from the flags, for those who read them again.
NOTE = "kured.dev/reboot-days"
URL_FILE = "/etc/kured/notify-daemonset.url"


def variable(flag):
    return "KURED_" + flag.upper().replace("-", "_")


def shown(value):
    """A value of others, short and printable."""
    text = "".join(c if c.isprintable() else "?" for c in str(value))
    return text if len(text) <= 80 else text[:79] + "\u2026"


def container(daemonset):
    try:
        found = daemonset["spec"]["template"]["spec"]["containers"]
    except (KeyError, TypeError):
        raise AnsibleFilterError("from_daemonset: this is not a DaemonSet as kubectl get -o json prints it")
    named = [c for c in found if c.get("name") == "kured"] or [c for c in found if "kured" in c.get("image", "")]
    if len(named) == 1:
        return named[0]
    if len(found) == 1:
        return found[0]
    raise AnsibleFilterError("from_daemonset: which of %d containers is kured?" % len(found))


def words(box):
    """The flags as they were given: (flag, value) pairs, and what is no flag."""
    given = list(box.get("command") or []) + list(box.get("args") or [])
    if given and not given[0].startswith("-"):
        given = given[1:]
    pairs, rest = [], []
    while given:
        word = given.pop(0)
        name, equals, value = word[2:].partition("=")
        if not word.startswith("--") or not name:
            rest.append(word)
        elif equals:
            pairs.append((name, value))
        elif name in BOOLEANS:
            pairs.append((name, "true"))
        elif name in FLAGS and given:
            pairs.append((name, given.pop(0)))
        else:
            pairs.append((name, ""))
    return pairs, rest


def split(text):
    return [item for item in text.split(",") if item]


class Reader(object):
    """Collects the values of the flags, and what is wrong with them."""

    def __init__(self, daemonset, values):
        self.unsupported, self.notes, self.references = [], [], []
        self.values = {}
        box = container(daemonset)
        namespace = daemonset.get("metadata", {}).get("namespace", "default")
        environment = {}
        for entry in box.get("env") or []:
            name = entry.get("name", "")
            source = entry.get("valueFrom") or {}
            if "fieldRef" in source or "resourceFieldRef" in source:
                environment[name] = None
                continue
            kind = "secret" if "secretKeyRef" in source else "configmap" if "configMapKeyRef" in source else ""
            if not kind:
                environment[name] = entry.get("value", "")
            elif name in values:
                environment[name] = values[name]
            elif name in [variable(flag) for flag in FLAGS]:
                ref = source.get("secretKeyRef") or source.get("configMapKeyRef")
                self.references.append({
                    "variable": name, "kind": kind, "name": ref.get("name", ""), "key": ref.get("key", ""),
                    "namespace": namespace,
                })
        if box.get("envFrom"):
            self.lost("envFrom", "variables that come from a whole ConfigMap or Secret are not read; name them in env")
        pairs, rest = words(box)
        for word in rest:
            self.lost(shown(word), "not understood")
        for name, value in pairs:
            self.take(name, value, environment)
        given = set(self.values)
        for flag in FLAGS - given:
            value = environment.get(variable(flag))
            if value is not None:
                self.take(flag, value, {})

    def take(self, name, value, environment):
        if name not in FLAGS:
            self.lost(shown("--" + name), "the DaemonSet kured 1.23 has no such flag")
            return
        for used in re.findall(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)", value):
            if environment.get(used) is not None:
                value = value.replace("$(%s)" % used, environment[used])
            elif name != "node-id":
                self.lost("--" + name, "its value comes from the variable %s, which is not known here" % shown(used))
                return
        # A shell was never there to take them off; kured itself does so for addresses.
        if len(value) > 2 and value[0] == value[-1] and value[0] in "\"'" and name in ("notify-url", "slack-hook-url"):
            value = value[1:-1]
        if name in BOOLEANS:
            if value.lower() not in ("1", "t", "true", "0", "f", "false"):
                self.lost("--" + name, "%s is neither true nor false" % shown(value))
                return
            self.values[name] = value.lower() in ("1", "t", "true")
        elif name in ARRAYS:
            self.values.setdefault(name, []).append(value)
        elif name in SLICES:
            self.values.setdefault(name, []).extend(split(value))
        else:
            self.values[name] = value

    def lost(self, flag, why):
        self.unsupported.append({"flag": flag, "why": why})

    def get(self, name, default=None):
        value = self.values.get(name, default)
        return default if value == "" else value

    def duration(self, name):
        """What Go calls a duration: the text, and its seconds; None for zero and for what is not given."""
        text = self.get(name)
        if text is None:
            return None, 0
        units = {"ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
        parts = re.findall(r"([0-9]*\.?[0-9]+)(ns|us|\u00b5s|ms|s|m|h)", text)
        if text != "0" and "".join(n + u for n, u in parts) != text:
            self.lost("--" + name, "%s is not a duration" % shown(text))
            return None, 0
        seconds = sum(float(n) * units[u] for n, u in parts)
        return (text, seconds) if seconds > 0 else (None, 0)

    def integer(self, name):
        text = self.get(name)
        if text is None:
            return None
        if not re.match(r"^[+-]?[0-9]{1,9}$", text):
            self.lost("--" + name, "%s is not a number" % shown(text))
            return None
        return int(text)

    def seconds(self, name):
        number = self.integer(name)
        return None if number is None else "%ds" % number

    def labels(self, name):
        out = {}
        for item in self.get(name, []):
            label, equals, value = item.partition("=")
            if not equals:
                self.lost("--" + name, "%s is not KEY=VALUE" % shown(item))
                continue
            out[label] = value
        return out or None


def clock(text):
    """A time of day in one of the forms that the DaemonSet kured takes, as (seconds, HH:MM or HH:MM:SS); or None."""
    found = re.match(r"^([0-9]{1,2})(?::([0-9]{2}))?(?::([0-9]{2}))?\s*(am|pm)?$", text.strip(), re.IGNORECASE)
    if not found:
        return None
    hour, minute, second = (int(part or 0) for part in found.groups()[:3])
    half = (found.group(4) or "").lower()
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half == "pm" else 0)
    if hour > 23 or minute > 59 or second > 59:
        return None
    return hour * 3600 + minute * 60 + second, "%02d:%02d" % (hour, minute) + (":%02d" % second if second else "")


def window(r):
    days = None
    if "reboot-days" in r.values:
        days = []
        for text in r.values["reboot-days"]:
            word = text.strip().lower()
            day = DAYS[int(word)] if re.match(r"^[0-6]$", word) else word[:3]
            day = dict((d[:2], d) for d in DAYS).get(day, day)
            if day not in DAYS:
                r.lost("--reboot-days", "%s is not a day" % shown(text))
                return None
            if day not in days:
                days.append(day)
        if not days:
            r.lost("--reboot-days", "an empty list stopped all reboots; here the policy does: kured pause --all --reason WHY")
            return None
        if len(days) == 7:
            days = None
    begin, end = (clock(r.get(name, default)) for name, default in (("start-time", "0:00"), ("end-time", "23:59:59")))
    for name, value in (("start-time", begin), ("end-time", end)):
        if value is None:
            r.lost("--" + name, "%s is not a time of day" % shown(r.get(name)))
    if begin is None or end is None:
        return None
    whole = begin[0] == 0 and end[0] >= 24 * 3600 - 60
    if whole and not days:
        return None
    if begin[0] == end[0]:
        r.lost("--end-time", "is the same as --start-time, so there was no time at all")
        return None
    if days and end[0] < begin[0]:
        r.notes.append("the window goes past midnight: the night of a day in --reboot-days belongs to that day up to its end")
    result = {"days": days} if days else {}
    result["start"] = begin[1]
    result["end"] = "24:00" if end[0] >= 24 * 3600 - 60 else end[1]
    return result


def sentinel(r, daemonset):
    """The file on the node: the flag may name the place where the pod has it."""
    path = r.get("reboot-sentinel")
    if path is None:
        return None
    pod = daemonset["spec"]["template"]["spec"]
    places = dict((v.get("name"), v["hostPath"].get("path", "")) for v in pod.get("volumes") or [] if v.get("hostPath"))
    best = ""
    for mount in container(daemonset).get("volumeMounts") or []:
        at = mount.get("mountPath", "").rstrip("/")
        if mount.get("name") in places and (path + "/").startswith(at + "/") and len(at) > len(best):
            best = at
            below = "/".join(part.strip("/") for part in (mount.get("subPath", ""), path[len(at):]) if part.strip("/"))
            path_on_node = places[mount["name"]].rstrip("/") + ("/" + below if below else "")
    if best:
        path = path_on_node
    if path.startswith("/var/run/"):
        path = path[len("/var"):]
    return [path]


def text_template(r, name):
    text = r.get(name)
    if text is None:
        return None
    if "%" in re.sub(r"%[s%]", "", text):
        r.lost("--" + name, "has other verbs than %s")
        return None
    text = re.sub(r"\{\{", '{{"{{"}}', text)
    return re.sub(r"%[s%]", lambda m: "{{.Node}}" if m.group() == "%s" else "%", text)


def notify(r):
    """The table, and the address, which is a secret."""
    url = r.get("notify-url")
    if r.get("slack-hook-url"):
        if url:
            r.notes.append("--slack-hook-url had no effect beside --notify-url")
        else:
            url = r.get("slack-hook-url")
            who = r.get("slack-username", "kured")
            hook = re.match(r"^https://hooks\.slack\.com/services/([^/?]+)/([^/?]+)/([^/?]+)/?$", url)
            if hook and re.match(r"^[A-Za-z0-9_.-]+$", who) and "slack-username" in r.values:
                url = "slack://hook:%s@webhook?botname=%s" % ("-".join(hook.groups()), who)
    if r.get("slack-channel"):
        r.lost("--slack-channel", "it had no effect; a webhook of Slack belongs to one channel")
    if r.get("slack-username") and not (url and "?botname=" in url):
        r.notes.append("--slack-username had no effect; an address of Slack can end in ?botname=NAME")
    templates = {}
    for event, flag in (("drain", "message-template-drain"), ("reboot", "message-template-reboot"),
                        ("back", "message-template-uncordon")):
        text = text_template(r, flag)
        if text is not None:
            templates[event] = text
    if not url:
        if templates:
            r.notes.append("message templates have no effect without an address to notify")
        return None, ""
    table = {"url": url}
    if templates:
        table["templates"] = templates
    return table, url


def prometheus(r):
    url = r.get("prometheus-url")
    pattern = r.get("alert-filter-regexp")
    only = r.get("alert-filter-match-only", False)
    if not url:
        if pattern or only or r.get("alert-firing-only"):
            r.notes.append("the flags about alerts have no effect without --prometheus-url")
        return None
    if urlsplit(url).username or urlsplit(url).password:
        r.lost("--prometheus-url", "has a user or password in it; put these into http_config_file")
        return None
    table = {"urls": [url], "alerts": "firing" if r.get("alert-firing-only") else "pending"}
    if pattern:
        # The list replaces the default, which leaves out the alerts about kured.
        table.update({"only_names": [pattern]} if only else {"ignore_names": ["^Kured", pattern]})
    elif only:
        r.notes.append("--alert-filter-match-only has no effect without --alert-filter-regexp")
    return table


def listen(r):
    host, port = r.get("metrics-host"), r.integer("metrics-port")
    if host is None and port is None:
        return None
    if host is None:
        r.notes.append("metrics were on every address of the pod, and are on loopback only; metrics.listen says where")
        host = "127.0.0.1"
    if ":" in host and not host.startswith("["):
        host = "[%s]" % host
    return ["%s:%d" % (host, port or 9788)]


def reboot(r):
    if "reboot-method" not in r.values and "reboot-command" not in r.values and "reboot-signal" not in r.values:
        return None
    command = r.get("reboot-command")
    if command is not None and command.split() not in (["/bin/systemctl", "reboot"], ["systemctl", "reboot"],
                                                      ["/usr/bin/systemctl", "reboot"]):
        r.lost("--reboot-command", "logind reboots; what has to be done before is a hook in /etc/kured/hooks/pre-reboot.d")
    if "reboot-signal" in r.values:
        r.lost("--reboot-signal", "a signal to PID 1 passes all inhibitors; logind reboots")
    method = r.get("reboot-method", "command")
    if method not in ("command", "signal"):
        r.lost("--reboot-method", "%s is not one of the methods" % shown(method))
    return "reboot"


def daemon_set(r, daemonset):
    metadata = daemonset.get("metadata", {})
    return "%s/%s" % (r.get("ds-namespace", metadata.get("namespace", "kube-system")), r.get("ds-name", metadata.get("name", "kured")))


def unpatched(daemonset):
    """The DaemonSet as it was before our patch, which is there when the migration is run again."""
    container(daemonset)
    annotations = (daemonset["spec"]["template"].get("metadata") or {}).get("annotations") or {}
    if NOTE not in annotations:
        return daemonset
    before = copy.deepcopy(daemonset)
    box = container(before)
    for place in ("args", "command"):
        if (box.get(place) or [])[-1:] == ["--reboot-days="]:
            box[place] = box[place][:-1] + [word for word in annotations[NOTE].split("\n") if word]
            return before
    return daemonset


def patch(daemonset):
    """A strategic merge patch: away from nodes with the label, and no day on which to reboot.

    All pods learn it at once. One after the other a large fleet takes longer than anybody waits, a node that is down keeps
    it from the others for ever, and with OnDelete no pod would.
    """
    pod = daemonset["spec"]["template"]["spec"]
    required = (((pod.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
                or {})
    ours = {"key": LABEL, "operator": "DoesNotExist"}
    terms = []
    for term in required.get("nodeSelectorTerms") or [{}]:
        term = dict(term)
        term["matchExpressions"] = [e for e in term.get("matchExpressions") or [] if e != ours] + [ours]
        terms.append(term)
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    box = container(daemonset)
    changed = {"name": box.get("name")}
    taken = []
    kind = "args" if box.get("args") or not box.get("command") else "command"
    for place in ("command", "args"):
        if not box.get(place):
            continue
        kept, skip = [], False
        for word in box[place]:
            if skip or word == "--reboot-days":
                taken.append(word)
                skip = not skip
            elif word.startswith("--reboot-days="):
                taken.append(word)
            else:
                kept.append(word)
        changed[place] = kept
    changed[kind] = changed.get(kind, []) + ["--reboot-days="]
    return {"spec": {
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 0}},
        "template": {
            "metadata": {"annotations": {NOTE: "\n".join(taken)}},
            "spec": {"affinity": affinity, "containers": [changed]},
        },
    }}


def clean(value):
    """Without what is empty, so that the defaults stand."""
    if not isinstance(value, dict):
        return value
    out = dict((k, clean(v)) for k, v in value.items())
    return dict((k, v) for k, v in out.items() if v is not None and v != {})


def look_up(references, answers):
    """The values of variables, by their names. What an answer does not have stays unknown."""
    values = {}
    for ref, text in zip(references, answers):
        # The filter from_json and Ansible's own templating may have read it already.
        data = (text if isinstance(text, dict) else json.loads(text)).get("data") or {}
        if ref["key"] in data:
            value = data[ref["key"]]
            values[ref["variable"]] = base64.b64decode(value).decode() if ref["kind"] == "secret" else value
    return values


def from_daemonset(daemonset, answers=None, url_files=False):
    """See DOCUMENTATION. AnsibleFilterError if it is no DaemonSet kured."""
    if not isinstance(daemonset, dict):
        raise AnsibleFilterError("from_daemonset: expected a dictionary, got %s" % type(daemonset).__name__)
    daemonset = unpatched(daemonset)
    r = Reader(daemonset, look_up(Reader(daemonset, {}).references, answers or []))
    for ref in r.references if answers else []:
        r.lost(ref["variable"], "%s %s has no key %s" % (ref["kind"], shown(ref["name"]), shown(ref["key"])))

    period, every = r.duration("period")
    if every > 3600:
        r.notes.append("--period is longer than an hour, which is the longest here")
        period = "1h"
    elif period and every < 1:
        period = "1s"
    command = r.get("reboot-sentinel-command", "").strip()
    if "\n" in command:
        r.lost("--reboot-sentinel-command", "has several lines; put them into a script")
        command = ""
    if command:
        try:
            shlex.split(command)
        except ValueError as err:
            r.lost("--reboot-sentinel-command", "cannot be taken apart: %s" % err)
            command = ""
    paths = ["/run/kured-sentinel/command"] if command else sentinel(r, daemonset)
    if paths:
        # What a person asks for counts as well, as it does by default.
        paths.append("/run/kured-sentinel/request")
    span = window(r)
    when = r.get("time-zone", "UTC") if span else r.get("time-zone")
    timeout = r.duration("drain-timeout")[0]
    if re.match(r"^0[a-z]*$", r.get("drain-timeout", "")):
        r.lost("--drain-timeout", "a drain is never without end; 30 minutes is the default")
    if "lock-ttl" in r.values and r.duration("lock-ttl")[1]:
        r.lost("--lock-ttl", "a lock is never freed by time: kured lock release NODE --reason WHY")
    alerts = prometheus(r)
    target, address = notify(r)
    files = []
    if target and url_files:
        del target["url"]
        target["url_file"] = URL_FILE
        files.append({"path": URL_FILE, "content": address + "\n"})
    stamp = None
    if r.get("annotate-nodes"):
        stamp = {"weave.works/kured-reboot-in-progress": "{time}", "weave.works/kured-most-recent-reboot-needed": "{time}"}
    name = r.get("node-id")
    if name and "$(" in name:
        name = None
    form = r.get("log-format")
    if form not in (None, "text", "json"):
        r.lost("--log-format", "%s is neither text nor json" % shown(form))
    if r.get("prefer-no-schedule-taint"):
        r.notes.append("the kubelet's credential may not set the taint of --prefer-no-schedule-taint; it needs an identity of kured's own")
    grace, skip = r.seconds("drain-grace-period"), r.seconds("skip-wait-for-delete-timeout")
    home = daemon_set(r, daemonset)

    config = {
        "kubernetes": {"node_name": name},
        "sentinel": {"paths": paths},
        "schedule": {"time_zone": when},
        "window": [span] if span else None,
        "gates": {"recheck": period, "blocking_pods": r.get("blocking-pod-selector")},
        "prometheus": [alerts] if alerts else None,
        "lock": {"max_concurrent": r.integer("concurrency")},
        "drain": {
            "timeout": timeout,
            "grace_period": grace,
            "pod_selector": r.get("drain-pod-selector"),
            "skip_wait_for_delete": skip,
            "delay_before": r.duration("drain-delay")[0],
            "delay_after": r.duration("reboot-delay")[0],
            "on_timeout": "force" if r.get("force-reboot") else None,
        },
        "node": {
            "labels_before": r.labels("pre-reboot-node-labels"),
            "labels_after": r.labels("post-reboot-node-labels"),
            "annotations_before": stamp,
            "waiting_taint": r.get("prefer-no-schedule-taint"),
        },
        "reboot": {"method": reboot(r)},
        "return": {"release_delay": r.duration("lock-release-delay")[0]},
        "notify": [target] if target else None,
        "compat": {"daemonset": home, "lock_annotation": r.get("lock-annotation")},
        "metrics": {"listen": listen(r)},
        "log": {"format": "json" if form == "json" else None},
    }
    metadata = daemonset.get("metadata", {})
    return {
        "config": clean(config),
        "sentinel_command": command,
        "files": files,
        "unsupported": sorted(r.unsupported, key=lambda lost: lost["flag"]),
        "notes": r.notes,
        "references": r.references,
        "namespace": metadata.get("namespace", "default"),
        "name": metadata.get("name", ""),
        "patch": patch(daemonset),
    }


class FilterModule(object):
    """Ansible's entry."""

    def filters(self):
        return {"from_daemonset": from_daemonset}
