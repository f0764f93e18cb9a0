"""Assembling the page that runs in the browser, and its random numbers."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from app.static_page import assemble, runtime
from dd2core import DD2Error
from tests.conftest import unavailable

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(DD2Error, match="no static page"):
        assemble.assemble(tmp_path, ["fashion-var"])


def test_another_engine_than_the_pinned_one_is_refused(tmp_path):
    with pytest.raises(DD2Error, match="another sha512"):
        runtime.unpack(b"something else", tmp_path)
    assert not any(tmp_path.iterdir())


def test_noise_in_javascript_is_pythons():
    if shutil.which("node") is None:
        unavailable("there is no node")
    from dd2core.noise import gaussians, uniforms

    address = (assemble.PAGE / "noise.js").as_uri()
    script = f"import {{ gaussians, uniforms }} from '{address}';" + """
    const out = [[0, 0], [7, 3], [9223372036854775806n, 1]].map(([seed, i]) =>
      [[...uniforms(49, seed, i)], [...gaussians(49 * 8, seed, i)], [...gaussians(21, seed, i)]]);
    console.log(JSON.stringify(out));
    """
    done = subprocess.run(["node", "--input-type=module", "-e", script], capture_output=True,
                          text=True, check=True)
    for (seed, i), (u, g, odd) in zip([(0, 0), (7, 3), (2**63 - 2, 1)], json.loads(done.stdout),
                                      strict=True):
        assert np.array_equal(uniforms(i + 1, 49, seed)[i].numpy(), np.array(u, np.float32))
        ours = gaussians(i + 1, 49, 8, seed)[i].flatten().numpy()
        assert np.abs(ours - np.array(g)).max() < 2e-6
        assert np.abs(gaussians(i + 1, 21, 1, seed)[i, :, 0].numpy() - np.array(odd)).max() < 2e-6
