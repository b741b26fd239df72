"""Every verb with --lang zh, and errors: no line of the screen is without Chinese, except commands and names."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest

from restune.cli import main

CHINESE = re.compile(r"[\u4e00-\u9fff]")
AS_THEY_ARE = re.compile(
    r"\s*$"
    r"|\s*(?:open|restune) "  # commands
    r"|[ ─━]+$"  # rules of tables
    r"|[\w./\\-]+: (?:\w+|\w+：)$"
    r"|\s*(?:bright|dark|grey)\b"  # rows of classes
    r"|\s*\S+\.(?:png|safetensors)\s"  # rows of inputs
    r"|\s*resnet\w+(?:\s|$)"  # rows of networks
    r"|\s*[\w.-]+\s+(?:train|finetune)\s"  # rows of runs
)
"""Lines that need no Chinese."""
LEFT_OVER = re.compile(
    r"\b(?:the|is|are|was|of|and|with|from|not|this|that|for|cannot|has|have|items|images|accuracy|unreadable)\b"
)
"""English words that a translated line must not contain outside commands, quotes and brackets of names."""


def unspoken(text: str) -> list[str]:
    """Return the lines that a Chinese reader could not read."""
    lines = []
    for line in text.splitlines():
        bare = re.sub(r"'[^']*'|`[^`]*`|--[\w-]+|https?://\S+|\S*/\S*|restune [a-z]+ .*", "", line)
        if not AS_THEY_ARE.match(line) and (not CHINESE.search(line) or LEFT_OVER.search(bare)):
            lines.append(line)
    return lines


@pytest.fixture(scope="module")
def home(tmp_path_factory, write_noise):
    folder = tmp_path_factory.mktemp("zh")
    data = write_noise(folder / "noise", dark=(0, 14), bright=(120, 14), grey=(60, 10))
    (data / "dark" / "broken.jpg").write_bytes(b"not an image")
    (data / "dark" / "notes.xyz").write_bytes(b"")
    (data / "bright" / "copy.png").write_bytes((data / "bright" / "000.png").read_bytes())
    return folder


@pytest.fixture
def speak(run, home, monkeypatch):
    """Run a command in Chinese and return both streams, after checking every line and that only Chinese is added."""
    monkeypatch.chdir(home)

    def call(*words, status=0):
        done = run(*words, "--lang", "zh")
        assert done.returncode == status, done.stdout + done.stderr
        assert not unspoken(done.stdout + done.stderr)
        return done

    return call


@pytest.fixture(scope="module")
def trained(home):
    """The streams of a training run in Chinese."""
    out, err = io.StringIO(), io.StringIO()
    options = "--model resnet8 --epochs 2 --image-size 16 --set spec.width=4 --test 0.2 --out mine --lang zh"
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(home)
        patch.setattr(sys, "argv", ["restune", "train", "noise", *options.split()])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code, err.getvalue()
    return subprocess.CompletedProcess((), 0, out.getvalue(), err.getvalue())


def test_training_speaks(trained, home):
    assert not unspoken(trained.stdout + trained.stderr)
    assert re.search(r"^第 2/2 轮  损失 [\d.]+  验证损失 [\d.]+  验证准确率 [\d.]+%", trained.stderr, re.M)
    assert "警告：跳过 1 个无法读取的样本：dark/broken.jpg（不是已知格式的图像）" in trained.stderr
    assert "optimizer" not in trained.stdout
    assert re.search(r"^测试集准确率 [\d.]+%（95% 置信区间 [\d.]+% 到 [\d.]+%，n = \d+）$", trained.stdout, re.M)
    assert "\n  restune evaluate mine noise\n" in trained.stdout, "commands stay as they are"
    page = (home / "mine" / "report.html").read_text(encoding="utf-8")
    assert '<html lang="zh-CN">' in page
    for word in ("测试集准确率", "95% 置信区间", "真实类别", "精确率", "跳过的样本", "不是已知格式的图像", "设置"):
        assert word in page
    prose = re.sub(r"(?s)<pre>.*?</pre>|<style>.*?</style>|base64,[^\"]*", "", page)
    assert not re.search(r"\b(?:accuracy|precision|Training|Settings|unchanged|interval)\b", prose)


def test_files_for_programs_are_the_same_in_all_languages(trained, home):
    for name in ("recipe.yaml", "result.json", "metrics.jsonl", "split.csv", "run.json"):
        path = home / "mine" / name
        if path.exists():
            assert not CHINESE.search(path.read_text(encoding="utf-8")), name


def test_verbs_on_a_run_speak(speak, trained):
    assert "评估其中的测试" in speak("evaluate", "mine", "noise").stderr
    shown = speak("predict", "mine", "noise/dark", status=2)
    assert "无法读取" in shown.stdout
    assert "  位置：INPUT\n  解决办法：原因见上\n" in shown.stderr
    speak("embed", "mine", "noise/grey", "--out", "f.npz")
    speak("runs", ".")
    tuned = speak("finetune", "noise", "--weights", "mine", "--freeze", "all", "--out", "tuned")
    assert "分类头已拟合（逻辑回归）" in tuned.stderr
    speak("cache")


def test_models_and_lessons_speak(speak):
    assert "卷积" in speak("models", "resnet18").stdout
    speak("models", "resnet18", "resnet50")
    assert "感受野" in speak("models", "resnet*").stdout
    assert "练习" in speak("lesson").stdout


ERRORS = {
    "unknown network": (["train", "noise", "--model", "resnet19"], "没有名为 'resnet19' 的网络"),
    "unknown setting": (["train", "noise", "--set", "lr=0.1"], "不是配方的设置"),
    "wrong value": (["train", "noise", "--set", "optimizer.lr=-1"], "应大于 0"),
    "wrong choice": (["train", "noise", "--set", "optimizer.name=adm"], "应为 'sgd'"),
    "no data": (["train", "nowhere"], "没有这份数据"),
    "no weights": (["evaluate", "resnet50", "noise"], "是没有权重的网络"),
    "duration": (["train", "noise", "--time", "soon"], "不是时长"),
    "twice": (["train", "noise", "--seed", "1", "--seed", "2"], "给了 2 次"),
    "unknown option": (["train", "noise", "--bach", "3"], "没有选项"),
    "missing argument": (["evaluate", "mine"], "缺少参数"),
    "not a number": (["train", "noise", "--epochs", "many"], "不是整数"),
    "out of range": (["train", "noise", "--epochs", "0"], "应不小于 1"),
    "unknown verb": (["evalute", "mine"], "没有命令"),
    "lesson": (["lesson", "nothing"], "没有名为"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_speak(speak, case):
    words, expected = ERRORS[case]
    done = speak(*words, status=2)
    assert expected in done.stderr
    assert done.stderr.count("错误：") == 1
    assert "Traceback" not in done.stderr


def test_errors_as_json_have_english_keys_and_chinese_values(speak):
    done = speak("train", "noise", "--model", "resnet19", "--json", status=2)
    error = json.loads(done.stdout)["error"]
    assert set(error) == {"what", "where", "fix"}
    assert error["what"] == "没有名为 'resnet19' 的网络"


def test_the_environment_names_the_language(run, home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("RESTUNE_LANG", "zh_CN.UTF-8")
    assert run("train", "nowhere").stderr.startswith("错误：没有这份数据\n  位置：nowhere\n")
    assert run("train", "nowhere", "--lang", "en").stderr.startswith("error: there is no such data\n  where: nowhere\n")
    monkeypatch.setenv("RESTUNE_LANG", "en")
    assert run("train", "nowhere").stderr.startswith("error: ")


@pytest.mark.parametrize("verb", ["train", "models", "lesson", "runs"])
def test_unknown_languages_are_one_message(run, verb, monkeypatch):
    done = run(verb, *(["x"] if verb == "train" else []), "--lang", "fr")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: there is no text in the language 'fr'\n  where: --lang\n  what to do: en (English) or zh (Chinese)\n"
    )
    monkeypatch.setenv("RESTUNE_LANG", "de")
    assert "where: RESTUNE_LANG" in run("runs").stderr
    assert run("--help").returncode == 0


def test_python_follows_the_environment(monkeypatch):
    import restune

    monkeypatch.setenv("RESTUNE_LANG", "zh")
    with pytest.raises(restune.UserError, match="没有名为 'resnet19' 的网络"):
        restune.create_model("resnet19")
