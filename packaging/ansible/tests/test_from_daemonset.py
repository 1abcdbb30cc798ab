"""Tests of the filter from_daemonset. The table of docs/migration.md is the truth: each of its rows is a test."""

import base64
import json
import os
import re
import shlex
import sys
import tomllib
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "plugins", "filter"))

from ansible.errors import AnsibleFilterError  # noqa: E402
from from_daemonset import FLAGS, from_daemonset  # noqa: E402

DOCS = os.path.join(HERE, "..", "..", "..", "docs", "migration.md")

# What a flag means nothing without.
COMPANIONS = {
    "ds-name": ["--ds-namespace=kube-system"],
    "alert-filter-regexp": ["--prometheus-url=http://a", "--alert-firing-only"],
    "alert-filter-match-only": ["--prometheus-url=http://a", "--alert-filter-regexp=^Node"],
    "alert-firing-only": ["--prometheus-url=http://a"],
    "reboot-days": ["--start-time=22:00", "--end-time=04:00"],
    "start-time": ["--end-time=04:00"],
    "end-time": ["--start-time=22:00"],
    "slack-username": ["--slack-hook-url=https://hooks.slack.com/services/A/B/C"],
    "message-template-drain": ["--notify-url=slack://hook:A-B-C@webhook"],
    "message-template-reboot": ["--notify-url=slack://hook:A-B-C@webhook"],
    "message-template-uncordon": ["--notify-url=slack://hook:A-B-C@webhook"],
}


def daemonset(args=(), **container):
    box = dict({"name": "kured", "image": "ghcr.io/kubereboot/kured:1.23.0", "command": ["/usr/bin/kured"], "args": list(args)},
               **container)
    return {
        "kind": "DaemonSet",
        "metadata": {"namespace": "kube-system", "name": "kured"},
        "spec": {"template": {"spec": {"containers": [box]}}},
    }


def rows():
    """(flag with its value, line of kured.toml or "") of each row."""
    with open(DOCS, encoding="utf-8") as docs:
        for line in docs:
            if line.startswith("| `--"):
                cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:3]]
                yield cells[0].strip("`"), "" if cells[1] == "\u2013" else cells[1].strip("`")


def holds(test, got, want, where=""):
    """Everything of want is in got."""
    if isinstance(want, dict):
        for key, value in want.items():
            test.assertIn(key, got, where)
            holds(test, got[key], value, "%s.%s" % (where, key))
    elif isinstance(want, list):
        if not any(isinstance(item, dict) for item in want):
            got = [item for item in got if item not in ("^Kured", "/run/kured-sentinel/request")]
        test.assertEqual(len(got), len(want), where)
        for i, value in enumerate(want):
            holds(test, got[i], value, "%s[%d]" % (where, i))
    else:
        test.assertEqual(got, want, where)


class Table(unittest.TestCase):
    def test_rows(self):
        seen = set()
        for given, line in rows():
            flag = given[2:].split("=")[0]
            seen.add(flag)
            with self.subTest(flag):
                result = from_daemonset(daemonset(COMPANIONS.get(flag, []) + shlex.split(given)))
                lost = [entry["flag"] for entry in result["unsupported"]]
                if line:
                    self.assertEqual(lost, [])
                    holds(self, result["config"], tomllib.loads(line))
                elif flag != "reboot-command":  # the example is the default, which is the same here
                    self.assertEqual(lost, ["--" + flag])
        self.assertEqual(seen, set(FLAGS))
        self.assertEqual(len(seen), 43)

    def test_all_at_once(self):
        given = dict((row.split("=")[0], row) for row, _ in rows())
        args = [word for row in given.values() for word in shlex.split(row)]
        result = from_daemonset(daemonset(args))
        self.assertEqual([entry["flag"] for entry in result["unsupported"]], ["--lock-ttl", "--reboot-signal", "--slack-channel"])
        config = result["config"]
        self.assertEqual(config["notify"][0]["url"], "slack://hook:A-B-C@webhook")
        self.assertEqual(sorted(config["notify"][0]["templates"]), ["back", "drain", "reboot"])
        self.assertEqual(config["window"], [{"days": ["sat", "sun"], "start": "22:00", "end": "04:00"}])
        self.assertEqual(config["metrics"]["listen"], ["10.0.0.1:8080"])
        self.assertEqual(result["sentinel_command"], "/usr/local/sbin/wanted")


