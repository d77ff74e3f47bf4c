"""YAML as nixbox and most editors read it: the core rules of version 1.2. (PyYAML's own rules are those of 1.1, where `off` and
`yes` are booleans.)"""
import re

import yaml


class Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}


def _number(loader, node):
    text = node.value
    return int(text[2:], 8) if text.startswith("0o") else int(text[2:], 16) if text.startswith("0x") else int(text, 10)


Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""])
Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789"))
Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(
    r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"), list("-+.0123456789"))
Loader.add_constructor("tag:yaml.org,2002:int", _number)


def load(text):
    return yaml.load(text, Loader)
