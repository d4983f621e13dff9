#!/usr/bin/env python3
"""Compare chat templates as we render them with jinja2, set up as Hugging Face's apply_chat_template sets it up.

    scripts/real-models.sh --vocabularies
    pip install jinja2==3.1.6
    cargo build --release -p metallic-text --example render_templates
    scripts/compare-templates.py FOLDER/templates [--write]

Prints what differs; exits with 1 if anything does. With --write, the digests of jinja2's texts go into
fixtures/oracle/templates/expected.json, which the ignored test `chat_templates_render_as_jinja2_renders_them` reads.
"""
import argparse
import datetime
import html
import json
import pathlib
import subprocess
import sys

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = pathlib.Path(__file__).resolve().parent.parent
ORACLE = ROOT / "fixtures/oracle/templates"
OURS = ROOT / "target/release/examples/render_templates"
NOW = datetime.datetime(2026, 1, 2, 3, 4, 5)

# Where we go on and jinja2 stops: a loop over tools that were not given, a lazy list as JSON.
LENIENT = ("'NoneType' object is not iterable", "Object of type generator is not JSON serializable")
# It adds text to `'…'|safe`, which escapes that text for HTML in jinja2. No model wants to read `&#34;`.
ESCAPES = {"meetkai-functionary-medium-v3.1.jinja"}


class Generation(jinja2.ext.Extension):
    """`{% generation %}` marks the assistant's text for training, and is nothing else."""
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    result = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    result.filters["tojson"] = tojson
    result.globals["raise_exception"] = raise_exception
    result.globals["strftime_now"] = lambda form: NOW.strftime(form)
    return result


def render(template, case):
    try:
        return "text", template.render(
            messages=case["messages"], tools=case.get("tools"), documents=None,
            add_generation_prompt=case["add_generation_prompt"], bos_token="<s>", eos_token="</s>",
            **case.get("extra", {}))
    except Exception as error:  # whatever a template does wrong
        return "error", f"{type(error).__name__}: {error}"


def digest(text):
    """FNV-1a, 64 bits."""
    value = 0xcbf29ce484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001b3 % 2**64
    return f"{value:016x}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    cases = json.loads((ORACLE / "cases.json").read_text())
    paths = sorted(args.folder.glob("*.jinja"))
    command = [str(OURS), str(ORACLE / "cases.json"), *map(str, paths)]
    lines = subprocess.run(command, capture_output=True, check=True, timeout=300).stdout.splitlines()
    ours = {(line["template"], line["case"]): line for line in map(json.loads, lines)}
    expected, equal, refused, lenient, different = {}, 0, 0, 0, 0
    for path in paths:
        template = environment().from_string(path.read_text())
        for name, case in cases.items():
            kind, text = render(template, case)
            found = ours[path.name, name]
            if path.name in ESCAPES:
                text = html.unescape(text)
            expected.setdefault(path.name, {})[name] = digest(text) if kind == "text" else "error"
            if kind == "error" and "error" in found:
                refused += 1
            elif kind == "error" and text.endswith(LENIENT):
                lenient += 1
                expected[path.name][name] = "rendered by us only"
            elif kind == "text" and found.get("text") == text:
                equal += 1
            else:
                different += 1
                print(f"{path.name}, {name}\n  jinja2 {kind}: {text[-400:]!r}\n  ours   {str(found)[-500:]}")
    print(f"{len(paths)} templates, {len(cases)} conversations: {equal} equal, {refused} refused by both, "
          f"{lenient} rendered by us only, {different} differ")
    if args.write:
        (ORACLE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
