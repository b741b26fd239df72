"""The words of check.html."""

from __future__ import annotations

CHECK: dict[str, tuple[str, str]] = {
    "check_title": ("Check of {source}", "{source} 的数据检查"),
    "check_clean": ("Nothing was found in {n} items.", "检查了 {n} 个样本，没有发现问题。"),
    "check_not_serious": (
        "{found} findings in {n} items, none of them serious.",
        "在 {n} 个样本中发现 {found} 处问题，没有严重问题。",
    ),
    "check_serious": (
        "{found} findings in {n} items, {serious} of them serious: such make scores wrong or items useless.",
        "在 {n} 个样本中发现 {found} 处问题，其中 {serious} 处严重：会使评估分数失真，或使样本无法使用。",
    ),
    "check_to_decide": (
        "Look at the {shown} suspects below, decide on each, and save decisions.csv; training obeys it.",
        "请查看下面 {shown} 个可疑样本，逐个决定并保存 decisions.csv，训练时会照此执行。",
    ),
    "check_found": ("What was found", "发现的问题"),
    "check_finding": ("finding", "问题"),
    "check_severity": ("severity", "严重程度"),
    "check_number": ("number", "数量"),
    "check_meaning": ("what it means", "含义"),
    "severity_serious": ("serious", "严重"),
    "severity_warning": ("warning", "警告"),
    "severity_note": ("note", "提示"),
    "check_whole": ("The data set as a whole", "整个数据集"),
    "check_files": ("Files that are not items", "未作为样本读取的文件"),
    "check_more": (
        "{shown} of {n} are shown; all are in check.csv.",
        "这里显示 {n} 个中的 {shown} 个，全部见 check.csv。",
    ),
    "check_judged": (
        "Labels were judged by a classifier on features ({features}); it is right on {accuracy} of the items that it "
        "had not seen.",
        "标签由基于特征（{features}）的分类器判断；它在未见过的样本上的准确率为 {accuracy}。",
    ),
    "check_judged_poorly": (
        "That is low, so many of these labels are right.",
        "这一准确率偏低，因此下面许多标签其实是对的。",
    ),
    "check_labelled": ("labelled {label}", "标签 {label}"),
    "check_proposed": ("proposed: {label}", "建议改为 {label}"),
    "check_no_label": ("without a label", "没有标签"),
    "check_facts": ("{severity}, score {score}", "{severity}，得分 {score}"),
    "check_whole_one": (" ({severity}): {details}", "（{severity}）：{details}"),
    "check_why": ("{facts}: {details}", "{facts}：{details}"),
    "check_section": ("{name}: {meaning} ({n})", "{name}：{meaning}（{n}）"),
    "check_no_preview": ("no preview", "无法预览"),
    "check_picture": ("{item}, labelled {label}", "{item}，标签 {label}"),
    "check_keep": ("Keep", "保留"),
    "check_relabel": ("Relabel", "改标签"),
    "check_drop": ("Drop", "删除"),
    "check_undo": ("Undo", "撤销"),
    "check_new_label": ("new label of {item}", "{item} 的新标签"),
    "check_not_text": (
        "The name is not valid UTF-8: decide on it in check.csv.",
        "文件名不是有效的 UTF-8，请在 check.csv 中处理。",
    ),
    "check_keys": (
        "Keyboard: Tab or N and P move between suspects; K keeps, R relabels, D drops, U undoes.",
        "键盘：Tab 或 N、P 在样本间移动；K 保留，R 改标签，D 删除，U 撤销。",
    ),
    "check_save": ("Save decisions.csv", "保存 decisions.csv"),
    "check_decided": (
        "{n} of {total} decided: {keep} keep, {relabel} relabel, {drop} drop",
        "已决定 {n}/{total}：保留 {keep}，改标签 {relabel}，删除 {drop}",
    ),
    "check_is_keep": ("keep", "保留"),
    "check_is_relabel": ("relabel: {label}", "改为 {label}"),
    "check_is_drop": ("drop", "删除"),
    "check_previous": ("Previous", "上一页"),
    "check_next": ("Next", "下一页"),
    "check_page": ("{first} to {last} of {n}", "第 {first} 至 {last} 个，共 {n} 个"),
    "check_repeat": ("What to do next", "接下来"),
    "check_next_steps": (
        "Train without what check.csv suggests to drop, and with the decisions saved here; check again after changes.",
        "训练时去掉 check.csv 建议删除的样本，并采用这里保存的决定；修改数据后请再次检查。",
    ),
    "check_took": (
        "{n} items in {seconds} s with restune {version}.",
        "用 restune {version} 检查 {n} 个样本，用时 {seconds} 秒。",
    ),
}
MEANINGS: dict[str, tuple[str, str]] = {
    "unreadable": ("cannot be decoded", "无法解码"),
    "not-taken": ("files of the source that are not read", "数据源中未读取的文件"),
    "duplicate": ("the same content twice", "内容完全相同"),
    "near-duplicate": ("the same picture, changed a little", "同一图像，略有改动"),
    "leak": ("training and held-out items show the same", "训练集与留出集含有相同内容"),
    "conflicting-duplicate": ("the same content with different labels", "内容相同但标签不同"),
    "label-error": ("the label is probably wrong", "标签可能有误"),
    "outlier": ("unlike all other items", "与其他样本都不相似"),
    "blurry": ("out of focus", "模糊"),
    "dark": ("too dark", "过暗"),
    "light": ("too light", "过亮"),
    "flat": ("hardly any content", "几乎没有内容"),
    "odd-size": ("far smaller, larger, shorter or longer than the others", "大小或长度与其他样本相差很大"),
    "odd-format": ("another file format than the others", "文件格式与其他样本不同"),
    "orientation": ("an orientation flag turns it", "方向标记会使图像旋转"),
    "small-class": ("too few items of a class", "某一类样本过少"),
    "imbalance": ("classes of very different size", "各类样本数相差悬殊"),
    "spurious-property": ("a property of the files tells the label", "文件属性与标签相关"),
    "missing-label": ("no label", "没有标签"),
    "missing-values": ("values are missing", "缺少数值"),
    "saturated": ("values stop at a limit", "数值达到上限后被截断"),
    "label-twins": ("classes whose names are nearly equal", "名称几乎相同的类别"),
    "mixed-encoding": ("text in the wrong encoding", "文本编码有误"),
}
"""What each finding means, in a few words."""
CHECK |= {f"means_{name}": texts for name, texts in MEANINGS.items()}
