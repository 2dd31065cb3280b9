"""device.compiler: whether mx.compile works is known before a step is compiled."""

from device_tools import finish, linux, start

from gatsby_mlx.device import compiler

COMPILE = """
import json
from gatsby_mlx import device
from gatsby_mlx.device.compiler import compiler_report
device.prepare()
print(json.dumps(dict(cheap=device.compile_works(), **compiler_report())))
"""


@linux
def test_compiler_works_with_gxx(tmp_path):
    report = finish(start(COMPILE, TMPDIR=str(tmp_path)))
    assert report["cheap"] and report["works"] and not report["note"] and report["version"]


@linux
def test_compiler_problem_has_a_reason(tmp_path):
    report = finish(start(COMPILE, PATH=""))
    assert not report["cheap"] and not report["works"] and "g++" in report["note"]
    report = finish(start(COMPILE, TMPDIR=str(tmp_path / "absent")))
    assert not report["cheap"] and "absent" in report["note"]
    report = finish(start(COMPILE, MLX_DISABLE_COMPILE="1"))
    assert not report["cheap"] and "MLX_DISABLE_COMPILE" in report["note"]


@linux
def test_compiler_probe_detects_a_failing_compiler(tmp_path):
    fake = tmp_path / "g++"
    fake.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho no headers here\nexit 1\n')
    fake.chmod(0o755)
    report = finish(start(COMPILE, PATH=f"{tmp_path}:/bin", TMPDIR=str(tmp_path)))
    assert report["cheap"] and not report["works"] and "Failed to compile" in report["note"]


KERNELS = """
import json, os
from pathlib import Path
from gatsby_mlx import device
from gatsby_mlx.device import compiler
if "OTHERS" in os.environ:
    compiler._is_ours = lambda path: path.name != "mlx"
device.prepare()
works = device.compile_works()
import mlx.core as mx
mx.eval(mx.compile(lambda x: mx.exp(x) * 3 + 1)(mx.arange(4, dtype=mx.float32)))
folder = os.environ["TMPDIR"]
print(json.dumps(dict(works=works, folder=folder, kernels=len(list(Path(folder).rglob("*.so"))))))
"""


@linux
def test_kernels_go_to_a_folder_of_this_user_where_the_usual_one_is_somebody_elses(tmp_path):
    """MLX keeps them in one folder for all users, and loads what is in it."""
    usual, cache = tmp_path / "tmp", tmp_path / "cache"
    (usual / "mlx").mkdir(parents=True)
    env = {"TMPDIR": str(usual), "XDG_CACHE_HOME": str(cache)}
    report = finish(start(KERNELS, **env))
    assert report["folder"] == str(usual) and report["kernels"]
    report = finish(start(KERNELS, **env, OTHERS="1"))
    assert report["works"] and report["kernels"]
    assert report["folder"] == str(cache / "gatsby-mlx" / "tmp")
    (cache / "gatsby-mlx" / "tmp").rename(cache / "elsewhere")
    (cache / "gatsby-mlx" / "tmp").write_text("in the way")
    report = finish(start(KERNELS, **env, OTHERS="1"))
    assert report["works"] and report["kernels"] and report["folder"].startswith(str(usual / "gatsby-mlx-"))
    assert not list(usual.glob("gatsby-mlx-*")), "it is removed at exit"


def test_a_folder_is_ours_by_its_owner(tmp_path, monkeypatch):
    assert compiler._is_ours(tmp_path) and compiler._is_ours(tmp_path / "absent")
    monkeypatch.setattr(compiler.os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert not compiler._is_ours(tmp_path)