class Forms(unittest.TestCase):
    def config(self, *args, **container):
        result = from_daemonset(daemonset(args, **container))
        self.assertEqual(result["unsupported"], [])
        return result["config"]

    def lost(self, *args, **container):
        return [entry["flag"] for entry in from_daemonset(daemonset(args, **container))["unsupported"]]

    def test_no_flags(self):
        self.assertEqual(self.config(), {"compat": {"daemonset": "kube-system/kured"}})

    def test_ways_to_give_a_flag(self):
        want = 3
        self.assertEqual(self.config("--concurrency=3")["lock"]["max_concurrent"], want)
        self.assertEqual(self.config("--concurrency", "3")["lock"]["max_concurrent"], want)
        self.assertEqual(self.config(command=["/usr/bin/kured", "--concurrency=3"])["lock"]["max_concurrent"], want)
        env = [{"name": "KURED_CONCURRENCY", "value": "3"}]
        self.assertEqual(self.config(env=env)["lock"]["max_concurrent"], want)
        self.assertEqual(self.config("--concurrency=4", env=env)["lock"]["max_concurrent"], 4)
        self.assertEqual(self.config("--concurrency=$(N)", env=[{"name": "N", "value": "3"}])["lock"]["max_concurrent"], want)
        self.assertNotIn("drain", self.config("--force-reboot=false"))
        self.assertEqual(self.config("--force-reboot", "--concurrency=3")["drain"]["on_timeout"], "force")

    def test_node_name_of_the_pod(self):
        field = {"name": "KURED_NODE_ID", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
        self.assertNotIn("kubernetes", self.config(env=[field]))
        self.assertNotIn("kubernetes", self.config("--node-id=$(KURED_NODE_ID)", env=[field]))

    def test_sentinel_as_the_pod_sees_it(self):
        ds = daemonset(["--reboot-sentinel=/sentinel/reboot-required"], volumeMounts=[{"name": "s", "mountPath": "/sentinel"}])
        ds["spec"]["template"]["spec"]["volumes"] = [{"name": "s", "hostPath": {"path": "/var/run"}}]
        self.assertEqual(from_daemonset(ds)["config"]["sentinel"]["paths"],
                         ["/run/reboot-required", "/run/kured-sentinel/request"])

    def test_command_is_one_line(self):
        """As a block of YAML gives it. It goes into a line of a systemd unit."""
        self.assertEqual(from_daemonset(daemonset(["--reboot-sentinel-command=/usr/local/sbin/wanted --quick\n"]))["sentinel_command"],
                         "/usr/local/sbin/wanted --quick")

    def test_windows(self):
        for args, want in [
            (["--start-time=9am", "--end-time=5pm"], {"start": "09:00", "end": "17:00"}),
            (["--start-time=12am", "--end-time=04:30:15"], {"start": "00:00", "end": "04:30:15"}),
            (["--reboot-days=mo,TUE", "--reboot-days=5"], {"days": ["mon", "tue", "fri"], "start": "00:00", "end": "24:00"}),
            (["--reboot-days=mon,tue,wed,thu,fri,sat,sun", "--start-time=22:00"], {"start": "22:00", "end": "24:00"}),
        ]:
            with self.subTest(args):
                config = self.config(*args)
                self.assertEqual(config["window"], [want])
                self.assertEqual(config["schedule"]["time_zone"], "UTC")
        self.assertNotIn("window", self.config("--reboot-days=su,mo,tu,we,th,fr,sa"))

    def test_reported(self):
        for want, args in [
            ("--reboot-days", ["--reboot-days="]),
            ("--reboot-days", ["--reboot-days=caturday"]),
            ("--start-time", ["--start-time=25:00"]),
            ("--end-time", ["--start-time=10:00", "--end-time=10am"]),
            ("--drain-timeout", ["--drain-timeout=0"]),
            ("--drain-timeout", ["--drain-timeout=long"]),
            ("--concurrency", ["--concurrency=two"]),
            ("--reboot-command", ["--reboot-command=/usr/local/sbin/my-reboot"]),
            ("--reboot-method", ["--reboot-method=magic"]),
            ("--prometheus-url", ["--prometheus-url=https://me:secret@prometheus"]),
            ("--message-template-drain", ["--message-template-drain=%d nodes", "--notify-url=slack://hook:A-B-C@webhook"]),
            ("--notify-url", ["--notify-url=$(URL)"]),
            ("--reboot-sentinel-command", ["--reboot-sentinel-command=sh -c 'a\nb'"]),
            ("--unheard-of", ["--unheard-of=1"]),
        ]:
            with self.subTest(args):
                result = from_daemonset(daemonset(args))
                self.assertEqual([entry["flag"] for entry in result["unsupported"]], [want])
                self.assertNotIn("secret", str(result["unsupported"]))
        self.assertEqual(self.lost(envFrom=[{"secretRef": {"name": "x"}}]), ["envFrom"])

    def test_secrets(self):
        ref = {"name": "KURED_NOTIFY_URL", "valueFrom": {"secretKeyRef": {"name": "kured", "key": "url"}}}
        ds = daemonset(env=[ref])
        first = from_daemonset(ds)
        self.assertEqual(first["references"], [
            {"variable": "KURED_NOTIFY_URL", "kind": "secret", "name": "kured", "key": "url", "namespace": "kube-system"}])
        answer = {"data": {"url": base64.b64encode(b"slack://hook:A-B-C@webhook").decode()}}
        second = from_daemonset(ds, answers=[json.dumps(answer)], url_files=True)
        self.assertEqual(second["references"], [])
        self.assertEqual(second["config"]["notify"], [{"url_file": "/etc/kured/notify-daemonset.url"}])
        self.assertEqual(second["files"], [
            {"path": "/etc/kured/notify-daemonset.url", "content": "slack://hook:A-B-C@webhook\n"}])

        lost = from_daemonset(ds, answers=['{"data": {}}'])["unsupported"]
        self.assertEqual(lost, [{"flag": "KURED_NOTIFY_URL", "why": "secret kured has no key url"}])

    def test_templates_are_text(self):
        config = self.config("--notify-url=slack://hook:A-B-C@webhook", "--message-template-drain={{x}} 100%% of %s")
        self.assertEqual(config["notify"][0]["templates"]["drain"], '{{"{{"}}x}} 100% of {{.Node}}')

    def test_not_a_daemonset(self):
        for given in ({}, [], {"spec": {}}, {"spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}}}):
            with self.assertRaises(AnsibleFilterError):
                from_daemonset(given)


class Patch(unittest.TestCase):
    away = {"key": "kured.dev/migrated", "operator": "DoesNotExist"}

    def patch(self, ds):
        return from_daemonset(ds)["patch"]["spec"]["template"]["spec"]

    def terms(self, pod):
        return pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]

    def test_plain(self):
        pod = self.patch(daemonset(["--concurrency=1"]))
        self.assertEqual(self.terms(pod), [{"matchExpressions": [self.away]}])
        self.assertEqual(pod["containers"], [
            {"name": "kured", "command": ["/usr/bin/kured"], "args": ["--concurrency=1", "--reboot-days="]}])

    def test_all_learn_it_at_once(self):
        self.assertEqual(from_daemonset(daemonset())["patch"]["spec"]["updateStrategy"],
                         {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 0}})

    def test_days_are_replaced(self):
        pod = self.patch(daemonset(command=["/usr/bin/kured", "--reboot-days", "mon", "--reboot-days=tue"]))
        self.assertEqual(pod["containers"], [{"name": "kured", "command": ["/usr/bin/kured", "--reboot-days="]}])

    def test_affinity_is_kept_in_each_term(self):
        ds = daemonset()
        linux = {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}
        field = {"key": "metadata.name", "operator": "NotIn", "values": ["x"]}
        ds["spec"]["template"]["spec"]["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [linux]}, {"matchFields": [field]}]}}}
        self.assertEqual(self.terms(self.patch(ds)), [
            {"matchExpressions": [linux, self.away]}, {"matchFields": [field], "matchExpressions": [self.away]}])

    def test_twice_is_once(self):
        for ds in (
            daemonset(["--concurrency=1"]),
            daemonset(["--reboot-days=sat,sun", "--concurrency=1"]),
            daemonset(["--reboot-days", "mon, tue", "--reboot-days=wed"]),
            daemonset(command=["/usr/bin/kured", "--reboot-days=sat"]),
            daemonset(command=["/usr/bin/kured", "--reboot-days=sat", "--concurrency=1"], args=["--reboot-days=mon"]),
        ):
            first = from_daemonset(ds)
            template = ds["spec"]["template"]
            template["metadata"] = first["patch"]["spec"]["template"]["metadata"]
            template["spec"].update(first["patch"]["spec"]["template"]["spec"])
            self.assertIn("--reboot-days=", template["spec"]["containers"][0].get("args") or template["spec"]["containers"][0]["command"])
            self.assertEqual(from_daemonset(ds), first)

    def test_undone_is_as_before(self):
        """kubectl rollout undo, or a person, has given the flags other days: those count."""
        ds = daemonset(["--reboot-days=mon"])
        ds["spec"]["template"]["metadata"] = {"annotations": {"kured.dev/reboot-days": "--reboot-days=sat"}}
        self.assertEqual(from_daemonset(ds)["config"]["window"][0]["days"], ["mon"])


if __name__ == "__main__":
    unittest.main()
