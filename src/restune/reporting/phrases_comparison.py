"""The words of a page that compares runs, in English and Chinese."""

from __future__ import annotations

COMPARISON: dict[str, tuple[str, str]] = {
    "comparison_title": ("{n} runs compared", "{n} 次运行的比较"),
    "seeds_title": ("{name}: {n} seeds", "{name}：{n} 个随机种子"),
    "gap_paired_better": (
        "{this} is {gap} percentage points better than {other} on the same {n} items (95% interval {low} to {high}; "
        "McNemar p = {p}).",
        "在相同的 {n} 个样本上，{this} 比 {other} 高 {gap} 个百分点（95% 置信区间 {low} 到 {high}；"
        "McNemar 检验 p = {p}）。",
    ),
    "gap_paired_worse": (
        "{this} is {gap} percentage points worse than {other} on the same {n} items (95% interval {low} to {high}; "
        "McNemar p = {p}).",
        "在相同的 {n} 个样本上，{this} 比 {other} 低 {gap} 个百分点（95% 置信区间 {low} 到 {high}；"
        "McNemar 检验 p = {p}）。",
    ),
    "gap_paired_unclear": (
        "{this} and {other} differ by {gap} percentage points on the same {n} items, which may be chance (95% interval "
        "{low} to {high}; McNemar p = {p}).",
        "在相同的 {n} 个样本上，{this} 与 {other} 相差 {gap} 个百分点，可能只是偶然（95% 置信区间 {low} 到 {high}；"
        "McNemar 检验 p = {p}）。",
    ),
    "gap_unpaired_better": (
        "{this} is {gap} percentage points better than {other} (95% interval {low} to {high}), each measured on items "
        "of its own.",
        "{this} 比 {other} 高 {gap} 个百分点（95% 置信区间 {low} 到 {high}），两者在不同的样本上测量。",
    ),
    "gap_unpaired_worse": (
        "{this} is {gap} percentage points worse than {other} (95% interval {low} to {high}), each measured on items "
        "of its own.",
        "{this} 比 {other} 低 {gap} 个百分点（95% 置信区间 {low} 到 {high}），两者在不同的样本上测量。",
    ),
    "gap_unpaired_unclear": (
        "{this} and {other} differ by {gap} percentage points, which may be chance (95% interval {low} to {high}); "
        "each was measured on items of its own.",
        "{this} 与 {other} 相差 {gap} 个百分点，可能只是偶然（95% 置信区间 {low} 到 {high}）；两者在不同的样本上测量。",
    ),
    "gap_seeds_better": (
        "{this} is {gap} percentage points better than {other} in the mean over seeds (95% interval {low} to {high}).",
        "按随机种子取平均，{this} 比 {other} 高 {gap} 个百分点（95% 置信区间 {low} 到 {high}）。",
    ),
    "gap_seeds_worse": (
        "{this} is {gap} percentage points worse than {other} in the mean over seeds (95% interval {low} to {high}).",
        "按随机种子取平均，{this} 比 {other} 低 {gap} 个百分点（95% 置信区间 {low} 到 {high}）。",
    ),
    "gap_seeds_unclear": (
        "{this} and {other} differ by {gap} percentage points in the mean over seeds, which may be chance (95% "
        "interval {low} to {high}).",
        "按随机种子取平均，{this} 与 {other} 相差 {gap} 个百分点，可能只是偶然（95% 置信区间 {low} 到 {high}）。",
    ),
    "gap_one_seed": (
        "{this} and {other} differ by {gap} percentage points; with a single seed on one side there is no interval.",
        "{this} 与 {other} 相差 {gap} 个百分点；其中一方只有一个随机种子，没有置信区间。",
    ),
    "seeds_mean": (
        "{name}: {split} accuracy {mean}% on average over {n} seeds, standard deviation {std} percentage points, from "
        "{low}% to {high}%.",
        "{name}：{n} 个随机种子的{split}准确率平均为 {mean}%，标准差 {std} 个百分点，范围 {low}% 到 {high}%。",
    ),
    "single_mean": (
        "{name}: {split} accuracy {mean}% (95% interval {low}% to {high}%, n = {n}).",
        "{name}：{split}准确率 {mean}%（95% 置信区间 {low}% 到 {high}%，n = {n}）。",
    ),
    "val_compared": (
        "These are validation items, on which each run chose its epoch: the scores are slightly optimistic.",
        "这些是验证样本，每次运行都在其上选择了轮次，因此得分略偏乐观。",
    ),
    "section_compared": ("Scores", "得分"),
    "section_gaps": ("Differences", "差异"),
    "section_settings": ("Settings that differ", "不同的设置"),
    "section_curves": ("Curves", "曲线"),
    "section_runs": ("The runs", "各次运行"),
    "col_run": ("run", "运行"),
    "col_model": ("model", "模型"),
    "col_data": ("data", "数据"),
    "col_seeds": ("seeds", "随机种子数"),
    "col_seed": ("seed", "随机种子"),
    "col_accuracy": ("{split} accuracy", "{split}准确率"),
    "col_spread": ("95% interval or standard deviation", "95% 置信区间或标准差"),
    "col_time": ("duration", "用时"),
    "col_against": ("compared with", "比较对象"),
    "col_gap": ("difference, percentage points", "差异，百分点"),
    "col_how": ("measured on", "测量方式"),
    "col_only": ("right alone / other right alone", "仅此正确 / 仅对方正确"),
    "how_paired": ("the same {n} items", "相同的 {n} 个样本"),
    "how_unpaired": ("other items each", "各自不同的样本"),
    "how_seeds": ("means over seeds", "随机种子的均值"),
    "col_setting": ("setting", "设置"),
    "no_settings": ("All settings are the same but the seed.", "除随机种子外，设置完全相同。"),
    "plus_minus": ("± {std}", "± {std}"),
    "over_seeds": (
        "Lines of several seeds are means; bands show one standard deviation.",
        "多个随机种子的曲线为均值，色带为一个标准差。",
    ),
    "curve_train_loss": ("training loss", "训练损失"),
    "curve_val_loss": ("validation loss", "验证损失"),
}
