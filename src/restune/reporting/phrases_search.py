"""The words of a search's page, in English and Chinese."""

from __future__ import annotations

SEARCH: dict[str, tuple[str, str]] = {
    "search_title": ("Search over {n} settings", "{n} 项设置的搜索"),
    "search_best": (
        "Trial {number} is the best of {n}: {monitor} {score} on the validation items.",
        "{n} 次试验中第 {number} 次最好：验证样本上 {monitor} 为 {score}。",
    ),
    "search_gain": (
        "The recipe's own settings gave {score}: {gap} less.",
        "配方自带的设置得 {score}：低 {gap}。",
    ),
    "search_no_gain": (
        "The recipe's own settings are as good: the search found nothing better.",
        "配方自带的设置一样好：搜索没有找到更好的。",
    ),
    "search_better": (
        "Better than the recipe's own settings: {gap} points of accuracy (95% interval {low} to {high}) on {n} "
        "held-out validation items.",
        "比配方自带的设置好：在 {n} 个留出的验证样本上，准确率相差 {gap} 个百分点（95% 置信区间 {low} 到 {high}）。",
    ),
    "search_worse": (
        "Worse than the recipe's own settings: {gap} points of accuracy (95% interval {low} to {high}) on {n} held-out "
        "validation items.",
        "比配方自带的设置差：在 {n} 个留出的验证样本上，准确率相差 {gap} 个百分点（95% 置信区间 {low} 到 {high}）。",
    ),
    "search_unclear": (
        "Not better than the recipe's own settings beyond chance: {gap} points of accuracy (95% interval {low} to "
        "{high}) on {n} held-out validation items.",
        "不能说比配方自带的设置好：在 {n} 个留出的验证样本上，准确率相差 {gap} 个百分点（95% 置信区间 {low} 到 "
        "{high}），可能只是运气。",
    ),
    "search_is_default": (
        "Not better than the recipe's own settings: they are the best trial.",
        "并不比配方自带的设置好：最好的一次试验用的就是它们。",
    ),
    "search_chosen": (
        "The best of many scores on the same items is partly luck: the test score, on items that no trial has seen, "
        "is the honest one.",
        "同一批样本上许多得分里的最高者，有几分是运气；测试得分来自任何试验都没见过的样本，才是可信的。",
    ),
    "search_test": (
        "Test: accuracy {score} (95% interval {low} to {high}, n = {n}).",
        "测试：准确率 {score}（95% 置信区间 {low} 到 {high}，n = {n}）。",
    ),
    "section_history": ("Trials", "各次试验"),
    "section_parallel": ("Settings and score", "设置与得分"),
    "about_parallel": (
        "A line is a trial; thick lines are the best tenth. The last axis is the score.",
        "一条线是一次试验，粗线是最好的十分之一；最右的轴是得分。",
    ),
    "section_importances": ("What mattered", "哪些设置要紧"),
    "about_importances": (
        "Share of the scores' variance that each setting explains (fANOVA, Hutter et al. 2014).",
        "每项设置能解释多少得分方差（fANOVA，Hutter 等，2014）。",
    ),
    "col_trial": ("trial", "试验"),
    "col_state": ("state", "状态"),
    "state_complete": ("complete", "完成"),
    "state_pruned": ("stopped early", "提前停止"),
    "state_failed": ("failed", "失败"),
    "col_seconds": ("seconds", "秒"),
    "axis_trial": ("trial", "试验"),
    "label_trial": ("trial", "单次试验"),
    "label_best": ("best so far", "至今最好"),
    "label_importance": ("importance", "重要性"),
    "parallel_label": (
        "parallel coordinates of {n} trials over {settings}",
        "{n} 次试验在 {settings} 上的平行坐标图",
    ),
}
