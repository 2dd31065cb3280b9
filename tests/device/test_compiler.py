"""device.compiler: whether mx.compile works is known before a step is compiled."""

from device_tools import finish, linux, start

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
