"""The words of label.html, in English and Chinese."""

from __future__ import annotations

LABEL: dict[str, tuple[str, str]] = {
    "label_title": ("Label {source}", "标注 {source}"),
    "label_made": ("Proposed by restune {version}.", "由 restune {version} 挑选。"),
    "label_do": (
        "Label these {n} items next: press the key of a class for each, then save {file}.",
        "接下来标注这 {n} 个样本：逐个按下类别对应的键，然后保存 {file}。",
    ),
    "label_known": (
        "The {n} labels that are known already are saved with them.",
        "已有的 {n} 个标签会一并保存。",
    ),
    "label_noscript": (
        "This page needs JavaScript; the items are also listed in proposed.csv.",
        "本页需要 JavaScript；这些样本也列在 proposed.csv 中。",
    ),
    "label_desk": ("Labelling", "标注"),
    "label_classes": ("Classes", "类别"),
    "label_all": ("All items", "所有样本"),
    "label_progress": ("{n} of {total} labelled, {skipped} skipped", "已标注 {n}/{total}，跳过 {skipped}"),
    "label_place": ("{n} of {total}", "第 {n} 个，共 {total} 个"),
    "label_guess": ("Suggestion: {label} ({share})", "模型的猜测：{label}（{share}）"),
    "label_is_labelled": ("labelled {label}", "已标为 {label}"),
    "label_picture": ("{item}, to be labelled", "待标注：{item}"),
    "label_jump": ("item {n}, {item}: {state}", "第 {n} 个，{item}：{state}"),
    "label_previous": ("Back", "上一个"),
    "label_skip": ("Skip", "跳过"),
    "label_undo": ("Undo", "撤销"),
    "label_hide": ("Hide suggestions", "隐藏猜测"),
    "label_show": ("Show suggestions", "显示猜测"),
    "label_all_done": ("All items are labelled or skipped: save the table.", "所有样本都已标注或跳过，请保存表格。"),
    "label_saved": ("Saved to your downloads.", "已保存到下载文件夹。"),
    "label_no_storage": (
        "This browser keeps nothing: save before you close the page.",
        "浏览器不保存进度，关闭页面前请先保存。",
    ),
    "label_class_exists": ("There is a class of this name already.", "已有同名的类别。"),
    "label_no_preview": ("no preview", "无法预览"),
    "label_new_class": ("Another class", "新增类别"),
    "label_add": ("Add", "添加"),
    "label_save": ("Save {file}", "保存 {file}"),
    "label_keys": (
        "Keyboard: the key before each class gives it; → skips, ← goes back, Backspace undoes.",
        "键盘：每个类别前面标着对应的键；→ 跳过，← 返回，退格键撤销。",
    ),
    "label_keys_guess": (
        "Enter takes the suggestion; - hides suggestions, which helps where they would sway you.",
        "回车采纳猜测；按 - 隐藏猜测，以免先入为主。",
    ),
    "label_curve": ("What more labels bring", "更多标签能带来什么"),
    "label_axis_labels": ("labels", "标签数"),
    "label_axis_accuracy": ("accuracy (%)", "准确率（%）"),
    "label_fitted": ("power law with 95% interval", "幂律拟合与 95% 区间"),
    "label_measured": ("cross-validated", "交叉验证"),
    "label_about_curve": (
        "Accuracy of a head on items that it has not seen, by number of labels, and a power law through it. For labels "
        "drawn at random; chosen ones usually bring more.",
        "分类头在未见过的样本上的准确率随标签数的变化，以及幂律外推。这里假定标签随机抽取；挑选出的样本通常收益更大。",
    ),
    "label_now": (
        "With {n} labels a head is right on about {accuracy} of new items ({low} to {high}).",
        "用 {n} 个标签，分类头对新样本的准确率约为 {accuracy}（{low} 到 {high}）。",
    ),
    "label_gain": (
        "{n} more labels: {gain} points, {low} to {high}.",
        "再标注 {n} 个：{gain} 个百分点（{low} 到 {high}）。",
    ),
    "label_judged_fitted": (
        "Suggestions are those of a head fitted to the labels that are known.",
        "猜测来自用已有标签拟合的分类头。",
    ),
    "label_judged_own": ("Suggestions are those of the model's own head.", "猜测来自模型自己的分类头。"),
    "label_then": ("What to do next", "接下来"),
    "label_then_do": (
        "Move {file} to the folder where you run these commands: the first trains with all labels, the second proposes "
        "the next items.",
        "把 {file} 移到运行命令的文件夹：第一条命令用全部标签训练，第二条挑选下一批样本。",
    ),
}
