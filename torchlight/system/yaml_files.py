"""Reading untrusted YAML: plain values, unique text keys, bounded size, depth and aliases."""

from pathlib import Path
from typing import Any

import yaml

from torchlight.system.files import read_text

MAX_BYTES = 2**20
MAX_DEPTH = 32
MAX_NODES = 20_000  # an alias counts as the number of nodes that it refers to


class Loader(yaml.SafeLoader):
    """SafeLoader that rejects duplicate keys, keys that are not text, and documents that expand without bound."""

    def __init__(self, text: str):
        super().__init__(text)
        self.nodes = self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        """Compose the next node; refuse a document that is too large before the rest of it is read."""
        self.nodes += 1
        self.depth += 1
        self._check_bounds(self.nodes, self.depth, self.peek_event())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def check(self, node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
        """The number of nodes and of levels of `node`; an alias counts like the node that it refers to."""
        if id(node) in known:
            found = known[id(node)]
            if found is None:
                raise yaml.constructor.ConstructorError(None, None, "an alias that contains itself", node.start_mark)
            return found
        known[id(node)] = None
        size, depth, children = 1, 0, []
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
            children = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        for child in children:
            below = self.check(child, known)
            size, depth = size + below[0], max(depth, below[1])
        self._check_bounds(size, depth + 1, node)
        known[id(node)] = size, depth + 1
        return size, depth + 1

    @staticmethod
    def _check_bounds(nodes: int, depth: int, place: yaml.Node | yaml.Event) -> None:
        for count, limit, what in ((depth, MAX_DEPTH, "levels"), (nodes, MAX_NODES, "values")):
            if count > limit:
                raise yaml.constructor.ConstructorError(None, None, f"more than {limit} {what}", place.start_mark)

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
        ValueError: the text is not valid YAML, contains a duplicate key or a key that is not text, or is too large or
            too deep with its aliases expanded; the message begins with `origin`.
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
