"""YAML from other people: plain values, unique text keys, bounded size, depth and aliases."""

from pathlib import Path
from typing import Any

import yaml

from torchlight.system.files import read_text

MAX_BYTES = 2**20
MAX_DEPTH = 32
MAX_NODES = 100_000  # where an alias counts as many nodes as it refers to


class Loader(yaml.SafeLoader):
    """SafeLoader that rejects duplicate keys, keys that are not text, and documents that expand without bound."""

    def check(self, node: yaml.Node, sizes: dict[int, int | None], depth: int = 0) -> int:
        """The number of nodes below `node`, an alias counted like what it refers to."""
        if id(node) in sizes:
            size = sizes[id(node)]
            if size is None:
                raise yaml.constructor.ConstructorError(None, None, "an alias that contains itself", node.start_mark)
            return size
        if depth > MAX_DEPTH:
            raise yaml.constructor.ConstructorError(None, None, f"more than {MAX_DEPTH} levels", node.start_mark)
        sizes[id(node)] = None
        size, children = 1, []
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
            children = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        for child in children:
            size += self.check(child, sizes, depth + 1)
        if size > MAX_NODES:
            raise yaml.constructor.ConstructorError(None, None, f"more than {MAX_NODES} values", node.start_mark)
        sizes[id(node)] = size
        return size

    def _check_keys(self, node: yaml.MappingNode) -> None:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in (
                "tag:yaml.org,2002:str",
                "tag:yaml.org,2002:merge",
            ):
                found = key.value if isinstance(key, yaml.ScalarNode) else "a collection"
                raise yaml.constructor.ConstructorError(
                    None, None, f"expected a name as key, got {found}", key.start_mark
                )
            if key.value in seen and key.value != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value} appears twice", key.start_mark
                )
            seen.add(key.value)


def parse_yaml(text: str, origin: str | Path) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: not valid YAML, a duplicate key, a key that is not text, or too large, deep or many aliases; the message
            begins with `origin`.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"{origin}: expected at most {MAX_BYTES} characters of YAML, got {len(text)}")
    loader = None
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        loader.check(node, {})
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError, AttributeError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:300]
        raise ValueError(f"{origin}: not valid YAML: {reason}") from error
    finally:
        if loader is not None:
            loader.dispose()


def read_yaml(path: str | Path) -> Any:
    """The value of a YAML file in UTF-8; raises ValueError as `parse_yaml`, or if the file cannot be read."""
    return parse_yaml(read_text(path, MAX_BYTES), path)
