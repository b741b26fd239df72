"""The words of the server's page, in English and Chinese."""

from __future__ import annotations

SERVE: dict[str, tuple[str, str]] = {
    "serve_title": ("Ask the model", "问问模型"),
    "serve_about": (
        "What you choose goes to this server only; it is not stored.",
        "您选择的内容只发送到本服务器，不会保存。",
    ),
    "serve_language": ("中文", "English"),
    # the form
    "serve_model": ("Model", "模型"),
    "serve_has_classes": ("{network}, {n} classes: {classes}", "{network}，{n} 个类别：{classes}"),
    "serve_has_labels": ("{network}, {n} labels: {classes}", "{network}，{n} 个标签：{classes}"),
    "serve_has_numbers": ("{network} predicts numbers: {classes}", "{network} 预测数值：{classes}"),
    "serve_key": ("API key", "API 密钥"),
    "serve_open": ("Continue", "继续"),
    "serve_image": (
        "Choose images, drop them here, or paste one (Ctrl+V).",
        "选择图片，拖到这里，或直接粘贴（Ctrl+V）。",
    ),
    "serve_image_touch": ("Choose images, or take a picture.", "选择图片，或拍一张照片。"),
    "serve_signal": (
        "Choose or drop files: .wav, or .csv with one line of numbers per channel.",
        "选择或拖入文件：.wav，或每个通道一行数字的 .csv。",
    ),
    "serve_video": ("Choose or drop videos.", "选择或拖入视频。"),
    "serve_text": ("Write or paste a text, or drop a text file.", "输入或粘贴一段文本，或拖入文本文件。"),
    "serve_numbers": ("Or write numbers: one line per channel.", "或直接输入数字：每个通道一行。"),
    "serve_choose": ("Choose files", "选择文件"),
    "serve_send": ("Classify", "分类"),
    # the camera
    "serve_camera": ("Use the camera", "使用摄像头"),
    "serve_camera_view": ("The camera's picture", "摄像头画面"),
    "serve_shoot": ("Take a picture", "拍照"),
    "serve_live": ("Live", "实时"),
    "serve_camera_stop": ("Stop the camera", "关闭摄像头"),
    "serve_picture": ("picture", "照片"),
    "serve_camera_insecure": (
        "browsers open the camera on localhost and over https only",
        "浏览器只允许在 localhost 或 https 页面使用摄像头",
    ),
    "serve_camera_refused": ("the browser did not allow the camera", "浏览器没有允许使用摄像头"),
    "serve_camera_missing": ("there is no camera", "没有找到摄像头"),
    "serve_camera_failed": (
        "the camera does not open; is another program using it?",
        "无法打开摄像头，是否被其他程序占用？",
    ),
    # the answer
    "serve_working": ("Computing …", "正在计算……"),
    "serve_label": ("{label}: {probability}", "{label}：{probability}"),
    "serve_unsure": (
        "Not sure: at {probability} it is below the model's threshold of {threshold}. The most probable is {label}.",
        "不确定：概率为 {probability}，低于模型的阈值 {threshold}。最可能的是 {label}。",
    ),
    "serve_unsure_short": ("not sure", "不确定"),
    "serve_novel": (
        "This is unlike the training data: the answer may be meaningless.",
        "这与训练数据不同，答案可能没有意义。",
    ),
    "serve_novel_short": ("unlike the training data", "与训练数据不同"),
    "serve_labels": ("Labels: {labels}", "标签：{labels}"),
    "serve_no_labels": ("No label reaches its threshold.", "没有标签达到阈值。"),
    "serve_values": ("Predicted values", "预测值"),
    "serve_probabilities": ("Probabilities", "概率"),
    "serve_more": ("The {shown} most probable of {all}.", "共 {all} 个，仅列出概率最高的 {shown} 个。"),
    "serve_line": ("Dashed: the threshold, {threshold}.", "虚线：阈值 {threshold}。"),
    "serve_ticked": ("✓: reaches the label's threshold.", "✓：达到该标签的阈值。"),
    "serve_several": ("{done} of {all} inputs", "{all} 个输入，已完成 {done} 个"),
    # where the evidence is
    "serve_map": ("Where the evidence is", "依据在哪里"),
    "serve_chosen": ("The input", "输入"),
    "serve_opacity": ("Opacity of the map", "热力图不透明度"),
    "serve_reading_picture": (
        "Orange speaks for the class, violet against it. Outlined: at least half of the largest value.",
        "橙色支持该类别，紫色反对该类别。描边处：不低于最大值的一半。",
    ),
    "serve_reading_words": (
        "Orange speaks for the class, violet against it. Underlined: at least half of the largest value.",
        "橙色支持该类别，紫色反对该类别。下划线处：不低于最大值的一半。",
    ),
    "serve_reading_series": (
        "Orange speaks for the class, violet against it; below, the same as bars. Arrow keys move the line.",
        "橙色支持该类别，紫色反对该类别；下方以柱形表示同一数值。方向键移动竖线。",
    ),
    "serve_map_of": ("Class activation map for {label}", "{label} 的类激活图"),
    "serve_of_largest": ("{share} of the largest value", "最大值的 {share}"),
    "serve_channel": ("channel {n}", "通道 {n}"),
    "serve_channels": ("The first {shown} of {all} channels.", "共 {all} 个通道，仅画出前 {shown} 个。"),
    "serve_at": (
        "Position {position}: {values}; map: {share} of its largest value",
        "位置 {position}：{values}；热力值为最大值的 {share}",
    ),
    # inside the network
    "serve_inside": ("Inside the network", "网络内部"),
    "serve_inside_empty": (
        "The structure. For an input, the feature maps of each stage are drawn here.",
        "网络的结构。给出输入后，这里会画出每个阶段的特征图。",
    ),
    "serve_inside_reading": (
        "Below each stage: the channels that vary most over this input, black at a channel's least value, white at its "
        "largest. Choose a map to enlarge it, a stage's name to unfold it.",
        "每个阶段下方是在此输入上变化最大的通道：黑色为该通道的最小值，白色为最大值。点选特征图可放大，点选阶段名称可展开。",
    ),
    "serve_stem": ("stem", "输入层"),
    "serve_stage": ("stage {n}", "第 {n} 阶段"),
    "serve_maps_of": ("Feature maps of {stage}", "{stage}的特征图"),
    "serve_map_name": ("{stage}, channel {channel}", "{stage}，通道 {channel}"),
    "serve_map_range": (
        "{shape} positions, values from {least} to {largest}; one of {all} channels, counted from 0.",
        "{shape} 个位置，取值 {least} 至 {largest}；共 {all} 个通道，从 0 计数。",
    ),
    "serve_before": ("Previous", "上一个"),
    "serve_after": ("Next", "下一个"),
    "serve_close": ("Close", "关闭"),
    # what goes wrong
    "serve_failed": ("That did not work: {reason}", "没有成功：{reason}"),
    "serve_again": ("Try again", "重试"),
    "serve_unreachable": ("the server does not answer", "服务器没有响应"),
    "serve_wrong_key": ("the server does not know this API key", "服务器不认识这个 API 密钥"),
    "serve_too_large": ("this is larger than the {most} MiB that the server takes", "超过了服务器接受的 {most} MiB"),
    "serve_busy": (
        "the server is busy or shutting down; try again in {seconds} s",
        "服务器繁忙或正在关闭，请在 {seconds} 秒后重试",
    ),
    "serve_late": ("the server did not finish in time", "服务器没有在规定时间内完成"),
    "serve_status": ("the server answered with status {status}", "服务器返回状态码 {status}"),
    "serve_no_numbers": ("line {line} is not a line of numbers", "第 {line} 行不是一行数字"),
}
