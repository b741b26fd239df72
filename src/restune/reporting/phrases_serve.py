"""The words of the server's page, in English and Chinese."""

from __future__ import annotations

SERVE: dict[str, tuple[str, str]] = {
    "serve_title": ("Ask the model", "问问模型"),
    "serve_about": (
        "What you choose goes to this server only; it is not stored.",
        "您选择的内容只发送到本服务器，不会保存。",
    ),
    "serve_language": ("中文", "English"),
    "serve_model": ("Model", "模型"),
    "serve_key": ("API key", "API 密钥"),
    "serve_image": (
        "Choose an image, drop one here, or paste one (Ctrl+V).",
        "选择一张图片，拖到这里，或直接粘贴（Ctrl+V）。",
    ),
    "serve_signal": (
        "Choose a file: .wav, or .csv with one row of numbers per channel.",
        "选择一个文件：.wav，或每个通道一行数字的 .csv。",
    ),
    "serve_text": ("Write or paste a text.", "输入或粘贴一段文本。"),
    "serve_choose": ("Choose a file", "选择文件"),
    "serve_send": ("Classify", "分类"),
    "serve_working": ("Computing …", "正在计算……"),
    "serve_label": ("{label}: {probability}", "{label}：{probability}"),
    "serve_unsure": (
        "Not sure: at {probability} it is below the model's threshold of {threshold}. The most probable is {label}.",
        "不确定：概率为 {probability}，低于模型的阈值 {threshold}。最可能的是 {label}。",
    ),
    "serve_novel": (
        "This is unlike the training data: the answer may be meaningless.",
        "这与训练数据不同，答案可能没有意义。",
    ),
    "serve_labels": ("Labels: {labels}", "标签：{labels}"),
    "serve_no_labels": ("No label reaches its threshold.", "没有标签达到阈值。"),
    "serve_values": ("Predicted values", "预测值"),
    "serve_probabilities": ("Probabilities", "概率"),
    "serve_map": ("Where the evidence is", "依据在哪里"),
    "serve_opacity": ("Opacity of the map", "热力图不透明度"),
    "serve_reading": (
        "Orange speaks for the class, violet against it. Outlined: at least half of the largest value.",
        "橙色支持该类别，紫色反对该类别。描边处：不低于最大值的一半。",
    ),
    "serve_chosen": ("The chosen image", "所选图片"),
    "serve_map_of": ("Class activation map for {label}", "{label} 的类激活图"),
    "serve_failed": ("That did not work: {reason}", "没有成功：{reason}"),
    "serve_unreachable": ("the server does not answer", "服务器没有响应"),
}
