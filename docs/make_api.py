"""Render docs/api.md from the docstrings and signatures of the public names.

    python docs/make_api.py            # write docs/api.md

The source is parsed, not imported, so the page is the same on every Python and machine.
"""

import ast
import inspect
from pathlib import Path

import gatsby_mlx

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "api.md"
HEAD = """\
# The Python API

<!-- Rendered from the docstrings by docs/make_api.py. Change those, then run: python docs/make_api.py -->

`import gatsby_mlx as gatsby` is instant: MLX is loaded when something needs it. Names and arguments follow the
[command line](commands.md). Nothing prints. Long work yields events or takes a callback, and errors are the package's
own. [A notebook](examples/quickstart.ipynb) walks through it.

"""
OPTIONS = "plan_training"  # has the options of `train` and `train_events`, though it is not a public name itself
Definition = ast.ClassDef | ast.FunctionDef


def render() -> str:
    """Return the text of docs/api.md."""
    names = [name for name in gatsby_mlx.__all__ if name != "__version__"]
    errors = [name for name in names if gatsby_mlx._HOME[name] == "errors"]
    others = [name for name in names if name not in errors]
    contents = "\n".join(f"- [`{name}`](#{name.lower()})" for name in others)
    sections = "\n".join(_section(name, _find(name)) for name in [*others, OPTIONS])
    contents += f"\n- [`{OPTIONS}`](#{OPTIONS}), the options of training\n- [Errors](#errors)"
    version = f"## Version\n\n`gatsby_mlx.__version__` is the version of the package, {gatsby_mlx.__version__!r}.\n"
    return f"{HEAD}{contents}\n\n{sections}\n{_errors(errors)}\n{version}"


def _home(name: str) -> str:
    return gatsby_mlx._HOME.get(name, "api")


def _module(name: str) -> ast.Module:
    path = ROOT / "gatsby_mlx" / f"{_home(name).replace('.', '/')}.py"
    return ast.parse(path.read_text("utf-8"))


def _find(name: str) -> Definition:
    return next(n for n in _module(name).body if isinstance(n, Definition) and n.name == name)


def _section(name: str, node: Definition) -> str:
    where = f"From `gatsby_mlx.{_home(name)}`.\n"
    if isinstance(node, ast.FunctionDef):
        return f"## {name}\n\n{_signature(node, name)}\n{_text(node)}\n{where}"
    members = "".join(_member(name, n) for n in node.body if isinstance(n, ast.FunctionDef) and _public(n))
    return f"## {name}\n\n{_class_head(node)}\n{_text(node)}\n{where}{members}"


def _public(node: ast.FunctionDef) -> bool:
    return not node.name.startswith("_")


def _class_head(node: ast.ClassDef) -> str:
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    fields = [ast.unparse(n) for n in node.body if isinstance(n, ast.AnnAssign)]
    lines = [f"class {node.name}({bases})" if bases else f"class {node.name}", *(f"    {field}" for field in fields)]
    return _fenced(lines)


def _member(owner: str, node: ast.FunctionDef) -> str:
    decorators = {ast.unparse(d) for d in node.decorator_list}
    if decorators & {"property", "cached_property"}:
        returns = f": {_type(node.returns)}" if node.returns else ""
        return f"\n### {owner}.{node.name}\n\n{_fenced([f'{node.name}{returns}'])}\n{_text(node)}"
    call = f"{owner}.{node.name}" if "classmethod" in decorators else node.name
    return f"\n### {owner}.{node.name}\n\n{_signature(node, call)}\n{_text(node)}"


def _signature(node: ast.FunctionDef, name: str) -> str:
    """Return the signature without `self`, one argument a line where it is long."""
    given = node.args
    positional = [a for a in [*given.posonlyargs, *given.args] if a.arg not in ("self", "cls")]
    defaults = [None] * (len(positional) - len(given.defaults)) + list(given.defaults)
    words = [_argument(a, d) for a, d in zip(positional, defaults, strict=True)]
    words += ["*"] if given.kwonlyargs and not given.vararg else []
    words += [f"*{_argument(given.vararg, None)}"] if given.vararg else []
    words += [_argument(a, d) for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    words += [f"**{_argument(given.kwarg, None)}"] if given.kwarg else []
    returns = f" -> {_type(node.returns)}" if node.returns else ""
    line = f"{name}({', '.join(words)}){returns}"
    return _fenced([line] if len(line) <= 100 else [f"{name}(", *(f"    {word}," for word in words), f"){returns}"])


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    kind = f": {_type(argument.annotation)}" if argument.annotation else ""
    return f"{argument.arg}{kind}{f' = {ast.unparse(default)}' if default is not None else ''}"


def _type(annotation: ast.expr) -> str:
    """Return an annotation without the quotes that put off its evaluation."""
    quoted = isinstance(annotation, ast.Constant) and isinstance(annotation.value, str)
    return str(annotation.value) if quoted else ast.unparse(annotation)


def _fenced(lines: list[str]) -> str:
    return "```python\n" + "\n".join(lines) + "\n```\n"


def _text(node: Definition | ast.Module) -> str:
    """Return a docstring as Markdown: its examples become code blocks."""
    lines, code = [], False
    for line in inspect.cleandoc(ast.get_docstring(node) or "").splitlines():
        if line.startswith(">>>") and not code:
            lines.append("```pycon")
            code = True
        elif not line and code:
            lines.append("```")
            code = False
        lines.append(line)
    return "\n".join([*lines, *(["```"] if code else []), ""]) if lines else ""


def _errors(names: list[str]) -> str:
    """Return the section of the errors: the tree of the module's docstring, and the class they share."""
    paragraphs = (ast.get_docstring(_module("GatsbyError")) or "").split("\n\n")
    tree = next(text for text in paragraphs if text.startswith("GatsbyError"))
    base = _section("GatsbyError", _find("GatsbyError")).replace("## GatsbyError", "### GatsbyError")
    return f"## Errors\n\n{', '.join(f'`{name}`' for name in names)}:\n\n```\n{tree}\n```\n\n{base}"


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8")
